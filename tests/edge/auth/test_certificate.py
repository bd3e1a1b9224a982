"""Subjects of certificates as text: RFC 4514."""

import datetime
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from bascule.edge.auth.certificate import canonical, subject_of

KEY: Final = ec.generate_private_key(ec.SECP256R1())
NOW: Final = datetime.datetime(2026, 7, 28, tzinfo=datetime.UTC)
CN, ORG, UNIT = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME


def certified(name: x509.Name) -> bytes:
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1, NOW, NOW + datetime.timedelta(days=1))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def named(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def test_the_most_specific_part_stands_first() -> None:
    assert subject_of(certified(named((ORG, "Example"), (CN, "agent")))) == "CN=agent,O=Example"


def test_what_is_encoded_in_another_way_says_the_same() -> None:
    printable = x509.NameAttribute(CN, "agent", _type=x509.name._ASN1Type.PrintableString)
    assert subject_of(certified(x509.Name([printable]))) == subject_of(certified(named((CN, "agent"))))


def test_the_attributes_of_one_part_have_no_order() -> None:
    both = [x509.NameAttribute(UNIT, "sales"), x509.NameAttribute(CN, "agent")]
    der = certified(x509.Name([x509.RelativeDistinguishedName(both)]))
    assert subject_of(der) == canonical("OU=sales+CN=agent") == canonical("CN=agent+OU=sales")


@pytest.mark.parametrize(
    "value", ["Example, Inc.", "a=b", "O=Example,CN=agent", "#x", ' "x" ', "a\\,CN=root", "é", "a+b"]
)
def test_a_value_cannot_pass_for_structure(value: str) -> None:
    found = subject_of(certified(named((CN, value))))
    assert found is not None
    assert canonical(found) == found
    assert found not in {canonical("O=Example,CN=agent"), canonical("CN=agent"), canonical("CN=root")}


def test_who_has_no_subject_is_nobody() -> None:
    assert subject_of(certified(x509.Name([]))) is None


@given(st.binary(max_size=200))
def test_what_is_no_certificate_is_nobodys(der: bytes) -> None:
    assert subject_of(der) is None


@given(
    st.lists(
        st.tuples(st.sampled_from([CN, ORG, UNIT]), st.text('aZ09 ,+="\\#<>;é', min_size=1, max_size=12)), min_size=1
    )
)
def test_two_subjects_are_one_text_only_if_they_are_one_subject(parts: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    found = subject_of(certified(named(*parts)))
    assert found is not None
    assert x509.Name.from_rfc4514_string(found) == named(*parts)


@pytest.mark.parametrize(
    "text", ["", "agent", "CN", "CN=", "FOO=x", "cn=a", "CN=a,", "CN=a, O=b", "CN=a,,O=b", ",", "CN=a\\", "*"]
)
def test_what_is_no_subject_is_refused_when_the_configuration_is_read(text: str) -> None:
    with pytest.raises(ValueError, match="subject"):
        canonical(text)


def test_an_operators_subject_is_brought_into_the_form_of_certificates() -> None:
    der = certified(named((ORG, "Example"), (NameOID.EMAIL_ADDRESS, "a@example.com"), (CN, "a,b")))
    assert subject_of(der) == canonical("CN=a\\2cb,1.2.840.113549.1.9.1=a@example.com,2.5.4.10=Example")

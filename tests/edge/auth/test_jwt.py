"""Which JWTs are good: group I of the hostile inputs, the rules of RFC 8725 and 9068, and anything at all."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import pytest
from authority import ABSENT, SigningKey, base64url, compact
from hypothesis import given
from hypothesis import strategies as st

from bascule.edge.auth import jwk, jwt
from bascule.edge.auth.callers import looks_like_jwt
from bascule.edge.auth.jwk import VerificationKey
from bascule.edge.auth.jwt import Claims
from bascule.errors import Unauthenticated
from bascule.policy.options import IssuerOptions

NOW_S: Final = 1_800_000_000.0
ISSUER: Final = "https://auth.example.com/tenant"
AUDIENCE: Final = "https://gw.example.com/mcp"
OPTIONS: Final = IssuerOptions(issuer=ISSUER)


@cache
def signing_key(alg: str) -> SigningKey:
    return SigningKey(alg, f"key-{alg}")


@cache
def published(*algs: str) -> tuple[VerificationKey, ...]:
    return keys_of(*(signing_key(alg).published() for alg in algs))


def keys_of(*members: Mapping[str, Any]) -> tuple[VerificationKey, ...]:
    return jwk.keys_in(json.dumps({"keys": members}).encode())


def claims(**more: Any) -> dict[str, Any]:
    usual = {"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "iat": NOW_S, "exp": NOW_S + 300}
    return {name: value for name, value in {**usual, **more}.items() if value is not ABSENT}


def header(alg: str = "RS256", **more: Any) -> dict[str, Any]:
    usual = {"alg": alg, "typ": "at+jwt", "kid": f"key-{alg}"}
    return {name: value for name, value in {**usual, **more}.items() if value is not ABSENT}


def token(head: dict[str, Any] | bytes | None = None, body: dict[str, Any] | bytes | None = None) -> str:
    """Signed with RS256, whatever *head* and *body* say."""
    return compact(header() if head is None else head, claims() if body is None else body, signing_key("RS256").sign)


def judged(
    text: str,
    options: IssuerOptions = OPTIONS,
    keys: Sequence[VerificationKey] | None = None,
    audience: str = AUDIENCE,
    now_s: float = NOW_S,
) -> Claims:
    """What Issuers does with a token, without fetching anything."""
    parsed = jwt.parse(text)
    said = jwt.admit(parsed, "corp", options, audience, now_s)
    known = published("RS256", "ES256", "EdDSA") if keys is None else keys
    jwt.check_signature(parsed, jwk.fitting(known, parsed.kid, parsed.alg))
    return said


def refused(text: str, because: str, options: IssuerOptions = OPTIONS, **more: Any) -> None:
    with pytest.raises(Unauthenticated, match=because) as caught:
        judged(text, options, **more)
    assert caught.value.reason == "invalid_token"
    assert caught.value.http == 401
    for part in text.split("."):
        assert len(part) < 5 or part not in caught.value.message


# ---- good ones


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_a_signed_token_of_the_issuer_for_this_endpoint_says_who_calls_and_with_what(alg: str) -> None:
    text = compact(header(alg), claims(scope="crm:read crm:write:lead"), signing_key(alg).sign)
    assert judged(text) == Claims(
        issuer="corp",
        name="alice",
        scopes=frozenset({"crm:read", "crm:write:lead"}),
        roles=frozenset(),
        attributes={},
        expires_at_s=NOW_S + 300,
    )


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256", "PS384", "PS512", "ES384", "ES512", "Ed25519"])
def test_the_other_asymmetric_algorithms_are_taken_where_the_operator_says_so(alg: str) -> None:
    key = signing_key(alg)
    text = compact(header(alg), claims(), key.sign)
    options = IssuerOptions(issuer=ISSUER, algorithms=(alg,))  # type: ignore[arg-type]  # one of them, by parametrize
    assert judged(text, options, keys_of(key.published())).name == "alice"
    refused(text, "algorithm", keys=keys_of(key.published()))


def test_a_key_published_as_eddsa_checks_ed25519_which_is_the_same_signature() -> None:
    key = signing_key("EdDSA")
    options = IssuerOptions(issuer=ISSUER, algorithms=("Ed25519",))
    text = compact(header("Ed25519", kid=key.kid), claims(), key.sign)
    assert judged(text, options).name == "alice"


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"])
def test_the_type_is_compared_as_a_media_type(typ: str) -> None:
    assert judged(token(header(typ=typ))).name == "alice"


def test_other_types_are_taken_when_the_operator_names_them_and_the_empty_name_is_for_none() -> None:
    options = IssuerOptions(issuer=ISSUER, types=("at+jwt", "JWT", ""))
    assert judged(token(header(typ="jwt")), options).name == "alice"
    assert judged(token(header(typ=ABSENT)), options).name == "alice"
    refused(token(header(typ="secevent+jwt")), "type", options)


@pytest.mark.parametrize("aud", [[AUDIENCE], ["https://other.example.com", AUDIENCE]])
def test_one_of_several_audiences_is_enough(aud: list[str]) -> None:
    assert judged(token(body=claims(aud=aud))).name == "alice"


def test_the_audiences_of_the_configuration_stand_instead_of_the_endpoint() -> None:
    options = IssuerOptions(issuer=ISSUER, audiences=("api://one", "api://two"))
    assert judged(token(body=claims(aud="api://two")), options).name == "alice"
    refused(token(), "somebody else", options)


def test_scopes_may_be_a_list_and_only_legal_ones_are_kept() -> None:
    said = ["crm:read", "a::b", "two words", "", 'q"uote', 7, None, "x*y", "crm:*:lead"]
    options = IssuerOptions(issuer=ISSUER, scopes_claim="scp")
    assert judged(token(body=claims(scp=said)), options).scopes == {"crm:read", "crm:*:lead"}
    assert judged(token(body=claims(scope=" a  b c::d ")), OPTIONS).scopes == {"a", "b"}
    assert judged(token(body=claims(scope={"a": 1})), OPTIONS).scopes == frozenset()


def test_name_roles_and_attributes_come_from_the_claims_that_the_operator_names() -> None:
    options = IssuerOptions(
        issuer=ISSUER,
        name_claim="email",
        roles_claim="realm_access.roles",
        attributes={"mail": "email", "team": "https://example.com/team", "none": "absent"},
    )
    body = claims(
        email="alice@example.com",
        realm_access={"roles": ["sales lead", "ad\nmin", 5, ""]},
        **{"https://example.com/team": ["crm", 7]},
    )
    said = judged(token(body=body), options)
    assert said.name == "alice@example.com"
    assert said.roles == {"sales lead"}
    assert said.attributes == {"mail": "alice@example.com", "team": ["crm", 7]}


def test_a_claim_whose_name_has_dots_goes_before_a_path() -> None:
    options = IssuerOptions(issuer=ISSUER, roles_claim="a.b")
    assert judged(token(body=claims(**{"a.b": "direct"}, a={"b": "by path"})), options).roles == {"direct"}


# ---- form


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "", None, 5, ["RS256"], {"a": 1}])
@pytest.mark.parametrize("signature", [b"", b"x"])
def test_unsigned_tokens_are_refused_however_none_is_spelled(alg: Any, signature: bytes) -> None:
    refused(compact(header(alg=alg), claims(), lambda _: signature), "algorithm|signature")


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_the_public_key_is_no_secret_to_sign_with(alg: str) -> None:
    key = signing_key("RS256")
    hashes = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
    for secret in (key.pem, key.private.as_der(), json.dumps(key.published()).encode(), b""):

        def sign(content: bytes, secret: bytes = secret) -> bytes:
            return hmac.new(secret, content, hashes[alg]).digest()

        refused(compact(header(alg, kid=key.kid), claims(), sign), "algorithm")


def test_a_symmetric_key_in_the_jwks_checks_nothing() -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    assert keys_of({"kty": "oct", "k": base64url(secret), "kid": "s", "alg": "HS256"}) == ()


@pytest.mark.parametrize(("alg", "kid"), [("ES256", "key-RS256"), ("RS256", "key-ES256"), ("EdDSA", "key-ES256")])
def test_a_token_and_its_key_are_of_the_same_kind(alg: str, kid: str) -> None:
    refused(compact(header(alg, kid=kid), claims(), signing_key(alg).sign), "signature")


@pytest.mark.parametrize(
    "kid", ["../../dev/null", "' OR 1=1--", "/etc/passwd", "key-rs256", "key-RS256 ", "http://127.0.0.1/", "|id"]
)
def test_a_kid_is_a_name_in_a_table_and_nothing_else(kid: str) -> None:
    refused(token(header(kid=kid)), "signature")


@pytest.mark.parametrize("kid", ["", "a\x00b", "a\nb", "\u202e", "k" * 257, 5, None, True, [], {"a": 1}])
def test_a_kid_that_is_no_short_text_is_refused(kid: Any) -> None:
    refused(token(header(kid=kid)), "short text")


def test_a_kid_of_a_megabyte_is_refused_by_its_length_alone() -> None:
    refused(token(header(kid="k" * 1_000_000)), "longer than")


@pytest.mark.parametrize("member", ["jku", "x5u", "jwk", "x5c", "x5t"])
def test_keys_that_a_token_brings_along_are_ignored(member: str) -> None:
    mallory = SigningKey("RS256")
    brought: dict[str, Any] = {
        "jku": "http://127.0.0.1:1/jwks",
        "x5u": "http://127.0.0.1:1/cert",
        "jwk": mallory.published(),
        "x5c": [base64.b64encode(mallory.private.as_der()).decode()],
        "x5t": "abc",
    }
    head = header(kid=mallory.kid, **{member: brought[member]})
    refused(compact(head, claims(), mallory.sign), "signature")
    refused(compact({**head, "kid": "key-RS256"}, claims(), mallory.sign), "signature")
    assert judged(token(header(**{member: brought[member]}))).name == "alice"  # a good one may carry them


@pytest.mark.parametrize("crit", [["x"], ["exp"], ["b64"], [], "x", None, {}])
def test_a_demand_for_extensions_is_refused(crit: Any) -> None:
    refused(token(header(crit=crit, x=1)), "crit")


def test_an_unencoded_payload_is_refused() -> None:
    refused(token(header(b64=False, crit=["b64"])), "crit")
    signed = f"{base64url(json.dumps(header(b64=False)).encode())}.{{}}".encode()
    refused(f"{signed.decode()}.{base64url(signing_key('RS256').sign(signed))}", "base64url")


@pytest.mark.parametrize("cty", ["JWT", "jwt", "application/jwt", "at+jwt"])
def test_a_nested_token_is_refused(cty: str) -> None:
    refused(token(header(cty=cty)), "nested")
    refused(token(header(cty=cty), token().encode()), "JSON object")


def test_an_encrypted_token_is_refused() -> None:
    head = base64url(json.dumps({"alg": "RSA-OAEP", "enc": "A256GCM", "typ": "at+jwt"}).encode())
    refused(f"{head}.a.b.c.d", "encrypted")
    refused(token(header(enc="A256GCM")), "encrypted")


@pytest.mark.parametrize("length", [8193, 9 * 1024, 1024 * 1024])
def test_a_token_of_more_than_8_kib_is_refused(length: int) -> None:
    text = token(body=claims(padding=""))
    refused(text + "A" * (length - len(text)), "longer than")


def test_a_token_of_nearly_8_kib_is_taken() -> None:
    text = token(body=claims(padding="x" * 5000))
    assert 7000 < len(text) <= jwt.MAX_TOKEN_CHARS
    assert judged(text).name == "alice"


DUPLICATES: Final = {
    "alg": b'{"alg":"none","alg":"RS256","typ":"at+jwt","kid":"key-RS256"}',
    "escaped": b'{"\\u0061lg":"none","alg":"RS256","typ":"at+jwt","kid":"key-RS256"}',
    "inside": b'{"alg":"RS256","typ":"at+jwt","kid":"key-RS256","jwk":{"kty":"RSA","kty":"EC"}}',
}


@pytest.mark.parametrize("head", DUPLICATES.values(), ids=DUPLICATES)
def test_a_member_that_stands_twice_in_the_header_is_refused(head: bytes) -> None:
    refused(token(head), "each name once")


def test_a_claim_that_stands_twice_is_refused() -> None:
    body = json.dumps(claims())[:-1] + ',"sub":"bob"}'
    refused(token(body=body.encode()), "each name once")


NOT_OBJECTS: Final = {
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"x"',
    "cut off": b'{"alg":',
    "trailing": b"{} {}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"alg":"RS256"}'.encode("utf-16"),
    "no UTF-8": b'{"a":"\xff"}',
    "a lone surrogate": b'{"a":"\\ud800"}',
    "NaN": b'{"a":NaN}',
    "depth": b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "digits": b'{"a":' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("part", NOT_OBJECTS.values(), ids=NOT_OBJECTS)
def test_header_and_claims_are_json_objects(part: bytes) -> None:
    refused(token(part), "JSON object|base64url")
    refused(token(body=part), "JSON object|base64url")


def _spoilt(change: Callable[[list[str]], list[str]]) -> str:
    return ".".join(change(token().split(".")))


FORMS: Final[Mapping[str, Callable[[list[str]], list[str]]]] = {
    "no dots": lambda parts: ["".join(parts)],
    "two parts": lambda parts: parts[:2],
    "four parts": lambda parts: [*parts, parts[0]],
    "an empty signature": lambda parts: [*parts[:2], ""],
    "no claims": lambda parts: [parts[0], "", parts[2]],
    "padding": lambda parts: [parts[0] + "=", *parts[1:]],
    "ordinary base64": lambda parts: [*parts[:2], parts[2][:-2] + "+/"],
    "a line break": lambda parts: [*parts[:2], parts[2] + "\n"],
    "a space in front": lambda parts: [" " + parts[0], *parts[1:]],
    "a NUL": lambda parts: [*parts[:2], parts[2] + "\x00"],
    "a letter that is none of ASCII": lambda parts: [*parts[:2], parts[2][:-1] + "\u0430"],
    "a lone surrogate": lambda parts: [*parts[:2], parts[2][:-1] + "\ud800"],
}


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS)
def test_a_token_is_three_parts_of_strict_base64url(change: Callable[[list[str]], list[str]]) -> None:
    with pytest.raises(Unauthenticated):
        judged(_spoilt(change))


def test_bits_that_mean_nothing_may_not_differ() -> None:
    """256 bytes end in a character of which four bits are unused: one signature has one spelling."""
    head, body, signature = token().split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(signature[-1]) + 1]
    assert base64.urlsafe_b64decode(f"{signature[:-1]}{other}==") == base64.urlsafe_b64decode(f"{signature}==")
    refused(f"{head}.{body}.{signature[:-1]}{other}", "base64url")


# ---- claims


@pytest.mark.parametrize(
    "issuer",
    [
        *(ISSUER + "/", ISSUER.upper(), ISSUER.replace("https", "http"), "https://auth.example.com:443/tenant"),
        *(ISSUER + ".evil.test", "https://auth.example.com/./tenant", "https://auth.example.com/%74enant", ""),
    ],
)
def test_the_issuer_is_compared_letter_for_letter(issuer: str) -> None:
    refused(token(body=claims(iss=issuer)), "somebody else")


@pytest.mark.parametrize("issuer", [ABSENT, None, 5, [ISSUER], {"iss": ISSUER}])
def test_an_issuer_that_is_no_text_is_refused(issuer: Any) -> None:
    refused(token(body=claims(iss=issuer)), "who issued it")


@pytest.mark.parametrize(
    "aud",
    [
        *("https://other.example.com/mcp", AUDIENCE + "/", "https://GW.example.com/mcp", "https://gw.example.com"),
        *("https://gw.example.com.evil/mcp", AUDIENCE + ".evil", "https://gw.example.com:443/mcp", ""),
        *("https://gw.example.com/servers/crm/mcp", f"{AUDIENCE} other", AUDIENCE[:-1], "*"),
        *([], [AUDIENCE + "/"], [[AUDIENCE]], [AUDIENCE, 5], {AUDIENCE: 1}, 5, None, ABSENT, True),
        *([*("https://x.test/" + str(number) for number in range(64)), AUDIENCE],),
    ],
)
def test_a_token_for_somebody_else_is_refused(aud: Any) -> None:
    refused(token(body=claims(aud=aud)), "for somebody else|whom it is for")


@pytest.mark.parametrize("after_s", [0, 59, 59.9])
def test_a_token_is_taken_until_a_minute_after_it_expired(after_s: float) -> None:
    assert judged(token(), now_s=NOW_S + 300 + after_s).name == "alice"


@pytest.mark.parametrize("after_s", [60, 61, 1e9])
def test_an_expired_token_is_refused(after_s: float) -> None:
    refused(token(), "expired", now_s=NOW_S + 300 + after_s)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_from_the_future_is_refused(claim: str) -> None:
    assert judged(token(body=claims(**{claim: NOW_S + 60}))).name == "alice"
    refused(token(body=claims(**{claim: NOW_S + 61})), "not good yet")


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "time", [b'"1900000000"', b"1e999", b"-1e999", b"null", b"true", b"[]", b"{}", b"1e300", b"1" + b"0" * 400]
)
def test_a_time_that_is_none_is_refused(claim: str, time: bytes) -> None:
    body = json.dumps(claims(**{claim: 424242})).encode().replace(b"424242", time)
    refused(token(body=body), "not a time")


@pytest.mark.parametrize("exp", [-1, -1e11, 0, 0.0])
def test_a_token_that_expired_before_there_were_tokens_is_refused(exp: float) -> None:
    refused(token(body=claims(exp=exp)), "expired")


def test_a_token_without_an_end_is_refused() -> None:
    refused(token(body=claims(exp=ABSENT)), "when it expires")


def test_a_token_that_lives_for_longer_than_a_day_is_refused_whether_or_not_it_says_since_when() -> None:
    assert judged(token(body=claims(exp=NOW_S + 86_400))).name == "alice"
    refused(token(body=claims(exp=NOW_S + 86_401)), "lives longer")
    refused(token(body=claims(exp=NOW_S + 86_401, iat=ABSENT)), "lives longer")
    refused(token(body=claims(exp=NOW_S + 300, iat=NOW_S - 86_400)), "lives longer")


def test_skew_and_life_are_the_operators_to_choose() -> None:
    options = IssuerOptions(issuer=ISSUER, skew_s=0, max_lifetime_s=300)
    refused(token(), "expired", options, now_s=NOW_S + 300)
    refused(token(body=claims(exp=NOW_S + 301)), "lives longer", options)
    assert judged(token(), options, now_s=NOW_S + 299).expires_at_s == NOW_S + 300


@pytest.mark.parametrize(
    "sub", ["", "  ", "a\nb", "a\x00b", "\u202eecila", "a" * 257, "\u200b", 5, None, ["a"], ABSENT]
)
def test_a_name_is_a_short_plain_text(sub: Any) -> None:
    refused(token(body=claims(sub=sub)), "whose it is")


def test_a_token_that_is_bound_to_a_key_is_no_bearer_token() -> None:
    refused(token(body=claims(cnf={"jkt": "abc"})), "bound to a key")


# ---- signature


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_a_changed_payload_is_refused(alg: str) -> None:
    head, _, signature = compact(header(alg), claims(), signing_key(alg).sign).split(".")
    body = base64url(json.dumps(claims(sub="root")).encode())
    refused(f"{head}.{body}.{signature}", "signature")


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("signature", [b"\x00", b"\x00" * 64, b"\x00" * 256, b"\xff" * 64, b"\xff" * 1000])
def test_a_signature_of_any_other_bytes_is_refused(alg: str, signature: bytes) -> None:
    refused(compact(header(alg), claims(), lambda _: signature), "signature")


def test_a_signature_in_another_coding_is_refused() -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey

    native = signing_key("ES256").private.private_key
    assert isinstance(native, EllipticCurvePrivateKey)
    refused(
        compact(header("ES256"), claims(), lambda content: native.sign(content, ECDSA(hashes.SHA256()))), "signature"
    )


def test_without_a_kid_every_key_of_that_kind_is_tried() -> None:
    keys = (*keys_of(SigningKey("RS256").published(), SigningKey("ES256").published()), *published("RS256"))
    assert judged(token(header(kid=ABSENT)), keys=keys).name == "alice"
    refused(token(header(kid=ABSENT)), "signature", keys=keys[:2])


def test_without_a_kid_no_more_than_eight_keys_are_tried() -> None:
    others = tuple(keys_of(SigningKey("EdDSA").published())[0] for _ in range(8))
    mine = published("EdDSA")
    text = compact(header("EdDSA", kid=ABSENT), claims(), signing_key("EdDSA").sign)
    assert judged(text, keys=(*others[:7], *mine)).name == "alice"
    refused(text, "signature", keys=(*others, *mine))


# ---- anything at all


def only_unauthenticated(text: str) -> None:
    error = refusal_of(text)
    if error is not None:
        # What a WWW-Authenticate header can carry in quotes (RFC 6750, 3).
        assert error.message.isascii()
        assert error.message.isprintable()
        assert not set(error.message) & set('"\\')
        assert error.details == {}


def refusal_of(text: str) -> Unauthenticated | None:
    try:
        judged(text)
    except Unauthenticated as error:
        return error
    return None


@given(st.text(max_size=300))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    only_unauthenticated(text)
    looks_like_jwt(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
header_names = st.sampled_from(["alg", "typ", "kid", "crit", "cty", "enc", "jwk", "b64", "zip"])
claim_names = st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "scope", "cnf", "jti"])


@given(st.dictionaries(header_names, json_values, max_size=3), st.dictionaries(claim_names, json_values, max_size=4))
def test_any_header_and_claims_are_taken_or_refused(head: dict[str, Any], body: dict[str, Any]) -> None:
    only_unauthenticated(token({**header(), **head}, {**claims(), **body}))


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_in_the_three_parts_are_refused(head: bytes, body: bytes, signature: bytes) -> None:
    only_unauthenticated(".".join(map(base64url, (head, body, signature))))


@given(st.data(), st.sampled_from(["RS256", "ES256", "EdDSA"]))
def test_no_changed_character_of_a_good_token_is_accepted(data: st.DataObject, alg: str) -> None:
    text = compact(header(alg), claims(), signing_key(alg).sign)
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.characters().filter(lambda character: character != text[at]))
    with pytest.raises(Unauthenticated):
        judged(text[:at] + new + text[at + 1 :])


@given(st.binary(max_size=400))
def test_base64url_has_one_spelling(content: bytes) -> None:
    text = base64url(content)
    assert jwk.from_base64url(text) == (content or None)


@given(st.text(max_size=60))
def test_what_is_read_as_base64url_is_written_back_the_same(text: str) -> None:
    decoded = jwk.from_base64url(text)
    assert decoded is None or base64url(decoded) == text


# ---- keys


def rsa_key(**members: Any) -> dict[str, Any]:
    published = {**signing_key("RS256").published(), **members}
    return {name: value for name, value in published.items() if value is not ABSENT}


NO_KEYS: Final = {
    "for encryption": rsa_key(use="enc"),
    "a use that is none": rsa_key(use=5),
    "an operation that is not verify": rsa_key(key_ops=["sign"]),
    "operations that are no list": rsa_key(key_ops="verify"),
    "another algorithm": rsa_key(alg="RSA-OAEP"),
    "an algorithm that is none": rsa_key(alg=["RS256"]),
    "a symmetric algorithm": rsa_key(alg="HS256"),
    "a kid that is no text": rsa_key(kid=5),
    "no modulus": rsa_key(n=ABSENT),
    "a modulus of 1024 bits": rsa_key(n=base64url(b"\x80" + b"\x01" * 127)),
    "a modulus of 2047 bits": rsa_key(n=base64url(b"\x7f" + b"\x01" * 255)),
    "a modulus of 16384 bits": rsa_key(n=base64url(b"\x80" + b"\x01" * 2047)),
    "an exponent of one": rsa_key(e="AQ"),
    "an exponent of 100 bytes": rsa_key(e=base64url(b"\x01" * 100)),
    "a type that is no text": rsa_key(kty=["RSA"]),
    "a secret key": {**rsa_key(), "d": "AQAB"},
    "a point that is not on the curve": {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"},
    "a curve nobody asked for": {"kty": "EC", "crv": "secp256k1", "x": "AQ", "y": "AQ"},
    "a curve for agreements": {"kty": "OKP", "crv": "X25519", "x": base64url(bytes(32))},
    "an Edwards key that is too short": {"kty": "OKP", "crv": "Ed25519", "x": "AQ"},
    "no object": 7,
}


@pytest.mark.parametrize("member", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key_for_signatures_is_left_out_and_the_others_stay(member: Any) -> None:
    assert keys_of(member) == ()
    assert len(keys_of(member, signing_key("ES256").published())) == 1


def test_a_key_that_says_its_algorithm_is_for_no_other() -> None:
    options = IssuerOptions(issuer=ISSUER, algorithms=("RS256", "PS256"))
    key = signing_key("PS256")
    text = compact(header("PS256"), claims(), key.sign)
    assert judged(text, options, keys_of(key.published(alg="PS256"))).name == "alice"
    refused(text, "signature", options, keys=keys_of(key.published(alg="RS256")))


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[],"keys":[]}', b"<html>", b'{"keys":[' + b"{}," * 64 + b"{}]}"],
)
def test_what_is_no_jwks_is_an_error_and_not_an_empty_one(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        jwk.keys_in(document)


jwk_names = st.sampled_from(["kty", "crv", "n", "e", "x", "y", "alg", "use", "kid", "key_ops"])
jwk_values = json_values.filter(lambda value: not any(odd in json.dumps(value) for odd in ("NaN", "Infinity", "\\ud")))


@given(st.dictionaries(jwk_names, jwk_values))
def test_any_jwk_is_a_key_or_left_out(member: dict[str, Any]) -> None:
    keys_of(rsa_key(**member), {"kty": "EC", "crv": "P-256", **member})

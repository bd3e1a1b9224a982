"""The subject of a client certificate as one line of text, for exact comparison. PURE.

Whether the certificate may be believed was decided in the TLS handshake; here it is only read.
Source: RFC 4514.
"""

from cryptography import x509


def subject_of(der: bytes) -> str | None:
    """The subject of the certificate *der* in the form of RFC 4514, None if it has none that can be read.

    Most specific part first: `CN=agent,O=Example`. What a part says is compared, not how it was encoded.
    """
    try:
        return _text(x509.load_der_x509_certificate(der).subject) or None
    except ValueError:
        return None


def canonical(subject: str) -> str:
    """*subject*, as an operator wrote it, in the very form that `subject_of` gives. Raises ValueError."""
    try:
        text = _text(x509.Name.from_rfc4514_string(subject))
    except ValueError as error:
        raise ValueError(
            f"{subject!r} is not a subject such as CN=agent,O=Example (RFC 4514): names of attributes in capitals or"
            " as numbers with dots, no space after a comma"
        ) from error
    if not text:
        raise ValueError("an empty subject is nobody's")
    return text


def _text(name: x509.Name) -> str:
    # The attributes of one part are a set: neither certificate nor operator decides their order.
    parts = (sorted(attribute.rfc4514_string() for attribute in part) for part in name.rdns)
    return ",".join(["+".join(part) for part in parts][::-1])

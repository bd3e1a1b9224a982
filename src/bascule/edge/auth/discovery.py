"""What an authorization server says of itself: where its keys are, and where it is asked about tokens.

Knows the well-known places in their order and what a document must say to be believed; egress.py fetches.
Source: RFC 8414 (3.1, 3.3); OpenID Connect Discovery 1.0 (4); MCP 2026-07-28, "Authorization Server Discovery".
"""

from typing import Final

import jiter
import msgspec
from yarl import URL

from bascule import egress
from bascule.egress import FetchFailed

MAX_BYTES: Final = 256 * 1024

_OAUTH: Final = ".well-known/oauth-authorization-server"
_OPENID: Final = ".well-known/openid-configuration"


class Metadata(msgspec.Struct, frozen=True):
    """The endpoints of an authorization server that a resource server needs; None where it has none."""

    issuer: str
    jwks_uri: str | None
    introspection_endpoint: str | None


def well_known(issuer: str) -> tuple[str, ...]:
    """Where the metadata of *issuer* may be, in the order in which to look."""
    url = URL(issuer)
    origin, path = str(url.origin()), url.raw_path.strip("/")
    if not path:
        return f"{origin}/{_OAUTH}", f"{origin}/{_OPENID}"
    return f"{origin}/{_OAUTH}/{path}", f"{origin}/{_OPENID}/{path}", f"{origin}/{path}/{_OPENID}"


def metadata_in(document: bytes, issuer: str) -> Metadata:
    """What *document* says of *issuer*. Raises ValueError unless it is about that very issuer, with sound URLs."""
    content = jiter.from_json(document, catch_duplicate_keys=True, allow_inf_nan=False)
    if not isinstance(content, dict):
        raise ValueError("the metadata are not a JSON object")
    if content.get("issuer") != issuer:
        raise ValueError("the metadata are of another issuer")
    origin_host = egress.host_of(issuer)
    found: dict[str, str | None] = {}
    for name in ("jwks_uri", "introspection_endpoint"):
        url = content.get(name)
        if url is not None and not isinstance(url, str):
            raise ValueError(f"{name} is no URL")
        if url is not None and (reason := egress.acceptable(url, origin_host=origin_host)) is not None:
            raise ValueError(f"{name} cannot be used: {reason}")
        found[name] = url
    return Metadata(issuer, found["jwks_uri"], found["introspection_endpoint"])


async def discover(issuer: str) -> Metadata:
    """The metadata of *issuer*, from the first place that has them. Raises FetchFailed with what each place said."""
    said = []
    for url in well_known(issuer):
        try:
            document = await egress.get(url, origin_host=egress.host_of(issuer), limit_bytes=MAX_BYTES)
            return metadata_in(document, issuer)
        except (FetchFailed, ValueError) as error:
            said.append(f"{url}: {error}")
    raise FetchFailed("; ".join(said))

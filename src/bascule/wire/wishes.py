"""What a request asks of Bascule itself, not of the server: in headers, and under our prefix in `_meta`. PURE.

Source: draft-ietf-httpapi-idempotency-key-header; RFC 7240 (`Prefer: wait`); docs/reliability.md.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from bascule.errors import InvalidParams, InvalidRequest
from bascule.wire.jsonrpc import Params, members, replaced, text

KEY_META: Final = "dev.bascule/idempotencyKey"
TOKEN_META: Final = "dev.bascule/confirmationToken"
DEADLINE_META: Final = "dev.bascule/deadlineMs"
VERSION_META: Final = "dev.bascule/version"
KEY_HEADER: Final = "idempotency-key"
DEADLINE_HEADER: Final = "x-request-timeout-ms"
PREFER_HEADER: Final = "prefer"

_PREFIX: Final = b'"dev.bascule/'
_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{16,255}")
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,4})\"?\s*(?:[,;]|$)", re.IGNORECASE)
_MOST_WAIT_S: Final = 30.0
_MILLISECONDS: Final = re.compile(r"[1-9]\d{0,8}")


class Wishes(msgspec.Struct, frozen=True):
    """What one request asks of Bascule."""

    key: str = ""  # calls of one caller that have the same one are one call
    key_in_header: bool = False  # then refusals of the key have HTTP statuses of their own
    wait_s: float = 0.0  # how long to wait for the same call that is still running
    token: str = ""  # of a confirmation that was asked for before
    deadline_s: float | None = None  # from the arrival of the request
    version: str = ""  # of the tool: exact, or a range


NO_WISHES: Final = Wishes()


def wishes_of(params: Params, head: Mapping[str, str]) -> Wishes:
    """What a request with *params* and headers *head* asks for. Raises InvalidRequest, InvalidParams."""
    raw = params.get("_meta")
    meta = members(raw) if raw is not None and may_be_said(bytes(raw)) else {}
    if not meta and KEY_HEADER not in head and DEADLINE_HEADER not in head and PREFER_HEADER not in head:
        return NO_WISHES
    in_header = KEY_HEADER in head
    return Wishes(
        key=_key_of(head.get(KEY_HEADER), meta.get(KEY_META)),
        key_in_header=in_header,
        wait_s=_wait_of(head.get(PREFER_HEADER, "")),
        token=_text_of(meta, TOKEN_META),
        deadline_s=_deadline_of(head.get(DEADLINE_HEADER), meta.get(DEADLINE_META)),
        version=_text_of(meta, VERSION_META),
    )


def may_be_said(meta: bytes) -> bool:
    """Whether something of ours may stand in raw JSON: names may be spelt with escapes, and PHP does so with `/`."""
    return _PREFIX in meta or b"\\" in meta


def unkeyed(params: Params) -> Params:
    """*params* without the key: what is no tool call has none, and it is nothing for a server to see."""
    raw = params.get("_meta")
    meta = {} if raw is None or not may_be_said(bytes(raw)) else members(raw)
    if KEY_META not in meta:
        return params
    return replaced(params, meta_={name: value for name, value in meta.items() if name != KEY_META})


def _key_of(said: str | None, raw: Raw | None) -> str:
    """The key, however it was carried; "" for none."""
    if said is not None and len(said) > 1 and said[0] == said[-1] == '"':
        said = said[1:-1]  # a structured field's string (RFC 9651, 3.3.3); none of its escapes can be in a key
    inside = None if raw is None else text(raw)
    if raw is not None and inside is None:
        raise InvalidRequest(f"_meta[{KEY_META!r}] is a string")
    if said is not None and inside is not None and said != inside:
        raise InvalidRequest("the Idempotency-Key header and the key in _meta disagree")
    key = said if said is not None else inside
    if key is None:
        return ""
    if not _KEY.fullmatch(key):
        raise InvalidRequest("an idempotency key has 16 to 255 of A-Z a-z 0-9 _ . : -; a UUID is a good one")
    return key


def _wait_of(said: str) -> float:
    found = _WAIT.search(said)
    return min(float(found[1]), _MOST_WAIT_S) if found else 0.0


def _text_of(meta: Mapping[str, Raw], name: str) -> str:
    raw = meta.get(name)
    found = "" if raw is None else text(raw)
    if found is None:
        raise InvalidParams(f"_meta[{name!r}] is a string")
    return found


def _deadline_of(said: str | None, raw: Raw | None) -> float | None:
    """The shorter of what header and body say."""
    spelt = [each for each in (said, None if raw is None else bytes(raw).decode(errors="replace")) if each is not None]
    for each in spelt:
        if not _MILLISECONDS.fullmatch(each):
            raise InvalidRequest("a deadline is a whole number of milliseconds, 1 to 999999999")
    return min((int(each) / 1000 for each in spelt), default=None)

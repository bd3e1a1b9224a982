"""Headers: the sentinel form, and the door in front of everything."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Final

from hypothesis import example, given
from hypothesis import strategies as st

from bascule.edge.door import Door, Head, Refused, Rules
from bascule.errors import HeaderMismatch, Unauthenticated
from bascule.wire import headers, jsonrpc
from fuzz.mangling import mangled

SENTINEL: Final = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
GOOD: Final = ["echo", "=?base64?ZWNobw==?=", "=?base64?w6ljaG8=?=", "=?base64??=", "a b", "=?base64?PT9iYXNlNjQ/?="]
WORDS: Final = [
    "=?base64?",
    "?=",
    "=",
    "==",
    "-",
    "_",
    "+",
    "/",
    " ",
    "\t",
    "é",
    "\x00",
    "\r\n",
    "\n",
    "ZWNobw",
    "?",
    "%41",
]
values = mangled(st.sampled_from(GOOD), WORDS, st.text(st.characters(max_codepoint=255), max_size=4))


@given(values, st.sampled_from(["echo", "écho", "", "a b"]))
def test_a_name_in_a_header_agrees_only_with_what_it_spells(value: str, name: str) -> None:
    head = {headers.METHOD: "tools/call", headers.NAME: value}
    try:
        headers.check(head, "tools/call", {"name": jsonrpc.encode(name)})
    except HeaderMismatch:
        agreed = False
    else:
        agreed = True
    assert agreed == (_spelled(value) == name)


def _spelled(value: str) -> str | None:
    """What *value* stands for by the letter of the specification; None if it is not allowed."""
    found = SENTINEL.fullmatch(value)
    if found is None:
        plain = all("\x20" <= c <= "\x7e" or c == "\t" for c in value) and value == value.strip(" \t")
        return value if plain else None
    try:
        return base64.b64decode(found[1].encode("ascii"), validate=True).decode()
    except (binascii.Error, UnicodeError):
        return None


# ---- the door

RULES: Final = Rules(
    hosts=frozenset({"localhost", "127.0.0.1", "::1"}),
    origins=frozenset({"https://console.example"}),
    loopback_origins=True,
    max_body_bytes=1000,
)
NAMES: Final = [
    *(b"host", b"origin", b"authorization", b"content-type", b"content-length", b"accept", b"content-encoding"),
    *(b"mcp-method", b"mcp-name", b"mcp-param-region", b"mcp-session-id", b"mcp-protocol-version", b"x", b"\xff"),
]
LINES: Final = [
    *(
        b"localhost",
        b"LOCALHOST:1",
        b"[::1]:80",
        b"evil.com",
        b"127.0.0.1:\xd9\xa0",
        b"[::1",
        b"",
        b"localhost@evil.com",
    ),
    *(b"http://localhost:1", b"null", b"http://localhost.evil.com", b"https://console.example", b"http://[::1]:x"),
    *(
        b"application/json",
        b"application/json; charset=utf-8",
        b"text/plain",
        b"text/event-stream",
        b"*/*;q=0",
        b"gzip",
    ),
    *(b"application/json, text/event-stream", b"0", b"10", b"1001", b"+1", b"1" * 19, b"identity", b"q=0", b"\x00"),
]
KINDLY: Final = [
    (b"host", b"localhost"),
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
    (b"content-length", b"10"),
]
lines = st.tuples(st.sampled_from(NAMES), st.one_of(st.sampled_from(LINES), st.binary(max_size=12)))
heads = st.one_of(st.lists(lines, max_size=8), st.lists(lines, max_size=3).map(lambda more: [*KINDLY, *more]))


@given(st.sampled_from(["POST", "GET", "DELETE", "PUT"]), heads)
@example("POST", KINDLY)
def test_whom_the_door_lets_in_it_lets_in_twice_and_never_a_stranger(
    method: str, raw: list[tuple[bytes, bytes]]
) -> None:
    first = _verdict(lambda: door.admit(method, raw)) if (door := Door(RULES)) else None
    assert first == _verdict(lambda: door.admit(method, raw))
    if isinstance(first, dict):
        said = [value for name, value in raw if name == b"host"]
        assert len(said) == 1
        assert re.fullmatch(rb"[ \t]*(localhost|127\.0\.0\.1|\[?::1\]?)(:[0-9]*)?[ \t]*", said[0].lower())
        assert b"evil" not in b"".join(value for name, value in raw if name == b"origin")


def _verdict(admit: Callable[[], Head]) -> dict[str, str] | tuple[int, str]:
    try:
        return dict(admit())
    except Refused as refused:
        assert 400 <= refused.status < 500  # noqa: PT017 - the door has no other answers
        return refused.status, refused.reason
    except Unauthenticated as error:
        return error.http, error.message

"""The door of JSON-RPC takes exactly what a second, slower reader takes, and understands it alike."""

import json
from typing import Any, Final

from hypothesis import example, given
from hypothesis import strategies as st

from bascule.errors import ProtocolError
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Message, Notification, Request, Response
from fuzz.mangling import mangled

GOOD: Final = [
    b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
    b'{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"x","arguments":{"a":[1,2.5,null,"b"]}}}',
    b'{ "method" : "ping" , "id" : -9007199254740993 , "jsonrpc" : "2.0" , "params" : {"_meta":{"progressToken":1}} }',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
    b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}',
    b'{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"\\u00e9 \xc3\xa9"}}',
]
WORDS: Final = [
    *(
        b'"id"',
        b'"Id"',
        b'"method"',
        b'"params"',
        b'"paramS"',
        "param\u017f".encode(),
        b'"\\u0069d"',
        b'"jsonrpc":"2.0"',
    ),
    *(b"null", b"true", b"-0", b"0", b"01", b"1.0", b"1e5", b"1e400", b"NaN", b"Infinity", b"9" * 4301, b"0x1"),
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"/**/", b"\xef\xbb\xbf", b"\x00", b"\xff", b"\xed\xa0\x80"),
    *(
        b'"\\ud800"',
        b'"\\udc00"',
        b'"\\ud83d\\ude00"',
        b"[" * 64,
        b'{"a":' * 64,
        b"[" * 1000,
        b"\t",
        b"\n",
        b"\xc2\xa0",
    ),
    *(b'"name"', b'"NAME"', b'"arguments"', b'"result":{}', b'"error":null', b'"a":1,"a":1', b'"', b"\\u0000"),
]
RESERVED: Final = {
    *("jsonrpc", "id", "method", "params", "result", "error"),
}
bodies = mangled(st.sampled_from(GOOD), WORDS, st.binary(max_size=8))


class Bad(Exception):
    """What the second reader does not take."""


def second_opinion(body: bytes) -> dict[str, Any]:
    """The message in *body* as Python values. Raises Bad; says nothing of names that imitate others."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair has no bytes
    except (ValueError, RecursionError) as error:
        raise Bad(str(error)) from error
    if not isinstance(value, dict) or _depth(value) > jsonrpc.MAX_DEPTH or value.get("jsonrpc") != "2.0":
        raise Bad("no message, or one that is too deep")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Bad("a name stands twice")
    return found


def _refuse(word: str) -> Any:
    raise Bad(word)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, dict | list) else 0


@given(st.one_of(bodies, bodies, st.binary(max_size=60)))
@example(b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1e400}}')
@example(b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"\\ud83d\\ude00"}}')
def test_what_the_door_takes_the_second_reader_takes_and_reads_alike(body: bytes) -> None:
    try:
        (message,) = jsonrpc.parse(body)
    except ProtocolError as error:
        assert error.http == 400  # noqa: PT017 - no other error may come out
        return
    said = second_opinion(body)
    assert _understood(message) == said


@given(bodies)
def test_what_the_door_refuses_has_a_reason_that_the_second_reader_can_see(body: bytes) -> None:
    try:
        said = second_opinion(body)
    except Bad:
        return
    if not _is_well_formed(said):
        return
    (message,) = jsonrpc.parse(body)
    assert _understood(message) == said


def _is_well_formed(said: dict[str, Any]) -> bool:
    """Whether every reader has to take *said* for a message: nothing odd about its members."""
    params = said.get("params", {})
    names = [*said, *params] if isinstance(params, dict) else []
    plain = all(name.isascii() and name in (name.lower(), "requestId", "progressToken") for name in names)
    id = said.get("id", 0)
    good_id = isinstance(id, str) or (isinstance(id, int) and not isinstance(id, bool) and id != 0)
    if not isinstance(params, dict) or not plain or not good_id:
        return False
    if "method" in said:
        return isinstance(said["method"], str) and not {"result", "error"} & set(said)
    return "id" in said and ("result" in said) != ("error" in said)


def _understood(message: Message) -> dict[str, Any]:
    """*message* as the second reader would have it, but for members that are nobody's."""
    match message:
        case Request():
            found: dict[str, Any] = {"id": _read(message.id), "method": message.method}
        case Notification():
            found = {"method": message.method}
        case Response():
            answer = {"result": message.result, "error": message.error}
            return _Like({"id": _read(message.id), **{name: _read(raw) for name, raw in answer.items() if bytes(raw)}})
    return _Like({**found, "params": {name: _read(raw) for name, raw in message.params.items()}})


def _read(raw: Any) -> Any:
    return json.loads(bytes(raw))


class _Like(dict[str, Any]):
    """Equal to a message that has these members, and perhaps others that nobody knows."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, dict)
        known = {name: value for name, value in other.items() if name in RESERVED and name != "jsonrpc"}
        if "method" in self:
            known.setdefault("params", {})
        return dict(self) == known

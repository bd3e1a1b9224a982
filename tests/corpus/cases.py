"""What a file of hostile cases says, as typed values. Knows nothing of sockets, nor of Bascule.

A case is one input and the one outcome that is allowed for it; docs/security.md has the classes.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
import yaml

FOLDER: Final = Path(__file__).parent

Transport: TypeAlias = Literal["modern", "session", "sse", "stdio", "raw"]
Piece: TypeAlias = Any  # what `built` takes


Kind = TypeVar("Kind")


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all: a typo in a file is an error."""


class Drip(Shape, frozen=True):
    """What is sent comes slowly from *after* bytes behind the first *from_* on, as if for ever."""

    from_: str = msgspec.field(default="", name="from")
    after: int = 0
    bytes: int = 1  # at one time; 0: nothing more comes
    every_s: float = 0.05


class Sent(Shape, frozen=True):
    """What goes in: a message that is valid JSON, the bytes of a body, or every byte of a request."""

    message: Mapping[str, Any] | None = None
    body: Piece = None
    raw: Piece = None
    verb: str = "POST"
    path: str | None = None
    headers: Mapping[str, Piece] = msgspec.field(default_factory=dict)
    token: Mapping[str, Any] | None = None  # an access token (forge.py), which is `<TOKEN>` in all else
    times: int = 1  # sent so often, one after the other; the last answer counts
    at_once: int = 1  # sent so often at the same time; `tally` says what comes of it
    answers: int = 1  # over raw: how many there are to what is sent; the last one counts
    drip: Drip | None = None
    as_: str = msgspec.field(default="", name="as")  # another caller of the configuration

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.message, self.body, self.raw)) > 1:
            raise ValueError("a case sends a message, a body or raw bytes")


class Behind(Shape, frozen=True):
    """The server behind Bascule, where it is not the usual one."""

    tools: Sequence[Mapping[str, Any]] | None = None
    tools_json: Piece = None
    result: Piece = None
    modern: bool = True
    does: str = ""
    # Over HTTP what is done with the first call, the second, … (grounds.py, `STEPS`); the last one repeats.
    calls: Sequence[Sequence[Mapping[str, Any]]] = ()
    stdio: Mapping[str, Any] | None = None  # the script of a server of its own (tests/servers/hostile_script.py)
    options: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Expected(Shape, frozen=True):
    """The one outcome. Values are single: there is no way to write "this or that"."""

    status: int | None = None
    code: int | None = None
    kind: str | None = None
    result: Mapping[str, Any] | None = None
    closed: Literal[True] | None = None
    silent: Literal[True] | None = None
    id: str | None = None
    listed: Sequence[str] | None = None
    headers: Mapping[str, str | None] = msgspec.field(default_factory=dict)
    header_has: Mapping[str, str] = msgspec.field(default_factory=dict)  # a part of an answer's header
    header_lacks: Mapping[str, str] = msgspec.field(default_factory=dict)
    body_has: str = ""
    body_lacks: Sequence[str] = ()
    body_bytes_at_most: int | None = None
    log_lacks: Sequence[str] = ()
    upstream_calls: int = 0  # by the end of the case, requests before the last one included
    upstream_lacks: Sequence[str] = ()  # in what reaches the server, headers and body
    within_s: float = 2.0
    dropped: Mapping[str, int] = msgspec.field(default_factory=dict)  # what /status has counted of the server
    server: Mapping[str, Any] = msgspec.field(default_factory=dict)  # members of the same that must be so, soon
    tally: Mapping[str, int] = msgspec.field(default_factory=dict)  # of answers: how many results, or of which kind

    def __post_init__(self) -> None:
        refused = self.code is not None or self.kind is not None
        outcomes = [refused, self.result is not None, self.closed is not None, self.silent is not None]
        outcomes.append(bool(self.tally))
        if sum(outcomes) > 1:
            raise ValueError("an outcome is a refusal, a result, a closed connection or silence: one of them")
        if not any(outcomes) and (self.status is None or self.status < 400):
            raise ValueError("a status that is no refusal leaves the outcome open")
        if self.result is not None and self.status not in (None, 200, 202):
            raise ValueError("a result has the status 200")


class Round(Shape, frozen=True):
    """A request before the one that the case is about, and what comes of it."""

    send: Sent
    expect: Expected


class Case(Shape, frozen=True):
    id: str
    title: str
    why: str
    send: Sent
    expect: Expected
    against: str = "plain"
    over: Sequence[Transport] = ("modern",)
    revision: str = "2025-11-25"  # of a session
    upstream: Behind | None = None
    config: Mapping[str, Any] = msgspec.field(default_factory=dict)
    before: Sequence[Round] = ()
    timers: Mapping[str, float] = msgspec.field(default_factory=dict)  # constants that are shorter here (grounds.py)

    @property
    def alone(self) -> bool:
        """Whether it needs a Bascule of its own."""
        return self.upstream is not None or bool(self.config)

    def __post_init__(self) -> None:
        if not self.over or len(set(self.over)) != len(self.over):
            raise ValueError(f"{self.id}: `over` names each transport once")
        if ("raw" in self.over) != (self.send.raw is not None) or ("raw" in self.over and len(self.over) > 1):
            raise ValueError(f"{self.id}: raw bytes go over `raw`, and nothing else does")
        web = [each for each in self.over if each != "stdio"]
        if web and self.expect.status is None and not self.expect.closed:
            raise ValueError(f"{self.id}: over HTTP an outcome has a status")


class _Group(Shape, frozen=True):
    group: str
    cases: Sequence[Case]


# Groups whose ground is not the protocol: databases, paths, addresses, documents (ground_*.py).
FOREIGN: Final = ("f_", "g_", "h_", "l_")


def groups() -> dict[str, Sequence[Case]]:
    """The cases by the name of their file. Raises ValueError naming the file that is wrong."""
    return {path.stem: read(path) for path in sorted(FOLDER.glob("*.yaml")) if not path.stem.startswith(FOREIGN)}


def told(name: str, kind: type[Kind]) -> Sequence[Kind]:
    """The cases of a file whose ground is another than the protocol, each a *kind*. Raises ValueError."""
    said = yaml.load((FOLDER / name).read_text(), Loader=yaml.CSafeLoader)
    if set(said) != {"group", "cases"}:
        raise ValueError(f"{name}: a group says its name and its cases, not {', '.join(said)}")
    return msgspec.convert([each for case in said["cases"] for each in _each(case)], list[kind])  # type: ignore[valid-type]  # it is a value


def read(path: Path) -> Sequence[Case]:
    """The cases of one file. Raises ValueError if it says anything that no case can say."""
    try:
        said = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
        whole = {**said, "cases": [each for case in said["cases"] for each in _each(case)]}
        group = msgspec.convert(whole, _Group)
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    wrong = [case.id for case in group.cases if not case.id.startswith(group.group)]
    if wrong:
        raise ValueError(f"{path.name}: {', '.join(wrong)} belongs to another group")
    return group.cases


def _each(case: dict[str, Any]) -> Iterator[Any]:
    """*case*, or what `each` makes of it: once for every set of words, which replace `<WORD>` all over it."""
    if "each" not in case:
        yield case
        return
    plain = {name: value for name, value in case.items() if name != "each"}
    for number, words in enumerate(case["each"], 1):
        yield {**_with(plain, words), "id": f"{case['id']}.{number}"}


def _with(said: Any, words: Mapping[str, Any]) -> Any:
    if isinstance(said, dict):
        return {_with(name, words): _with(value, words) for name, value in said.items()}
    if isinstance(said, list):
        return [_with(value, words) for value in said]
    if not isinstance(said, str) or "<" not in said:
        return said
    for word, meaning in words.items():
        if said == f"<{word}>":
            return meaning
        said = said.replace(f"<{word}>", str(meaning))
    return said


def built(piece: Piece, words: Mapping[str, str] | None = None) -> bytes:
    """The bytes that *piece* stands for, with *words* such as `<META>` replaced in its texts.

    Raises ValueError for what is no piece.
    """
    match piece:
        case str():
            return _worded(piece, words).encode()
        case list():
            return b"".join(built(each, words) for each in piece)
        case {"join": list(pieces), **rest} if not rest:  # as a header, where a list stands for several
            return built(pieces, words)
        case {"hex": str(digits), **rest} if not rest:
            return bytes.fromhex(digits)
        case {"base64": str(text), **rest} if not rest:
            return base64.b64decode(text, validate=True)
        case {"json": value, **rest} if not rest:
            return _worded(json.dumps(value, ensure_ascii=False, separators=(",", ":")), words).encode()
        case {"text": str(text), "encoding": str(encoding), **rest} if not rest:
            return _worded(text, words).encode(encoding)
        case {"repeat": inner, "times": int(times), **rest} if not rest:
            return built(inner, words) * times
        case {"count": str(text), "times": int(times), **rest} if not rest:
            return b"".join(text.encode() % number for number in range(times))
    raise ValueError(f"not a piece: {piece!r}")


def _worded(text: str, words: Mapping[str, str] | None) -> str:
    for word, meaning in (words or {}).items():
        text = text.replace(word, meaning)
    return text


def spread(cases: Mapping[str, Sequence[Case]]) -> Iterator[tuple[str, Case, Transport]]:
    """(file, case, transport) for every way that a case goes."""
    for name, each in cases.items():
        yield from ((name, case, transport) for case in each for transport in case.over)

"""What is pinned of a listed thing, the digest of it, what differs between two wordings, and what is odd in one. PURE.

A pin is `v1:` and the SHA-256 of the canonical JSON (RFC 8785) of all that tells a model what a thing is for and how
it is called. What people are shown of a difference deceives nobody: what cannot be seen is shown as its code, and what
is left out is counted. Findings are words to look at, and no verdict.
Source: MCP 2026-07-28, "Tools", "Prompts", "Resources".
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Final, Literal, TypeAlias

import jiter
import msgspec

from bascule.contract.derive import CONTRACT_META
from bascule.policy.approvals import seen
from bascule.policy.template import visible
from bascule.wire.canonical import canonical
from bascule.wire.jsonrpc import Params

PinKind: TypeAlias = Literal["tool", "prompt", "template"]

PREFIX: Final = "v1:"
_SAID: Final = ("name", "title", "description", "annotations")
PINNED: Final[Mapping[PinKind, tuple[str, ...]]] = {
    "tool": (*_SAID, "inputSchema", "outputSchema"),
    "prompt": (*_SAID, "arguments"),
    "template": (*_SAID, "uriTemplate", "mimeType"),
}

MOST_DIFFERENCES: Final = 200
MOST_FINDINGS: Final = 100
_MOST_TEXT: Final = 8_000  # characters of one text that are shown
_MOST_SCANNED: Final = 50_000  # characters of one text that are looked at
_MOST_WORDS: Final = 400  # of a changed passage that are compared word by word: the work is their square
_AROUND: Final = 60  # characters that are shown on each side of a change
_MOST_LEVELS: Final = 64


# ---- the pin


def pinned(kind: PinKind, members: Params, *, trusted: bool = False) -> dict[str, Any]:
    """What is pinned of a listed entry; of a *trusted* server's, whose contracts are believed, those too.

    Raises ValueError for what has no one meaning, so that clients might read another one than we: a member that
    stands twice, half of a surrogate pair, NaN.
    """
    found = {name: _value(members[name]) for name in PINNED[kind] if name in members}
    if trusted and "_meta" in members:
        meta = _value(members["_meta"])
        if isinstance(meta, dict) and CONTRACT_META in meta:
            found["_meta"] = {CONTRACT_META: meta[CONTRACT_META]}
    return found


def pin_of(kind: PinKind, members: Params, *, trusted: bool = False) -> str:
    """The pin of a listed entry. Raises ValueError, as `pinned` does."""
    return digest_of(canonical(pinned(kind, members, trusted=trusted)))


def digest_of(text: bytes) -> str:
    """The pin of what is pinned, in its canonical form."""
    return PREFIX + hashlib.sha256(text).hexdigest()


def source_of(*parts: str) -> str:
    """By what a server is known besides its name: a digest of its command with its arguments, or of its address."""
    return hashlib.sha256(canonical(list(parts))).hexdigest()


def _value(raw: msgspec.Raw) -> Any:
    return jiter.from_json(bytes(raw), catch_duplicate_keys=True, allow_inf_nan=False)


# ---- what differs


class Difference(msgspec.Struct, frozen=True):
    """One place at which two wordings say different things."""

    where: str  # such as `inputSchema.properties.to.description`; "" for the whole
    before: str | None  # None: nothing stood there. Other values than texts are JSON
    after: str | None
    words: Sequence[tuple[Literal["same", "gone", "new"], str]] = ()  # of two texts, what became of which words


def differences(before: Any, after: Any) -> list[Difference]:
    """Where *after* differs from *before*, both decoded JSON; in the order of their members' names."""
    found: list[Difference] = []
    for each in _differing(before, after, ()):
        if len(found) == MOST_DIFFERENCES:
            return [*found, Difference("…", None, "there are more differences than are shown")]
        found.append(each)
    return found


def members_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the pinned members that differ: they are ours, and nothing that a server has made up."""
    shared = before.keys() & after.keys()
    differing = (name for name in shared if _spelt(before[name]) != _spelt(after[name]))
    return tuple(sorted({*(before.keys() ^ after.keys()), *differing}))


_ABSENT: Final = object()
_Path: TypeAlias = tuple[str | int, ...]


def _differing(before: Any, after: Any, path: _Path) -> Iterator[Difference]:
    deep = len(path) >= _MOST_LEVELS
    if isinstance(before, dict) and isinstance(after, dict) and not deep:
        for name in sorted(before.keys() | after.keys()):
            yield from _differing(before.get(name, _ABSENT), after.get(name, _ABSENT), (*path, name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after) and not deep:
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differing(one, other, (*path, number))
    elif before is _ABSENT or after is _ABSENT or _spelt(before) != _spelt(after):
        words = compared(before, after) if isinstance(before, str) and isinstance(after, str) else ()
        yield Difference(place(path), _shown(before), _shown(after), words)


def compared(before: str, after: str) -> list[tuple[Literal["same", "gone", "new"], str]]:
    """What became of which words, in order. Long passages that stayed are cut in their middle, and say so."""
    old, new = _tokens(before), _tokens(after)
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    rest = min(len(old), len(new)) - start
    end = next((i for i in range(rest) if old[-1 - i] != new[-1 - i]), rest)
    parts: list[tuple[Literal["same", "gone", "new"], str]] = [("same", "".join(old[:start]))]
    parts += _passages(old[start : len(old) - end], new[start : len(new) - end])
    parts.append(("same", "".join(old[len(old) - end :])))
    return [(what, _kept(what, text)) for what, text in parts if text]


def _passages(old: list[str], new: list[str]) -> Iterator[tuple[Literal["same", "gone", "new"], str]]:
    if max(len(old), len(new)) > _MOST_WORDS:
        yield from (("gone", "".join(old)), ("new", "".join(new)))
        return
    for what, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            yield "same", "".join(old[a:b])
        else:
            yield "gone", "".join(old[a:b])
            yield "new", "".join(new[c:d])


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", text)


def _kept(what: str, text: str) -> str:
    if what == "same" and len(text) > 3 * _AROUND:
        left = len(text) - 2 * _AROUND
        return f"{seen(text[:_AROUND])} … {left} characters … {seen(text[-_AROUND:])}"
    return _cut(text)


def place(path: _Path) -> str:
    """*path* as people write it; a name that is no word stands in quotes."""
    parts = ""
    for step in path:
        if isinstance(step, int):
            parts += f"[{step}]"
        elif re.fullmatch(r"[\w$-]+", step, re.ASCII) and len(step) <= 200:
            parts += f".{step}" if parts else step
        else:
            parts += f"[{_cut(msgspec.json.encode(step).decode(), 400)}]"
    return parts


def _shown(value: Any) -> str | None:
    if value is _ABSENT:
        return None
    return _cut(value if isinstance(value, str) else _spelt(value).decode())


def _spelt(value: Any) -> bytes:
    return canonical(value)


def _cut(text: str, most: int = _MOST_TEXT) -> str:
    if len(text) <= most:
        return seen(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{seen(text[:most])} … {len(text) - most} more characters, sha256 of all {digest}"


# ---- what is odd


class Finding(msgspec.Struct, frozen=True):
    """Something in a text that a person should look at."""

    where: str
    what: str  # what it looks like
    text: str  # the passage, with what cannot be seen as its code


# Passages in which a description speaks to the model of more than its own thing. None of these expressions repeats a
# part that can match in two ways: texts of servers are long, and looked at while somebody waits.
_INSTRUCTIONS: Final = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b[^.\n]{0,40}?\b(?:previous|prior|above|earlier|all|other|instructions?)\b"
    r"|\b(?:do not|don't|never|without)\b[^.\n]{0,30}?\b(?:tell|telling|mention|mentioning|inform|show|reveal|notify)\b"
    r"|\byou (?:must|should|have to|need to) (?:always|first|also|never|not)\b"
    r"|\b(?:before|after|whenever|every time) (?:using|calling|you use|you call)\b"
    r"|\binstead of (?:using|calling|the)\b"
    r"|\b(?:always|first) (?:call|use|read|send|include|invoke)\b"
    r"|\b(?:system prompt|hidden instruction|secretly|silently|covertly|exfiltrat\w*|jailbreak\w*)\b"
    r"|</?(?:important|system|instructions?|secret|assistant|user|admin)>"
    r"|\b(?:bcc|blind copy)\b"
    r"|(?:~|\$HOME)/\.\w+|\bid_rsa\b|\.ssh/|\.env\b|/etc/passwd|\b(?:api|private|secret)[ _-]?keys?\b|\bpasswords?\b",
    re.IGNORECASE,
)
_URLS: Final = re.compile(r"\b(?:https?|ftp|data|javascript|file):[^\s\"'<>]{2,200}|\bwww\.[^\s\"'<>]{2,200}", re.I)
_BLOBS: Final = re.compile(r"[A-Za-z0-9+/_-]{64,}={0,2}")
_NAMES: Final = re.compile(r"[A-Za-z0-9_.\-/]{4,128}")


def findings(after: Mapping[str, Any], before: Mapping[str, Any] | None = None,
             others: Iterable[str] = ()) -> list[Finding]:  # fmt: skip
    """What is odd in the texts of *after* that *before* does not have; *others* are names of other tools.

    Names of members are texts too: a model reads them as it reads descriptions.
    """
    known = frozenset(_texts(before)) if before is not None else frozenset()
    names = frozenset(name for name in others if len(name) >= 4)
    found: dict[Finding, None] = {}
    for path, text in _texts(after):
        if (path, text) not in known:
            for each in _odd(place(path), text[:_MOST_SCANNED], names):
                if len(found) == MOST_FINDINGS:
                    return list(found)
                found[each] = None
    return list(found)


def _odd(where: str, text: str, names: frozenset[str]) -> Iterator[Finding]:
    if (
        unseen := next((i for i, char in enumerate(text) if char not in "\n\t" and visible(char) != char), None)
    ) is not None:
        yield Finding(where, "characters that cannot be seen", _around(text, unseen, unseen + 1))
    for pattern, what in (
        (_INSTRUCTIONS, "speaks to the model"),
        (_URLS, "an address"),
        (_BLOBS, "what may be encoded text"),
    ):
        for match in pattern.finditer(text):
            yield Finding(where, what, _around(text, *match.span()))
    for match in _NAMES.finditer(text):
        if match[0] in names or match[0].rstrip(".") in names:
            yield Finding(where, "the name of another tool", _around(text, *match.span()))


def _around(text: str, start: int, end: int) -> str:
    first, last = max(0, start - _AROUND), min(len(text), end + _AROUND, start + 4 * _AROUND)
    return f"{'…' if first else ''}{visible(text[first:last])}{'…' if last < len(text) else ''}"


def _texts(value: Any, path: _Path = ()) -> Iterator[tuple[_Path, str]]:
    """Each text in *value* with its place; the name of a member is a text at the member's place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if path:  # the first names are ours
                yield (*path, name), name
            yield from _texts(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, (*path, number))

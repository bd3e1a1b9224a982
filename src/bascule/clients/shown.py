"""A change of a configuration file as a diff for people, in which no value that may be a secret stands. PURE.

What is masked is decided by plainness.py, for each text of the file by itself: the lines around a change are somebody
else's, and may hold anything.
"""

import bisect
import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import yaml

from bascule.clients import plainness
from bascule.clients.adoption import HIDDEN, masked
from bascule.documents import PlainLoader

Form: TypeAlias = Literal["json", "toml", "yaml"]

_CONTEXT: Final = 2  # lines
_WIDEST: Final = 240  # characters of a line
_TOKEN: Final = {
    "json": re.compile(
        r'(?P<key>"(?:[^"\\]|\\.)*+")(?=\s*:)|(?P<text>"(?:[^"\\]|\\.)*+"?)|(?P<open>\[)'
        r"|(?P<comment>//[^\n]*|/\*(?:.*?\*/|.*))|(?P<number>-?[0-9][0-9.eE+-]*)",
        re.DOTALL,
    ),
    "toml": re.compile(
        r"(?P<key>[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')(?=\s*(?:=|\.|\]))"
        r'|(?P<text>"""(?:.*?"""|.*)|\'\'\'(?:.*?\'\'\'|.*)|"(?:[^"\\\n]|\\.)*+"?|\'[^\'\n]*\'?)|(?P<open>\[)'
        r"|(?P<comment>\#[^\n]*)|(?P<number>[-+]?[0-9][0-9A-Za-z_.:+-]*)",
        re.DOTALL,
    ),
}
_QUOTES: Final = re.compile(r"""^("{3}|'{3}|"|')(.*?)(?:\1)?$""", re.DOTALL)
_WORD: Final = re.compile(r"[^\s,;\"'(){}]+")
_COMMENT: Final = re.compile(r"(?:^|(?<=\s))#[^\n]*")


class _Span(NamedTuple):
    begin: int
    end: int
    text: str  # what stands there instead


def diff(before: str, after: str, name: str, form: Form, ours: Any) -> list[str]:
    """The lines of a unified diff. *ours* is what was put in, whose texts are shown as they are."""
    known = frozenset(_texts(ours))
    old, new = (_without_secrets(text, form, known).splitlines() for text in (before, after))
    first = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    most = min(len(old), len(new)) - first
    pairs = zip(reversed(old), reversed(new), strict=False)
    last = next((at for at, (a, b) in enumerate(pairs) if a != b or at == most), most)
    begin = max(0, first - _CONTEXT)
    a, b = (lines[begin : len(lines) - last + _CONTEXT] for lines in (old, new))
    said = difflib.unified_diff(a, b, fromfile=name, tofile=name, n=_CONTEXT, lineterm="")
    return [_cut(line) for line in said if not line.startswith("@@")]


def _cut(line: str) -> str:
    return line if len(line) <= _WIDEST else f"{line[:_WIDEST]}…"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for inner in value.values() for text in _texts(inner))
    elif isinstance(value, list | tuple):
        yield from (text for inner in value for text in _texts(inner))


def _without_secrets(text: str, form: Form, known: frozenset[str]) -> str:
    spans = _in_yaml(text, known) if form == "yaml" else _in_tokens(text, form, known)
    parts, at = [], 0
    for span in spans:
        parts += [text[at : span.begin], span.text]
        at = span.end
    return "".join([*parts, text[at:]])


def _shown(value: str, key: str, before: str) -> str:
    """*value* as it is shown behind *key*, or in a list behind *before*."""
    if before or not key:
        return masked(value, lambda text: plainness.of_argument(text, before))
    if plainness.is_telling(key):
        return masked(value, lambda text: plainness.of_variable(key, text))
    return masked(value, lambda text: plainness.of_argument(text))


def _of_comment(said: str) -> str:
    """A comment without what looks like a secret that somebody has put out of the way."""
    before = ""

    def shown_of(found: "re.Match[str]") -> str:
        nonlocal before
        named, before = plainness.is_telling(before) and before.endswith((":", "=")), found[0]
        mixed = any(each.isdigit() for each in found[0]) and any(each.isalpha() for each in found[0])
        hides = named or mixed or "=" in found[0] or plainness.looks_made_up(found[0])
        return HIDDEN if hides and not found[0].startswith(("/", "~/")) else found[0]

    return _WORD.sub(shown_of, said)


def _in_tokens(text: str, form: Literal["json", "toml"], known: frozenset[str]) -> Iterator[_Span]:
    key = before = ""
    for found in _TOKEN[form].finditer(text):
        if found["key"]:
            key, before = found["key"].strip("\"'"), ""
        elif found["open"]:
            key, before = "", ""
        elif found["comment"]:
            yield _Span(found.start(), found.end(), _of_comment(found["comment"]))
        elif found["number"]:
            if plainness.is_telling(key or before):
                yield _Span(found.start(), found.end(), HIDDEN)
        else:
            quotes = _QUOTES.match(found["text"])
            assert quotes is not None
            value = quotes[2]
            plain = value in known or _unescaped(value) in known
            said = value if plain else _shown(value, key, before)
            before = value
            yield _Span(found.start(), found.end(), f"{quotes[1]}{said}{quotes[1]}")


def _unescaped(value: str) -> str:
    return value.replace('\\"', '"').replace("\\\\", "\\")


def _in_yaml(text: str, known: frozenset[str]) -> Iterable[_Span]:
    """The scalars of a text in YAML that `yaml_text.value_of` has read, and its comments."""
    bom = len(text) - len(text.removeprefix("\ufeff"))
    spans: list[_Span] = []
    scalars: set[tuple[int, int]] = set()

    def look(node: yaml.Node | None, key: str, before: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for name, inner in node.value:
                scalars.add((name.start_mark.index + bom, name.end_mark.index + bom))
                look(inner, name.value, "")
        elif isinstance(node, yaml.SequenceNode):
            for each in node.value:
                look(each, "", before)
                before = each.value if isinstance(each, yaml.ScalarNode) else ""
        elif isinstance(node, yaml.ScalarNode):
            begin, end = node.start_mark.index + bom, node.end_mark.index + bom
            if (begin, end) in scalars:  # of an alias
                return
            scalars.add((begin, end))
            if node.value not in known and (said := _shown(node.value, key, before)) != node.value:
                tail = "\n" if text[begin:end].endswith("\n") else ""
                spans.append(_Span(begin, end, said.replace("\n", " ") + tail))

    look(yaml.compose(text.removeprefix("\ufeff"), Loader=PlainLoader), "", "")
    inside = sorted(scalars)
    for found in _COMMENT.finditer(text):
        before = bisect.bisect(inside, (found.start(), len(text))) - 1
        if before < 0 or inside[before][1] <= found.start():
            spans.append(_Span(found.start(), found.end(), _of_comment(found[0])))
    return sorted(spans)

"""The words of a CEL expression: names, numbers, texts and signs. PURE.

Source: cel-spec, "Language Definition", Syntax.
"""

import re
from typing import Any, Final, NamedTuple

_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|([abfnrtv\\?\"'`]))"
)
_ESCAPED: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\n\f]+)
    |(?P<text>[rR]?(?:\"{3}|'{3}|["']))
    |(?P<double>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
    |(?P<whole>(?:0x[0-9a-fA-F]+|\d+)[uU]?)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.ASCII,
)


class NotCel(Exception):
    """*start* and *end* are the offsets of what is wrong."""

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.message, self.start, self.end = message, start, end


class Token(NamedTuple):
    kind: str  # a group of _TOKEN, or "end"
    text: str
    start: int
    end: int
    value: Any = None


def tokens_of(source: str) -> list[Token]:
    """The words of *source*, and one for its end. Raises NotCel."""
    tokens, at = [], 0
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise NotCel(_unknown(source, at), at, at + 1)
        kind, text = str(found.lastgroup), found[0]
        if kind == "text":
            tokens.append(_text(source, at, text))
        elif source.startswith("//", at):
            raise NotCel("comments are not allowed in a rule: what follows would be silently left out", at, at + 2)
        elif kind != "space":
            tokens.append(Token(kind, text, at, found.end()))
        at = tokens[-1].end if kind == "text" else found.end()
    return [*tokens, Token("end", "the end", len(source), len(source))]


def _unknown(source: str, at: int) -> str:
    advice = {
        "=": "write `==` to compare",
        "&": "write `&&`",
        "|": "write `||`",
        "`": "quoted members are not supported",
    }
    return advice.get(source[at], f"{source[at]!r} means nothing here")


def _text(source: str, start: int, opening: str) -> Token:
    """The string that begins at *start*."""
    raw, quote = opening[0] in "rR", opening.lstrip("rR")
    at, parts = start + len(opening), []
    while not source.startswith(quote, at):
        escape = None if raw or source[at : at + 1] != "\\" else _ESCAPE.match(source, at)
        if at >= len(source) or (len(quote) == 1 and source[at] in "\r\n"):
            raise NotCel("the string does not end", start, at)
        if escape is None and source[at] == "\\" and not raw:
            raise NotCel("no such escape in a string", at, min(at + 2, len(source)))
        parts.append(_unescaped(escape) if escape else source[at])
        at = escape.end() if escape else at + 1
    return Token("text", source[start : at + len(quote)], start, at + len(quote), "".join(parts))


def _unescaped(escape: re.Match[str]) -> str:
    two, four, eight, octal, letter = escape.groups()
    if letter:
        return _ESCAPED.get(letter, letter)
    code = int(octal, 8) if octal else int(two or four or eight, 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise NotCel("no such character", escape.start(), escape.end())
    return chr(code)

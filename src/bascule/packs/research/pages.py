"""A page as text: what a reader would see of it, and nothing that only a program would. Reads markup, loads nothing.

What is hidden on a page (by `hidden`, `aria-hidden`, or a style that shows nothing) is left out: a reader would not
see it, and it is where orders to a model are put.
"""

import re
import unicodedata
from html.parser import HTMLParser
from typing import Final

_UNREAD: Final = frozenset(
    {"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "canvas", "select"}
)
_VOID: Final = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
_BLOCKS: Final = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "dd", "div", "dl", "dt", "fieldset", "figcaption"),
        *("figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol"),
        *("p", "pre", "section", "table", "tbody", "tfoot", "thead", "tr", "ul"),
    )
)
_HEADINGS: Final = {f"h{level}": "#" * level for level in range(1, 7)}
_HIDING: Final = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|(?:font-size|opacity)\s*:\s*0(?:\.0*)?(?![.\d])", re.IGNORECASE
)
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?", re.S)
_UNSEEN: Final = frozenset(("Cc", "Cf", "Cs", "Co"))  # controls, joiners and marks of direction, no characters
_BLANKS: Final = re.compile(r"[^\S\n]+")
_GAPS: Final = re.compile(r" ?\n ?")
_HOLES: Final = re.compile(r"\n{3,}")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.parts: list[str] = []
        self._open: list[tuple[str, bool]] = []  # elements, and whether what is in them is left out
        self._in_title = False

    @property
    def _skips(self) -> bool:
        return bool(self._open) and self._open[-1][1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and not self.title:
            self._in_title = True
        if tag in _BLOCKS:
            self._say("\n\n" if tag in _HEADINGS or tag == "p" else "\n")
        if tag in _VOID:
            self._say("\n" if tag == "br" else "")
            return
        self._open.append((tag, self._skips or tag in _UNREAD or _is_hidden(dict(attrs))))
        self._say({"li": "- ", **{name: f"{marks} " for name, marks in _HEADINGS.items()}}.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag != "title"
        for at in range(len(self._open) - 1, max(-1, len(self._open) - 64), -1):
            if self._open[at][0] == tag:
                del self._open[at:]
                break
        self._say("\n" if tag in _BLOCKS else "\t" if tag in ("td", "th") else "")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        else:
            self._say(data)

    def _say(self, text: str) -> None:
        if text and not self._skips:
            self.parts.append(text)


def page(markup: str) -> tuple[str, str]:
    """(title, text) of a page of HTML, however broken.

    >>> page("<title>T</title><h1>Hello</h1><p>a <b>b</b><script>x</script><p hidden>c")
    ('T', '# Hello\\n\\na b')
    """
    parser = _Page()
    parser.feed(markup)
    if not parser.rawdata.startswith(("<!", "<?")):  # a comment without end is not seen
        parser.close()
    return " ".join(plain(parser.title).split())[:300], tidy("".join(parser.parts))


def tidy(text: str) -> str:
    """*text* without what a reader cannot see, and without large gaps."""
    return _HOLES.sub("\n\n", _GAPS.sub("\n", _BLANKS.sub(" ", plain(text)))).strip()


def plain(text: str) -> str:
    """*text* without escape sequences, controls and characters that show nothing or turn its direction."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(
        each for each in text if each in "\n\t" or unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Co")
    )


def _is_hidden(attributes: dict[str, str | None]) -> bool:
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    return _HIDING.search(attributes.get("style") or "") is not None

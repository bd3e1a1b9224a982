"""Addresses of mail: which texts are one, and whom mail may go to. PURE.

Stricter than RFC 5322: plain local parts and host names in ASCII. What is refused here could be read in two ways.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from bascule.packs.pack import ToolFailed

MAX_ADDRESS_CHARS: Final = 254  # RFC 5321, 4.5.3.1.3, without the brackets
MAX_LOCAL_CHARS: Final = 64
MAX_NAME_CHARS: Final = 100
MAX_SUBJECT_CHARS: Final = 255

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_ADDRESS: Final = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_LABEL}(?:\.{_LABEL})+)")
_NAMED: Final = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")
# They end a name in a header, quote one, or begin a comment.
_SPECIAL: Final = frozenset('"(),:;<>@[]\\')
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINERS: Final = frozenset("\u200c\u200d")  # some scripts, and emoji, are not written without them
_PATTERN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=^_`{|}~.-]+@[A-Za-z0-9*.-]+")


class Mailbox(msgspec.Struct, frozen=True):
    """One who gets or sends mail."""

    address: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name else self.address

    @property
    def identity(self) -> str:
        """The same for all spellings that reach the same person."""
        return self.address.casefold()


def mailbox(text: str) -> Mailbox:
    """`ann@company.test` or `Ann Lee <ann@company.test>`. Raises ToolFailed."""
    named = _NAMED.fullmatch(text.strip())
    address = (named["address"] if named else text).strip(" ")
    name = " ".join(named["name"].split(" ")).strip() if named else ""
    found = _ADDRESS.fullmatch(address)
    if found is None or len(address) > MAX_ADDRESS_CHARS or len(found["local"]) > MAX_LOCAL_CHARS:
        raise _no_address(text)
    if found["domain"].rpartition(".")[2].isdigit():
        raise _no_address(text)
    if len(name) > MAX_NAME_CHARS or not is_plain(name) or _SPECIAL & set(name):
        raise ToolFailed(
            f"{text!r:.300} has a name that does not go into a mail.",
            "Leave the name out, or write it without line breaks, commas, quotes and brackets.",
        )
    return Mailbox(address, name)


def mailboxes(texts: Iterable[str]) -> tuple[Mailbox, ...]:
    """All of them, each once. Raises ToolFailed."""
    found = [mailbox(text) for text in texts]
    return tuple({each.identity: each for each in reversed(found)}.values())[::-1]


def subject_of(text: str) -> str:
    """*text* as a subject: one line, with single spaces. Raises ToolFailed."""
    if len(text) > MAX_SUBJECT_CHARS or not is_plain(text):
        raise ToolFailed(
            "The subject has line breaks or characters that cannot be seen, or is too long.",
            f"Write it as one line of at most {MAX_SUBJECT_CHARS} characters.",
        )
    return " ".join(text.split())


def is_plain(text: str) -> bool:
    """Whether *text* is what it looks like in a header: no controls, nothing unseen, no encoded words."""
    return "=?" not in text and not any(unicodedata.category(each) in _UNSEEN for each in set(text) - _JOINERS)


def is_pattern(text: str) -> bool:
    """Whether *text* can stand in `allowed_recipients`: `ann@company.test`, `*@company.test`, `*@*.company.test`."""
    return _PATTERN.fullmatch(text) is not None


def check_allowed(wanted: Sequence[Mailbox], patterns: Sequence[str]) -> None:
    """Raises ToolFailed for the first that mail may not go to; with no *patterns*, it may go to everybody."""
    for each in wanted:
        if patterns and not any(_fits(each, pattern) for pattern in patterns):
            raise ToolFailed(
                f"Mail may not be sent to {each.address}: the settings allow {', '.join(patterns[:5])}.",
                "Nothing was sent. Leave this recipient out, or ask the person who runs this server.",
            )


def _fits(wanted: Mailbox, pattern: str) -> bool:
    # Part by part: a `*` of the local part never reaches across the `@`.
    parts = zip(wanted.identity.split("@"), pattern.casefold().split("@"), strict=True)
    return all(fnmatchcase(said, allowed) for said, allowed in parts)


def _no_address(text: str) -> ToolFailed:
    return ToolFailed(
        f"{text!r:.300} is not a mail address.",
        "Write addresses such as ann@company.test or Ann Lee <ann@company.test>, one in each string.",
    )

"""What a person is asked before a call goes out, what they see of it, and what an answer comes to. PURE.

Nothing that is shown deceives: what cannot be seen, or turns the direction of text, is shown as its code, and what
is left out is counted. A yes is for one call: of this caller, of this thing as it is defined now, with these arguments.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Raw

from bascule.policy.template import visible

State: TypeAlias = Literal["pending", "approved", "denied", "used", "expired"]
Channel: TypeAlias = Literal["client", "inbox", "round"]

MAX_TTL_S: Final = 300.0  # of a question, whatever the configuration says
MOST_STORED: Final = 65_536  # characters of the arguments that are kept for whoever decides
MOST_ASKED: Final = 6_000  # characters of the arguments in a question at a client: more fits no dialogue
_MOST_TEXT: Final = 2_000  # characters of one text or number among them
_BACK_S: Final = 60.0  # a clock that was set back further makes a yes worth nothing, instead of longer


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A call that needs a yes, and what the yes will be bound to."""

    caller: str
    thing: str  # `namespace/name`
    version: str  # of its contract
    pin: bytes
    fingerprint: bytes
    arguments: bytes  # as they were sent
    question: str
    rule: str  # that asks
    four_eyes: bool
    trace_id: str


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and what was said to it."""

    id: str
    state: State  # as it is stored: whether it has expired is told by `state_at`
    caller: str
    thing: str
    version: str
    pin: bytes
    fingerprint: bytes
    question: str
    rule: str
    four_eyes: bool
    channel: Channel
    trace_id: str
    created_at_s: float
    expires_at_s: float
    decided_at_s: float | None
    decided_by: str
    used_at_s: float | None
    note: str

    def state_at(self, now_s: float) -> State:
        live = self.state in ("pending", "approved")
        return "expired" if live and not is_valid(self.created_at_s, self.expires_at_s, now_s) else self.state

    def is_not_for(self, asked: Asked) -> str:
        """Why it is no yes to *asked*, in words; "" if it is for just this call."""
        if (self.caller, self.thing) != (asked.caller, asked.thing):
            return "the confirmation was given for another call"
        if self.pin != asked.pin:
            return "the tool's definition has changed since it was confirmed"
        return "" if self.fingerprint == asked.fingerprint else "the confirmation was given for other arguments"


def is_valid(created_at_s: float, expires_at_s: float, now_s: float) -> bool:
    """Whether something of limited time is good now, by a clock that may have been set back since."""
    return created_at_s - _BACK_S <= now_s < expires_at_s


# ---- what is shown


def shown_call(asked: Asked, most: int) -> str:
    """All that a person has to know of a call before they say yes, in lines."""
    version = f", version {visible(asked.version)}" if asked.version else ""
    return "\n".join(
        (
            seen(asked.question) or "May this call be made?",
            "",
            f"Tool: {visible(asked.thing)}{version}",
            f"Caller: {visible(asked.caller)}",
            f"Rule: {visible(asked.rule)}",
            "Arguments:",
            shown_arguments(asked.arguments, most),
        )
    )


def seen(text: str) -> str:
    """*text* with its lines, and everything else that cannot be seen as its code."""
    return "\n".join(visible(line) for line in text.split("\n"))


def shown_arguments(arguments: bytes, most: int) -> str:
    """JSON *arguments* in lines of their own, numbers as they were written, in about *most* characters.

    A long text is cut with the number of characters that are missing and its hash; where all of it is too long, the
    whole's size and hash stand at the end. So nothing is sent that is neither shown nor said to be there.
    """
    parts: list[str] = []
    room = most
    for part in _written(arguments, ""):
        parts.append(part[:room])
        room -= len(part)
        if room < 0:
            whole = f"{len(arguments)} bytes of JSON in all, sha256 {hashlib.sha256(arguments).hexdigest()}"
            return "".join(parts) + f"\n… cut here, there is more: {whole}"
    return "".join(parts)


def _written(raw: Raw | bytes, indent: str) -> Iterator[str]:
    value = bytes(raw).strip()
    match value[:1]:
        case b"{":
            members = ((f"{_text(name)}: ", inner) for name, inner in _members.decode(value).items())
            yield from _block("{}", members, indent)
        case b"[":
            yield from _block("[]", (("", inner) for inner in _items.decode(value)), indent)
        case b'"':
            yield _text(msgspec.json.decode(value))
        case _:
            yield _cut(value.decode(), "", "")


def _block(marks: str, inside: Iterable[tuple[str, Raw]], indent: str) -> Iterator[str]:
    deeper, before = indent + "  ", marks[0]
    for label, inner in inside:
        yield f"{before}\n{deeper}{label}"
        yield from _written(inner, deeper)
        before = ","
    yield marks if before == marks[0] else f"\n{indent}{marks[1]}"


def _text(text: str) -> str:
    return _cut(text, '"', '"')


def _cut(text: str, opening: str, closing: str) -> str:
    kept = text[:_MOST_TEXT]
    spelt = visible(msgspec.json.encode(kept).decode()[1:-1]) if opening else kept
    if len(text) <= _MOST_TEXT:
        return f"{opening}{spelt}{closing}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{opening}{spelt}{closing} … {len(text) - _MOST_TEXT} more characters, sha256 of all {digest}"


_members: Final = msgspec.json.Decoder(dict[str, Raw])
_items: Final = msgspec.json.Decoder(list[Raw])


# ---- asking at a client (MCP 2026-07-28 and 2025-11-25, "Elicitation")


def elicitation(asked: Asked, why: str = "") -> dict[str, Any]:
    """The parameters of an `elicitation/create`, in the words that all revisions share; *why* it is asked again."""
    tick = {
        "type": "boolean",
        "title": "Make this call",
        "description": "Yes makes exactly this call, once.",
        "default": False,  # a client that fills in defaults by itself does not say yes
    }
    schema = {"type": "object", "properties": {"confirm": tick}, "required": ["confirm"]}
    again = f"Asked again: {why}.\n\n" if why else ""
    return {"message": again + shown_call(asked, MOST_ASKED), "requestedSchema": schema}


class _Content(msgspec.Struct, frozen=True):
    confirm: bool = False


class _Answer(msgspec.Struct, frozen=True):
    action: str = ""
    content: _Content | None = None


_answer: Final = msgspec.json.Decoder(_Answer)


def says_yes(answer: Raw) -> bool:
    """Whether the result of an elicitation is an accepted form with the box ticked. Anything else is a no."""
    try:
        said = _answer.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return said.action == "accept" and said.content is not None and said.content.confirm

"""A message as a Slack-compatible webhook takes it, and what its answers mean. PURE.

All text of a model is escaped, so that none of it becomes a command: `<!channel>` wakes nobody up.
Source: Slack, "Sending messages using incoming webhooks", "Formatting message text", "Handling errors".
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from bascule.packs.deeds import OutcomeUnknown
from bascule.packs.pack import ToolFailed

MAX_HEADER_CHARS: Final = 150
MAX_SECTION_CHARS: Final = 3000
MAX_WAIT_S: Final = 86_400

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_WORD: Final = re.compile(r"[a-z_]{2,40}")  # how the service names what is wrong: `invalid_payload`
_NOTHING: Final = "Nothing was posted: "


class Block(msgspec.Struct, frozen=True):
    """A part of a message that is laid out."""

    type: Literal["header", "section", "divider"]
    text: str = ""


def escaped(text: str) -> str:
    """*text* as it is to be read. Raises ToolFailed for characters that deceive.

    >>> escaped("<!channel> R&D")
    '&lt;!channel&gt; R&amp;D'
    """
    if _CONTROL.search(text):
        raise ToolFailed("The message has control characters.", "Write plain text; lines end in a line feed.")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def body_of(text: str, blocks: Sequence[Block], channel: str | None) -> dict[str, Any]:
    """What is posted. Raises ToolFailed."""
    if not text.strip():
        raise ToolFailed("The message is empty.", "Say something.")
    body: dict[str, Any] = {"text": escaped(text)}
    if blocks:
        body["blocks"] = [_laid_out(each) for each in blocks]
    if channel is not None:
        body["channel"] = channel
    return body


def _laid_out(block: Block) -> dict[str, Any]:
    if block.type == "divider":
        return {"type": "divider"}
    if not block.text.strip():
        raise ToolFailed(f"A {block.type} has no text.", "Give it one, or leave the block out.")
    longest = MAX_HEADER_CHARS if block.type == "header" else MAX_SECTION_CHARS
    if len(said := escaped(block.text)) > longest:
        raise ToolFailed(f"A {block.type} is longer than {longest} characters.", "Make several blocks of it.")
    kind = "plain_text" if block.type == "header" else "mrkdwn"
    return {"type": block.type, "text": {"type": kind, "text": said}}


def check_answer(status: int, headers: Mapping[str, str], body: bytes, secret: str) -> None:
    """Raises ToolFailed unless the answer says that the message was posted; *secret* is never shown of it.

    Raises OutcomeUnknown where the service itself does not know.
    """
    word = _word(body, secret)
    said = f"({status}{f' {word}' if word else ''})"
    if 200 <= status < 300:
        if _says_no(body):
            raise ToolFailed(f"{_NOTHING}the service does not take the message {said}.", "Change it, and try again.")
        return
    if status in (401, 403):
        raise ToolFailed(
            f"{_NOTHING}the service does not accept the webhook {said}.",
            "Tell the person who runs this server: see whether webhook_url is the current one and was not revoked,"
            " whether its app is still installed in the workspace, and whether it may post to this channel.",
        )
    if status in (404, 410):
        raise ToolFailed(
            f"{_NOTHING}there is no such webhook, or its channel is gone {said}.",
            "Tell the person who runs this server to make a new webhook and set webhook_url.",
        )
    if status == 429:
        raise ToolFailed(
            f"{_NOTHING}the service takes no more messages for now {said}.",
            f"Try again {_wait(headers)}, and post less.",
        )
    if status >= 500:
        raise OutcomeUnknown(
            f"It is not known whether the message was posted: the service failed {said}.",
            "Look into the channel. It is not posted again with this key; only if it is not there, use a new key.",
        )
    raise ToolFailed(f"{_NOTHING}the service does not take the message {said}.", "Make it shorter and plainer.")


def _word(body: bytes, secret: str) -> str:
    text = body[:200].decode("ascii", "replace").strip()
    return text if _WORD.fullmatch(text) and text not in secret.lower() else ""


def _says_no(body: bytes) -> bool:
    """Whether a good status carries `{"ok": false}`, as services that are no webhook answer."""
    try:
        said = json.loads(body[:10_000]) if body[:1] == b"{" else None
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("ok") is False


def _wait(headers: Mapping[str, str]) -> str:
    said = headers.get("retry-after", "")
    known = said.isascii() and said.isdecimal() and len(said) <= 6 and int(said) <= MAX_WAIT_S
    return f"in {int(said)} seconds" if known else "in a minute"

"""The tool that posts to a team's channel, once for a key."""

import hashlib
import secrets
from typing import Any, Final

import aiohttp
import msgspec

from bascule import egress
from bascule.packs.communication.message import Block, body_of, check_answer
from bascule.packs.communication.options import CommunicationOptions
from bascule.packs.deeds import Deeds, OutcomeUnknown
from bascule.packs.pack import Asked, Pack, ToolFailed

SEND: Final = "communication/send_slack_message"
MAX_ANSWER_BYTES: Final = 64 * 1024
# Before there is a connection nothing can have been posted.
_UNSENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class SendSlackMessage(msgspec.Struct, frozen=True):
    text: str
    channel: str | None = None
    blocks: list[Block] = []


class Slack:
    """The tool, and the webhook that it posts to."""

    def __init__(self, options: CommunicationOptions, deeds: Deeds) -> None:
        self._options = options
        self._deeds = deeds

    async def post(self, wanted: SendSlackMessage, asked: Asked) -> dict[str, Any]:
        """Once for a key; without one, each time."""
        if self._options.webhook_url is None:
            raise ToolFailed(
                "Nothing is posted here: the setting `webhook_url` of the communication pack is missing.",
                "Tell the person who runs this server.",
            )
        url = self._options.webhook_url
        self._check_channel(wanted.channel)
        body = body_of(wanted.text, wanted.blocks, wanted.channel)
        token = secrets.token_hex(6) if asked.key is None else hashlib.sha256(asked.key.encode()).hexdigest()[:12]

        async def act() -> dict[str, Any]:
            await self._post(url, body)
            return {"status": "success", "message_id": f"SLK-{token}", "channel": wanted.channel or "the webhook's own"}

        if asked.key is None:
            return await act()
        done, before = await self._deeds.once(SEND, asked.key, wanted, act)
        return {**done, "status": "already_sent"} if before else done

    def _check_channel(self, channel: str | None) -> None:
        """Raises ToolFailed for a channel that the settings do not name."""
        if channel is None or channel in self._options.channels:
            return
        others = ", ".join(self._options.channels[:20])
        do = f"Use one of {others}, or leave channel out." if others else "Leave channel out."
        raise ToolFailed(f"Nothing was posted: the settings do not allow the channel {channel!r}.", do)

    async def _post(self, url: str, body: dict[str, Any]) -> None:
        """Raises ToolFailed, and OutcomeUnknown. Neither says anything of *url*."""
        try:
            answer = await egress.ask(
                "POST", url, base=url, json=body, limit_bytes=MAX_ANSWER_BYTES, timeout_s=self._options.timeout_s
            )
        except egress.Moved:
            what = "Nothing was posted: the service sends us elsewhere, and redirects are not followed."
            raise ToolFailed(what, "Tell the person who runs this server to look at webhook_url.") from None
        except egress.FetchFailed as error:
            if isinstance(error.__cause__, _UNSENT):
                raise ToolFailed(
                    "Nothing was posted: the service cannot be reached.",
                    "Try again in some minutes; then tell the person who runs this server to look at webhook_url.",
                ) from None
            raise OutcomeUnknown(
                "It is not known whether the message was posted: the service did not answer.",
                "Look into the channel. It is not posted again with this key; only if it is not there, use a new key.",
            ) from None
        check_answer(answer.status, answer.headers, answer.body, url)


def add(pack: Pack, options: CommunicationOptions, deeds: Deeds) -> None:
    """Have *pack* keep the contract for messages."""
    pack.tool(SEND, Slack(options, deeds).post)

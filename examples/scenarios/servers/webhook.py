"""A channel of a team: takes what is posted to its webhook, as Slack does, or says that the token is none."""

import json
from contextlib import AbstractContextManager
from typing import Any

from door import Door, opened


class Channel:
    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.revoked = False


class _Door(Door):
    channel: Channel

    def do_POST(self) -> None:
        post = json.loads(self.body())
        if not self.channel.revoked:
            self.channel.posts.append(post)
        said = (403, b"invalid_token") if self.channel.revoked else (200, b"ok")
        self.say(*said, kind="text/plain")


def webhook(channel: Channel) -> AbstractContextManager[str]:
    """Its `host:port`."""
    return opened(_Door, channel=channel)

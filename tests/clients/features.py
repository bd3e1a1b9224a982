"""What the scripts of real clients share: their command line, what they answer, and the report that they print.

It runs in the environment of each client, so it knows the standard library only.
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

TEXT: Final = "Zuglbrücke ⇅ 😀"
NOTE: Final = "test://notes/1"
ROOT: Final = "file:///tmp/root"
MODEL: Final = "test"
SAID: Final = "said the model"
NEWS: Final = "Adds two numbers, and says so."  # what a tool is redefined to
PAGE: Final = "https://example.com/sign-in?from=bascule&n=1"

BASICS: Final = ("tools", "echo")
EVERYTHING: Final = (
    *("structured", "failure", "unknown_tool"),
    *("prompts", "prompt_that_asks", "resources", "reading", "unknown_resource", "completion"),
    *("progress", "log_level"),
    *("question", "declined_question", "questions_in_a_row", "questions_at_once", "url_question", "url_first"),
    *("sampling", "roots", "list_changed", "resource_updated", "cancel"),
)

CONNECT_WITHIN_S: Final = 20
EACH_WITHIN_S: Final = 15  # longer than tests/servers wait for a cancellation


class Person:
    """Who answers the questions: yes to all but one, and visits every page that it is sent to."""

    def __init__(self) -> None:
        self.visited: list[str] = []

    def answer(self, message: str, url: str | None) -> dict[str, Any]:
        """The members of an ElicitResult."""
        if url is not None:
            self.visited.append(url)
            return {"action": "accept"}
        if message == "no?":
            return {"action": "decline"}
        return {"action": "accept", "content": {"answer": f"yes to {message}"}}


class Common:
    """The features that are tried with the same words whatever the client: it needs `call` and the like."""

    user: Any

    async def call(self, name: str, /, **arguments: Any) -> str:
        """The text of a tool's result."""
        raise NotImplementedError

    async def prompt(self, name: str, /, **arguments: str) -> str:
        """The text of a prompt."""
        raise NotImplementedError

    async def read(self, uri: str) -> str:
        """The text of a resource."""
        raise NotImplementedError

    async def asked(self, name: str, /, **arguments: Any) -> Any:
        return json.loads(await self.call(name, **arguments))

    async def echo(self) -> str:
        return await self.call("echo", text=TEXT)

    async def prompt_that_asks(self) -> str:
        return await self.prompt("interview")

    async def reading(self) -> list[str]:
        return [await self.read("test://notes/2"), await self.read("test://pixel")]

    async def question(self) -> Any:
        return await self.asked("ask", question="sure?")

    async def declined_question(self) -> Any:
        return await self.asked("ask", question="no?")

    async def questions_in_a_row(self) -> Any:
        return await self.asked("ask", question="still?", times=3)

    async def questions_at_once(self) -> Any:
        return await self.asked("survey", one="one?", other="other?")

    async def url_question(self) -> list[Any]:
        return [await self.asked("visit", url=PAGE), [*self.user.person.visited]]

    async def sampling(self) -> Any:
        return await self.asked("sample", prompt="say")

    async def roots(self) -> Any:
        return await self.asked("roots")


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--transport", choices=("http", "sse", "stdio"), default="http")
    parser.add_argument("--mode", default="auto", help="auto, legacy, or the modern version")
    parser.add_argument("--everything", action="store_true", help="try every feature, not just the list and one call")
    parser.add_argument("--prefix", default="", help="what the names of tools and prompts begin with")
    parser.add_argument("where", nargs="+", help="the URL, or for stdio the command")
    return parser.parse_args()


async def report(protocol: str, exercise: object, *, everything: bool) -> None:
    """Try what *exercise* has and print what came of it; a feature that fails or hangs does not stop the next."""
    names = BASICS + (EVERYTHING if everything else ())
    tried = {name: await _tried(getattr(exercise, name)) for name in names if hasattr(exercise, name)}
    print(json.dumps({"protocol": protocol, "features": tried}))


async def _tried(feature: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(EACH_WITHIN_S):
            return {"got": await feature()}
    except Exception as error:
        return {"failed": _told(error)}


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_told, error.exceptions))
    if isinstance(error, TimeoutError):
        return f"nothing came within {EACH_WITHIN_S} s"
    return repr(error)

"""The person at the terminal: hears what servers say in a call, and answers what they ask. All on stderr."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Raw

from bascule.call import Result
from bascule.cli.talk import clean, note
from bascule.errors import MethodNotFound
from bascule.wire import jsonrpc, legacy
from bascule.wire.jsonrpc import Params

_DECLINED: Final = Result(Raw(b'{"action":"decline"}'))
_YES: Final = frozenset({"y", "yes", "true", "1"})


class Person:
    """`call.Client` for whoever started the command."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()  # one question at a time

    def notify(self, method: str, params: Params) -> None:
        said: dict[str, Any] = {key: jsonrpc.decode(raw) for key, raw in params.items()}
        if method == legacy.PROGRESS:
            of = f"/{said['total']:g}" if isinstance(said.get("total"), int | float) else ""
            note(f"{said.get('progress')}{of} {said.get('message') or ''}".rstrip())
        elif method == legacy.LOG:
            told = said.get("data")
            words = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
            logger = f"{said['logger']}: " if said.get("logger") else ""
            note(f"[{said.get('level')}] {logger}{words}")

    async def ask(self, method: str, params: Params) -> Result:
        if method != "elicitation/create":
            raise MethodNotFound(f"a terminal cannot answer {method}")
        asked: dict[str, Any] = {key: jsonrpc.decode(raw) for key, raw in params.items()}
        note(f"the server asks: {asked.get('message', '')}")
        if not sys.stdin.isatty() or os.name != "posix":  # elsewhere a loop cannot watch a terminal
            note("declined: nobody is at a terminal to answer; run it there")
            return _DECLINED
        async with self._turn:
            if asked.get("mode") == "url":
                return await self._visited(str(asked.get("url", "")))
            return await self._filled_in(asked.get("requestedSchema") or {})

    async def _visited(self, url: str) -> Result:
        note(f"it wants you to open {url}")
        agreed = (await _line("  open it in your browser; done? [y/N] ")).lower() in _YES
        return Result(Raw(b'{"action":"accept"}')) if agreed else _DECLINED

    async def _filled_in(self, schema: Mapping[str, Any]) -> Result:
        """The form, field by field; nothing for a required field declines it."""
        required = schema.get("required") or ()
        content: dict[str, Any] = {}
        for name, field in (schema.get("properties") or {}).items():
            answer = await self._field(name, field, required=name in required)
            if answer is None and name in required:
                note("declined")
                return _DECLINED
            if answer is not None:
                content[name] = answer
        if not content and (await _line("  agree? [y/N] ")).lower() not in _YES:
            return _DECLINED
        return Result(jsonrpc.encode({"action": "accept", "content": content}))

    async def _field(self, name: str, field: Mapping[str, Any], *, required: bool) -> Any:
        """The value of one field, asked for until it fits; None for no answer."""
        kind = field.get("type", "string")
        hints = [kind, *(["optional"] if not required else [])]
        choices = field.get("enum") or [each.get("const") for each in field.get("oneOf") or ()]
        if choices:
            hints.append("one of " + ", ".join(map(str, choices)))
        if "default" in field:
            hints.append(f"default {field['default']}")
        about = f" {field['description']}" if field.get("description") else ""
        while True:
            said = await _line(clean(f"  {name}{about} ({', '.join(hints)}): "))
            if not said:
                return field.get("default")
            try:
                return _typed(said, kind, choices)
            except ValueError as error:
                note(f"not {error}")


def _typed(said: str, kind: str, choices: list[Any]) -> Any:
    """What was typed, as JSON of *kind*. Raises ValueError naming what was wanted."""
    if choices and said not in map(str, choices):
        raise ValueError("one of the choices")
    match kind:
        case "boolean":
            return said.lower() in _YES
        case "integer" | "number":
            try:
                return int(said) if kind == "integer" else float(said)
            except ValueError:
                raise ValueError(f"a valid {kind}") from None
        case "array":
            return [part.strip() for part in said.split(",")]
        case _:
            return said


async def _line(prompt: str) -> str:
    """One typed line; cancelling it gives the terminal back. Empty at end of file."""
    print(prompt, end="", file=sys.stderr, flush=True)
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
        return sys.stdin.readline().strip()  # a terminal hands over whole lines
    finally:
        loop.remove_reader(sys.stdin.fileno())

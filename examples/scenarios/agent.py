"""What a story is told with: a scripted model that calls tools through Bascule and prints what comes of it.

Each line says who speaks. TOOL TRUTH is what a tool answered and nobody made up; MODEL REASONING is what the model
makes of it, and may be wrong. All that one agent does stands under one trace (W3C Trace Context).
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from client import Refused, post

Json: TypeAlias = dict[str, Any]

OURS: Final = "dev.bascule/"
MOST_CHARS: Final = 400  # of one value on the screen
MOST_TRIES: Final = 10  # of one call, while it is said that it may work later
WITHIN_S: Final = 30.0


class Client(Protocol):
    """One caller's way to the gateway: client.py or sdk.py. Raises client.Refused for JSON-RPC errors."""

    async def tools(self) -> list[Json]: ...
    async def call(self, name: str, arguments: Json, meta: Json) -> Json: ...
    async def read(self, uri: str, meta: Json) -> Json: ...
    async def prompt(self, name: str, arguments: Json, meta: Json) -> Json: ...


class Unexpected(Exception):
    """The story did not go as it is told."""


@dataclass(frozen=True)
class Refusal:
    """Why a call was not made, or failed: `kind` is a word of docs/errors.md, or `failed`, as the tool itself says."""

    kind: str
    message: str
    code: int = 0  # what exactly happened
    family: int = 0  # who must act: the code of JSON-RPC
    retryable: bool = False
    retry_after_s: float = 0.0
    details: Json = field(default_factory=dict)

    @property
    def is_transient(self) -> bool:
        return -30000 < self.family <= -20001

    def __str__(self) -> str:
        codes = f" {self.family}, {self.code}" if self.code else ""
        return f"{self.kind}{codes}{', may work later' if self.retryable else ''}: {self.message}"


@dataclass
class Agent:
    """The model of a story, and the callers it speaks as; the first of *clients* is its own name."""

    url: str  # of the gateway, without a path
    keys: Mapping[str, str]
    clients: Mapping[str, Client]
    work: Path  # what the servers of the story read and write
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    says_yes: bool = True  # what the person at the client answers
    calls: int = 0  # that have to be on record

    # ---- words

    def user(self, text: str) -> None:
        show("USER", text)

    def reason(self, text: str) -> None:
        """What the model concludes or plans: its own words, no tool's."""
        show("MODEL REASONING", text)

    def see(self, what: str, held: bool) -> None:
        """A fact outside of the gateway, looked up where it is. Raises Unexpected."""
        if not held:
            raise Unexpected(f"not so: {what}")
        show("SEEN", what)

    def person(self, question: str) -> bool:
        """The person at the client is asked."""
        show("CONFIRM GATE", question)
        show("PERSON", "yes" if self.says_yes else "no")
        return self.says_yes

    # ---- what there is

    async def tools(self, *ids: str, by: str = "") -> dict[str, Json]:
        """The contracts of the tools that *by* may see, by id; *ids* are those that are shown."""
        found = {}
        for tool in await self._client(by).tools():
            found[tool["name"].replace("__", "/", 1)] = tool["_meta"][OURS + "contract"]
        for id in ids:
            if id not in found:
                raise Unexpected(f"no {id} in the list, which has {', '.join(found)}")
            show("TOOL CONTRACT", f"{id} {promises(found[id])}")
        return found

    async def read(self, uri: str, by: str = "") -> Any:
        """The content of a resource, JSON decoded."""
        try:
            result = await self._client(by).read(uri, self._meta())
        except Refused as error:
            raise Unexpected(f"{uri}: {refusal_of(error.error)}") from None
        found = decoded(result["contents"][0]["text"])
        show("TOOL TRUTH", f"resource {uri} → {short(found)}")
        return found

    async def prompt(self, name: str, by: str = "", **arguments: str) -> str:
        result = await self._client(by).prompt(name, arguments, self._meta())
        text: str = result["messages"][0]["content"]["text"]
        show("PROMPT", f"{name} → {short(text)}")
        return text

    # ---- calls

    async def call(
        self, tool: str, arguments: Json, *, key: str = "", version: str = "", token: str = "", by: str = ""
    ) -> Any:
        """What the tool answers. Sends again what may work later, with the same *key*. Raises Unexpected."""
        result = await self._settled(tool, arguments, key, version, token, by)
        if isinstance(result, Refusal):
            raise Unexpected(f"{tool} was refused: {result}")
        return answer_of(tool, arguments, result)

    async def refused(
        self, tool: str, arguments: Json, kind: str, *, key: str = "", version: str = "", token: str = "", by: str = ""
    ) -> Refusal:
        """The refusal of that *kind* that the call gets. Raises Unexpected for everything else."""
        result = await self._settled(tool, arguments, key, version, token, by, kind)
        if not isinstance(result, Refusal):
            raise Unexpected(f"{tool} was not refused: {short(result)}")
        if result.kind != kind:
            raise Unexpected(f"{tool} was refused for another reason than {kind}: {result}")
        show("REFUSED", f"{tool} {short(arguments)} {result}")
        return result

    async def confirm(
        self,
        tool: str,
        arguments: Json,
        *,
        person: str,
        note: str,
        key: str = "",
        yes: bool = True,
        then: str = "",
        by: str = "",
    ) -> Any:
        """The call stops at the confirm gate, the caller *person* answers for it, and it is sent again with the token.

        What the tool answers; after a no, or where it is refused all the same (*then*), the refusal.
        """
        asked = await self.refused(tool, arguments, "confirmation_required", key=key, by=by)
        token = asked.details["confirmation_token"]
        show("CONFIRM GATE", f"{asked.details['how']} (until {asked.details['expires_at']})")
        await self.operate(person, f"approvals/{token}/{'approve' if yes else 'deny'}", note=note)
        if expected := then if yes else "confirmation_denied":
            return await self.refused(tool, arguments, expected, key=key, token=token, by=by)
        return await self.call(tool, arguments, key=key, token=token, by=by)

    async def lost(self, tool: str, arguments: Json, *, key: str, once: Callable[[], bool], by: str = "") -> None:
        """The call is made, and as soon as *once* holds its connection is torn, before there is an answer."""
        call = asyncio.ensure_future(self._sent(tool, arguments, key, "", "", by))
        until = time.monotonic() + WITHIN_S
        while not once():
            if call.done() or time.monotonic() > until:
                raise Unexpected(f"{tool} was to be torn away: {short(call.result()) if call.done() else 'too late'}")
            await asyncio.sleep(0.01)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        show("CONNECTION LOST", f"{tool} {short(arguments)}: sent, and no answer came")

    async def _settled(
        self, tool: str, arguments: Json, key: str, version: str, token: str, by: str, expected: str = ""
    ) -> Json | Refusal:
        """What the call comes to, once it is not said any more that it may work later; or the *expected* refusal."""
        for _ in range(MOST_TRIES):
            result = await self._sent(tool, arguments, key, version, token, by)
            # What may have run is safe to send again under its key, and under no other.
            if not isinstance(result, Refusal) or not (result.retryable or (key and result.is_transient)):
                return result
            if result.kind == expected:
                return result
            show("REFUSED", f"{tool} {result}")
            await asyncio.sleep(result.retry_after_s)
        return result

    async def _sent(self, tool: str, arguments: Json, key: str, version: str, token: str, by: str) -> Json | Refusal:
        # A program tells refusals apart by their codes; without `errors` they are results with words for a model.
        asked = {"errors": "jsonrpc", "idempotencyKey": key, "version": version, "confirmationToken": token}
        meta = self._meta() | {OURS + name: said for name, said in asked.items() if said}
        try:
            result = await self._client(by).call(tool, arguments, meta)
        except Refused as error:
            refusal = refusal_of(error.error)
            # Who is overloaded does not read what it turns away, so there is nothing to record.
            self.calls += refusal.kind != "overloaded"
            return refusal
        self.calls += 1
        return Refusal("failed", text_of(result)) if result.get("isError") else result

    async def operate(self, person: str, operation: str, **said: object) -> Json:
        """What the caller *person* does as an operator: a POST of docs/rest.md. Raises Unexpected."""
        shown = {"Authorization": f"Bearer {self.keys[person]}"}
        status, _, body = await post(f"{self.url}/api/{operation}", shown, said)
        if status != 200:
            raise Unexpected(f"{person} cannot do {operation}: HTTP {status} {body.decode()}")
        show("PERSON", f"{person}: {operation} {short(said)}")
        found: Json = json.loads(body)
        return found

    def _client(self, by: str) -> Client:
        return self.clients[by] if by else next(iter(self.clients.values()))

    def _meta(self) -> Json:
        return {"traceparent": f"00-{self.trace_id}-{secrets.token_hex(8)}-01"}


# ---- what is on the screen


def show(label: str, text: str) -> None:
    print(f"{label:<16} {text}".replace("\n", f"\n{'':<17}"), flush=True)


def answer_of(tool: str, arguments: Json, result: Json) -> Any:
    """What the tool answered, which is shown with all that the gateway says of the call."""
    found = result.get("structuredContent") or decoded(text_of(result))
    label = result["_meta"][OURS + "call"]
    show("TOOL TRUTH", f"{tool} {label.get('version', '')} {short(arguments)}")
    show("", f"→ {short(found)}")
    facts = [f"trace {label['trace_id']}", f"{label['took_ms']} ms"]
    facts += [f"{label['cost_usd']} USD"] if label.get("cost_usd") else []
    facts += [word for word in ("cached", "replayed") if label.get(word)]
    show("", ", ".join(facts))
    for warning in label.get("warnings", []):
        show("WARNING", warning)
    return found


def refusal_of(error: Json) -> Refusal:
    """A JSON-RPC error, ours or a plain one."""
    told = error.get("data") or {}
    return Refusal(
        told.get("kind", "protocol"),
        error["message"],
        told.get("code", 0),
        error["code"],
        told.get("retryable", False),
        told.get("retry_after_ms", 0) / 1000,
        told.get("details", {}),
    )


def promises(contract: Json) -> str:
    """What a planner chooses by."""
    price = contract.get("cost_model")
    said = [
        contract["version"],
        "changes something" if contract["side_effect"] else "reads only",
        f"{price['price_usd']} USD/{price['unit']}" if price else "",
        f"within {contract['latency_budget_ms']} ms" if contract.get("latency_budget_ms") else "",
        contract["status"] if contract.get("status", "active") != "active" else "",
    ]
    return ", ".join(filter(None, said))


def text_of(result: Json) -> str:
    return "".join(each.get("text", "") for each in result["content"])


def decoded(text: str) -> Any:
    """JSON, where it is some."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}… ({len(text)} characters)"

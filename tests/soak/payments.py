"""Payments with keys: what is sent, what is heard, and what may be heard by how far a call had come."""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import aiohttp
from gateway import WITHIN_S, Bascule, Exchange, Modern

Json: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["result", "replay", "unknown", "in flight", "draining", "nothing", "other"]

# What a key gets when it is sent again, by the last mark of its call before the process died.
EXPECTED: Final[dict[str, frozenset[Kind]]] = {
    **dict.fromkeys(("", "reserve?", "reserved", "released"), frozenset[Kind]({"result"})),
    **dict.fromkeys(("start?", "release?"), frozenset[Kind]({"result", "unknown"})),
    **dict.fromkeys(("started", "lose?", "losed"), frozenset[Kind]({"unknown"})),
    "complete?": frozenset({"unknown", "replay"}),
    **dict.fromkeys(("completed", "replied"), frozenset[Kind]({"replay"})),
    "unseen": frozenset({"result", "unknown", "replay"}),  # of a process that leaves no marks
}
SETTLED: Final[dict[Kind, str]] = {"result": "replied", "replay": "replied", "unknown": "started"}  # a phase for each
_KINDS: Final[dict[int, Kind]] = {40902: "unknown", 40901: "in flight", 50005: "draining"}
_LABEL: Final = re.compile(r',?"dev\.bascule/call":\{[^{}]*\}')


@dataclass
class Payment:
    """One key, and all that is known of its call."""

    key: str
    tool: str
    amount: int
    in_header: bool
    before_s: float = 0.0
    after_s: float = 0.0
    twin_waits_s: int | None = None  # it is sent twice at once, and the second wants to wait so long
    phase: str = ""  # the last mark of its call
    told: str | None = None  # the result that its client was given
    settled: bool = False
    executed: int | None = None  # how often it must have been, where that is certain
    row: str = ""  # its id in the journal
    killed_at: str = ""  # the crash point, if it was this call that came to it

    @property
    def repeatable(self) -> bool:
        return self.tool == "pay_idempotent"

    def expected(self) -> frozenset[Kind]:
        """What it may get, if it is sent again."""
        if self.told is not None:
            return EXPECTED["replied"]
        found = EXPECTED[self.phase]
        if not self.repeatable:
            return found
        return frozenset("result" if kind == "unknown" else kind for kind in found)

    def take(self, mark: str) -> bool:
        """*mark* is what a call did next. False if it was another's than the one that runs, or has run."""
        if mark == "fenced" or (mark == "reserve?" and self.phase not in ("", "released")):
            return False
        if mark == "replied" and self.phase != "completed":
            return False
        self.phase, _, row = mark.partition(" ")
        self.row = row or self.row
        return True


@dataclass(frozen=True)
class Heard:
    """One answer. "nothing": the connection broke."""

    kind: Kind
    text: str = ""


async def send(bascule: Bascule, payment: Payment, wait_s: int = 0) -> Heard:
    """Send *payment* with its key, and read what comes."""
    arguments = {
        "order": payment.key,
        "amount": payment.amount,
        "before_s": payment.before_s,
        "after_s": payment.after_s,
    }
    meta = None if payment.in_header else {"dev.bascule/idempotencyKey": payment.key}
    headers = {"idempotency-key": payment.key if payment.in_header else None, "prefer": f"wait={wait_s}"}
    client = Modern(bascule, "/servers/bank/mcp", {})
    params = {"name": payment.tool, "arguments": arguments}
    try:
        async with client.open("tools/call", params, meta=meta, headers=headers) as exchange:
            body = await exchange.raw()
            return Heard("nothing") if body is None else _heard(payment, exchange, body.decode())
    except (aiohttp.ClientError, ConnectionError, AssertionError):
        return Heard("nothing")


def _heard(payment: Payment, exchange: Exchange, text: str) -> Heard:
    message = json.loads(text)
    result = message.get("result", {})
    error = message.get("error", {}).get("data") or result.get("_meta", {}).get("dev.bascule/error") or {}
    if error or "error" in message:
        kind = _KINDS.get(error.get("code", 0), "other")
        if kind in ("unknown", "in flight") and payment.in_header and exchange.status != 409:
            return Heard("other", f"HTTP {exchange.status}: {text}")
        return Heard(kind, text)
    replayed = result["_meta"]["dev.bascule/call"]["replayed"]
    said = exchange.headers.get("idempotent-replayed")
    if replayed != (said == "true") and not exchange.streams:
        return Heard("other", f"replayed {replayed}, but the header says {said}: {text}")
    return Heard("replay" if replayed else "result", _LABEL.sub("", text))


@contextlib.asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Bascule]:
    """Clients of the Bascule at *url*, each call on a connection of its own if it has to be."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=WITHIN_S), auto_decompress=False
    ) as http:
        yield Bascule(url, http)

"""`guard`: the contract's guardrails and its confirm gate, over arguments that fit the schema.

A call that needs a person gets a `Question`; the `confirm` stage, which follows in every such chain, asks it.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from bascule.call import Call, Caller, Forward, Question, Result
from bascule.contract.model import Contract
from bascule.errors import GuardrailDenied
from bascule.pipeline.depth import depth_of
from bascule.pipeline.tally import Tally
from bascule.pipeline.validate import arguments_of
from bascule.policy.facts import Facts
from bascule.policy.guard import Guard as Rules
from bascule.policy.guard import Verdict

_NOTHING: Final[Mapping[str, Any]] = {}
_GATE: Final = "confirm_gate"


class Judge(Protocol):
    """Compiled rules: those of a contract, or its gate."""

    def judge(self, facts: Facts) -> Verdict: ...


class Guard:
    """Lets through what the rules allow, and says what they warn of."""

    def __init__(self, contract: Contract, rules: Rules, gate: Judge | None, tally: Tally, now: Callable[[], datetime]):
        self.rules = rules
        self.gate = gate
        self._tally = tally
        self._now = now
        self._id = contract.id
        self._four_eyes = contract.confirm_gate is not None and contract.confirm_gate.four_eyes
        self._tool = tool_facts(contract)
        # What no rule looks at is not put together for it; a gate may ask with any of it.
        roots = {*looked_at(contract), *rules.roots} if gate is None else {"caller", "session"}
        self._looks_at_caller = "caller" in roots
        self._looks_back = "session" in roots

    async def __call__(self, call: Call, forward: Forward) -> Result:
        session = await self._session(call) if self._looks_back else _NOTHING
        facts = self._facts(call, session)
        verdict = self._verdict(facts)
        if call.args is None:
            call = msgspec.structs.replace(call, args=facts.args)
        if verdict.effect == "deny":
            raise GuardrailDenied(verdict.message, rule=_place(verdict.rule))
        if verdict.effect == "ask":
            rule = _place(verdict.rule)
            asked = Question(rule, verdict.message, self._four_eyes and rule == _GATE)
            call = msgspec.structs.replace(call, question=asked)
        result = await (self._counted(call, forward) if self._looks_back else forward(call))
        if not verdict.warnings:
            return result
        return msgspec.structs.replace(result, warnings=(*verdict.warnings, *result.warnings))

    async def _counted(self, call: Call, forward: Forward) -> Result:
        """Send *call* on, counted in its session from the moment of the decision: of two at once, one is later."""
        trip = call.trip
        await self._tally.count(call)
        trip.counted = True
        try:
            return await forward(call)
        finally:
            if not trip.sent:  # a stage further in has refused it
                trip.counted = False
                await self._tally.count(call, by=-1)

    async def judged(self, call: Call) -> tuple[Call, Verdict]:
        """What the rules say of *call*, and the call with its arguments decoded."""
        facts = await self.facts(call)
        return msgspec.structs.replace(call, args=facts.args), self._verdict(facts)

    async def facts(self, call: Call) -> Facts:
        """What rules look at."""
        return self._facts(call, await self._session(call) if self._looks_back else _NOTHING)

    def _verdict(self, facts: Facts) -> Verdict:
        verdict = self.rules.judge(facts)
        # A rule that asks spares nobody the question of a gate that wants another person.
        if self.gate is not None and verdict.effect in (
            ("allow", "warn", "ask") if self._four_eyes else ("allow", "warn")
        ):
            gated = self.gate.judge(facts)
            if gated.effect in ("ask", "deny"):
                verdict = msgspec.structs.replace(gated, warnings=verdict.warnings)
        return verdict

    def _facts(self, call: Call, session: Mapping[str, Any]) -> Facts:
        caller = caller_facts(call.caller) if self._looks_at_caller else _NOTHING
        return Facts(arguments_of(call), caller, self._tool, session, self._now())

    async def _session(self, call: Call) -> dict[str, Any]:
        session = await self._tally.session_facts(call)
        session["depth"] = depth_of(call)
        session["tool_calls"] = session["counts"].get(self._id, 0)
        return session


def looked_at(contract: Contract) -> set[str]:
    """What the ready rules of *contract* look at besides the arguments."""
    rules = contract.guardrails
    session = any(rule.max_per_session is not None or rule.max_chain_depth is not None for rule in rules)
    caller = any(rule.recipients_within and rule.recipients_within.self_only for rule in rules)
    return {name for name, looked in (("session", session), ("caller", caller)) if looked}


def caller_facts(caller: Caller) -> dict[str, Any]:
    return {
        "name": caller.name,
        "roles": sorted(caller.roles),
        "scopes": sorted(caller.authority.held),
        "attributes": caller.attributes,
        "proof": caller.proof,
    }


def tool_facts(contract: Contract) -> dict[str, Any]:
    return {
        "id": contract.id,
        "name": contract.name,
        "namespace": contract.namespace,
        "version": contract.version,
        "side_effect": contract.side_effect,
        "idempotent": contract.idempotent,
        "security_level": contract.security_level or "",
    }


def _place(rule: str) -> str:
    """Which rule it is; what it says is between the operator and the log."""
    return rule.partition(":")[0]

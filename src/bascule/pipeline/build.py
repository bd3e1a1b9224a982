"""From a contract to the stages that its calls pass, and no others.

label      outermost: it says what happened to a call that any later stage refuses, and what was noticed
authorize  before all that costs something or tells something: what may not be called does not exist
check      what comes back, before anybody believes it; also what comes back from the journal
rounds     what a stateless client brings back is what it was given, or nobody hears of it
replay     a call that has been made is answered here: it takes nothing from a limit, and asks nobody again
limit      the cheapest refusal comes first
validate   rules judge arguments that fit the schema
guard      after validate, and before anything is taken from a budget
cache      behind the rules, which look at each call; before all that only a call which really goes has to wait for
look       a server that is left alone gets no call: nobody is asked about one, and nothing taken for it
spend      money is there for it, or nobody is asked about it
confirm    nobody is asked about a call that would be refused anyway
place      last, so that none is held while a person thinks
reserve    the last of what can refuse has spoken; now it is written down that the call goes out
deadline   around all attempts: from here on its server's time runs
fallback   another server answers once this one has been tried
retry      inside the deadline; each attempt is one of the circuit's
breaker    around one attempt, of which it keeps the record
deepen     the server hears that one gateway more has passed the call on
dispatch   innermost: the moment at which the server may see the call; counted, and from here on not free of charge
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from bascule.config import ServerOptions
from bascule.contract.model import Contract, rate_of
from bascule.contract.validation.schema import compile_schema, guard
from bascule.pipeline.authorize import Authorize
from bascule.pipeline.breaker import Breaker, Look
from bascule.pipeline.cache import Cache, is_cached
from bascule.pipeline.chain import Stage
from bascule.pipeline.check import Check
from bascule.pipeline.confirm import Confirm, asks
from bascule.pipeline.depth import Deepen
from bascule.pipeline.dispatch import Dispatch
from bascule.pipeline.fallback import Fallback
from bascule.pipeline.guard import Guard
from bascule.pipeline.label import Label
from bascule.pipeline.limit import Limit
from bascule.pipeline.parts import Parts
from bascule.pipeline.place import Place
from bascule.pipeline.replay import Replay
from bascule.pipeline.reserve import Reserve
from bascule.pipeline.retry import Retry
from bascule.pipeline.rounds import Rounds
from bascule.pipeline.spend import Spend
from bascule.pipeline.tally import Tally
from bascule.pipeline.trace import traced
from bascule.pipeline.validate import Validate
from bascule.policy.allowances import Allowance, Allowances
from bascule.policy.guard import compile_gate, compile_guards
from bascule.policy.options import LimitsOptions, ServerLimits
from bascule.store.audit import Audit
from bascule.store.options import AuditMode
from bascule.upstream.stdio import StdioOptions

AllowanceOf: TypeAlias = Callable[[str], Allowance]

log = logging.getLogger("bascule.policy")


class StageBuilder:
    """Makes the stages of each contract, by the limits of the configuration."""

    def __init__(
        self,
        limits: LimitsOptions,
        allowances: Allowances,
        parts: Parts,
        servers: Mapping[str, ServerOptions],
        *,
        scoped: bool,
        counting: bool,
        deepening: bool,
        audit: AuditMode = "off",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """*scoped*: callers differ in what they may do. *counting*, *deepening*: some rule looks at what was called
        before in a session, or at how deep a chain of gateways a call comes from."""
        self._limits = limits
        self._allowances = allowances
        self._parts = parts
        self._servers = servers
        self._scoped = scoped
        self._counting = counting
        self._deepening = deepening
        self._audit = audit
        self._clock = clock
        self._tally = Tally(parts.state)

    def __call__(
        self, contract: Contract, server: str, scopes: tuple[str, ...], *, unlisted: bool = False
    ) -> Sequence[Stage]:
        """Raises Unfit for a schema that must not be used, ConfigInvalid for rules that cannot be."""
        # Names that no list holds are made up by callers: each would be a limit of its own, and a counter kept for it.
        counted = msgspec.structs.replace(contract, id=f"{server}/") if unlisted else contract
        for schema in (contract.input_schema, contract.output_schema):
            if schema is not None and (unfit := guard(schema)) is not None:
                raise unfit
        limits = self._limits.servers.get(server, ServerLimits())
        check, replay = self._check(contract), self._replay(contract, server)
        fallback = self._fallback(contract, server)
        parts, allowance_of = self._parts, self._allowances.of
        stages: list[Stage | None] = [
            Label(contract, server),
            self._authorize(contract, scopes),
            check,
            Rounds(contract, parts.asking),
            replay,
            self._limit(counted, server, limits, allowance_of),
            self._validate(contract),
            self._guard(contract),
            None if unlisted else self._cache(contract, server, check),
            Look(contract, parts.health, fallback),
            self._spend(contract),
            Confirm(contract, parts.asking) if asks(contract) else None,
            self._place(counted, server, limits, allowance_of),
            self._reserve(contract, server, replay),
            parts.deadline,
            fallback,
            *self._attempts(contract, server),
        ]
        return self._traced([stage for stage in stages if stage is not None])

    def standing_in(self, contract: Contract, server: str) -> Sequence[Stage]:
        """The stages of a call that comes to *server* in the place of another, where all else was decided."""
        limits = self._limits.servers.get(server, ServerLimits())
        stages: list[Stage | None] = [
            self._limit(contract, server, limits, lambda caller: Allowance()),
            self._place(contract, server, limits, lambda caller: Allowance()),
            *self._attempts(contract, server)[1:],
        ]
        return self._traced([stage for stage in stages if stage is not None])

    def _traced(self, stages: Sequence[Stage]) -> Sequence[Stage]:
        tracing = self._parts.tracing
        return stages if tracing is None else traced(stages, tracing)

    def _attempts(self, contract: Contract, server: str) -> Sequence[Stage]:
        parts, options = self._parts, self._servers.get(server)
        stages: list[Stage | None] = [
            Retry(contract, parts.health, deduplicates=options is not None and options.deduplicates),
            Breaker(contract, parts.health),
            Deepen() if self._deepening else None,
            Dispatch(self._tally if self._counting else None, self._recorder(contract)),
        ]
        return [stage for stage in stages if stage is not None]

    def _authorize(self, contract: Contract, scopes: tuple[str, ...]) -> Stage | None:
        return Authorize(contract, scopes) if (self._scoped and scopes) or contract.status == "gone" else None

    def _limit(self, contract: Contract, server: str, limits: ServerLimits, allowance_of: AllowanceOf) -> Stage | None:
        rate = None if limits.rate is None else rate_of(limits.rate)
        if not (self._allowances.rates or rate or contract.rate_limit or contract.total_rate_limit):
            return None
        return Limit(contract, server, rate, allowance_of=allowance_of, state=self._parts.state)

    def _validate(self, contract: Contract) -> Stage | None:
        if contract.validate_arguments == "off" or contract.input_schema is None:
            return None
        return Validate(compile_schema(contract.input_schema), contract.validate_arguments)

    def _guard(self, contract: Contract) -> Stage | None:
        if not contract.guardrails and contract.confirm_gate is None:
            return None
        rules = compile_guards(contract.guardrails, contract.input_schema)
        said = contract.confirm_gate
        gate = None if said is None else compile_gate(said.when, said.message, contract.input_schema)
        if rules.warnings:
            # What is odd whatever the tool's schema is was said when the configuration was read (admin/doubts.py).
            known = compile_guards(contract.guardrails, None).warnings
            for warning in rules.warnings:
                if warning not in known:
                    log.warning("%r: %s", contract.id, warning)  # its name comes from a server, or from a client
        return Guard(contract, rules, gate, self._tally, lambda: datetime.fromtimestamp(self._clock(), UTC))

    def _place(self, contract: Contract, server: str, limits: ServerLimits, allowance_of: AllowanceOf) -> Stage | None:
        if not (self._allowances.places or limits.concurrent or contract.max_concurrent):
            return None
        return Place(contract, server, limits.concurrent, allowance_of=allowance_of, gates=self._parts.gates)

    def _spend(self, contract: Contract) -> Stage | None:
        if contract.cost_model is None and not self._allowances.budgets:
            return None
        allowance_of, state, clock = self._allowances.of, self._parts.state, self._clock
        return Spend(contract, allowance_of=allowance_of, state=state, clock=clock, summing=self._counting)

    def _cache(self, contract: Contract, server: str, check: Check | None) -> Stage | None:
        if not is_cached(contract):
            return None
        options = self._servers.get(server)
        sharing = options.sharing if isinstance(options, StdioOptions) else "shared"
        is_sound = None if check is None else check.is_sound
        return Cache(contract, server, self._parts.results, sharing=sharing, is_sound=is_sound)

    def _fallback(self, contract: Contract, server: str) -> Fallback | None:
        options = self._servers.get(server)
        if contract.kind != "tool" or options is None or options.fallback is None:
            return None
        reruns = contract.idempotent or options.deduplicates
        return Fallback(contract, server, options.fallback, self._parts.others, self._parts.health, reruns=reruns)

    def _replay(self, contract: Contract, server: str) -> Replay | None:
        if contract.kind != "tool":
            return None  # nothing else is done by being asked for
        options, records = self._servers.get(server), self._parts.records
        deduplicates = options is not None and options.deduplicates
        journal = None if records is None else records.journal
        return Replay(contract, journal, rerun=contract.idempotent or deduplicates)

    def _reserve(self, contract: Contract, server: str, replay: Replay | None) -> Stage | None:
        records, options = self._parts.records, self._servers.get(server)
        if records is None or (replay is None and not asks(contract)):
            return None
        return Reserve(
            contract,
            records,
            replay,
            self._parts.unfinished,
            auditing=self._audit == "strict" and contract.side_effect,
            passing_on=options is not None and options.deduplicates,
        )

    def _recorder(self, contract: Contract) -> Audit | None:
        records = self._parts.records
        return records.audit if records is not None and contract.side_effect else None

    def _check(self, contract: Contract) -> Check | None:
        # The result of a tool alone has a structured part; a resource is its text, whatever its schema says.
        if contract.kind != "tool" or contract.validate_results == "off" or contract.output_schema is None:
            return None
        return Check(compile_schema(contract.output_schema), contract.validate_results)

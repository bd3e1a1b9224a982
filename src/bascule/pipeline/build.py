"""From a contract to the stages that its calls pass, and no others.

label      outermost: it says what happened to a call that any later stage refuses, and what was noticed
authorize  before all that costs something or tells something: what may not be called does not exist
check      what comes back, before anybody believes it; also what comes back from the journal
replay     a call that has been made is answered here: it takes nothing from a limit, and asks nobody again
limit      the cheapest refusal comes first
validate   rules judge arguments that fit the schema
guard      after validate, and before anything is taken from a budget
place      who waits in line holds no money
spend      as late as can be: reserved is only what really goes
reserve    the last of what can refuse has spoken; now it is written down that the call goes out
deepen     the server hears that one gateway more has passed the call on
dispatch   innermost: the moment at which the server may see the call; counted, and from here on not free of charge
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

import msgspec

from bascule.contract.model import Contract, rate_of
from bascule.contract.validation.schema import compile_schema, guard
from bascule.pipeline.authorize import Authorize
from bascule.pipeline.chain import Stage
from bascule.pipeline.check import Check
from bascule.pipeline.depth import Deepen
from bascule.pipeline.dispatch import Dispatch
from bascule.pipeline.gates import Gates
from bascule.pipeline.guard import Guard
from bascule.pipeline.label import Label
from bascule.pipeline.limit import Limit
from bascule.pipeline.place import Place
from bascule.pipeline.replay import Replay
from bascule.pipeline.reserve import Reserve, Unfinished
from bascule.pipeline.spend import Spend
from bascule.pipeline.tally import Tally
from bascule.pipeline.validate import Validate
from bascule.policy.allowances import Allowances
from bascule.policy.guard import compile_gate, compile_guards
from bascule.policy.options import LimitsOptions, ServerLimits
from bascule.store.audit import Audit
from bascule.store.options import AuditMode
from bascule.store.records import Records
from bascule.store.shared import SharedState

log = logging.getLogger("bascule.policy")


class StageBuilder:
    """Makes the stages of each contract, by the limits of the configuration."""

    def __init__(
        self,
        limits: LimitsOptions,
        allowances: Allowances,
        state: SharedState,
        gates: Gates,
        *,
        scoped: bool,
        counting: bool,
        deepening: bool,
        records: Records | None = None,
        unfinished: Unfinished | None = None,
        audit: AuditMode = "off",
        deduplicating: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """*scoped*: callers differ in what they may do. *counting*, *deepening*: some rule looks at what was called
        before in a session, or at how deep a chain of gateways a call comes from. *records*: None where none are
        kept. *deduplicating*: servers that run calls of one key once by themselves."""
        self._limits = limits
        self._allowances = allowances
        self._state = state
        self._gates = gates
        self._scoped = scoped
        self._counting = counting
        self._deepening = deepening
        self._records = records
        self._unfinished = unfinished or Unfinished()
        self._audit = audit
        self._deduplicating = deduplicating
        self._clock = clock
        self._tally = Tally(state)

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
        spends = contract.cost_model is not None or self._allowances.budgets
        replay = self._replay(contract, server)
        stages: list[Stage | None] = [
            Label(contract, server),
            self._authorize(contract, scopes),
            self._check(contract),
            replay,
            self._limit(counted, server, limits),
            self._validate(contract),
            self._guard(contract),
            self._place(counted, server, limits),
            self._spend(contract) if spends else None,
            self._reserve(contract, replay),
            Deepen() if self._deepening else None,
            Dispatch(self._tally if self._counting else None, self._recorder(contract)),
        ]
        return [stage for stage in stages if stage is not None]

    def _authorize(self, contract: Contract, scopes: tuple[str, ...]) -> Stage | None:
        return Authorize(contract, scopes) if (self._scoped and scopes) or contract.status == "gone" else None

    def _limit(self, contract: Contract, server: str, limits: ServerLimits) -> Stage | None:
        rate = None if limits.rate is None else rate_of(limits.rate)
        if not (self._allowances.rates or rate or contract.rate_limit or contract.total_rate_limit):
            return None
        return Limit(contract, server, rate, allowance_of=self._allowances.of, state=self._state)

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

    def _place(self, contract: Contract, server: str, limits: ServerLimits) -> Stage | None:
        if not (self._allowances.places or limits.concurrent or contract.max_concurrent):
            return None
        return Place(contract, server, limits.concurrent, allowance_of=self._allowances.of, gates=self._gates)

    def _spend(self, contract: Contract) -> Stage:
        allowance_of, state, clock = self._allowances.of, self._state, self._clock
        return Spend(contract, allowance_of=allowance_of, state=state, clock=clock, summing=self._counting)

    def _replay(self, contract: Contract, server: str) -> Replay | None:
        if contract.kind != "tool":
            return None  # nothing else is done by being asked for
        journal = None if self._records is None else self._records.journal
        return Replay(contract, journal, rerun=contract.idempotent or server in self._deduplicating)

    def _reserve(self, contract: Contract, replay: Replay | None) -> Stage | None:
        if replay is None or self._records is None:
            return None
        auditing = self._audit == "strict" and contract.side_effect
        return Reserve(contract, self._records, replay, self._unfinished, auditing=auditing)

    def _recorder(self, contract: Contract) -> Audit | None:
        return self._records.audit if self._records is not None and contract.side_effect else None

    def _check(self, contract: Contract) -> Stage | None:
        if contract.validate_results == "off" or contract.output_schema is None:
            return None
        return Check(compile_schema(contract.output_schema), contract.validate_results)

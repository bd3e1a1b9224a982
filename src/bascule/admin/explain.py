"""What would become of a call, stage by stage, without making it.

The stages are those that a running gateway compiles (`app.ways_of`), run on counters of their own with nothing
behind them: what they decide here is what they decide there. What there is to say of each is in lines.py.
Nothing reaches a server, and nothing is counted anywhere.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias, cast

import msgspec
from msgspec import Raw

from bascule.admin.inspect import Peer
from bascule.admin.lines import ANSWER, LINES, MECHANICAL, Ruled, Seen, answered, listed, name_of, said
from bascule.call import Call, Caller, Forward, Result, Target
from bascule.config import Config, allowances_of, place_of
from bascule.contract.derive import DERIVED
from bascule.contract.model import Contract, Kind, NotNegative, Terms
from bascule.errors import (
    BasculeError,
    BudgetExceeded,
    ConfigInvalid,
    ConfirmationRequired,
    Gone,
    GuardrailDenied,
    InvalidArgument,
    InvalidParams,
    Overloaded,
    RateLimited,
    ScopeDenied,
    Unauthenticated,
)
from bascule.options import Count, Options
from bascule.pipeline.authorize import not_found
from bascule.pipeline.chain import Stage, compose
from bascule.pipeline.deadline import seconds_for
from bascule.pipeline.gates import Gates
from bascule.pipeline.guard import Guard
from bascule.pipeline.limit import Limit
from bascule.pipeline.parts import Parts
from bascule.pipeline.tally import SESSION_IDLE_S, Tally
from bascule.pipeline.whose import session_key, window_key
from bascule.policy import guard as rules
from bascule.policy.options import CallerOptions
from bascule.policy.spending import nano_of, window_of
from bascule.registry.catalog import LISTS, Item, Listing, Template, items
from bascule.store.shared import Account, MemoryState
from bascule.upstream.base import Upstream
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params
from bascule.wire.translate import CALL_META
from bascule.wire.versions import LATEST_MODERN
from bascule.wiring import ways_of

Decision: TypeAlias = Literal[
    "allow", "deny", "ask", "hidden", "step_up", "invalid", "limited", "budget", "gone", "unauthenticated"
]
Outcome: TypeAlias = Literal["passes", "refuses", "asks", "not reached"]

_DECISIONS: Final[Sequence[tuple[type[BasculeError], Decision]]] = (
    (Unauthenticated, "unauthenticated"),
    (ScopeDenied, "step_up"),
    (InvalidParams, "hidden"),  # "no tool …", the same as for what does not exist
    (Gone, "gone"),
    (RateLimited, "limited"),
    (Overloaded, "limited"),
    (InvalidArgument, "invalid"),
    (ConfirmationRequired, "ask"),
    (BudgetExceeded, "budget"),
    (GuardrailDenied, "deny"),
)
_METHODS: Final[Mapping[Kind, str]] = {"tool": "tools/call", "prompt": "prompts/get", "resource": "resources/read"}
Recent: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
_SILENT: Final = "does not apply"


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """As whom a call would be made; edge/auth/described.py says what fits together."""

    name: str
    options: CallerOptions | None = None  # of one that the configuration does not have
    key_scopes: tuple[str, ...] = ()
    claims: Mapping[str, Any] | None = None
    proof: str = ""


class Admit(Protocol):
    """Makes a caller of a description, as the edge would."""

    async def __call__(self, config: Config, who: Who, now_s: float) -> Caller:
        """Raises ConfigInvalid for a description that does not fit, Unauthenticated and ScopeDenied as the edge."""
        ...


class Before(Options, frozen=True):
    """What has happened in the session before the call."""

    calls: Count = 0  # calls of anything; at least those of `counts`
    tool_calls: Count = 0  # calls of the very tool that is called now
    counts: Mapping[str, Count] = msgspec.field(default_factory=dict)  # by id
    spent: NotNegative = 0.0  # USD, also from the caller's budget
    depth: Count = 0  # gateways that the call has passed
    recent: Recent = 0  # calls just like this one, all at this moment: they count against rates


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A call that nobody has made."""

    who: Who
    id: str
    kind: Kind = "tool"
    args: Raw | None = None  # a JSON object
    before: Before = Before()
    now: datetime  # with its zone


class Step(msgspec.Struct, frozen=True):
    """One stage, and what it does with the call. Of a stage that is not reached: what it would say."""

    stage: str
    outcome: Outcome
    said: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a call, and why."""

    attempt: Attempt
    caller: Caller | None  # None: not admitted
    decision: Decision
    steps: tuple[Step, ...]
    error: BasculeError | None = None  # what the client would get
    rule: str = ""  # the guardrail or gate that decided
    ruled: tuple[Ruled, ...] = ()
    warnings: tuple[str, ...] = ()  # that the client would hear with the result
    absent: tuple[str, ...] = ()  # stages that the contract does not need
    unknown: tuple[str, ...] = ()  # what could be different, since the server was not asked

    @property
    def deciding(self) -> Ruled | None:
        """The guardrail or gate that decided, with where it is written."""
        return next((each for each in self.ruled if self.rule and each.rule == self.rule), None)


# ---- the parts of a gateway ----------------------------------------------------------------------


async def listing_of(peer: Peer) -> Listing:
    """All that a server lists, as a gateway would learn it."""

    async def asked(method: str) -> list[Item]:
        member, _ = LISTS[method]
        return items(method, jsonrpc.items(jsonrpc.members(await peer.list(method)).get(member, Raw(b"[]"))))

    return Listing(
        tools=await asked("tools/list"),
        prompts=await asked("prompts/list"),
        resources=await asked("resources/list"),
        templates=await asked("resources/templates/list"),
    )


def origins_of(config: Config) -> dict[int, str]:
    """Where each guardrail of the configuration is written, by its identity: contracts keep the very objects."""
    written: list[tuple[str, Terms]] = [*config.documents]
    written += ((f"policy.rules.{number}", rule) for number, rule in enumerate(config.policy.rules))
    return {
        id(guardrail): origin
        for place, terms in written
        for guardrail, origin in zip(terms.guardrails or (), guardrail_places(place, terms), strict=True)
    }


def guardrail_places(place: str, terms: Terms) -> list[str]:
    """Where each guardrail of *terms* is written, which are at *place*."""
    return [_inside(place, f"guardrails.{number}") for number in range(len(terms.guardrails or ()))]


def gate_place(place: str) -> str:
    """Where the gate of terms is written, which are at *place*."""
    return _inside(place, "confirm_gate")


def _inside(place: str, field: str) -> str:
    return f"{place}.{field}" if place.startswith("policy.") else f"{place} {field}"


# ---- explaining ----------------------------------------------------------------------------------


async def explain(
    config: Config, admit: Admit, attempt: Attempt, listings: Mapping[str, Listing] | None = None
) -> Explanation:
    """What would become of *attempt* at a gateway with *config*.

    *listings* hold what the server lists, by its name; without it the definition is what contracts say.
    Raises ConfigInvalid for an attempt that does not fit the configuration.
    """
    now_s = attempt.now.timestamp()
    namespace, found, name = attempt.id.partition("/")
    if not (found and name):
        raise ConfigInvalid(f"{attempt.id!r} is not namespace/name, such as crm/create_lead")
    place = place_of(config, attempt.id)
    if place is None:
        raise ConfigInvalid(f"there is no server {namespace!r}; there are {', '.join(config.servers) or 'none'}")
    if attempt.kind == "resource" and attempt.args is not None:
        raise ConfigInvalid("a resource is read without arguments")
    try:
        caller = await admit(config, attempt.who, now_s)
    except (Unauthenticated, ScopeDenied) as error:
        return _at_the_edge(attempt, error)
    listing = None if listings is None else listings[place[0]]
    return await _Trial(config, attempt, caller, listing, place).explanation()


def _at_the_edge(attempt: Attempt, error: BasculeError) -> Explanation:
    step = Step("identify", "refuses", (error.message, "nothing behind the edge hears of the call"))
    return Explanation(attempt=attempt, caller=None, decision=decision_of(error), steps=(step,), error=error)


def decision_of(error: BasculeError | None) -> Decision:
    """The word for what *error* means; a kind that has no word of its own denies."""
    if error is None:
        return "allow"
    return next((decision for kind, decision in _DECISIONS if isinstance(error, kind)), "deny")


class _Unreached(msgspec.Struct, frozen=True):
    """Stands where the server would be, of which stages know no more than its name."""

    name: str


class _Trial:
    """One attempt on counters of its own."""

    def __init__(
        self, config: Config, attempt: Attempt, caller: Caller, listing: Listing | None, place: tuple[str, str]
    ) -> None:
        """*place*: the server, and its own name for the thing."""
        self.config = config
        self.attempt = attempt
        self.caller = caller
        self.server, self.name = place
        self.now_s = attempt.now.timestamp()
        self.state = MemoryState(clock=lambda: self.now_s)
        self.arrived = False
        parts = Parts(state=self.state, gates=Gates(config.limits.queued, config.limits.queue_timeout_s))
        ways = ways_of(config, parts, self._arrive, lambda: self.now_s)
        self.asked = listing is not None
        learnt = _assumed(config, attempt, self.name) if listing is None else _only(listing, attempt.kind, self.name)
        ways.learn(self.server, [learnt])
        self.listed = any(True for _ in ways.listed(self.server))
        self.way = ways.way(attempt.kind, self.server, self.name)
        self.call = self._call()
        self.ruled: tuple[Ruled, ...] = ()

    async def _arrive(self, call: Call) -> Result:
        """Stands where the server is reached, and where a yes would be used up."""
        if call.question is not None:
            raise ConfirmationRequired(call.question.message, rule=call.question.rule)
        self.arrived = True
        return ANSWER

    def _call(self) -> Call:
        member = "uri" if self.attempt.kind == "resource" else "name"
        given: Params = {} if self.attempt.args is None else {"arguments": self.attempt.args}
        shown = self.name if self.attempt.kind == "resource" else self.attempt.id
        depth = self.attempt.before.depth
        return Call(
            caller=self.caller,
            client=_Nobody(),
            revision=LATEST_MODERN,
            method=_METHODS[self.attempt.kind],
            params={member: jsonrpc.encode(shown), **given},
            headers={"baggage": f"bascule.depth={depth}"} if depth else {},
            target=Target(cast("Upstream", _Unreached(self.server)), {member: jsonrpc.encode(self.name), **given}),
            contract=self.way.contract,
        )

    async def explanation(self) -> Explanation:
        await self._prepare()
        guard = next((stage for stage in self.way.stages if isinstance(stage, Guard)), None)
        rule = ""
        if guard is not None:
            self.ruled = await self._rulings(guard)
            _, verdict = await guard.judged(self.call)
            rule = verdict.rule
        # Before the run: it takes from the counters what the details are to be told of.
        seen = Seen(self.config, self.call, self.way, self.ruled)
        stages = [stage for stage in self.way.stages if type(stage) not in MECHANICAL]
        words = [await said(seen, stage) for stage in stages]
        watched = [_Watched(stage) for stage in stages]
        error, warnings = await self._run(watched)
        at = sum(each.entered for each in watched) - 1 if error is not None else len(watched)
        heard = any(each.entered and each.stage is guard for each in watched)
        steps = [
            Step(name_of(each.stage), _outcome(number, at, error), lines)
            for number, (each, lines) in enumerate(zip(watched, words, strict=True))
        ]
        return Explanation(
            attempt=self.attempt,
            caller=self.caller,
            decision=decision_of(error),
            steps=(*self._first_steps(), *steps, self._deadline("not reached" if error else "passes")),
            error=error,
            rule=rule if isinstance(error, GuardrailDenied | ConfirmationRequired) else "",
            ruled=self.ruled if heard else tuple(msgspec.structs.replace(r, counts=False) for r in self.ruled),
            warnings=warnings,
            absent=tuple(name for kind, (name, _) in LINES.items() if kind not in map(type, self.way.stages)),
            unknown=() if self.asked else tuple(self._unknown()),
        )

    async def _run(self, watched: "Sequence[_Watched]") -> tuple[BasculeError | None, tuple[str, ...]]:
        """The compiled chain, run to where the server would be: (what it refuses with, the warnings it gives)."""
        if self.asked and not self.listed and self.attempt.kind != "resource":
            return not_found(self.attempt.kind, self.attempt.id), ()  # as the `resolve` stage answers
        try:
            result = await compose(watched, self._arrive)(self.call)
        except BasculeError as error:
            return error, ()
        assert self.arrived, "no stage answers a call by itself"
        label = jsonrpc.decode(result.value).get("_meta", {}).get(CALL_META, {})
        return None, tuple(label.get("warnings", ()))

    # ---- what has happened before

    async def _prepare(self) -> None:
        before, contract = self.attempt.before, self.way.contract
        counts = dict(before.counts)
        if before.tool_calls:
            counts[contract.id] = max(counts.get(contract.id, 0), before.tool_calls)
        tally = Tally(self.state)
        for id, times in counts.items():
            await tally.count(msgspec.structs.replace(self.call, contract=Contract(id=id)), times)
        if (others := before.calls - sum(counts.values())) > 0:
            await tally.count(msgspec.structs.replace(self.call, contract=None), others)
        await self._spend(nano_of(before.spent))
        for stage in self.way.stages:
            if isinstance(stage, Limit):
                await self._take(stage, before.recent)

    async def _spend(self, amount: int) -> None:
        """Money that has been spent before, from the caller's budget and in the session."""
        accounts = [Account(session_key(self.call), None, SESSION_IDLE_S)]
        per = allowances_of(self.config).of(self.caller.name).budget_per
        if per is not None:
            window = window_of(per, self.now_s)
            accounts.append(Account(window_key(window.name, self.caller.name), None, window.end_s - self.now_s))
        await self.state.settle(accounts, 0, amount)

    async def _take(self, limit: Limit, times: int) -> None:
        for _ in range(times):
            try:
                await limit(self.call, answered)
            except RateLimited:
                return  # there is no more to take

    # ---- details

    async def _rulings(self, guard: Guard) -> tuple[Ruled, ...]:
        """Each guardrail and the gate, also those that come after a deny."""
        contract, origins = self.way.contract, origins_of(self.config)
        facts = await guard.facts(self.call)
        found, decided, asked = [], False, False
        for guardrail, (rule, outcome) in zip(contract.guardrails, rules.explain(guard.rules, facts), strict=True):
            origin = origins.get(id(guardrail), f"server's contract {rule.partition(':')[0]}")
            applies = outcome != _SILENT
            found.append(Ruled(rule, origin, outcome, applies and not decided))
            decided = decided or outcome.startswith("deny")
            asked = asked or outcome.startswith("ask")
        if guard.gate is not None:
            verdict = guard.gate.judge(facts)
            applies = verdict.effect != "allow"
            name = verdict.rule or f"confirm_gate: {contract.confirm_gate.when if contract.confirm_gate else ''}"
            outcome = f"{verdict.effect}: {verdict.message}" if applies else _SILENT
            origin = gate_place(contract.sources["confirm_gate"])
            found.append(Ruled(name, origin, outcome, applies and not decided and not asked))
        return tuple(found)

    def _first_steps(self) -> list[Step]:
        caller = self.caller
        bound = caller.authority.bound
        lines = (
            f"{caller.name}, known by {caller.proof or 'nothing'}",
            f"roles: {listed(caller.roles)}; scopes: {listed(caller.authority.granted)}",
            *(() if bound is None else (f"its key reaches no further than {listed(bound)}",)),
        )
        steps = [Step("identify", "passes", lines)]
        if self.asked and not self.listed:
            where = f"the server lists no {self.attempt.kind} of that name"
            known = self.attempt.kind != "resource"
            through = f"; on /servers/{self.server}/mcp it is passed on to who holds the scope {self.server!r}"
            steps.append(Step("resolve", "refuses" if known else "passes", (where + through,)))
        return steps

    def _deadline(self, outcome: Outcome) -> Step:
        whole = seconds_for(self.config.servers[self.server].call_timeout_s, self.way.contract)
        return Step("deadline", outcome, (f"the server has {whole:g} s to answer",))

    def _unknown(self) -> Sequence[str]:
        contract, kind = self.way.contract, self.attempt.kind
        found = [f"whether {self.server} lists this {kind} at all"]
        if kind == "tool" and contract.input_schema is None:
            found.append("its input schema: no contract says one, so arguments were not looked at")
        if self.config.servers[self.server].trusted:
            derived = contract.sources.get("security_scope") == DERIVED
            found.append(
                "what the server, which is trusted, declares of its own contract"
                + ("; if it declares that the tool only reads, the scope is another" if derived else "")
            )
        return found


class _Watched:
    """A stage, and whether the call came to it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.entered = False

    async def __call__(self, call: Call, forward: Forward) -> Result:
        self.entered = True
        return await self.stage(call, forward)


class _Nobody:
    """The client of a call that nobody makes."""

    def notify(self, method: str, params: Params) -> None:
        pass

    async def ask(self, method: str, params: Params) -> Result:
        raise AssertionError("no stage asks before the server is reached")


def _outcome(number: int, at: int, error: BasculeError | None) -> Outcome:
    if number != at:
        return "passes" if number < at else "not reached"
    return "asks" if isinstance(error, ConfirmationRequired) else "refuses"


def _assumed(config: Config, attempt: Attempt, name: str) -> Listing:
    """What the server would have to list for the call to be of something: *name* alone, without a definition."""
    server = attempt.id.partition("/")[0]
    item = Item(name, {})
    match attempt.kind:
        case "tool":
            return Listing(tools=[item])
        case "prompt":
            return Listing(prompts=[item])
    known = [document.id for _, document in config.documents if document.kind == "resource"]
    for id in () if attempt.id in known else known:
        namespace, _, text = id.partition("/")
        if namespace == server and "{" in text and Template(text).matches(name):
            return Listing(templates=[Item(text, {})])
    return Listing(resources=[item])


def _only(listing: Listing, kind: Kind, name: str) -> Listing:
    """As much of *listing* as concerns one thing."""
    match kind:
        case "tool":
            return Listing(tools=[item for item in listing.tools if item.key == name])
        case "prompt":
            return Listing(prompts=[item for item in listing.prompts if item.key == name])
    found = [item for item in listing.resources if item.key == name]
    return Listing(resources=found, templates=[t for t in listing.templates if Template(t.key).matches(name)])


def now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)

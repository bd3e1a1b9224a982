"""What would become of a call, stage by stage, without making it.

The stages are those that a running gateway compiles (pipeline/build.py), run on counters of their own with
nothing behind them: what they decide here is what they decide there. Beside that each is asked for details,
through one table. Nothing reaches a server, and nothing is counted anywhere.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol, TypeAlias, cast

import msgspec
from msgspec import Raw

from bascule.admin.inspect import Peer
from bascule.app import tells_apart
from bascule.call import Call, Caller, Forward, Result, Target
from bascule.config import Config
from bascule.contract.derive import DERIVED, Sources
from bascule.contract.model import Contract, Kind, Terms
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
from bascule.options import Options
from bascule.pipeline.authorize import Authorize, not_found
from bascule.pipeline.build import StageBuilder
from bascule.pipeline.chain import Stage, compose
from bascule.pipeline.check import Check
from bascule.pipeline.deadline import HARDEST_S
from bascule.pipeline.depth import Deepen, depth_of
from bascule.pipeline.dispatch import Dispatch
from bascule.pipeline.gates import Gates
from bascule.pipeline.guard import Guard
from bascule.pipeline.label import Label
from bascule.pipeline.limit import Limit
from bascule.pipeline.place import Place
from bascule.pipeline.spend import Spend
from bascule.pipeline.tally import SESSION_IDLE_S, Tally
from bascule.pipeline.validate import Validate
from bascule.pipeline.ways import Ways
from bascule.pipeline.whose import session_key, window_key
from bascule.policy import guard as rules
from bascule.policy.allowances import Allowances
from bascule.policy.options import CallerOptions
from bascule.policy.scopes import Access, covers
from bascule.policy.spending import nano_of, window_of
from bascule.registry.catalog import LISTS, Item, Listing, Template, items
from bascule.store.shared import Account, MemoryState, SharedState
from bascule.upstream.base import Upstream
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params
from bascule.wire.translate import CALL_META
from bascule.wire.versions import LATEST_MODERN

Decision: TypeAlias = Literal[
    "allow", "deny", "ask", "hidden", "step_up", "invalid", "limited", "budget", "gone", "unauthenticated"
]
Outcome: TypeAlias = Literal["passes", "refuses", "asks", "not reached"]
Count: TypeAlias = int

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
# A failure, about which no contract promises anything: no stage finds fault with it on the way back.
_ANSWER: Final = Result(Raw(b'{"content":[],"isError":true}'))
_MOST_RECENT: Final = 100_000


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
    spent: float = 0.0  # USD, also from the caller's budget
    depth: Count = 0  # gateways that the call has passed
    recent: Count = 0  # calls just like this one, all at this moment: they count against rates

    def __post_init__(self) -> None:
        numbers = (self.calls, self.tool_calls, self.spent, self.depth, self.recent, *self.counts.values())
        if any(number < 0 for number in numbers):
            raise ValueError("nothing in a session is less than 0")
        if self.recent > _MOST_RECENT:
            raise ValueError(f"recent is at most {_MOST_RECENT}")


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


class Ruled(msgspec.Struct, frozen=True):
    """One guardrail or gate, and what it says of the call."""

    rule: str  # such as `guardrails.2: deny args.amount > 10000`
    origin: str  # where it is written, such as `policy.rules.0.guardrails.0`
    outcome: str  # `does not apply`, or the effect and the message
    counts: bool  # whether it was heard: it applies, and nothing before it has decided


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


def ways_of(config: Config, state: SharedState, gates: Gates, last: Forward, clock: Callable[[], float]) -> Ways:
    """The ways that a gateway makes of *config*, on the given counters. app.py composes them alike; a test holds it."""
    policy = config.policy
    sources = Sources(
        config.documents,
        policy.rules,
        trusted=frozenset(name for name, options in config.servers.items() if options.trusted),
        scoped=policy.default == "deny",
        validate_arguments=policy.validate_arguments,
        validate_results=policy.validate_results,
    )
    private = tells_apart(config)
    build_stages = StageBuilder(
        config.limits,
        allowances_of(config),
        state,
        gates,
        scoped=private,
        counting=sources.look_at("session"),
        deepening=sources.look_at("depth"),
        clock=clock,
    )
    return Ways(sources, build_stages, last, private=private)


def allowances_of(config: Config) -> Allowances:
    own = {name: caller.limits for name, caller in config.callers.items() if caller.limits is not None}
    return Allowances(config.limits.caller, own)


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
    said: list[tuple[str, Terms]] = [*config.documents]
    said += ((f"policy.rules.{number}", rule) for number, rule in enumerate(config.policy.rules))
    return {
        id(guardrail): origin
        for place, terms in said
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
    server, found, name = attempt.id.partition("/")
    if not (found and name):
        raise ConfigInvalid(f"{attempt.id!r} is not namespace/name, such as crm/create_lead")
    if server not in config.servers:
        raise ConfigInvalid(f"there is no server {server!r}; there are {', '.join(config.servers) or 'none'}")
    if attempt.kind == "resource" and attempt.args is not None:
        raise ConfigInvalid("a resource is read without arguments")
    try:
        caller = await admit(config, attempt.who, now_s)
    except (Unauthenticated, ScopeDenied) as error:
        return _at_the_edge(attempt, error)
    listing = None if listings is None else listings[server]
    return await _Trial(config, attempt, caller, listing).explanation()


def _at_the_edge(attempt: Attempt, error: BasculeError) -> Explanation:
    step = Step("identify", "refuses", (error.message, "nothing behind the edge hears of the call"))
    return Explanation(attempt=attempt, caller=None, decision=decision_of(error), steps=(step,), error=error)


def decision_of(error: BasculeError | None) -> Decision:
    """The word for what *error* means; a kind that has no word of its own denies."""
    if error is None:
        return "allow"
    return next((decision for kind, decision in _DECISIONS if isinstance(error, kind)), "deny")


class _Trial:
    """One attempt on counters of its own."""

    def __init__(self, config: Config, attempt: Attempt, caller: Caller, listing: Listing | None) -> None:
        self.config = config
        self.attempt = attempt
        self.caller = caller
        self.server, _, self.name = attempt.id.partition("/")
        self.now_s = attempt.now.timestamp()
        self.state = MemoryState(clock=lambda: self.now_s)
        self.arrived = False
        gates = Gates(config.limits.queued, config.limits.queue_timeout_s)
        ways = ways_of(config, self.state, gates, self._arrive, lambda: self.now_s)
        self.asked = listing is not None
        learnt = _assumed(config, attempt) if listing is None else _only(listing, attempt.kind, self.name)
        ways.learn(self.server, [learnt])
        self.listed = any(True for _ in ways.listed(self.server))
        self.way = ways.way(attempt.kind, self.server, self.name)
        self.call = self._call()
        self.ruled: tuple[Ruled, ...] = ()

    async def _arrive(self, call: Call) -> Result:
        """Stands where the server is reached."""
        self.arrived = True
        return _ANSWER

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
            target=Target(cast("Upstream", None), {member: jsonrpc.encode(self.name), **given}),
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
        said = [await _said(LINES[type(stage)][1], self, stage) for stage in self.way.stages]
        watched = [_Watched(stage) for stage in self.way.stages]
        error, warnings = await self._run(watched)
        at = sum(each.entered for each in watched) - 1 if error is not None else len(watched)
        heard = any(each.entered and each.stage is guard for each in watched)
        steps = [
            Step(LINES[type(each.stage)][0], _outcome(number, at, error), lines)
            for number, (each, lines) in enumerate(zip(watched, said, strict=True))
        ]
        return Explanation(
            attempt=self.attempt,
            caller=self.caller,
            decision=decision_of(error),
            steps=(*self._first_steps(error), *steps, self._deadline("not reached" if error else "passes")),
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
                await limit(self.call, _answered)
            except RateLimited:
                return  # there is no more to take

    # ---- details

    async def _rulings(self, guard: Guard) -> tuple[Ruled, ...]:
        """Each guardrail and the gate, also those that come after a deny."""
        contract, origins = self.way.contract, origins_of(self.config)
        facts = await guard.facts(self.call)
        found, decided, asked = [], False, False
        for guardrail, (rule, outcome) in zip(contract.guardrails, rules.explain(guard._rules, facts), strict=True):
            origin = origins.get(id(guardrail), f"server's contract {rule.partition(':')[0]}")
            applies = outcome != _SILENT
            found.append(Ruled(rule, origin, outcome, applies and not decided))
            decided = decided or outcome.startswith("deny")
            asked = asked or outcome.startswith("ask")
        if guard._gate is not None:
            verdict = guard._gate.judge(facts)
            applies = verdict.effect != "allow"
            name = verdict.rule or f"confirm_gate: {contract.confirm_gate.when if contract.confirm_gate else ''}"
            outcome = f"{verdict.effect}: {verdict.message}" if applies else _SILENT
            found.append(
                Ruled(
                    name, gate_place(contract.sources["confirm_gate"]), outcome, applies and not decided and not asked
                )
            )
        return tuple(found)

    def _first_steps(self, error: BasculeError | None) -> list[Step]:
        caller = self.caller
        bound = caller.authority.bound
        said = (
            f"{caller.name}, known by {caller.proof or 'nothing'}",
            f"roles: {_listed(caller.roles)}; scopes: {_listed(caller.authority.granted)}",
            *(() if bound is None else (f"its key reaches no further than {_listed(bound)}",)),
        )
        steps = [Step("identify", "passes", said)]
        if self.asked and not self.listed:
            where = f"the server lists no {self.attempt.kind} of that name"
            known = self.attempt.kind != "resource"
            through = f"; on /servers/{self.server}/mcp it is passed on to who holds the scope {self.server!r}"
            steps.append(Step("resolve", "refuses" if known else "passes", (where + through,)))
        return steps

    def _deadline(self, outcome: Outcome) -> Step:
        options, own = self.config.servers[self.server], self.way.contract.max_timeout_seconds
        whole = min(options.call_timeout_s, HARDEST_S, *(() if own is None else (own,)))
        return Step("deadline", outcome, (f"the server has {whole:g} s to answer",))

    def _unknown(self) -> Sequence[str]:
        contract, kind = self.way.contract, self.attempt.kind
        said = [f"whether {self.server} lists this {kind} at all"]
        if kind == "tool" and contract.input_schema is None:
            said.append("its input schema: no contract says one, so arguments were not looked at")
        if self.config.servers[self.server].trusted:
            derived = contract.sources.get("security_scope") == DERIVED
            said.append(
                "what the server, which is trusted, declares of its own contract"
                + ("; if it declares that the tool only reads, the scope is another" if derived else "")
            )
        return said


async def _answered(call: Call) -> Result:
    """Stands behind a stage that is run by itself."""
    return _ANSWER


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


def _assumed(config: Config, attempt: Attempt) -> Listing:
    """What the server would have to list for the call to be of something: it alone, without a definition."""
    server, _, name = attempt.id.partition("/")
    item = Item(name, {})
    match attempt.kind:
        case "tool":
            return Listing(tools=[item])
        case "prompt":
            return Listing(prompts=[item])
    said = {document.id: document for _, document in config.documents if document.kind == "resource"}
    if attempt.id not in said:
        texts = [id.removeprefix(f"{server}/") for id in said if id.startswith(f"{server}/")]
        for text in texts:
            if "{" in text and Template(text).matches(name):
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


# ---- a line for each stage -----------------------------------------------------------------------

_SILENT: Final = "does not apply"
Line: TypeAlias = Callable[["_Trial", Any], Awaitable[Sequence[str]]]


async def _said(line: Line, trial: _Trial, stage: Stage) -> tuple[str, ...]:
    """What there is to say of a stage; a refusal is one way to say it."""
    try:
        return tuple(await line(trial, stage))
    except BasculeError as error:
        return (error.message,)


async def _label(trial: _Trial, stage: Label) -> Sequence[str]:
    contract = trial.way.contract
    version = f" {contract.version}" if "version" in contract.sources else ""
    does = {"deprecated": "every result says so", "gone": "nobody can call it any more"}
    effect = does.get(contract.status, "which changes nothing")
    return (f"{contract.id}{version}, status {contract.status}: {effect}",)


async def _authorize(trial: _Trial, stage: Authorize) -> Sequence[str]:
    way, authority = trial.way, trial.caller.authority
    if way.withheld:
        return (f"withheld from everybody: {way.withheld}",)
    lines = [_reason(trial, scope) for scope in way.scopes]
    access = authority.access(way.scopes)
    if access is Access.LACKING:
        lines.append(f"the issuer grants what is missing: HTTP 403 asks the client to log in for {_listed(way.scopes)}")
    elif access is Access.HIDDEN:
        lines.append("the client hears that there is no such thing, and no list shows it")
    elif way.contract.status == "gone":
        lines.append("it has been withdrawn: nobody can call it any more")
    return lines


def _reason(trial: _Trial, wanted: str) -> str:
    """Which scope of the caller's covers *wanted*, and which role it comes from."""
    authority, roles = trial.caller.authority, trial.config.roles
    mine = [scope for scope in sorted(authority.granted) if covers(scope, wanted)]
    if not mine:
        return f"{wanted}: none of the caller's scopes covers it"
    if authority.bound is not None and not any(covers(scope, wanted) for scope in authority.bound):
        return f"{wanted}: covered by {mine[0]}, but the key was made for {_listed(authority.bound)} alone"
    given = sorted(role for role in trial.caller.roles if mine[0] in roles.get(role, ()))
    return f"{wanted}: covered by {mine[0]}" + (f", of the role {_listed(given)}" if given else "")


async def _limit(trial: _Trial, stage: Limit) -> Sequence[str]:
    return await stage.peek(trial.call) or ("no limit holds for this caller",)


async def _validate(trial: _Trial, stage: Validate) -> Sequence[str]:
    try:
        result = await stage(trial.call, _answered)
    except InvalidArgument as error:
        return [f"{each['path'] or 'the arguments'}: {each['problem']}" for each in error.details["problems"]]
    return result.warnings or ("the arguments fit the schema",)


async def _guard(trial: _Trial, stage: Guard) -> Sequence[str]:
    return [f"{each.rule} → {each.outcome} [{each.origin}]" for each in trial.ruled]


async def _place(trial: _Trial, stage: Place) -> Sequence[str]:
    return stage.peek(trial.call)


async def _spend(trial: _Trial, stage: Spend) -> Sequence[str]:
    return await stage.peek(trial.call)


async def _check(trial: _Trial, stage: Check) -> Sequence[str]:
    mode = trial.way.contract.validate_results
    what = "is held back" if mode == "block" else "gets a warning"
    return (f"a result that does not fit the output schema {what}",)


async def _deepen(trial: _Trial, stage: Deepen) -> Sequence[str]:
    return (f"the call has passed {depth_of(trial.call)} gateways; its server hears of one more",)


async def _dispatch(trial: _Trial, stage: Dispatch) -> Sequence[str]:
    return ("counted in its session from here on",)


LINES: Final[Mapping[type[Any], tuple[str, Line]]] = {
    Label: ("label", _label),
    Authorize: ("authorize", _authorize),
    Limit: ("limit", _limit),
    Validate: ("validate", _validate),
    Guard: ("guard", _guard),
    Place: ("place", _place),
    Spend: ("spend", _spend),
    Check: ("check", _check),
    Deepen: ("deepen", _deepen),
    Dispatch: ("dispatch", _dispatch),
}


def _listed(words: "Sequence[str] | frozenset[str]") -> str:
    return ", ".join(sorted(words)) or "none"


def now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)

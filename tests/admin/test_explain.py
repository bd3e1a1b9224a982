"""What would become of a call: the same as becomes of it at a running gateway, with the reasons."""

import inspect
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from gateway import Bascule, gateway, local, until
from msgspec import Raw

from bascule import config as configuration
from bascule.admin.explain import Attempt, Before, Explanation, Who, explain
from bascule.admin.lines import LINES, MECHANICAL
from bascule.app import Gateway
from bascule.call import Caller
from bascule.config import Config
from bascule.contract.model import Kind
from bascule.edge.auth.described import described
from bascule.errors import ConfigInvalid
from bascule.pipeline import build
from bascule.pipeline.deadline import Deadline
from bascule.registry.catalog import Item, Listing
from bascule.wire import jsonrpc
from bascule.wire.versions import Era

NOW: Final = datetime(2026, 11, 20, 15, tzinfo=UTC)
EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "policy" / "bascule.yaml"
KEYS: Final = {f"{name.upper()}_KEY": f"{name}-key-0123456789-abcdefghijklmno" for name in ("sales", "report", "quick")}


async def admit(config: Config, who: Who, now_s: float) -> Caller:
    return await described(
        config, who.name, now_s, options=who.options, key_scopes=who.key_scopes, claims=who.claims, proof=who.proof
    )


def attempt(
    who: str | Who, id: str, args: Any = None, kind: Kind = "tool", now: datetime = NOW, **before: Any
) -> Attempt:
    return Attempt(
        who=Who(name=who) if isinstance(who, str) else who,
        id=id,
        kind=kind,
        args=None if args is None else Raw(json.dumps(args).encode()),
        before=Before(**before),
        now=now,
    )


def loaded(folder: Path, environ: Mapping[str, str] = KEYS, **members: Any) -> Config:
    path = folder / "bascule.json"
    path.write_text(json.dumps({"servers": {"crm": {"url": "http://127.0.0.1:9/mcp"}}, **members}))
    return configuration.load(path, environ)


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Config]:
    return lambda **members: loaded(tmp_path, **members)


def said(found: Explanation, stage: str) -> str:
    return "\n".join(next(step for step in found.steps if step.stage == stage).said)


def outcomes(found: Explanation) -> dict[str, str]:
    return {step.stage: step.outcome for step in found.steps}


# ---- the same decisions --------------------------------------------------------------------------

SCHEMA: Final = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
MEMBERS: Final[dict[str, Any]] = {
    "roles": {"seller": ["crm:read", "crm:write:echo"], "all": ["crm"]},
    "callers": {
        "sales": {"roles": ["seller"], "keys": ["${env:SALES_KEY}"], "attributes": {"team": "sales"}},
        "report": {"scopes": ["crm:read", "crm:write:pid"], "keys": ["${env:REPORT_KEY}"]},
        "quick": {
            "roles": ["all"],
            "keys": ["${env:QUICK_KEY}"],
            "limits": {"rate": "3/day", "session_usd": 1.0},
        },
    },
    "contracts": [
        {
            "tool": "crm/echo",
            "version": "1.2.0",
            "input_schema": SCHEMA,
            "confirm_gate": {"when": 'args.text == "big"', "message": "Say {args.text}?"},
            "guardrails": [{"deny": 'args.text == "no"', "message": "Not that."}, {"warn": 'args.text == "hm"'}],
        },
        {"tool": "crm/add", "status": "gone", "deprecation": {"replaced_by": "crm/echo"}},
        {"tool": "crm/env", "cost_model": {"price_usd": 3}},
        {"tool": "crm/meta", "status": "deprecated", "side_effect": False},
        {"prompt": "crm/greet", "guardrails": [{"deny": 'args.name == "eve"'}]},
        {"resource": "crm/test://notes/{number}", "security_scope": "crm:read:note"},
    ],
    "policy": {"rules": [{"match": "crm/pid", "guardrails": [{"deny": 'caller.name == "report"'}]}]},
}
METHODS: Final = {
    "tool": ("tools/call", "name"),
    "prompt": ("prompts/get", "name"),
    "resource": ("resources/read", "uri"),
}
CALLS: Final[tuple[tuple[str, str, Any, Kind, int, int | None], ...]] = (
    # who, id, arguments, kind, how often before, the code of the error
    ("sales", "crm/echo", {"text": "yes"}, "tool", 0, None),
    ("sales", "crm/echo", {"text": "hm"}, "tool", 0, None),
    ("sales", "crm/echo", {"text": "no"}, "tool", 0, 40303),
    ("sales", "crm/echo", {"text": "big"}, "tool", 0, 40302),
    ("sales", "crm/echo", {"text": 7}, "tool", 0, 40001),
    ("sales", "crm/echo", None, "tool", 0, 40001),
    ("report", "crm/echo", {"text": "yes"}, "tool", 0, 40401),
    ("report", "crm/pid", {}, "tool", 0, 40303),
    ("sales", "crm/pid", {}, "tool", 0, 40401),
    ("sales", "crm/add", {"a": 1, "b": 2}, "tool", 0, 40401),
    ("quick", "crm/add", {"a": 1, "b": 2}, "tool", 0, 41001),
    ("quick", "crm/env", {"name": "HOME"}, "tool", 0, 40201),
    ("report", "crm/meta", {}, "tool", 0, None),
    ("report", "crm/nothing", {}, "tool", 0, 40401),
    ("quick", "crm/nothing", {}, "tool", 0, 40401),
    ("sales", "crm/greet", {"name": "ann"}, "prompt", 0, None),
    ("sales", "crm/greet", {"name": "eve"}, "prompt", 0, 40303),
    ("report", "crm/test://notes/2", None, "resource", 0, None),
    ("quick", "crm/sleep", {"seconds": 0}, "tool", 3, 42901),  # the last one: it uses up what `quick` may call
)


async def _listing(running: Gateway) -> Listing:
    async def look() -> Listing | None:
        return running.registry.listing("crm", Era.MODERN)

    found = await until(look, lambda listing: listing is not None)
    assert isinstance(found, Listing)
    return found


async def code_at(bascule: Bascule, who: str, id: str, args: Any, kind: Kind) -> int | None:
    """The code that a client really gets, None for an answer of the server's."""
    method, member = METHODS[kind]
    name = id.partition("/")[2] if kind == "resource" else id
    params = {member: name} | ({} if args is None else {"arguments": args})
    client = await bascule.session(headers={"authorization": f"Bearer {KEYS[f'{who.upper()}_KEY']}"})
    answer = await client.ask(method, params)
    refusal = answer.get("error", {}).get("data") or answer.get("result", {}).get("_meta", {}).get("dev.bascule/error")
    assert refusal is None or refusal["source"] == "bascule", answer
    code: int | None = refusal and refusal["code"]
    return code


async def test_what_is_explained_is_what_a_client_gets(tmp_path: Path) -> None:
    servers = {"crm": local("modern")}
    async with gateway(servers, environ=KEYS, state_dir=str(tmp_path), **MEMBERS) as bascule:
        assert bascule.gateway
        listing = await _listing(bascule.gateway)
        for who, id, args, kind, before, code in CALLS:
            question = attempt(who, id, args, kind, recent=before)
            found = await explain(bascule.gateway.config, admit, question, {"crm": listing})
            for _ in range(before):
                await code_at(bascule, who, id, args, kind)
            assert await code_at(bascule, who, id, args, kind) == code, (who, id, args)
            assert (found.error and found.error.code) == code, (who, id, args)


def test_every_stage_that_can_be_in_a_chain_has_a_line() -> None:
    stages = {
        each
        for each in vars(build).values()
        if inspect.isclass(each)
        and not getattr(each, "_is_protocol", False)
        and "__call__" in vars(each)
        and list(inspect.signature(each.__call__).parameters) == ["self", "call", "forward"]
    }
    assert len(stages) > 8
    stages.add(Deadline)  # the same one in all chains, so that the builder makes none
    assert stages == LINES.keys() | MECHANICAL
    assert not LINES.keys() & MECHANICAL


# ---- the reasons ---------------------------------------------------------------------------------


async def test_the_stages_are_told_in_the_order_of_the_chain(configured: Callable[..., Config]) -> None:
    config = configured(**MEMBERS)
    found = await explain(config, admit, attempt("sales", "crm/echo", {"text": "no"}))
    assert list(outcomes(found).items()) == [
        ("identify", "passes"),
        ("label", "passes"),
        ("authorize", "passes"),
        ("limit", "passes"),
        ("validate", "passes"),
        ("guard", "refuses"),
        ("spend", "not reached"),
        ("dispatch", "not reached"),
        ("deadline", "not reached"),
    ]
    assert set(found.absent) == {"place", "check", "deepen"}
    assert found.decision == "deny"
    assert found.rule == 'guardrails.0: deny args.text == "no"'


async def test_rules_after_a_deny_are_told_and_do_not_count(configured: Callable[..., Config]) -> None:
    rules = [{"deny": "true"}, {"warn": "true", "message": "Careful."}, {"deny": "args.text == 'x'"}]
    config = configured(policy={"rules": [{"match": "crm/*", "confirm_gate": True, "guardrails": rules}]})
    found = await explain(config, admit, attempt("anonymous", "crm/echo", {"text": "y"}))
    assert [(each.outcome.partition(":")[0], each.counts) for each in found.ruled] == [
        ("deny", True),
        ("warn", False),
        ("does not apply", False),
        ("ask", False),
    ]
    assert found.deciding
    assert found.deciding.origin == "policy.rules.0.guardrails.0"
    assert "Careful." in said(found, "guard")


async def test_rules_that_were_not_reached_do_not_count(configured: Callable[..., Config]) -> None:
    config = configured(**MEMBERS)
    found = await explain(config, admit, attempt("report", "crm/echo", {"text": "no"}))
    assert found.decision == "hidden"
    assert "deny: Not that." in said(found, "guard")
    assert not any(each.counts for each in found.ruled)


async def test_a_scope_is_told_with_the_role_that_covers_it(configured: Callable[..., Config]) -> None:
    config = configured(**MEMBERS)
    found = await explain(config, admit, attempt("sales", "crm/echo", {"text": "yes"}))
    assert said(found, "authorize") == "crm:write:echo: covered by crm:write:echo, of the role seller"


async def test_a_key_reaches_no_further_than_it_was_made_for(configured: Callable[..., Config]) -> None:
    config = configured(**MEMBERS)
    bound = Who(name="sales", key_scopes=("crm:read",))
    found = await explain(config, admit, attempt(bound, "crm/echo", {"text": "yes"}))
    assert found.decision == "hidden"
    assert "the key was made for crm:read alone" in said(found, "authorize")


async def test_warnings_are_those_of_the_label(configured: Callable[..., Config]) -> None:
    config = configured(**MEMBERS)
    old = await explain(config, admit, attempt("report", "crm/meta", {}))
    assert (old.decision, old.warnings) == ("allow", ("crm/meta is deprecated",))
    odd = await explain(config, admit, attempt("sales", "crm/echo", {"text": "hm"}))
    assert odd.warnings == ("guardrails.1 applies to this call",)


async def test_arguments_that_do_not_fit_are_told_one_by_one(configured: Callable[..., Config]) -> None:
    config = configured(**MEMBERS)
    found = await explain(config, admit, attempt("sales", "crm/echo", {"text": 7}))
    assert found.decision == "invalid"
    assert said(found, "validate").startswith("/text: ")


async def test_nothing_is_counted(configured: Callable[..., Config]) -> None:
    config = configured(**MEMBERS)
    once, twice = [await explain(config, admit, attempt("quick", "crm/meta", {})) for _ in range(2)]
    assert said(once, "limit") == said(twice, "limit") == "the limit of this caller: 3 in 86400 s, 3 left now"


async def test_a_stage_that_would_wait_for_nobody_still_lets_through(configured: Callable[..., Config]) -> None:
    config = configured(limits={"caller": {"concurrent": 1}})
    found = await explain(config, admit, attempt("anonymous", "crm/echo"))
    assert (found.decision, said(found, "place")) == ("allow", "there is a place for it")


async def test_the_shorter_time_holds(configured: Callable[..., Config]) -> None:
    config = configured(contracts=[{"tool": "crm/echo", "max_timeout_seconds": 5}])
    found = await explain(config, admit, attempt("anonymous", "crm/echo"))
    assert said(found, "deadline") == "the server has 5 s to answer"


# ---- what has happened before --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "before"),
    [
        ("session.calls == 5", {"calls": 5}),
        ("session.calls == 3", {"counts": {"crm/echo": 1, "crm/add": 2}}),
        ("'crm/add' in session.counts && session.counts['crm/add'] == 2", {"counts": {"crm/add": 2}}),
        ("session.tool_calls == 4", {"tool_calls": 4, "calls": 9}),
        ("session.spent == 2.5", {"spent": 2.5}),
        ("session.depth == 2", {"depth": 2}),
        ("now.getFullYear() == 2026", {}),
    ],
)
async def test_rules_see_what_was_before(
    configured: Callable[..., Config], rule: str, before: Mapping[str, Any]
) -> None:
    config = configured(policy={"rules": [{"match": "*", "guardrails": [{"deny": rule}]}]})
    found = await explain(config, admit, attempt("anonymous", "crm/echo", {}, **before))
    assert found.decision == "deny"
    assert "cannot be decided" not in said(found, "guard")
    if before:
        fresh = await explain(config, admit, attempt("anonymous", "crm/echo", {}))
        assert fresh.decision == "allow"


async def test_money_that_was_spent_counts_against_the_day(configured: Callable[..., Config]) -> None:
    config = configured(
        limits={"caller": {"budget": {"usd": 5}}}, contracts=[{"tool": "crm/echo", "cost_model": {"price_usd": 1}}]
    )
    rich = await explain(config, admit, attempt("anonymous", "crm/echo", spent=4.0))
    poor = await explain(config, admit, attempt("anonymous", "crm/echo", spent=4.5))
    assert (rich.decision, poor.decision) == ("allow", "budget")


# ---- what the server was not asked ---------------------------------------------------------------


async def test_without_the_server_its_schema_is_not_known(configured: Callable[..., Config]) -> None:
    config = configured(policy={"rules": [{"match": "crm/*", "rate_limit": "5/minute"}]})
    found = await explain(config, admit, attempt("anonymous", "crm/echo", {"text": 7}))
    assert found.decision == "allow"
    assert any("input schema" in each for each in found.unknown)
    tool = Item("echo", jsonrpc.members(json.dumps({"name": "echo", "inputSchema": SCHEMA}).encode()))
    asked = await explain(config, admit, attempt("anonymous", "crm/echo", {"text": 7}), {"crm": Listing(tools=[tool])})
    assert (asked.decision, asked.unknown) == ("invalid", ())


async def test_a_schema_that_must_not_be_used_withholds_the_tool(configured: Callable[..., Config]) -> None:
    config = configured()
    bad = {"name": "echo", "inputSchema": {"$ref": "https://example.test/schema.json"}}
    listing = Listing(tools=[Item("echo", jsonrpc.members(json.dumps(bad).encode()))])
    found = await explain(config, admit, attempt("anonymous", "crm/echo", {}), {"crm": listing})
    assert found.decision == "hidden"
    assert said(found, "authorize").startswith("withheld from everybody: ")


async def test_what_is_not_listed_does_not_exist(configured: Callable[..., Config]) -> None:
    found = await explain(configured(), admit, attempt("anonymous", "crm/echo", {}), {"crm": Listing()})
    assert (found.decision, outcomes(found)["resolve"]) == ("hidden", "refuses")
    assert "/servers/crm/mcp" in said(found, "resolve")


@pytest.mark.parametrize(
    ("id", "kind", "args", "words"),
    [
        ("echo", "tool", None, "is not namespace/name"),
        ("hr/echo", "tool", None, "there is no server 'hr'"),
        ("crm/test://x", "resource", {}, "without arguments"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    configured: Callable[..., Config], id: str, kind: Kind, args: Any, words: str
) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        await explain(configured(), admit, attempt("anonymous", id, args, kind))


@pytest.mark.parametrize("said", [{"calls": -1}, {"counts": {"crm/echo": -1}}, {"spent": -0.5}, {"recent": 10**9}])
def test_a_session_has_nothing_below_zero_or_beyond_sense(said: Mapping[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(said, Before)

"""Which stages a contract needs, and their order: no call pays for what nobody has asked for."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from bascule.config import ServerOptions
from bascule.contract.derive import Definition, Sources
from bascule.contract.model import Contract, Document
from bascule.contract.validation.schema import Unfit
from bascule.errors import ConfigInvalid
from bascule.pipeline import build
from bascule.pipeline.build import StageBuilder
from bascule.pipeline.dispatch import Dispatch
from bascule.pipeline.gates import Gates
from bascule.pipeline.parts import Parts
from bascule.pipeline.spend import Spend
from bascule.policy.allowances import Allowances
from bascule.policy.options import Budget, CallerLimits, LimitsOptions, ServerLimits
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records
from bascule.store.shared import MemoryState
from bascule.upstream.stdio import StdioOptions

SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer"}}}
ORDER: Final = (
    *("Label", "Authorize", "Check", "Rounds", "Replay", "Limit", "Validate", "Guard", "Cache", "Look", "Spend"),
    *("Confirm", "Place", "Reserve", "Deadline", "Fallback", "Retry", "Breaker", "Deepen", "Dispatch"),
)
# How a call is made, and whether it has been: no contract has to ask for that.
ALWAYS: Final = frozenset({"Label", "Rounds", "Replay", "Look", "Deadline", "Retry", "Breaker", "Dispatch"})


def stages(
    *,
    limits: LimitsOptions | None = None,
    scoped: bool = False,
    counting: bool = False,
    deepening: bool = False,
    modes: Mapping[str, Any] | None = None,
    records: Records | None = None,
    servers: Mapping[str, ServerOptions] | None = None,
    definition: Definition | None = None,
    **terms: Any,
) -> list[str]:
    """The names of the stages of a tool under these terms; nobody says anything of it without any."""
    documents = [("file", Document(tool="crm/find", **terms))] if terms else []
    contract = Sources(documents, scoped=scoped, **(modes or {})).effective("tool", "crm/find", definition)
    chosen = limits or LimitsOptions()
    builder = StageBuilder(
        chosen,
        Allowances(chosen.caller, {}),
        Parts(state=MemoryState(), gates=Gates(1, 1.0), records=records),
        servers or {},
        scoped=scoped,
        counting=counting,
        deepening=deepening,
    )
    return [type(stage).__name__ for stage in builder(contract, "crm", contract.security_scope)]


def of_callers(**said: Any) -> LimitsOptions:
    return LimitsOptions(caller=CallerLimits(**said))


def of_server(**said: Any) -> LimitsOptions:
    return LimitsOptions(servers={"crm": ServerLimits(**said)})


SERVERS: Final[dict[str, ServerOptions]] = {
    "crm": StdioOptions(command="x", fallback="other"),
    "other": StdioOptions(command="x"),
}
PLAIN: Final = Definition(input_schema=SCHEMA, output_schema=SCHEMA)
NEEDS: Final[dict[str, tuple[dict[str, Any], set[str]]]] = {
    "nothing": ({}, set()),
    "a definition alone": ({"definition": PLAIN}, set()),
    "words alone": ({"description": "x", "owner_team": "y"}, set()),
    "scopes": ({"scoped": True}, {"Authorize"}),
    "no scope": ({"scoped": True, "security_scope": ()}, set()),
    "gone": ({"status": "gone"}, {"Authorize"}),
    "deprecated": ({"status": "deprecated"}, set()),
    "a rate": ({"rate_limit": "1/second"}, {"Limit"}),
    "a rate of all": ({"total_rate_limit": "1/second"}, {"Limit"}),
    "a rate of callers": ({"limits": of_callers(rate="1/second")}, {"Limit"}),
    "a rate of the server": ({"limits": of_server(rate="1/second")}, {"Limit"}),
    "an input schema": ({"input_schema": SCHEMA}, {"Validate"}),
    "a server's input schema": ({"definition": PLAIN, "description": "x"}, {"Validate", "Check"}),
    "an input schema that is not looked at": ({"input_schema": SCHEMA, "validate_arguments": "off"}, set()),
    "validation of all": (
        {"definition": PLAIN, "modes": {"validate_arguments": "warn", "validate_results": "off"}},
        {"Validate"},
    ),
    "an output schema": ({"output_schema": SCHEMA}, {"Check"}),
    "an output schema that is not looked at": ({"output_schema": SCHEMA, "validate_results": "off"}, set()),
    "a guardrail": ({"guardrails": [{"deny": "args.a > 1"}]}, {"Guard"}),
    "a gate": ({"confirm_gate": True}, {"Guard", "Confirm"}),
    "a rule that asks": ({"guardrails": [{"ask": "args.a > 1"}]}, {"Guard", "Confirm"}),
    "a cache": ({"side_effect": False, "cache_policy": {"ttl_seconds": 1}}, {"Cache"}),
    "a cache of what changes something": ({"cache_policy": {"ttl_seconds": 1}}, set()),
    "another server": ({"servers": SERVERS}, {"Fallback"}),
    "no gate": ({"confirm_gate": False}, set()),
    "places": ({"max_concurrent": 1}, {"Place"}),
    "places of callers": ({"limits": of_callers(concurrent=1)}, {"Place"}),
    "places of the server": ({"limits": of_server(concurrent=1)}, {"Place"}),
    "places of another server": ({"limits": LimitsOptions(servers={"x": ServerLimits(concurrent=1)})}, set()),
    "a price": ({"cost_model": {"price_usd": 1}}, {"Spend"}),
    "a budget": ({"limits": of_callers(budget=Budget(usd=1))}, {"Spend"}),
    "a budget of sessions": ({"limits": of_callers(session_usd=1)}, {"Spend"}),
    "sessions that are counted": ({"counting": True}, set()),
    "chains that are counted": ({"deepening": True}, {"Deepen"}),
    "a timeout": ({"max_timeout_seconds": 5}, set()),  # the deadline stage, which every call passes, knows it
}
EVERYTHING: Final[dict[str, Any]] = {
    "scoped": True,
    "counting": True,
    "deepening": True,
    "limits": LimitsOptions(caller=CallerLimits(rate="1/second", concurrent=1, budget=Budget(usd=1))),
    "input_schema": SCHEMA,
    "output_schema": SCHEMA,
    "guardrails": [{"deny": "args.a > 1"}],
    "confirm_gate": True,
    "cost_model": {"price_usd": 1},
}


def given(said: Mapping[str, Any]) -> dict[str, Any]:
    """*said* as a configuration file would be read."""
    fields = {name: each for name, each in said.items() if name in Document.__struct_fields__}
    read = msgspec.convert({"tool": "crm/find", **fields}, Document)
    return {**said, **{name: getattr(read, name) for name in fields}}


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    records = Records(tmp_path, AuditOptions(), JournalOptions(), ApprovalOptions())
    yield records
    records.writer.close()
    records.boot.end()


def test_where_records_are_kept_a_tool_has_its_calls_written_down(records: Records) -> None:
    assert "Reserve" in stages(records=records)
    assert "Reserve" not in stages()


@pytest.mark.parametrize("name", NEEDS)
def test_a_contract_has_the_stages_that_it_needs_and_no_others(name: str) -> None:
    said, needed = NEEDS[name]
    assert stages(**given(said)) == [each for each in ORDER if each in ALWAYS | needed]


def test_with_everything_the_order_is_the_one_that_is_documented(records: Records) -> None:
    with_cache = stages(**given({"side_effect": False, "cache_policy": {"ttl_seconds": 1}}))
    all_others = stages(**given(EVERYTHING), records=records, servers=SERVERS)
    assert [each for each in ORDER if each in {*with_cache, *all_others}] == list(ORDER)
    assert all_others == [each for each in ORDER if each != "Cache"]
    documented = [line.split()[0] for line in (build.__doc__ or "").splitlines() if line[:1].islower()]
    assert tuple(each.capitalize() for each in documented) == ORDER


@pytest.mark.parametrize("name", NEEDS)
def test_who_pays_is_told_when_the_call_has_gone(name: str) -> None:
    """Spend asks afterwards whether the call was sent: without Dispatch it would hear that none ever was."""
    found = stages(**given(NEEDS[name][0]))
    if Spend.__name__ in found:
        assert found[-1] == Dispatch.__name__


@pytest.mark.parametrize("member", ["input_schema", "output_schema"])
@pytest.mark.parametrize("validated", [True, False])
def test_a_schema_that_must_not_be_used_makes_no_stages(member: str, validated: bool) -> None:
    far = {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/x"}}}
    with pytest.raises(Unfit):
        stages(**given({member: far, "validate_arguments": "block" if validated else "off"}))


def test_a_rule_that_does_not_fit_the_schema_makes_no_stages() -> None:
    rails = [{"deny": "args.a.startsWith('x')"}]
    with pytest.raises(ConfigInvalid, match="startsWith"):
        stages(**given({"input_schema": SCHEMA, "guardrails": rails}))


def test_what_is_built_is_for_one_contract() -> None:
    assert set(stages(definition=PLAIN)) == ALWAYS
    assert isinstance(Sources().effective("tool", "crm/find", PLAIN), Contract)

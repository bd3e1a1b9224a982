"""What is not what was approved: refused in every way in which it could be reached, and in no list."""

import json
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from bascule.call import Caller
from bascule.contract.derive import Sources
from bascule.contract.model import Document, Rule
from bascule.errors import BasculeError, DefinitionChanged, PromptNotFound, ResourceNotFound, ScopeDenied, ToolNotFound
from bascule.pipeline.ways import Ways
from bascule.policy.scopes import UNLIMITED, Authority
from bascule.registry.catalog import Listing, items
from bascule.registry.judge import Judge, Standing, Trust
from pipeline.calls import ANSWER, Server, call
from pipeline.test_ways import Built


def listing(said: str = "as it was", **tool: Any) -> Listing:
    """One of each, described in these words."""

    def raw(**members: Any) -> Raw:
        return Raw(json.dumps({"description": said, **members}).encode())

    return Listing(
        tools=items("tools/list", [raw(name="pay", **tool)]),
        prompts=items("prompts/list", [raw(name="ask")]),
        resources=items("resources/list", [raw(uri="x://one", name="one")]),
        templates=items("resources/templates/list", [raw(uriTemplate="y://{file}", name="files")]),
    )


def ways(
    trust: Trust = "pin",
    *documents: Document,
    trusted: bool = False,
    scoped: bool = False,
    rules: tuple[Rule, ...] = (),
) -> Ways:
    judge = Judge(None)
    judge.adopt({name: Standing(trust, name, trusted) for name in ("crm", "bank")})
    said = frozenset({"crm"} if trusted else ())
    sources = Sources([("file", each) for each in documents], rules, trusted=said, scoped=scoped)
    return Ways(sources, Built(), Server(), private=scoped, judge=judge)


THINGS: Any = [("tool", "pay"), ("prompt", "ask"), ("resource", "y://{file}"), ("resource", "y://a")]
MISSING = {"tool": ToolNotFound, "prompt": PromptNotFound, "resource": ResourceNotFound}


@pytest.mark.parametrize(("kind", "name"), THINGS)
async def test_what_changed_is_refused_and_shown_to_nobody(kind: Any, name: str) -> None:
    made = ways()
    made.learn("crm", [listing()])
    assert await made.way(kind, "crm", name).forward(call()) == ANSWER
    made.learn("crm", [listing("as it is now")])
    way = made.way(kind, "crm", name)
    with pytest.raises(DefinitionChanged, match="description changed after it was approved"):
        await way.forward(call())
    assert not made.sees(UNLIMITED, kind, "crm", name)
    assert not made.allows(UNLIMITED, kind, "crm", name)
    assert not made.withholds(kind, "crm", name)  # so that calls find it, and are told
    made.learn("crm", [listing()])
    assert await made.way(kind, "crm", name).forward(call()) == ANSWER


@pytest.mark.parametrize(("kind", "name"), THINGS)
async def test_what_waits_for_its_first_review_does_not_exist(kind: Any, name: str) -> None:
    made = ways("review")
    made.learn("crm", [listing()])
    assert made.withholds(kind, "crm", name if name != "y://a" else "y://{file}")
    with pytest.raises(MISSING[kind]):
        await made.way(kind, "crm", name).forward(call())


async def test_a_rule_for_one_resource_of_a_changed_template_does_not_open_it() -> None:
    made = ways(rules=(Rule(match="crm/y://a", description="the one"),))
    made.learn("crm", [listing()])
    made.learn("crm", [listing("as it is now")])
    with pytest.raises(DefinitionChanged):
        await made.way("resource", "crm", "y://a").forward(call())


async def test_the_same_list_learnt_again_is_judged_by_what_was_decided_since() -> None:
    made = ways("review")
    made.learn("crm", [listing()])
    assert made.way("tool", "crm", "pay").withheld
    assert made._judge is not None
    made._judge.adopt({"crm": Standing("pin", "crm")})
    made.learn("crm", [listing()])
    assert await made.way("tool", "crm", "pay").forward(call()) == ANSWER


async def test_a_plain_resource_is_not_pinned() -> None:
    made = ways("review")
    made.learn("crm", [listing()])
    assert await made.way("resource", "crm", "x://one").forward(call()) == ANSWER


def test_a_live_entry_that_says_more_is_left_out() -> None:
    made = ways()
    made.learn("crm", [listing()])
    (item,) = listing().tools
    assert made.entry("tool", "crm", "pay", item.members) == item.members
    (other,) = listing("as it is now").tools
    assert made.is_news("tool", "crm", "pay", other.members)
    assert made.entry("tool", "crm", "pay", other.members) is None
    assert not made.plain("crm", UNLIMITED)
    trusting = ways("auto")
    trusting.learn("crm", [listing()])
    assert trusting.entry("tool", "crm", "pay", other.members) == other.members
    assert trusting.plain("crm", UNLIMITED)


@pytest.mark.parametrize(
    ("scope", "error"), [("crm:read:pay", DefinitionChanged), ("bank", ToolNotFound), ("crm:write:pay", ToolNotFound)]
)
async def test_only_who_could_call_it_hears_that_it_changed(scope: str, error: type[BasculeError]) -> None:
    made = ways(trusted=True, scoped=True)
    made.learn("crm", [listing(annotations={"readOnlyHint": True})])
    made.learn("crm", [listing("as it is now", annotations={"readOnlyHint": True})])
    with pytest.raises(error):
        await made.way("tool", "crm", "pay").forward(_called_by(scope))


async def test_who_could_ask_for_the_scope_is_told_so_first() -> None:
    made = ways(scoped=True)
    made.learn("crm", [listing()])
    made.learn("crm", [listing("as it is now")])
    asking = Caller("ann", Authority(frozenset(), grantable=frozenset({"crm"})))
    with pytest.raises(ScopeDenied):
        await made.way("tool", "crm", "pay").forward(_by(asking))


async def test_a_version_that_another_server_serves_is_withheld_with_its_tool() -> None:
    served = Document(tool="crm/pay", version="2.0.0", served_by="bank/pay")
    made = ways("pin", served)
    made.learn("bank", [listing()])
    made.learn("crm", [listing()])
    assert made.way("tool", "crm", "pay").withheld == ""
    assert made.learn("bank", [listing("as it is now")])
    assert "changed after it was approved" in made.way("tool", "crm", "pay").withheld


async def test_a_trusted_server_whose_new_contract_is_none_is_withheld_all_the_same() -> None:
    made = ways(trusted=True)
    made.learn("crm", [listing()])
    made.learn("crm", [listing(_meta={"dev.bascule/contract": {"version": 7}})])
    with pytest.raises(DefinitionChanged):
        await made.way("tool", "crm", "pay").forward(call())


def _called_by(*scopes: str) -> Any:
    return _by(Caller("ann", Authority(frozenset(scopes))))


def _by(caller: Caller) -> Any:
    return replace(call(), caller=caller)

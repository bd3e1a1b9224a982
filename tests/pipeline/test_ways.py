"""Each thing has a way of its own, made when its server's lists are learnt, and one decision for calls and lists."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from bascule.call import Caller
from bascule.contract.derive import Sources
from bascule.contract.model import Contract, Document, Rule
from bascule.errors import ToolNotFound
from bascule.pipeline.authorize import Authorize
from bascule.pipeline.chain import Stage
from bascule.pipeline.ways import Ways
from bascule.policy.guardrails import Guardrail
from bascule.policy.scopes import UNLIMITED, Authority
from bascule.registry.catalog import Item, Listing
from bascule.wire import jsonrpc
from bascule.wire.names import Naming
from pipeline.calls import Server, call


class Built:
    """Builds ways of one stage and remembers for what."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, contract: Contract, server: str, scopes: tuple[str, ...], **_: Any) -> Sequence[Stage]:
        self.ids.append(contract.id)
        if "unfit" in contract.description:
            raise ValueError("its schema is a bomb")
        return [Authorize(contract, scopes)]


def item(key: str, **members: Any) -> Item:
    return Item(key, jsonrpc.members(jsonrpc.encode({"name": key, **members})))


def ways(*documents: Document, rules: tuple[Rule, ...] = (), scoped: bool = True) -> tuple[Ways, Built, Server]:
    built, server = Built(), Server()
    sources = Sources([("file", each) for each in documents], rules, scoped=scoped)
    return Ways(sources, built, server, private=scoped), built, server


def holding(*scopes: str) -> Authority:
    return Authority(frozenset(scopes))


LISTED = Listing(
    tools=[item("find"), item("add")],
    prompts=[item("find")],
    resources=[item("x://1")],
    templates=[item("x://{+path}"), item("x://secret/{file}")],
)


def test_a_tool_and_a_prompt_of_one_name_are_two_things() -> None:
    made, _, _ = ways()
    made.learn("crm", [LISTED])
    assert made.way("tool", "crm", "find").scopes == ("crm:write:find",)
    assert made.way("prompt", "crm", "find").scopes == ("crm:read:find",)


def test_a_way_stays_while_its_definition_does() -> None:
    made, built, _ = ways()
    made.learn("crm", [LISTED])
    before = {name: made.way("tool", "crm", name) for name in ("find", "add")}
    built.ids.clear()
    changed = replace(LISTED, tools=[item("find"), item("add", description="another")])
    made.learn("crm", [changed])
    assert made.way("tool", "crm", "find") is before["find"]
    assert made.way("tool", "crm", "add") is not before["add"]
    assert built.ids == ["crm/add"]


def test_what_is_not_listed_is_for_who_may_do_everything_there() -> None:
    made, _, _ = ways()
    made.learn("crm", [LISTED])
    assert not made.allows(holding("crm:write:hidden"), "tool", "crm", "hidden")
    assert made.allows(holding("crm"), "tool", "crm", "hidden")
    assert not made.allows(holding("shop"), "tool", "crm", "hidden")


def test_a_contract_for_what_is_not_listed_only_asks_for_more() -> None:
    made, _, _ = ways(Document(tool="crm/hidden", security_scope="vault"))
    made.learn("crm", [LISTED])
    assert not made.allows(holding("vault"), "tool", "crm", "hidden")
    assert not made.allows(holding("crm"), "tool", "crm", "hidden")
    assert made.allows(holding("vault", "crm"), "tool", "crm", "hidden")


def test_a_server_that_is_forgotten_is_not_known() -> None:
    made, _, _ = ways()
    assert not made.knows("crm")
    made.learn("crm", [LISTED])
    assert made.knows("crm")
    made.forget("crm")
    assert not made.knows("crm")


async def test_what_must_not_be_used_is_withheld_from_everybody_with_the_reason() -> None:
    made, _, server = ways()
    made.learn("crm", [Listing(tools=[item("bomb", description="unfit"), item("find")])])
    assert made.withheld("crm") == {"bomb": "its schema is a bomb"}
    assert made.withholds("tool", "crm", "bomb")
    for judge in (made.allows, made.sees):
        assert not judge(UNLIMITED, "tool", "crm", "bomb")
        assert judge(UNLIMITED, "tool", "crm", "find")
    wanted = replace(call(), caller=Caller("me", UNLIMITED), params={"name": jsonrpc.encode("bomb")})
    with pytest.raises(ToolNotFound):
        await made.way("tool", "crm", "bomb").forward(wanted)
    assert server.calls == 0


def test_a_uri_goes_the_way_of_the_template_that_says_most_of_it() -> None:
    made, _, _ = ways(Document(resource="crm/x://secret/{file}", security_scope="vault"))
    made.learn("crm", [LISTED])
    assert made.way("resource", "crm", "x://secret/1").scopes == ("vault",)
    assert made.way("resource", "crm", "x://1").contract.id == "crm/x://1"
    assert made.way("resource", "crm", "x://else/2").contract.id == "crm/x://{+path}"


def test_a_rule_on_a_uri_holds_whether_or_not_a_template_matches_it() -> None:
    deny = Guardrail(deny="true")
    made, _, _ = ways(rules=(Rule(match="crm/x://*/private", guardrails=(deny,)),))
    made.learn("crm", [LISTED])
    assert made.way("resource", "crm", "x://a/private").contract.guardrails == (deny,)
    assert made.way("resource", "crm", "x://a/open").contract.guardrails == ()
    assert made.way("resource", "crm", "x://a/open") is made.way("resource", "crm", "x://b/open")


def test_a_server_is_open_to_who_may_know_of_anything_in_it() -> None:
    made, _, _ = ways()
    assert made.opens(holding("crm:write:find"), "crm")  # nobody knows yet what it lists
    assert not made.opens(holding("shop"), "crm")
    made.learn("crm", [LISTED])
    assert made.opens(holding("crm:write:find"), "crm")
    assert not made.opens(holding("crm:write:gone"), "crm")
    assert made.opens(Authority(grantable=frozenset({"crm:write:find"})), "crm")


def test_what_is_gone_may_be_called_by_nobody() -> None:
    made, _, _ = ways(Document(tool="crm/find", status="gone"))
    made.learn("crm", [LISTED])
    assert not made.allows(UNLIMITED, "tool", "crm", "find")


def test_lists_are_left_alone_where_nobody_says_anything_and_the_caller_may_see_all() -> None:
    made, _, _ = ways()
    made.learn("crm", [LISTED])
    assert made.plain("crm", holding("crm"))
    assert not made.plain("crm", holding("crm:write"))
    ruled, _, _ = ways(rules=(Rule(match="crm/find", rate_limit="1/second"),))
    ruled.learn("crm", [LISTED])
    assert not ruled.plain("crm", UNLIMITED)


def test_ways_of_made_up_names_are_bounded() -> None:
    made, _, _ = ways()
    made.learn("crm", [LISTED])
    for number in range(3000):
        made.way("tool", "crm", f"made-up-{number}")
    assert len(made._unlisted) <= 1024


def test_what_nobody_says_anything_of_is_not_governed() -> None:
    made, _, _ = ways(Document(tool="crm/find", description="x"))
    assert made.governs("tool", "crm", "find")
    assert not made.governs("tool", "crm", "add")


def test_a_tool_that_a_pack_has_no_contract_of_is_not_the_packs() -> None:
    contract = Document(tool="crm/find", security_scope="crm:read")
    naming = Naming(
        own=frozenset({"crm"}), servers=frozenset({"crm"}), packs=frozenset({"crm"}), promised={"crm/find": "crm"}
    )
    made = Ways(Sources([("file", contract)], ()), Built(), Server(), private=True, naming=naming)
    made.learn("crm", [Listing(tools=[item("find"), item("add"), item("mail__send")], prompts=[item("find")])])
    why = "its pack has no contract of it, or another server of this pack brings it already"
    assert made.withheld("crm") == {"add": why, "mail__send": why}
    assert not made.sees(UNLIMITED, "tool", "crm", "add")

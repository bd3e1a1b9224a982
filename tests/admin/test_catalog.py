"""The catalog as REST gives it: the same tools, filters and figures as on the pages."""

from typing import Any

from gateway import Bascule, gateway, local, until

from bascule.admin import catalog

CONTRACTS = [
    {"tool": "crm/search_leads", "version": "1.0.0", "side_effect": False, "owner_team": "sales"},
    {
        "tool": "crm/create_lead",
        "version": "1.0.0",
        "cost_model": {"price_usd": 0.5},
        "guardrails": [{"deny": "false"}],
    },
    {"tool": "crm/create_lead", "version": "1.1.0", "cost_model": {"price_usd": 0.6}},
]


async def stocked(bascule: Bascule, tools: int) -> None:
    found = bascule.gateway
    assert found is not None

    async def count() -> int:
        return len(catalog.entries(found))

    await until(count, lambda known: known >= tools)


async def ask(bascule: Bascule, path: str) -> tuple[int, Any]:
    return await bascule.get(path, {"accept": "application/json"})


async def test_rest_searches_as_the_page_does() -> None:
    async with gateway({"crm": local("shop", "--more", "30")}, contracts=CONTRACTS) as bascule:
        await stocked(bascule, 35)
        status, found = await ask(bascule, "/api/catalog?q=lead&sort=name")
        assert status == 200
        assert [each["tool"] for each in found["tools"]] == [
            "crm/create_lead",
            "crm/delete_lead",
            "crm/search_leads",
            "crm/draw_chart",
        ]
        assert found["all"] == 35
        assert found["tools"][0]["price"] == {"usd": 0.6, "unit": "call"}
        assert found["tools"][0]["versions"] == ["1.0.0", "1.1.0"]
        status, found = await ask(bascule, "/api/catalog?size=10&page=4")
        assert (found["page"], found["pages"], len(found["tools"])) == (4, 4, 5)
        assert (await ask(bascule, "/api/catalog?cost=cheap"))[0] == 400


async def test_one_tool_has_all_that_there_is_to_say_of_it() -> None:
    async with gateway({"crm": local("shop")}, contracts=CONTRACTS) as bascule:
        await stocked(bascule, 5)
        await bascule.modern().call("crm__search_leads", query="x")
        status, found = await ask(bascule, "/api/tool?tool=crm/create_lead")
        assert status == 200
        assert [each["version"] for each in found["known"]] == ["1.0.0", "1.1.0"]
        assert {each["field"] for each in found["changes"][0]["changes"]} == {"cost_model", "guardrails"}
        fields = {each["field"]: each for each in found["contract"]}
        assert fields["version"]["value"] == "1.1.0"
        assert fields["idempotent"]["source"] == "default"
        assert fields["input_schema"]["source"] == "server"
        status, _ = await ask(bascule, "/api/tool?tool=crm/none")
        assert status == 404


async def test_a_made_up_name_is_no_tool_and_starts_nothing() -> None:
    async with gateway({"crm": local("shop", start="lazy")}) as bascule:
        found = bascule.gateway
        assert found is not None
        assert catalog.entry(found, "crm/create_lead") is None
        assert catalog.entries(found) == []
        assert catalog.unheard(found) == ["crm"]
        assert (await bascule.server("crm"))["state"] == "idle"


async def test_whoever_does_not_wait_for_figures_gets_those_of_before_and_hears_that() -> None:
    async with gateway({"crm": local("shop")}) as bascule:
        found = bascule.gateway
        assert found is not None
        figures = catalog.FiguresKept(found)
        at_once = await figures.now(0.0)
        assert (at_once.counted, at_once.pending) == (True, True)
        assert not (await figures.now()).pending
        assert not (await figures.now(0.0)).pending  # they are good for some seconds

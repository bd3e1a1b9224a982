"""The CRM's tools through its own process, on both of its stores: whatever holds of one holds of the other."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packs.crm.rest_crm import TODAY, TOKEN, rest_crm
from packs.talking import Talk, talking

BIG: Final = 75_000
READING: Final = {"search_contacts", "get_contact_details", "get_sales_data"}
CHANGING: Final = {"create_opportunity", "update_contact_notes", "create_lead", "update_status", "create_order"}


@pytest_asyncio.fixture(params=["embedded", "rest"])
async def crm(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Talk]:
    async with AsyncExitStack() as stack:
        said: dict[str, Any] = {"today": TODAY.isoformat()}
        if request.param == "embedded":
            said["folder"] = str(tmp_path / "crm")
        else:
            server = await stack.enter_async_context(rest_crm())
            said["rest"] = {"url": server.url, "token": TOKEN}
        yield await stack.enter_async_context(talking("crm", **said))


# ---- what it offers


async def test_there_are_eight_tools_and_their_hints_say_which_change_something(crm: Talk) -> None:
    tools = (await crm.request("tools/list"))["result"]["tools"]
    assert {tool["name"] for tool in tools if tool["annotations"]["readOnlyHint"]} == READING
    assert {tool["name"] for tool in tools if not tool["annotations"]["readOnlyHint"]} == CHANGING
    assert all("outputSchema" in tool for tool in tools)


# ---- looking up


@pytest.mark.parametrize(
    ("query", "who"),
    [
        ("Anh", ["contact_1"]),
        ("tech solutions", ["contact_1"]),
        ("nguyen van anh", ["contact_1"]),
        ("PHẠM đạt", ["contact_4"]),
        ("pham dat", ["contact_4"]),
        ("nobody at all", []),
        ("%", []),
        ("' OR 1=1 --", []),
    ],
)
async def test_contacts_are_found_by_words_of_name_company_or_address(crm: Talk, query: str, who: list[str]) -> None:
    found = await crm.call("search_contacts", query=query)
    assert [each["id"] for each in found["contacts"]] == who
    assert found["total_found"] == len(who)


async def test_contacts_are_found_by_status_and_there_may_be_more_than_are_shown(crm: Talk) -> None:
    found = await crm.call("search_contacts", status="prospect", limit=2)
    assert [each["status"] for each in found["contacts"]] == ["prospect", "prospect"]
    assert found["total_found"] == 3


async def test_contacts_are_found_by_how_long_ago_they_were_contacted(crm: Talk) -> None:
    found = await crm.call("search_contacts", status="prospect", not_contacted_for_days=7)
    assert [each["id"] for each in found["contacts"]] == ["contact_4"]
    # More than so many days ago: on the day itself it is not yet more.
    assert (await crm.call("search_contacts", status="prospect", not_contacted_for_days=12))["total_found"] == 0
    assert (await crm.call("search_contacts", status="prospect", not_contacted_for_days=11))["total_found"] == 1


async def test_a_contact_is_shown_with_its_opportunities(crm: Talk) -> None:
    contact = (await crm.call("get_contact_details", contact_id="contact_1"))["contact"]
    assert (contact["name"], contact["company"], contact["position"]) == ("Nguyễn Văn Anh", "Tech Solutions", "CTO")
    (opportunity,) = contact["opportunities"]
    assert opportunity["title"] == "AI Consulting Project"
    assert (opportunity["value"], opportunity["stage"], opportunity["probability"]) == (50_000, "proposal", 75)


async def test_sales_of_the_last_month_are_those_of_the_scenario(crm: Talk) -> None:
    sales = await crm.call("get_sales_data", period="last_month")
    assert sales == {"period": "2026-10", "actual": 95_000, "target": 100_000}
    assert await crm.call("get_sales_data") == sales
    assert await crm.call("get_sales_data", period="2026-10") == sales


# ---- what cannot be done


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        (
            "get_contact_details",
            {"contact_id": "nobody"},
            "There is no contact 'nobody'. search_contacts finds the ids.",
        ),
        ("create_opportunity", {"contact_id": "nobody", "title": "x", "value": 1}, "There is no contact 'nobody'."),
        (
            "create_opportunity",
            {"contact_id": "contact_1", "title": "ai CONSULTING project", "value": 1},
            "has an open",
        ),
        ("create_opportunity", {"contact_id": "contact_1", "title": "  ", "value": 1}, "`title` is blank."),
        ("update_contact_notes", {"contact_id": "nobody", "notes": "x"}, "There is no contact 'nobody'."),
        ("create_lead", {"email": "no address", "source": "web"}, "is no e-mail address."),
        ("create_lead", {"email": "a@b@c.example", "source": "web"}, "is no e-mail address."),
        ("get_sales_data", {"period": "1999-01"}, "There are no sales figures for 1999-01."),
        ("update_status", {"customer_id": "CUST-1", "status": "x"}, "There is no customer 'CUST-1'."),
        ("create_order", {"customer_id": "CUST-1", "product": "x", "amount": 1}, "There is no customer 'CUST-1'."),
    ],
)
async def test_what_cannot_be_done_is_said_with_what_to_do(
    crm: Talk, tool: str, arguments: dict[str, Any], said: str
) -> None:
    assert said in await crm.refusal(tool, **arguments)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("search_contacts", {"limit": 0}),
        ("search_contacts", {"limit": 101}),
        ("search_contacts", {"status": "anything"}),
        ("search_contacts", {"query": "x" * 201}),
        ("search_contacts", {"not_contacted_for_days": -1}),
        ("get_contact_details", {}),
        ("get_contact_details", {"contact_id": ""}),
        ("get_contact_details", {"contact_id": 5}),
        ("create_opportunity", {"contact_id": "contact_1", "title": "x", "value": -1}),
        ("create_opportunity", {"contact_id": "contact_1", "title": "x", "value": 1, "stage": "dreaming"}),
        ("create_opportunity", {"contact_id": "contact_1", "title": "x", "value": "1"}),
        ("update_contact_notes", {"contact_id": "contact_1", "notes": "x" * 10_001}),
        ("create_lead", {"email": "a@b.example"}),
        ("create_lead", {"email": "a@b.example", "source": "web", "priority": 1}),
        ("get_sales_data", {"period": "2026-13"}),
        ("update_status", {"customer_id": "CUST-456", "status": "x", "score": 101}),
        ("create_order", {"customer_id": "CUST-456", "product": "x", "amount": 1, "quantity": 0}),
    ],
)
async def test_arguments_that_the_contract_does_not_allow_never_reach_a_store(
    crm: Talk, tool: str, arguments: dict[str, Any]
) -> None:
    assert "do not fit the tool's input schema" in await crm.refusal(tool, **arguments)


async def test_limits_are_taken_at_their_edge(crm: Talk) -> None:
    assert (await crm.call("search_contacts", query="x" * 200, limit=100, not_contacted_for_days=3650))[
        "contacts"
    ] == []
    notes = await crm.call("update_contact_notes", contact_id="contact_1", notes="n" * 10_000)
    assert len(notes["notes"]) == 10_000
    assert (await crm.call("create_order", customer_id="CUST-456", product="p", amount=0, quantity=1_000_000))[
        "order_id"
    ]


# ---- deeds


async def test_an_opportunity_is_created_and_shown(crm: Talk) -> None:
    made = await crm.call(
        "create_opportunity", contact_id="contact_2", title=" AI Strategy Consulting ", value=BIG, stage="prospecting"
    )
    opportunity = made["opportunity"]
    assert (opportunity["title"], opportunity["value"]) == ("AI Strategy Consulting", BIG)
    assert (opportunity["stage"], opportunity["probability"]) == ("prospecting", 25)
    contact = (await crm.call("get_contact_details", contact_id="contact_2"))["contact"]
    assert opportunity in contact["opportunities"]


async def test_notes_are_replaced_or_added_to(crm: Talk) -> None:
    await crm.call("update_contact_notes", contact_id="contact_1", notes="Gọi lại thứ Hai")
    added = await crm.call("update_contact_notes", contact_id="contact_1", notes="and send prices", append=True)
    assert added["notes"] == "Gọi lại thứ Hai\nand send prices"
    contact = (await crm.call("get_contact_details", contact_id="contact_1"))["contact"]
    assert contact["notes"] == added["notes"]


async def test_a_second_lead_with_the_same_address_is_refused(crm: Talk) -> None:
    lead = await crm.call("create_lead", email="John.Doe@Example.com", source="website_form")
    assert (lead["status"], lead["email"]) == ("created", "john.doe@example.com")
    said = await crm.refusal("create_lead", email=" john.doe@example.COM ", source="fair")
    assert said == ("There is a lead with the e-mail john.doe@example.com already. Nothing was created; use that one.")


async def test_a_decision_about_a_customer_is_recorded(crm: Talk) -> None:
    record = await crm.call("update_status", customer_id="CUST-456", status="Conditional Approval", score=65)
    assert record["record_id"].startswith("CRM-")
    assert (record["status"], record["score"]) == ("Conditional Approval", 65)


@pytest.mark.parametrize(
    ("tool", "arguments", "other"),
    [
        ("create_opportunity", {"contact_id": "contact_2", "title": "New", "value": 5}, {"value": 6}),
        ("create_lead", {"email": "a@b.example", "source": "web"}, {"source": "fair"}),
        ("create_order", {"customer_id": "CUST-456", "product": "Laptop", "amount": 900}, {"amount": 901}),
        ("update_status", {"customer_id": "CUST-456", "status": "Approved", "score": 5}, {"score": 6}),
        ("update_contact_notes", {"contact_id": "contact_1", "notes": "more", "append": True}, {"notes": "less"}),
    ],
)
async def test_one_key_is_one_deed(crm: Talk, tool: str, arguments: dict[str, Any], other: dict[str, Any]) -> None:
    first = await crm.call(tool, key="ORDER-REQ-12345", **arguments)
    assert await crm.call(tool, key="ORDER-REQ-12345", **arguments) == first
    said = await crm.refusal(tool, key="ORDER-REQ-12345", **{**arguments, **other})
    assert said.startswith("This idempotency key has done something else.")


async def test_without_a_key_each_order_is_another_one(crm: Talk) -> None:
    order: dict[str, Any] = {"customer_id": "CUST-456", "product": "Laptop", "amount": 900}
    assert (await crm.call("create_order", **order))["order_id"] != (await crm.call("create_order", **order))[
        "order_id"
    ]


async def test_a_key_of_what_failed_can_be_used_again(crm: Talk) -> None:
    await crm.refusal("create_order", key="k", customer_id="CUST-1", product="x", amount=1)
    assert (await crm.call("create_order", key="k", customer_id="CUST-456", product="x", amount=1))["order_id"]


async def test_random_arguments_get_an_answer_and_leave_the_process_alive(tmp_path: Path) -> None:
    texts = st.text(max_size=40) | st.sampled_from(["../../admin", "contact_1/../..", "a\0b", "%2e%2e", "?", "#", "."])
    values = texts | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.booleans()
    names = st.sampled_from(["contact_id", "query", "title", "value", "notes", "email", "source", "customer_id"])
    calls = st.tuples(st.sampled_from(sorted(READING | CHANGING)), st.dictionaries(names, values, max_size=4))
    asked: list[tuple[str, dict[str, Any]]] = []

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(calls)
    def collect(call: tuple[str, dict[str, Any]]) -> None:
        asked.append(call)

    collect()
    async with talking("crm", folder=str(tmp_path)) as talk:
        for tool, arguments in asked:
            result = await talk.try_call(tool, **arguments)
            assert result["content"][0]["text"]
        assert talk.process.returncode is None

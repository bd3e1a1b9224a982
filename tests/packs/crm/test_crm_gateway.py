"""The CRM and the database behind Bascule: what the contracts promise is held there, too."""

from pathlib import Path
from typing import Any, Final

import pytest
from gateway import Json, gateway

LEAD: Final[Json] = {"email": "john.doe@example.com", "source": "website_form"}


async def call(bascule: Any, tool: str, arguments: Json, key: str | None = None) -> Json:
    meta = {} if key is None else {"dev.bascule/idempotencyKey": key}
    params = {"name": tool, "arguments": arguments}
    async with bascule.modern().open("tools/call", params, meta=meta) as exchange:
        answer = await exchange.last()
    found: Json = answer.get("result", answer)
    return found


def kind(answer: Json) -> str:
    said = answer["error"]["data"] if "error" in answer else answer["_meta"]["dev.bascule/error"]
    found: str = said["kind"]
    return found


@pytest.mark.parametrize(
    ("tool", "small", "large"),
    [
        (
            "create_opportunity",
            {"contact_id": "contact_6", "title": "Small", "value": 10_000},
            {"contact_id": "contact_6", "title": "AI Strategy Consulting", "value": 75_000},
        ),
        ("create_lead", LEAD, {**LEAD, "email": "other@example.com", "value": 10_001}),
        (
            "create_order",
            {"customer_id": "CUST-456", "product": "Laptop", "amount": 9_999.5},
            {"customer_id": "CUST-456", "product": "Server", "amount": 10_000.5},
        ),
    ],
)
async def test_a_person_is_asked_above_ten_thousand(tmp_path: Path, tool: str, small: Json, large: Json) -> None:
    servers = {"crm": {"pack": "crm", "sandbox": "required", "settings": {"folder": str(tmp_path)}}}
    async with gateway(servers) as bascule:
        await bascule.up("crm")
        assert not (await call(bascule, f"crm__{tool}", small)).get("isError")
        assert kind(await call(bascule, f"crm__{tool}", large)) == "confirmation_required"


async def test_a_key_is_one_lead_and_the_second_answer_is_the_first(tmp_path: Path) -> None:
    servers = {"crm": {"pack": "crm", "sandbox": "required", "settings": {"folder": str(tmp_path)}}}
    async with gateway(servers) as bascule:
        await bascule.up("crm")
        first = await call(bascule, "crm__create_lead", LEAD, "form_submission_12345")
        again = await call(bascule, "crm__create_lead", LEAD, "form_submission_12345")
        assert first["structuredContent"] == again["structuredContent"]
        assert again["_meta"]["dev.bascule/call"]["replayed"]
        assert (
            kind(await call(bascule, "crm__create_lead", {**LEAD, "source": "fair"}, "form_submission_12345"))
            == "key_mismatch"
        )


async def test_a_record_is_inserted_and_found_within_the_walls(tmp_path: Path) -> None:
    settings = {"sqlite": "sample", "folder": str(tmp_path)}
    servers = {"db": {"pack": "database", "sandbox": "required", "settings": settings}}
    async with gateway(servers) as bascule:
        await bascule.up("db")
        record = {"table_name": "orders", "data": {"customer_id": 2, "product": "Loa", "amount": 49.5}}
        inserted = (await call(bascule, "db__insert_record", record, "REQUEST-2026-11-21-1"))["structuredContent"]
        again = (await call(bascule, "db__insert_record", record, "REQUEST-2026-11-21-1"))["structuredContent"]
        assert inserted == again
        query = {"query": f"SELECT product FROM orders WHERE id = {inserted['row_id']}"}
        found = (await call(bascule, "db__query_database", query))["structuredContent"]
        assert found["rows"] == [{"product": "Loa"}]
        schema = await bascule.modern().result("resources/list")
        assert any("schema://tables" in each["uri"] for each in schema["resources"])

"""Finance behind a real gateway, within its walls: the payment of an invoice from the refusal to the receipt."""

import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest
from gateway import Bascule, Json, failure_of, gateway

from bascule.admin import approvals as admin

KEY: Final = "invoice-payment-INV-456-user-789"
PAYMENT: Final[Json] = {"invoice_id": "INV-456", "amount": 1250, "payment_method": "card"}
LARGE: Final[Json] = {"invoice_id": "INV-458", "amount": 25_000, "payment_method": "bank_transfer"}
KEY_META: Final = "dev.bascule/idempotencyKey"
TOKEN_META: Final = "dev.bascule/confirmationToken"


def finance(folder: Path, **settings: Any) -> Json:
    return {"finance": {"pack": "finance", "sandbox": "required", "settings": {"folder": str(folder), **settings}}}


async def paid(bascule: Bascule, arguments: Json, **meta: str) -> Json:
    said = {KEY_META: meta["key"]} if "key" in meta else {}
    token = {TOKEN_META: meta["token"]} if "token" in meta else {}
    params = {"name": "invoice/process_payment", "arguments": arguments}
    async with bascule.modern().open("tools/call", params, meta={**said, **token}) as exchange:
        found: Json = (await exchange.last())["result"]
        return found


async def approved(bascule: Bascule, arguments: Json, key: str) -> Json:
    """The result, after a person has said yes to what the refusal asked for."""
    details = failure_of(await paid(bascule, arguments, key=key))["details"]
    assert bascule.gateway is not None
    assert bascule.gateway.records is not None
    records: Any = bascule.gateway.records.approvals
    (waiting,) = list(records.list_("pending"))
    await admin.decide(records, None, waiting.id, approve=True, note="", by="cli:tester")
    return await paid(bascule, arguments, key=key, token=details["confirmation_token"])


def payments(folder: Path) -> int:
    if not (folder / "finance.sqlite").exists():
        return 0  # nobody was let through, so its process was never needed
    base = sqlite3.connect(folder / "finance.sqlite")
    try:
        (count,) = base.execute("SELECT count(*) FROM payments WHERE key IS NOT NULL").fetchone()
        return int(count)
    finally:
        base.close()


async def test_a_payment_needs_a_key_and_a_person_and_is_made_once(tmp_path: Path) -> None:
    async with gateway(finance(tmp_path)) as bascule:
        await bascule.up("finance")
        keyless = await bascule.modern().ask("tools/call", {"name": "invoice/process_payment", "arguments": PAYMENT})
        assert "idempotency key" in keyless["error"]["message"]
        asked = failure_of(await paid(bascule, PAYMENT, key=KEY))
        assert asked["kind"] == "confirmation_required"
        assert 'Pay 1250 for the invoice "INV-456" by "card"?' in asked["message"]
        assert payments(tmp_path) == 0
        receipt = await approved(bascule, PAYMENT, KEY)
        again = await paid(bascule, PAYMENT, key=KEY)
        assert receipt["structuredContent"] == again["structuredContent"]
        assert again["_meta"]["dev.bascule/call"]["replayed"] is True
        conflict = await approved(bascule, PAYMENT, "another-key-0000001")
        assert "409 Conflict" in conflict["content"][0]["text"]
    assert payments(tmp_path) == 1


async def test_a_large_payment_says_why_a_person_is_asked(tmp_path: Path) -> None:
    async with gateway(finance(tmp_path)) as bascule:
        await bascule.up("finance")
        asked = failure_of(await paid(bascule, LARGE, key=KEY))
        assert asked["kind"] == "confirmation_required"
        assert "more than 10,000 needs an approval" in str(asked)
        assert (await approved(bascule, LARGE, KEY))["structuredContent"]["amount"] == 25_000
    assert payments(tmp_path) == 1


@pytest.mark.parametrize("scope", ["finance:read", "finance:payment:read", "crm:write"])
async def test_who_may_look_may_not_pay(scope: str, tmp_path: Path) -> None:
    async with gateway(finance(tmp_path), auth={"anonymous": {"scopes": [scope]}}) as bascule:
        params = {"name": "invoice/process_payment", "arguments": PAYMENT}
        answer = await bascule.modern().ask("tools/call", params)
    assert "result" not in answer or failure_of(answer["result"])["kind"] in ("scope_denied", "tool_not_found")
    assert payments(tmp_path) == 0


async def test_its_tools_keep_their_namespaces_and_its_reports_are_resources(tmp_path: Path) -> None:
    async with gateway(finance(tmp_path)) as bascule:
        await bascule.up("finance")
        client = bascule.modern()
        names = {each["name"] for each in (await client.result("tools/list"))["tools"]}
        worth = await client.call("finance/calculate_valuation", ticker="VNM")
        score = await client.call("risk/analyze_report", report_path="finance://reports/CUST-456")
        found = await client.result("resources/read", {"uri": "finance://reports/CUST-456"})
    assert {"finance__calculate_valuation", "invoice__process_payment", "trading__place_order"} <= names
    assert worth["structuredContent"]["confidence"] == 0.9
    assert score["structuredContent"]["risk_score"] == 65
    assert "Red River Textiles" in found["contents"][0]["text"]

"""Finance and research keep their contracts: nothing to mend in them, and what the tools give fits."""

from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import UNSET

from bascule import documents
from bascule.contract.validation.schema import compile_schema
from bascule.packs import catalog
from bascule.packs.pack import own_name
from packs.talking import talking

ORDER: Final = {"portfolio_id": "PF-1", "ticker": "FPT", "side": "buy", "quantity": 100}
KEY: Final = "a-key-of-this-test"
CALLS: Final[Any] = {
    "finance": {
        "finance/get_stock_price": [{"ticker": "VNM"}, {"ticker": "FLAT", "date": "2026-11-02"}],
        "finance/get_financial_statements": [{"ticker": "FPT", "statement_type": "cash_flow"}],
        "finance/calculate_valuation": [{"ticker": "VNM", "method": each} for each in ("dcf", "pe_ratio", "peg")],
        "finance/get_analyst_reports": [{"ticker": "VNM"}, {"ticker": "FPT"}, {"ticker": "FLAT"}],
        "finance/get_report": [{"customer_id": "CUST-456"}],
        "risk/analyze_report": [{"report_path": f"finance://reports/CUST-{each}"} for each in (123, 456, 789)],
        "invoice/list_invoices": [{}, {"status": "all", "limit": 2}],
        "invoice/process_payment": [{"invoice_id": "INV-456", "amount": 1250, "payment_method": "card"}] * 2,
        "trading/check_risk": [ORDER, {**ORDER, "quantity": 10**9}],
        "trading/place_order": [{**ORDER, "limit_price": 1e6}] * 2,
    },
    "research": {
        "research/search_papers": [{"query": "agents"}, {"query": "xyzzy"}],
        "document/get_content": [
            {"paper_id": "sample:ssrf-agents"},
            {"paper_id": "sample:ssrf-agents", "max_chars": 100},
        ],
    },
}


@pytest.mark.parametrize("pack", CALLS)
async def test_what_the_tools_give_fits_their_contracts(pack: str, tmp_path: Path) -> None:
    settings = {"folder": str(tmp_path)} if pack == "finance" else {}
    tools = {each.id: each for _, each in documents.documents(catalog.contracts_of(pack)) if each.kind == "tool"}
    assert tools.keys() == CALLS[pack].keys()
    async with talking(pack, **settings) as process:
        for id, calls in CALLS[pack].items():
            schema = tools[id].output_schema
            assert schema is not UNSET
            fits = compile_schema(schema)
            for arguments in calls:
                given = await process.call(own_name(pack, id), KEY, **arguments)
                assert not fits.problems(given, 1000), (id, given)


@pytest.mark.parametrize("pack", CALLS)
def test_contracts_say_who_may_what_it_costs_and_who_answers(pack: str) -> None:
    for place, each in documents.documents(catalog.contracts_of(pack)):
        assert each.owner_email is not UNSET, place
        assert each.security_level is not UNSET, place
        assert each.security_scope is not UNSET, place
        if each.kind == "tool" and each.side_effect is True:
            assert (each.require_key, each.idempotent) == (True, False), place
            assert each.confirm_gate is not UNSET, place
            assert "SIDE EFFECT" in str(each.description), place

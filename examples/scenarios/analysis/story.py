"""Price, statements, valuation, analysts, a recommendation: below a confidence of 0.7 a person reviews it first."""

from agent import Agent, Json

CALLERS = ("agent", "reviewer")
PUBLISH = "desk/publish_recommendation"


async def story(agent: Agent) -> None:
    agent.user("Phân tích VNM và FPT: nên mua, giữ hay bán?")
    sure = await analysed(agent, "VNM", "dcf")
    agent.reason("The analysts like it, so perhaps: buy.")
    await agent.refused(PUBLISH, {**sure, "rating": "buy"}, "guardrail_denied", key="analysis-2026-11-VNM-a")
    agent.reason("Right, its own figures say otherwise. Sell, and the figures are sure enough to publish.")
    await agent.call(PUBLISH, {**sure, "rating": "sell"}, key="analysis-2026-11-VNM-b")

    unsure = await analysed(agent, "FPT", "pe_ratio")
    agent.reason(f"A confidence of {unsure['confidence']}: similar firms are priced very differently. Not mine alone.")
    wanted = {**unsure, "rating": "buy"}
    key = "analysis-2026-11-FPT"
    await agent.confirm(PUBLISH, wanted, person="reviewer", note="hold at most", key=key, yes=False)
    agent.reason("The reviewer says: hold at most. That is another call, and another question.")
    wanted = {**unsure, "rating": "hold"}
    await agent.confirm(PUBLISH, wanted, person="reviewer", note="yes", key="analysis-2026-11-FPT-2")
    published = (agent.work / "published.txt").read_text(encoding="utf-8").splitlines()
    agent.see(
        "two recommendations are out", [line.split()[:2] for line in published] == [["VNM", "sell"], ["FPT", "hold"]]
    )


async def analysed(agent: Agent, ticker: str, method: str) -> Json:
    """What a recommendation rests on."""
    await agent.call("finance/get_stock_price", {"ticker": ticker})
    await agent.call("finance/get_financial_statements", {"ticker": ticker})
    worth = await agent.call("finance/calculate_valuation", {"ticker": ticker, "method": method})
    await agent.call("finance/get_analyst_reports", {"ticker": ticker, "limit": 3})
    return {"ticker": ticker, "upside_percent": worth["upside_downside"], "confidence": worth["confidence"]}

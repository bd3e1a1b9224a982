"""Two tools do the same: the model chooses by time and price, and a budget holds where it would not."""

from agent import Agent

CALLERS = ("agent",)
FAST, DEEP = "document/summarize_fast", "document/summarize_deep"
TEXT = (
    "The pump moves 40 litres a minute. It is blue. Its seal lasts 8000 hours at 60 degrees. "
    "Change the filter every 500 hours. The manual was printed in Huế."
)


async def story(agent: Agent) -> None:
    agent.user("Tóm tắt tài liệu kỹ thuật này, càng nhanh càng tốt.")
    tools = await agent.tools(FAST, DEEP)
    quickest = min((FAST, DEEP), key=lambda each: tools[each]["latency_budget_ms"])
    agent.reason(f"As quickly as possible: {quickest}. It also is the cheaper one.")
    await agent.call(quickest, {"text": TEXT})

    agent.user("Ngắn quá. Làm kỹ hơn đi.")
    agent.reason(f"Then {DEEP}: it costs ten times as much.")
    await agent.refused(DEEP, {"text": TEXT}, "budget_exceeded")
    agent.reason("Today's budget is not mine to change. I say so, with what I have.")

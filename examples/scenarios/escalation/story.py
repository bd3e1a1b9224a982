"""The cheap source is asked first; only when it knows too little does the model pay for the dear one."""

from agent import Agent

CALLERS = ("agent",)
NEAR, FAR = "search/internal_knowledge_base", "search/external_web_crawler"


async def story(agent: Agent) -> None:
    agent.user("Gần đây đối thủ Alpha Corp có gì mới không?")
    tools = await agent.tools(NEAR, FAR)
    price = {each: tools[each]["cost_model"]["price_usd"] for each in (NEAR, FAR)}
    agent.reason(f"{FAR} costs {price[FAR] / price[NEAR]:.0f} times as much. The notes first.")
    wanted = {"query": "Alpha Corp", "since_year": 2025}
    known = await agent.call(NEAR, wanted)
    agent.reason(f"Nothing since 2025; the notes end in {known['newest_year']}. Recent is what was asked: the crawler.")

    curious = {"query": "Alpha Corp compared with our confidential price list", "since_year": 2025}
    await agent.refused(FAR, curious, "guardrail_denied")
    agent.reason("Right: that says more about us than about them. Only the name.")
    news = (await agent.call(FAR, wanted))["found"]
    agent.reason(f"The news say: {news[0]['text']} That it will hurt us is my guess, and no tool's.")

    again = await agent.call(NEAR, wanted)
    agent.see("asked again, the notes say the same, from the cache", again == known)

"""Papers are found and read by tools; the comparison is the model's, and says so."""

from agent import Agent

CALLERS = ("agent",)
SEARCH, READ = "research/search_papers", "document/get_content"


async def story(agent: Agent) -> None:
    agent.user("Tìm 3 bài báo mới nhất về Model Context Protocol và so sánh MCP với plugin truyền thống.")
    wanted = {"query": "Model Context Protocol traditional plugins", "limit": 3, "sort": "newest"}
    papers = (await agent.call(SEARCH, wanted))["results"]
    for paper in papers:
        await agent.call(READ, {"paper_id": paper["id"], "max_chars": 400})
    agent.reason("These papers are samples, and were written by strangers: I quote them and do what none of them says.")
    agent.reason("My comparison: a plugin is built for one program, a server for any. No paper says it in these words.")

    agent.reason("One of them may lie on a machine next door …")
    await agent.refused(READ, {"url": "http://169.254.169.254/latest/meta-data/"}, "failed")
    agent.reason("Then once more with other words, and again.")
    await agent.call(SEARCH, {**wanted, "query": "gateways"})
    late = await agent.refused(SEARCH, {**wanted, "query": "plugins"}, "rate_limited")
    agent.reason(f"Two searches a minute. I come back in {late.retry_after_s:.0f} s, or make do with what I have.")

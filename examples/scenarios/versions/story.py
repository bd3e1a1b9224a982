"""Two versions side by side: the old one goes on, is announced to end with a warning, and then is gone."""

from agent import Agent, Json

CALLERS = ("new_agent", "old_agent", "librarian", "reviewer")
TOOL = "document/summarize_text"
TEXT = {"text": "Revenue is up by 15 %. Costs are flat. A new market opens in May."}


async def story(agent: Agent) -> None:
    for version, server, result in (("1.0.0", "document", "summary"), ("2.0.0", "document2", "points")):
        await published(agent, contract(version, server, result))
    agent.reason("1 gives a text, 2 a list: what was written for 1 would break, so it asks for 1.")
    old = await agent.call(TOOL, TEXT, version="^1", by="old_agent")
    new = await agent.call(TOOL, TEXT, by="new_agent")
    agent.see("each got what it was written for", (list(old), list(new)) == (["summary"], ["points"]))

    named = {"tool": TOOL, "version": "1.0.0"}
    moving = {"sunset": "2027-06-30", "replaced_by": f"{TOOL}@2", "migration": "`summary` became `points`"}
    await agent.operate("librarian", "registry/deprecate", **named, **moving)
    await agent.call(TOOL, TEXT, version="^1", by="old_agent")
    agent.reason("The warning says what to change. Until then it works.")

    await agent.operate("librarian", "registry/retire", **named)
    gone = await agent.refused(TOOL, TEXT, "gone", version="^1", by="old_agent")
    agent.reason(f"It is gone: code {gone.code}. So I read `points` from now on.")
    await agent.call(TOOL, TEXT, version="^2", by="old_agent")


async def published(agent: Agent, contract: Json) -> None:
    """From a draft to a version in use, by two people."""
    named = {"tool": contract["tool"], "version": contract["version"]}
    await agent.operate("librarian", "registry/publish", contract=contract)
    await agent.operate("librarian", "registry/submit", **named)
    await agent.operate("reviewer", "registry/sign", **named, aspect="security", decision="approved")
    await agent.operate("librarian", "registry/promote", **named)


def contract(version: str, server: str, result: str) -> Json:
    text = {"type": "string", "description": "Plain text"}
    one = {"type": "string"} if result == "summary" else {"type": "array", "items": {"type": "string"}}
    return {
        "tool": TOOL,
        "version": version,
        "served_by": f"{server}/summarize_text",
        "description": f"Picks the sentences of a text that say most; gives back `{result}`. Reads only.",
        "input_schema": {"type": "object", "properties": {"text": text}, "required": ["text"]},
        "output_schema": {"type": "object", "properties": {result: one}, "required": [result]},
        "side_effect": False,
        "idempotent": True,
        "security_scope": "document:read",
        "owner_team": "documents",
        "owner_email": "documents@bascule.test",
        "security_level": "LOW",
        "last_security_review": "2026-11-01",
    }

"""Is the project late, why, and a short warning to its channel: each fact by a tool, the warning by a person's yes."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from agent import Agent
from webhook import Channel, webhook

CALLERS = ("agent", "lead")
FOLDERS = ("communication", "office")
SEND = "communication/send_slack_message"
REPORTS = {
    "report_A.txt": "Project Alpha is delayed because two engineers left in October and nobody has replaced them.",
    "report_B.txt": "Project Alpha is delayed because the integration with the billing system fails in every test.",
    "report_C.txt": "Project Alpha is delayed because the approval of the design took three weeks and not one.",
    "menu.txt": "Soup on Monday, noodles on Tuesday, rice on all other days of the week.",
}
channel = Channel()


@contextlib.asynccontextmanager
async def around(work: Path) -> AsyncIterator[Mapping[str, str]]:
    for name, text in REPORTS.items():
        (work / "office" / name).write_text(text, encoding="utf-8")
    with webhook(channel) as place:
        yield {"SLACK_AT": place}


async def story(agent: Agent) -> None:
    agent.user("Project Alpha có chậm không? Nếu có, tìm 3 lý do chính và báo ngắn gọn cho nhóm trưởng qua Slack.")
    await agent.tools("project/get_status", "document/search_reports", SEND)
    stands = await agent.call("project/get_status", {"project_name": "Project Alpha"})
    agent.reason(f"{stands['status']}, by {stands['delay_days']} days. So: why?")
    wanted = {"query": "Project Alpha delay reasons", "max_results": 3}
    reports = (await agent.call("document/search_reports", wanted))["reports"]
    agent.see(
        "the three reports, and not the menu", sorted(reports) == ["report_A.txt", "report_B.txt", "report_C.txt"]
    )
    reasons = []
    for path in reports:
        said = await agent.call("document/summarize_text", {"path": path, "max_points": 1})
        reasons += said["summary_points"]
    agent.reason("Three sentences of three reports. That they are the main reasons is what I conclude.")

    warning = {
        "text": f"Project Alpha is {stands['delay_days']} days late.\n" + "\n".join(f"- {each}" for each in reasons)
    }
    channel.revoked = True
    key = "alpha-2026-11-21-warning"
    await agent.confirm(SEND, warning, person="lead", note="go ahead", key=key, then="failed")
    agent.reason("The channel does not know our token any more. I cannot mend that; the trace says where to look.")
    channel.revoked = False
    agent.see("the operator has renewed it, and nothing was posted yet", not channel.posts)

    key = "alpha-2026-11-21-warning-2"
    sent = await agent.confirm(SEND, warning, person="lead", note="once more", key=key)
    again = await agent.call(SEND, warning, key=key)
    agent.see("it was posted once", len(channel.posts) == 1 and again["message_id"] == sent["message_id"])

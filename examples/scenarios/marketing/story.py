"""A hundred personal mails: -30001 first, a manager's yes to exactly this call, and not a mail without it."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from agent import Agent
from smtp import Mailbox, mailbox

CALLERS = ("agent", "intern", "manager")
TOOL = "email/send_personalized_batch"
CAMPAIGN = {
    "list_name": "VIP_Leads",
    "subject": "Something new for you",
    "template": "Hello {name}, have a look at what we have made.",
    "expected_recipients": 100,
}

box: Mailbox


@contextlib.asynccontextmanager
async def around(work: Path) -> AsyncIterator[Mapping[str, str]]:
    global box
    async with mailbox() as box:
        yield {"SMTP_PORT": str(box.port)}


async def story(agent: Agent) -> None:
    agent.user("Soạn và gửi thư giới thiệu sản phẩm mới cho 100 khách trong danh sách VIP_Leads.")
    agent.reason("The intern's agent was asked first: for it there is no such tool.")
    await agent.refused(TOOL, CAMPAIGN, "tool_not_found", key="campaign-2026-11-intern", by="intern")

    agent.reason("My caller has the scope email:send:batch. That opens the tool, and not yet the gate.")
    key = "campaign-2026-11-vip"
    asked = await agent.refused(TOOL, CAMPAIGN, "confirmation_required", key=key)
    agent.see(f"the code is {asked.family}, and no mail was sent", (asked.family, len(box.mails)) == (-30001, 0))
    await agent.confirm(TOOL, CAMPAIGN, person="manager", note="text is fine", key=key)
    names = {str(each.get_payload()).split(",")[0] for each in box.mails}
    agent.see("100 mails were sent, each with another name", (len(box.mails), len(names)) == (100, 100))

    agent.reason("The yes was for that call. With another text it is worth nothing.")
    louder = {**CAMPAIGN, "subject": "LAST CHANCE"}
    token = asked.details["confirmation_token"]
    await agent.refused(TOOL, louder, "confirmation_required", key="campaign-2026-11-loud", token=token)
    agent.see("still 100 mails", len(box.mails) == 100)

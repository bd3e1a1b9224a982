"""A mail service that fails with 503 after it has sent: the same key again, and there is one mail."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from agent import Agent
from mail import Mail, serving
from smtp import Mailbox, mailbox

CALLERS = ("agent",)
KEY = "weekly-report-2026-47"
LOST = 4  # answers: those of the gateway's own three tries, and one more

box: Mailbox
mail: Mail


@contextlib.asynccontextmanager
async def around(work: Path) -> AsyncIterator[Mapping[str, str]]:
    global box, mail
    async with mailbox() as box:
        mail = Mail(box.port, LOST)
        with serving(mail) as place:
            yield {"MAIL_AT": place}


async def story(agent: Agent) -> None:
    agent.user("Gửi báo cáo tuần cho toàn bộ ban quản lý qua email.")
    report = {"to": ["ceo@example.com", "cfo@example.com"], "subject": "Week 47", "body": "Revenue is up by 4 %."}
    agent.reason("A mail cannot be called back, so a call needs a key; without one it is refused.")
    await agent.refused("email/send_report", report, "invalid_params")

    agent.reason(f"With the key {KEY}: what may work later I send again, and always under that key.")
    sent = await agent.call("email/send_report", report, key=KEY)
    agent.see(f"the service was tried {mail.tried} times", mail.tried == LOST + 1)
    agent.see("there is one mail in the mailbox", [each["Subject"] for each in box.mails] == ["Week 47"])

    agent.reason("And if somebody asks for it again by mistake, the first answer is what they get.")
    agent.see("the same message id", await agent.call("email/send_report", report, key=KEY) == sent)
    await agent.refused("email/send_report", {**report, "body": "Revenue is down."}, "key_mismatch", key=KEY)
    agent.see("there still is one mail", len(box.mails) == 1)

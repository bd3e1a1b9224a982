"""Personal mails to everybody on a list, by SMTP to 127.0.0.1:$SMTP_PORT."""

import os
import smtplib
from email.message import EmailMessage
from typing import Any

from tiny import Failed, Server

server = Server("email")
LISTS = {"VIP_Leads": [f"lead{number:03}@customer.example" for number in range(100)]}


@server.tool
def send_personalized_batch(list_name: str, subject: str, template: str, expected_recipients: int) -> dict[str, Any]:
    """Mails everybody on a list; {name} in the template is theirs. SIDE EFFECT."""
    people = LISTS.get(list_name, [])
    if len(people) != expected_recipients:
        raise Failed(f"{list_name} has {len(people)} people, not {expected_recipients}. Ask for that many.")
    with smtplib.SMTP("127.0.0.1", int(os.environ["SMTP_PORT"])) as smtp:
        for person in people:
            mail = EmailMessage()
            mail["From"], mail["To"], mail["Subject"] = "hello@example.com", person, subject
            mail.set_content(template.replace("{name}", person.partition("@")[0]))
            smtp.send_message(mail)
    return {"sent": len(people), "campaign_id": "C-0001"}


server.run()

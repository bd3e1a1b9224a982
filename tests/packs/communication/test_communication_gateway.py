"""Messages and projects behind Bascule, within walls: a person is asked first, and the secret stays where it is."""

import json
from pathlib import Path

from gateway import ELICITS, Bascule, Json, gateway

from packs.communication.webhook import SECRET, webhook

META = {"dev.bascule/idempotencyKey": "key-of-a-call-0001"}
ALERT = {"text": "Project Alpha is 7 days late.", "channel": "#alerts"}
TOOL = "communication__send_slack_message"


def served(root: Path, url: str) -> Json:
    settings = {"root": str(root), "webhook_url": url, "channels": ["#alerts"]}
    return {"communication": {"pack": "communication", "settings": settings, "sandbox": "required"}}


async def answered(bascule: Bascule, action: str) -> tuple[str, Json]:
    """(question, result) of the alert, whose gate is answered with *action*."""
    client = await bascule.session(capabilities=ELICITS)
    async with client.open("tools/call", {"name": TOOL, "arguments": ALERT, "_meta": META}) as exchange:
        question = await exchange.next_of("elicitation/create")
        content = {"content": {"confirm": True}} if action == "accept" else {}
        await client.answer(question, {"action": action, **content})
        result: Json = (await exchange.last())["result"]
        return question["params"]["message"], result


async def test_an_alert_is_posted_after_a_yes_and_once(tmp_path: Path) -> None:
    async with webhook() as hook, gateway(served(tmp_path, hook.url)) as bascule:
        await bascule.up("communication")
        status = await bascule.modern().call("project/get_status", project_name="Project Alpha")
        assert status["structuredContent"]["delay_days"] == 7
        question, result = await answered(bascule, "decline")
        assert "7 days late" in question
        assert "#alerts" in question
        assert result["isError"]
        assert hook.posted == []
        _, result = await answered(bascule, "accept")
        assert result["structuredContent"]["status"] == "success"
    assert len(hook.posted) == 1


async def test_a_revoked_webhook_is_explained_and_shown_nowhere(tmp_path: Path) -> None:
    async with webhook(status=401, body="invalid_auth") as hook, gateway(served(tmp_path, hook.url)) as bascule:
        await bascule.up("communication")
        _, result = await answered(bascule, "accept")
        assert "401 invalid_auth" in result["content"][0]["text"]
        told = json.dumps([result, await bascule.status(), await bascule.modern().result("tools/list")])
    assert not any(part in told for part in SECRET.split("/"))

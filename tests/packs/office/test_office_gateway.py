"""Mail, events and reports behind Bascule, within walls: its contracts hold there, and a person is asked first."""

from pathlib import Path

import pytest
from gateway import ELICITS, Bascule, Json, gateway

from packs.smtp import MailServer, mail_server

META = {"dev.bascule/idempotencyKey": "key-of-a-call-0001"}
MAIL: Json = {"to": ["boss@company.test"], "subject": "Q4", "body": "All is well."}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "office"
    found.mkdir()
    return found


def served(root: Path, server: MailServer | None = None) -> Json:
    settings: Json = {"root": str(root)}
    if server is not None:
        settings["smtp"] = server.settings()
    return {"office": {"pack": "office", "settings": settings, "sandbox": "required"}}


async def answered(bascule: Bascule, tool: str, action: str, arguments: Json, meta: Json = META) -> tuple[str, Json]:
    """(question, result) of a call whose gate is answered with *action*; fails if no gate asks."""
    client = await bascule.session(capabilities=ELICITS)
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    async with client.open("tools/call", params) as exchange:
        question = await exchange.next_of("elicitation/create")
        content = {"content": {"confirm": True}} if action == "accept" else {}
        await client.answer(question, {"action": action, **content})
        result: Json = (await exchange.last())["result"]
        return question["params"]["message"], result


async def test_a_mail_is_sent_after_a_yes_that_was_given_to_these_recipients_and_once(
    root: Path, tmp_path: Path
) -> None:
    async with mail_server(tmp_path) as server, gateway(served(root, server)) as bascule:
        await bascule.up("office")
        question, result = await answered(bascule, "email__send", "decline", MAIL)
        assert '"boss@company.test"' in question
        assert '"Q4"' in question
        assert result["isError"]
        assert server.connections == 0
        _, result = await answered(bascule, "email__send", "accept", MAIL)
        assert result["structuredContent"]["status"] == "sent"
        again = {"name": "email/send", "arguments": MAIL}
        async with bascule.modern().open("tools/call", again, meta=META) as exchange:
            replayed = (await exchange.last())["result"]
        assert replayed["structuredContent"] == result["structuredContent"]
    (taken,) = server.taken
    assert taken.secure
    assert taken.recipients == ["boss@company.test"]


async def test_who_cannot_send_keys_sends_a_draft_and_sends_it_once(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server, gateway(served(root, server)) as bascule:
        await bascule.up("office")
        _, result = await answered(bascule, "email/send", "accept", MAIL, {})
        assert result["isError"]
        assert "create a draft" in result["content"][0]["text"]
        assert server.connections == 0
        draft = (await bascule.modern().call("email/create_draft", **MAIL))["structuredContent"]["draft_id"]
        wanted = {"to": MAIL["to"], "subject": MAIL["subject"], "draft_id": draft}
        for status in ("sent", "already_sent"):
            question, result = await answered(bascule, "email/send", "accept", wanted, {})
            assert draft in question
            assert result["structuredContent"]["status"] == status
    assert len(server.taken) == 1


async def test_a_batch_asks_with_its_recipients_and_needs_a_key(root: Path, tmp_path: Path) -> None:
    rows = [{"to": f"lead{number}@leads.test", "name": "x"} for number in range(3)]
    wanted = {"subject": "Hello {name}", "body": "Dear {name}", "rows": rows}
    async with mail_server(tmp_path) as server, gateway(served(root, server)) as bascule:
        await bascule.up("office")
        without = {"name": "email/send_personalized_batch", "arguments": wanted}
        refused = await bascule.modern().ask("tools/call", without)
        assert "idempotency key" in refused["error"]["message"]  # nobody is even asked
        assert server.connections == 0
        question, result = await answered(bascule, "email/send_personalized_batch", "accept", wanted)
        assert "lead2@leads.test" in question
        assert result["structuredContent"]["sent"] == 3
    assert len(server.taken) == 3


async def test_drafts_events_and_reports_ask_nobody_until_something_is_replaced(root: Path) -> None:
    async with gateway(served(root)) as bascule:
        await bascule.up("office")
        client = bascule.modern()
        event = {
            "title": "Review",
            "start": "2026-12-01T09:30",
            "end": "2026-12-01T10:30",
            "time_zone": "Asia/Ho_Chi_Minh",
        }
        report = {"path": "reports/q4.md", "content": "# Q4"}
        for tool, arguments in (
            ("email__create_draft", MAIL),
            ("calendar__create_event", event),
            ("report__write_markdown", report),
            ("report__write_markdown", report),
        ):
            result = await client.call(tool, **arguments)
            assert not result.get("isError"), result
            assert (root / result["structuredContent"]["path"]).is_file()
        another = {**report, "content": "# Another", "overwrite": True}
        question, result = await answered(bascule, "report__write_markdown", "decline", another)
        assert '"reports/q4.md"' in question
        assert result["isError"]
        assert (root / "reports/q4.md").read_text() == "# Q4\n"
        _, result = await answered(bascule, "report__write_markdown", "accept", another)
        assert (root / "reports/q4.md").read_text() == "# Another\n"


async def test_resources_and_prompts_pass_through(root: Path) -> None:
    async with gateway(served(root)) as bascule:
        await bascule.up("office")
        client = bascule.modern()
        listed = (await client.result("resources/list"))["resources"]
        assert "policy://email_format" in str(listed)
        uri = next(each["uri"] for each in listed if "email_format" in each["uri"])
        page = await client.result("resources/read", {"uri": uri})
        assert "required_sections" in page["contents"][0]["text"]
        names = [each["name"] for each in (await client.result("prompts/list"))["prompts"]]
        name = next(each for each in names if each.endswith("draft_email"))
        said = await client.result("prompts/get", {"name": name, "arguments": {"recipient": "Ann", "points": "p"}})
        assert "email/create_draft" in said["messages"][0]["content"]["text"]

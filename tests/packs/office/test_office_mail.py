"""Drafts and mail of the office pack, through its process and a real mail server on loopback."""

import asyncio
import json
import os
import signal
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from packs.promised import check
from packs.smtp import MailServer, mail_server
from packs.talking import Talk, talking

DRAFT = "email__create_draft"
SEND = "email__send"
BATCH = "email__send_personalized_batch"
BOSS = "boss@company.test"
MAIL: dict[str, Any] = {
    "to": [BOSS],
    "subject": "Tóm tắt Báo cáo Q4",
    "body": "- Doanh thu tăng 15%\n- Lợi nhuận 120 tỷ\n",
}


def read(path: Path) -> EmailMessage:
    found = BytesParser(policy=policy.default).parsebytes(path.read_bytes())
    assert isinstance(found, EmailMessage)
    return found


def body_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    said: str = part.get_content()
    return said.replace("\r\n", "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "office"
    found.mkdir()
    return found


# ---- drafts


async def test_a_draft_is_a_file_that_mail_programs_open_for_editing(root: Path) -> None:
    async with talking("office", root=str(root)) as office:
        made = await office.call(DRAFT, **MAIL, cc=["Ann Lee <ann@company.test>"], bcc=["quiet@company.test"])
    check("office", "email/create_draft", made)
    assert made["status"] == "pending_user_review"
    assert made["recipients"] == 3
    path = root / made["path"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    message = read(path)
    assert message["Subject"] == MAIL["subject"]
    assert message["To"] == BOSS
    assert message["Cc"] == "Ann Lee <ann@company.test>"
    assert message["Bcc"] == "quiet@company.test"
    assert message["X-Unsent"] == "1"
    assert body_of(message) == MAIL["body"]
    assert path.read_bytes().isascii()


async def test_a_draft_carries_files_of_the_folder(root: Path) -> None:
    (root / "Báo cáo.pdf").write_bytes(b"%PDF-1.7 \xff\x00")
    async with talking("office", root=str(root)) as office:
        made = await office.call(DRAFT, **MAIL, attachments=["Báo cáo.pdf"])
    (part,) = read(root / made["path"]).iter_attachments()
    assert part.get_filename() == "Báo cáo.pdf"
    assert part.get_content_type() == "application/pdf"
    assert part.get_content() == b"%PDF-1.7 \xff\x00"


async def test_the_same_mail_is_the_same_draft_and_the_same_key_too(root: Path) -> None:
    async with talking("office", root=str(root)) as office:
        first = await office.call(DRAFT, **MAIL)
        assert await office.call(DRAFT, **MAIL) == first
        keyed = await office.call(DRAFT, "key-of-a-call-0001", **MAIL)
        assert keyed["draft_id"] != first["draft_id"]
        assert await office.call(DRAFT, "key-of-a-call-0001", **MAIL) == keyed
        said = await office.refusal(DRAFT, "key-of-a-call-0001", **{**MAIL, "body": "something else"})
    assert "used for something else" in said
    assert len(list((root / "drafts").iterdir())) == 2


async def test_a_mail_that_was_sent_has_another_draft_which_can_be_sent_too(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server, talking("office", root=str(root), smtp=server.settings()) as office:
        sent = []
        for _ in range(3):
            id = (await office.call(DRAFT, **MAIL))["draft_id"]
            assert (await office.call(DRAFT, **MAIL))["draft_id"] == id
            wanted = {"to": MAIL["to"], "subject": MAIL["subject"], "draft_id": id}
            said = [(await office.call(SEND, **wanted))["status"] for _ in range(2)]
            assert said == ["sent", "already_sent"]
            sent.append(id)
    assert len(set(sent)) == len(server.taken) == 3
    assert not list((root / "drafts").iterdir())


async def test_another_attachment_is_another_draft(root: Path) -> None:
    async with talking("office", root=str(root)) as office:
        (root / "a.txt").write_text("one")
        first = await office.call(DRAFT, **MAIL, attachments=["a.txt"])
        (root / "a.txt").write_text("two")
        assert (await office.call(DRAFT, **MAIL, attachments=["a.txt"]))["draft_id"] != first["draft_id"]


async def test_a_draft_that_a_person_has_edited_is_not_written_over(root: Path) -> None:
    async with talking("office", root=str(root)) as office:
        made = await office.call(DRAFT, **MAIL)
        (root / made["path"]).write_text("edited")
        await office.call(DRAFT, **MAIL)
    assert (root / made["path"]).read_text() == "edited"


NO_MAIL: list[Any] = [
    ({"subject": "Hello\r\nBcc: eve@evil.test"}, "subject"),
    ({"subject": "Hello\nX: 1"}, "subject"),
    ({"subject": "Hello\u2028X"}, "subject"),
    ({"subject": "=?utf-8?b?QmNjOiBldmU=?="}, "subject"),
    ({"subject": "pay \u202e001"}, "subject"),
    ({"to": ["boss@company.test\r\nBcc: eve@evil.test"]}, "address"),
    ({"to": ["boss@company.test, eve@evil.test"]}, "address"),
    ({"to": ["Boss\r\nBcc: eve@evil.test <boss@company.test>"]}, "name"),
    ({"to": ["boss"]}, "address"),
    ({"to": ["boss@company"]}, "address"),
    ({"to": ["boss@127.0.0.1"]}, "address"),
    ({"to": ["b oss@company.test"]}, "address"),
    ({"to": ['"x y"@company.test']}, "address"),
    ({"to": ["boss@xn--.test."]}, "address"),
    ({"to": ["sếp@company.test"]}, "address"),
    ({"cc": ["Ann <>"]}, "address"),
    ({"bcc": ["a@b.test>,<eve@evil.test"]}, "address"),
    ({"to": [f"p{number}@company.test" for number in range(21)]}, "20"),
    ({"body": "a\x00b"}, "control"),
    ({"body": "a\x1b[31mb"}, "control"),
    ({"attachments": ["../secret"]}, "not a path below"),
    ({"attachments": ["/etc/passwd"]}, "not a path below"),
    ({"attachments": [".bascule/office.sqlite"]}, "not a path below"),
    ({"attachments": ["missing.pdf"]}, "There is no"),
]


async def test_what_is_no_mail_is_refused_and_leaves_no_file(root: Path) -> None:
    async with talking("office", root=str(root)) as office:
        for change, word in NO_MAIL:
            assert word in await office.refusal(DRAFT, **{**MAIL, **change}), change
    assert not (root / "drafts").exists()


OUTSIDE: list[Any] = [
    {"to": []},
    {"to": "boss@company.test"},
    {"to": ["x" * 401]},
    {"subject": ""},
    {"subject": "x" * 256},
    {"body": "x" * 200_001},
    {"body": ""},
    {"attachments": ["a"] * 11},
    {"from": "eve@evil.test"},
]


async def test_arguments_outside_of_the_schema_are_refused(root: Path) -> None:
    async with talking("office", root=str(root)) as office:
        for change in OUTSIDE:
            await office.refusal(DRAFT, **{**MAIL, **change})
        await office.call(DRAFT, **{**MAIL, "subject": "x" * 255, "body": "x" * 200_000})
    assert len(list((root / "drafts").iterdir())) == 1


# ---- to send one


async def test_a_text_is_sent_over_tls_by_the_user_of_the_settings(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path, users={"office": "geheim wort"}) as server:
        smtp = server.settings(user="office", password="geheim wort")
        async with talking("office", root=str(root), smtp=smtp) as office:
            sent = await office.call(
                SEND, "key-of-a-call-0001", **MAIL, cc=["ann@company.test"], bcc=["q@company.test"]
            )
    assert sent["status"] == "sent"
    assert sent["accepted"] == [BOSS, "ann@company.test", "q@company.test"]
    (taken,) = server.taken
    assert taken.secure
    assert taken.user == "office"
    assert taken.sender == "office@company.test"
    assert taken.recipients == sent["accepted"]
    assert taken.message["From"] == "The Office <office@company.test>"
    assert taken.message["Message-ID"] == sent["message_id"]
    assert taken.message["Subject"] == MAIL["subject"]
    assert "Bcc" not in taken.message
    assert body_of(taken.message) == MAIL["body"]


async def test_tls_from_the_first_byte(root: Path, tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path, implicit=True) as server,
        talking("office", root=str(root), smtp=server.settings(tls="implicit")) as office,
    ):
        await office.call(SEND, "key-of-a-call-0001", **MAIL)
    assert server.taken[0].secure


async def test_one_key_is_one_mail_also_after_a_restart(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        for status in ("sent", "already_sent"):
            async with talking("office", root=str(root), smtp=server.settings()) as office:
                sent = await office.call(SEND, "key-of-a-call-0001", **MAIL)
                assert sent["status"] == status
                assert (await office.call(SEND, "key-of-a-call-0001", **MAIL))["status"] == "already_sent"
                said = await office.refusal(SEND, "key-of-a-call-0001", **{**MAIL, "to": ["eve@company.test"]})
                assert "used for something else" in said
    assert len(server.taken) == 1


async def test_a_draft_is_sent_as_it_was_reviewed_and_filed_away(root: Path, tmp_path: Path) -> None:
    (root / "q4.txt").write_text(".\n.dots\n")
    async with mail_server(tmp_path) as server, talking("office", root=str(root), smtp=server.settings()) as office:
        made = await office.call(DRAFT, **MAIL, bcc=["q@company.test"], attachments=["q4.txt"])
        wanted = {"draft_id": made["draft_id"], "to": [BOSS], "subject": MAIL["subject"], "bcc": ["q@company.test"]}
        sent = await office.call(SEND, **wanted)
        assert sent["status"] == "sent"
        assert (await office.call(SEND, **wanted))["status"] == "already_sent"
        assert "no draft" in await office.refusal(SEND, "another-key-00001", **wanted)
    (taken,) = server.taken
    assert taken.recipients == [BOSS, "q@company.test"]
    assert b"q@company.test" not in taken.content
    assert "X-Unsent" not in taken.message
    assert [part.get_content() for part in taken.message.iter_attachments()] == [".\n.dots\n"]
    assert [each.name for each in (root / "sent").iterdir()] == [f"{made['draft_id']}.eml"]
    assert not list((root / "drafts").iterdir())


NOT_SHOWN: list[Any] = [
    ({"to": ["ann@company.test"]}, "goes to"),
    ({"cc": ["ann@company.test"]}, "goes to"),
    ({"subject": "Another one"}, "subject of the draft"),
    ({"draft_id": "DRAFT-0000000000000000"}, "no draft"),
    ({"body": "and a body"}, "either"),
]


async def test_a_draft_goes_only_to_whom_a_person_was_shown(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server, talking("office", root=str(root), smtp=server.settings()) as office:
        made = await office.call(DRAFT, **MAIL)
        for change, word in NOT_SHOWN:
            wanted = {"draft_id": made["draft_id"], "to": [BOSS], "subject": MAIL["subject"], **change}
            assert word in await office.refusal(SEND, "key-of-a-call-0001", **wanted), change
    assert server.taken == []


NO_DRAFTS: list[Any] = [
    "To: boss@company.test\nSubject: Hi\nBcc: eve@evil.test",
    "To: boss@company.test\nSubject: Hi\nResent-To: eve@evil.test",
    "To: boss@company.test\nTo: eve@evil.test\nSubject: Hi",
    "To: boss@company.test, eve@evil.test\nSubject: Hi",
    "To: =?utf-8?q?boss=40company=2Etest=2C?= eve@evil.test\nSubject: Hi",
    "To: boss@company.test\rBcc: eve@evil.test\nSubject: Hi",
    "To: boss@company.test\nSubject: Hi\n folded\x00",
    "Subject: Hi",
    "",
]


async def test_a_file_in_the_place_of_a_draft_is_not_believed(root: Path, tmp_path: Path) -> None:
    (root / "drafts").mkdir()
    async with mail_server(tmp_path) as server, talking("office", root=str(root), smtp=server.settings()) as office:
        wanted = {"draft_id": "DRAFT-0123456789abcdef", "to": [BOSS], "subject": "Hi"}
        for head in NO_DRAFTS:
            (root / "drafts/DRAFT-0123456789abcdef.eml").write_text(f"{head}\n\nHello\n", newline="")
            await office.refusal(SEND, "key-of-a-call-0001", **wanted)
        assert server.connections == 0
        (root / "drafts/DRAFT-0123456789abcdef.eml").write_text("To: boss@company.test\nSubject: Hi\n\nHello\n")
        assert (await office.call(SEND, "key-of-a-call-0001", **wanted))["status"] == "sent"


async def test_without_a_mail_server_it_says_which_setting_is_missing(root: Path) -> None:
    async with talking("office", root=str(root)) as office:
        assert "`smtp`" in await office.refusal(SEND, "key-of-a-call-0001", **MAIL)
        assert "`smtp`" in await office.refusal(BATCH, "key-of-a-call-0001", subject="x", body="y", rows=[{"to": BOSS}])


async def test_a_text_without_a_key_is_not_sent(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server, talking("office", root=str(root), smtp=server.settings()) as office:
        assert "idempotency key" in await office.refusal(SEND, **MAIL)
    assert server.connections == 0


async def test_mail_goes_only_where_the_settings_allow(root: Path, tmp_path: Path) -> None:
    allowed = ["*@company.test", "*@*.company.test", "ann@partner.test"]
    async with mail_server(tmp_path) as server:
        settings = {"root": str(root), "smtp": server.settings(), "allowed_recipients": allowed}
        async with talking("office", **settings) as office:
            for number, to in enumerate([BOSS, "x@a.b.company.test", "Ann <ANN@Partner.test>"]):
                await office.call(SEND, f"key-of-a-call-000{number}", **{**MAIL, "to": [to]})
            for to in ("eve@evil.test", "bob@partner.test", "a@evilcompany.test", "a@company.test.evil.test"):
                said = await office.refusal(SEND, "key-of-a-call-1000", **{**MAIL, "to": [BOSS], "bcc": [to]})
                assert "may not be sent" in said
    assert len(server.taken) == 3


# ---- when it goes wrong


async def test_refused_recipients_are_told_and_the_others_get_it(root: Path, tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path, refused={"gone@company.test"}) as server,
        talking("office", root=str(root), smtp=server.settings()) as office,
    ):
        sent = await office.call(SEND, "key-of-a-call-0001", **{**MAIL, "to": [BOSS, "gone@company.test"]})
        check("office", "email/send", sent)
        assert sent["status"] == "partly_sent"
        assert sent["accepted"] == [BOSS]
        assert sent["refused"] == [{"address": "gone@company.test", "reason": "550 5.1.1 no such person"}]
        said = await office.refusal(SEND, "key-of-a-call-0002", **{**MAIL, "to": ["gone@company.test"]})
        assert said.startswith("Nothing was sent")
        assert "no such person" in said
    assert len(server.taken) == 1


async def test_a_server_that_is_not_there_means_that_nothing_was_sent(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        smtp = server.settings()
    async with talking("office", root=str(root), smtp=smtp) as office:
        assert (await office.refusal(SEND, "key-of-a-call-0001", **MAIL)).startswith("Nothing was sent")
    # what was surely not sent may be asked for again with the same key
    async with mail_server(tmp_path) as server, talking("office", root=str(root), smtp=server.settings()) as office:
        assert (await office.call(SEND, "key-of-a-call-0001", **MAIL))["status"] == "sent"
    assert len(server.taken) == 1


@pytest.mark.parametrize("place", ["greeting", "mail", "data", "content"])
async def test_what_breaks_before_the_end_is_surely_not_sent(root: Path, tmp_path: Path, place: str) -> None:
    async with (
        mail_server(tmp_path, break_at=place) as server,
        talking("office", root=str(root), smtp=server.settings()) as office,
    ):
        # Its last lines may be under way when the server goes: then nobody can know, and the key is spent.
        said = await office.refusal(SEND, "key-of-a-call-0001", **MAIL)
        if place == "content" and "not known" in said:
            return
        assert said.startswith("Nothing was sent")
        assert (await office.call(SEND, "key-of-a-call-0001", **MAIL))["status"] == "sent"
    assert len(server.taken) == 1


async def test_an_unknown_outcome_is_said_and_never_tried_again_by_itself(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path, break_at="end") as server:
        for _ in range(2):
            async with talking("office", root=str(root), smtp=server.settings()) as office:
                said = await office.refusal(SEND, "key-of-a-call-0001", **MAIL)
                assert "It is not known whether the mail was sent" in said
                assert str(server.taken[0].message["Message-ID"]) in said
        assert len(server.taken) == 1
        async with talking("office", root=str(root), smtp=server.settings()) as office:
            assert (await office.call(SEND, "key-of-a-call-0002", **MAIL))["status"] == "sent"
    assert len(server.taken) == 2


async def test_a_process_that_dies_while_it_sends_does_not_send_again(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        held = asyncio.Event()

        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(never, "127.0.0.1", 0) as silent:
            smtp = server.settings(port=silent.sockets[0].getsockname()[1])
            async with talking("office", root=str(root), smtp=smtp) as office:
                call = asyncio.ensure_future(office.try_call(SEND, "key-of-a-call-0001", **MAIL))
                await asyncio.wait_for(held.wait(), 10)
                office.process.send_signal(signal.SIGKILL)
                with pytest.raises(json.JSONDecodeError):
                    await call
        async with talking("office", root=str(root), smtp=server.settings()) as office:
            assert "It is not known" in await office.refusal(SEND, "key-of-a-call-0001", **MAIL)
    assert server.taken == []


async def test_two_calls_with_one_key_at_once_are_one_mail(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server, talking("office", root=str(root), smtp=server.settings()) as office:
        answers = await both(office, ("key-of-a-call-0001",) * 2, MAIL)
    said = sorted(answer["content"][0]["text"][:40] for answer in answers)
    assert len(server.taken) == 1
    assert any('"sent"' in each for each in said)
    assert any("right now" in each or "already_sent" in each for each in map(str, answers))


async def test_a_draft_is_sent_once_also_by_two_calls_at_once_with_keys_of_their_own(
    root: Path, tmp_path: Path
) -> None:
    async with mail_server(tmp_path) as server, talking("office", root=str(root), smtp=server.settings()) as office:
        made = await office.call(DRAFT, **MAIL)
        wanted = {"draft_id": made["draft_id"], "to": [BOSS], "subject": MAIL["subject"]}
        answers = await both(office, ("key-of-a-call-0001", "key-of-a-call-0002"), wanted)
    assert len(server.taken) == 1
    assert "no draft" in str(answers)


async def both(office: Talk, keys: tuple[str, str], arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to two calls of `email/send` that are sent in one go."""
    assert office.process.stdin is not None
    assert office.process.stdout is not None
    for id, key in enumerate(keys, start=101):
        params = {"name": SEND, "arguments": arguments, "_meta": {"dev.bascule/idempotencyKey": key}}
        message = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}
        office.process.stdin.write(json.dumps(message).encode() + b"\n")
    async with asyncio.timeout(20):
        return [json.loads(await office.process.stdout.readline())["result"] for _ in range(2)]


@pytest.mark.parametrize(
    ("server_is", "settings", "word"),
    [
        ({}, {"ca_file": None}, "certificate"),
        ({}, {"host": "localhost"}, "certificate"),
        ({"starttls": False}, {}, "does not offer"),
        ({"users": {"office": "right"}}, {"user": "office", "password": "wr0ng-s3cret"}, "user and password"),
        ({}, {"user": "office", "password": "wr0ng-s3cret"}, "does not offer"),
        ({}, {"tls": "implicit"}, "speaks no TLS"),
        ({"refuse_data": "451 later"}, {}, "451 later"),
        ({"refuse_content": "554 spam \x1b[31m"}, {}, "554 spam"),
    ],
)
async def test_what_is_wrong_with_the_server_is_said_in_a_sentence(
    root: Path, tmp_path: Path, server_is: dict[str, Any], settings: dict[str, Any], word: str
) -> None:
    async with mail_server(tmp_path, **server_is) as server:
        smtp = {name: value for name, value in server.settings(**settings).items() if value is not None}
        async with talking("office", root=str(root), smtp=smtp) as office:
            said = await office.refusal(SEND, "key-of-a-call-0001", **MAIL)
    assert said.startswith("Nothing was sent")
    assert word in said
    assert "s3cret" not in said
    assert said.isprintable()
    assert server.taken == []


# ---- to send many


def rows(count: int) -> list[dict[str, str]]:
    return [{"to": f"lead{number}@leads.test", "name": f"Lead {number}"} for number in range(count)]


async def test_a_hundred_leads_get_a_mail_of_their_own_once(root: Path, tmp_path: Path) -> None:
    wanted = {"subject": "Hello {name}", "body": "Dear {name},\nnew: {{it}}.\n", "rows": rows(100)}
    async with (
        mail_server(tmp_path, refused={"lead7@leads.test"}) as server,
        talking("office", root=str(root), smtp=server.settings()) as office,
    ):
        sent = await office.call(BATCH, "key-of-a-batch-001", **wanted)
        assert (sent["status"], sent["sent"]) == ("partly_sent", 99)
        assert sent["results"][7]["status"] == "not_sent"
        server.refused.clear()
        again = await office.call(BATCH, "key-of-a-batch-001", **wanted)
        assert (again["status"], again["sent"]) == ("sent", 100)
        assert [each["status"] for each in again["results"]].count("already_sent") == 99
    assert len(server.taken) == 100
    assert server.connections <= 3
    by = {taken.recipients[0]: taken.message for taken in server.taken}
    assert by["lead42@leads.test"]["Subject"] == "Hello Lead 42"
    assert body_of(by["lead42@leads.test"]) == "Dear Lead 42,\nnew: {it}.\n"
    assert len({taken.message["Message-ID"] for taken in server.taken}) == 100


NO_BATCHES: list[Any] = [
    ({"rows": [{"to": BOSS}]}, "no value for name"),
    ({"rows": [{"to": BOSS, "name": "x", "other": "y"}]}, "no {other}"),
    ({"rows": [{"to": BOSS, "name": "a\r\nBcc: eve@evil.test"}]}, "row 1"),
    ({"rows": [{"to": "nobody", "name": "a"}]}, "row 1"),
    ({"rows": [{"to": BOSS, "name": "a"}, {"to": "BOSS@company.test", "name": "b"}]}, "twice"),
    ({"rows": rows(101)}, "more than the 100"),
    ({"body": "{Name"}, "brace"),
    ({"body": "a } b"}, "brace"),
    ({"body": "{name.__class__}"}, "brace"),
    ({"rows": [{"to": "eve@evil.test", "name": "a"}]}, "may not be sent"),
]


async def test_a_batch_that_does_not_go_is_refused_before_anything_is_sent(root: Path, tmp_path: Path) -> None:
    allowed = ["*@leads.test", "*@company.test"]
    async with mail_server(tmp_path) as server:
        settings = {"root": str(root), "smtp": server.settings(), "allowed_recipients": allowed}
        async with talking("office", **settings) as office:
            for change, word in NO_BATCHES:
                wanted = {"subject": "Hello {name}", "body": "Dear {name}", "rows": rows(3), **change}
                assert word in await office.refusal(BATCH, "key-of-a-batch-001", **wanted), change
    assert server.connections == 0


async def test_a_batch_goes_on_after_a_broken_connection_and_says_whose_mail_is_unknown(
    root: Path, tmp_path: Path
) -> None:
    wanted = {"subject": "Hello {name}", "body": "Dear {name}", "rows": rows(4)}
    async with (
        mail_server(tmp_path, break_at="end") as server,
        talking("office", root=str(root), smtp=server.settings()) as office,
    ):
        sent = await office.call(BATCH, "key-of-a-batch-001", **wanted)
        assert [each["status"] for each in sent["results"]] == ["unknown", "sent", "sent", "sent"]
        again = await office.call(BATCH, "key-of-a-batch-001", **wanted)
        check("office", "email/send_personalized_batch", again)
        assert [each["status"] for each in again["results"]] == ["unknown", *["already_sent"] * 3]
    assert len(server.taken) == 4


async def test_a_batch_without_a_server_sends_nothing_and_says_so(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        smtp = server.settings()
    async with talking("office", root=str(root), smtp=smtp) as office:
        said = await office.refusal(BATCH, "key-of-a-batch-001", subject="x", body="y", rows=rows(3))
    assert said.startswith("Nothing was sent")


# ---- what is kept, and settings


async def test_what_was_sent_is_kept_where_only_the_user_looks_and_no_model(root: Path, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server, talking("office", root=str(root), smtp=server.settings()) as office:
        await office.call(SEND, "key-of-a-call-0001", **MAIL)
        assert "not a path below" in await office.refusal(
            "report__write_markdown", path=".bascule/x.md", content="x", overwrite=True
        )
    assert stat.S_IMODE((root / ".bascule").stat().st_mode) == 0o700
    assert stat.S_IMODE((root / ".bascule/office.sqlite").stat().st_mode) == 0o600
    with sqlite3.connect(root / ".bascule/office.sqlite") as base:
        assert "Doanh thu" not in str(base.execute("SELECT * FROM deeds").fetchall())  # a digest of what was asked for


async def test_a_record_that_is_a_link_to_elsewhere_is_not_used(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / ".bascule").symlink_to(tmp_path / "elsewhere")
    async with talking("office", root=str(root)) as office:
        assert await asyncio.wait_for(office.process.wait(), 20) == 2
    assert os.listdir(tmp_path / "elsewhere") == []


@contextmanager
def refused_setting(field: str) -> Iterator[None]:
    from bascule.errors import ConfigInvalid

    with pytest.raises(ConfigInvalid) as caught:
        yield
    assert caught.value.field == f"settings.{field}"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sender": "office"}, "smtp.sender"),
        ({"user": "office"}, "smtp.user"),
        ({"password": "s3cret"}, "smtp.user"),
        ({"user": "o", "password": "s3cret", "tls": "none", "host": "mail.company.test"}, "smtp.tls"),
        ({"host": ""}, "smtp.host"),
        ({"user": "o", "password": "s3cret\r\n"}, "smtp.password"),
        ({"port": 0}, "smtp.port"),
        ({"tls": "perhaps"}, "smtp.tls"),
    ],
)
def test_settings_that_do_not_go_are_named(change: dict[str, Any], field: str) -> None:
    from bascule.packs import catalog

    smtp = {"host": "127.0.0.1", "sender": "office@company.test", **change}
    with refused_setting(field):
        catalog.options_of("office", {"root": "/srv/office", "smtp": smtp})


def test_patterns_and_what_the_process_may_reach() -> None:
    from bascule.packs import catalog

    for pattern in ("company.test", "*", "*company.test", "a?@company.test", "[a-z]@company.test", "a@b@c.test"):
        with refused_setting("allowed_recipients.0"):
            catalog.options_of("office", {"root": "/srv/office", "allowed_recipients": [pattern]})
    alone = catalog.options_of("office", {"root": "/srv/office"})
    assert alone.sandbox().network == "none"
    smtp = {"host": "mail.company.test", "sender": "o@company.test", "port": 465, "ca_file": "/etc/ca.pem"}
    sending = catalog.options_of("office", {"root": "/srv/office", "smtp": {**smtp, "user": "o", "password": "s3cret"}})
    assert sending.sandbox().network == (465,)
    assert sending.sandbox().write == ("/srv/office",)
    assert sending.sandbox().read == ("/etc/ca.pem",)
    assert sending.deduplicates
    assert "s3cret" not in repr(sending)


async def test_the_server_is_one_that_really_breaks(tmp_path: Path) -> None:
    """The fixture itself: a reader of the tests above relies on it."""
    async with mail_server(tmp_path, break_at="greeting") as server:
        assert isinstance(server, MailServer)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.read() == b""
        writer.close()

"""Messages of the communication pack, through its process and a real webhook on loopback."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.errors import ConfigInvalid
from bascule.packs import catalog
from bascule.packs.communication.message import check_answer, escaped
from bascule.packs.pack import ToolFailed
from packs.communication.webhook import SECRET, webhook
from packs.promised import check
from packs.talking import talking

SEND = "send_slack_message"
KEY = "key-of-a-call-0001"
ALERT = "Project Alpha is 7 days late."


def is_secret(text: str) -> bool:
    return any(part in text for part in (*SECRET.split("/"), "127.0.0.1", "/services/"))


async def test_a_message_is_posted_with_its_parts(tmp_path: Path) -> None:
    blocks = [{"type": "header", "text": "Late"}, {"type": "divider"}, {"type": "section", "text": "1. *people*"}]
    async with webhook() as hook:
        settings = {"root": str(tmp_path), "webhook_url": hook.url, "channels": ["#alerts"]}
        async with talking("communication", **settings) as team:
            sent = await team.call(SEND, KEY, text=ALERT, channel="#alerts", blocks=blocks)
    check("communication", "communication/send_slack_message", sent)
    assert sent["status"] == "success"
    assert sent["message_id"].startswith("SLK-")
    assert sent["channel"] == "#alerts"
    assert hook.posted == [
        {
            "text": ALERT,
            "channel": "#alerts",
            "blocks": [
                {"type": "header", "text": {"type": "plain_text", "text": "Late"}},
                {"type": "divider"},
                {"type": "section", "text": {"type": "mrkdwn", "text": "1. *people*"}},
            ],
        }
    ]


async def test_one_key_is_one_message_also_after_a_restart(tmp_path: Path) -> None:
    async with webhook() as hook:
        for status in ("success", "already_sent"):
            async with talking("communication", root=str(tmp_path), webhook_url=hook.url) as team:
                assert (await team.call(SEND, KEY, text=ALERT))["status"] == status
                assert (await team.call(SEND, KEY, text=ALERT))["status"] == "already_sent"
                assert "used for something else" in await team.refusal(SEND, KEY, text="another")
        assert len(hook.posted) == 1
        async with talking("communication", webhook_url=hook.url) as team:
            assert (await team.call(SEND, KEY, text=ALERT))["status"] == "success"
            assert (await team.call(SEND, KEY, text=ALERT))["status"] == "already_sent"
            await team.call(SEND, text=ALERT)
            await team.call(SEND, text=ALERT)
    assert len(hook.posted) == 4


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, "invalid_payload", ["400 invalid_payload"]),
        (401, "invalid_auth", ["401 invalid_auth", "webhook_url", "revoked", "channel"]),
        (403, "action_prohibited", ["403 action_prohibited", "webhook_url"]),
        (404, "no_service", ["404 no_service", "new webhook"]),
        (410, "channel_is_archived", ["410 channel_is_archived"]),
        (413, "", ["413"]),
        (400, "\x1b[31m<script>", ["(400)"]),
        (400, "secrettoken", ["(400)"]),
        (400, "x" * 5000, ["(400)"]),
        (200, '{"ok": false, "error": "invalid_auth"}', ["does not take"]),
        (302, "", ["redirects"]),
    ],
)
async def test_a_service_that_says_no_means_that_nothing_was_posted(
    tmp_path: Path, status: int, body: str, words: list[str]
) -> None:
    headers = {"location": "http://127.0.0.1:1/"} if status == 302 else {}
    async with (
        webhook(status=status, body=body, headers=headers) as hook,
        talking("communication", root=str(tmp_path), webhook_url=hook.url) as team,
    ):
        said = await team.refusal(SEND, KEY, text=ALERT)
        assert said.startswith("Nothing was posted")
        assert all(word in said for word in words), said
        assert not is_secret(said)
        assert said.isprintable()
        hook.status, hook.body = 200, "ok"
        assert (await team.call(SEND, KEY, text=ALERT))["status"] == "success"


@pytest.mark.parametrize(
    ("retry_after", "word"),
    [("30", "in 30 seconds"), ("", "in a minute"), ("soon", "in a minute"), ("9" * 6, "minute")],
)
async def test_a_service_that_has_enough_says_when_to_come_back(tmp_path: Path, retry_after: str, word: str) -> None:
    async with (
        webhook(status=429, body="rate_limited", headers={"retry-after": retry_after}) as hook,
        talking("communication", root=str(tmp_path), webhook_url=hook.url) as team,
    ):
        said = await team.refusal(SEND, KEY, text=ALERT)
    assert "429 rate_limited" in said
    assert word in said


async def test_an_unknown_outcome_is_said_and_never_tried_again_by_itself(tmp_path: Path) -> None:
    async with webhook(hangs_up=True) as hook:
        for _ in range(2):
            async with talking("communication", root=str(tmp_path), webhook_url=hook.url) as team:
                said = await team.refusal(SEND, KEY, text=ALERT)
                assert "It is not known whether the message was posted" in said
                assert not is_secret(said)
        hook.hangs_up, hook.status = False, 500
        async with talking("communication", root=str(tmp_path), webhook_url=hook.url) as team:
            assert "the service failed (500)" in (await team.refusal(SEND, "another-key-00001", text=ALERT)).replace(
                " ok)", ")"
            )
    assert len(hook.posted) == 2


async def test_a_service_that_is_not_there_means_that_nothing_was_posted(tmp_path: Path) -> None:
    async with webhook() as hook:
        url = hook.url
    async with talking("communication", root=str(tmp_path), webhook_url=url) as team:
        said = await team.refusal(SEND, KEY, text=ALERT)
        assert said.startswith("Nothing was posted: the service cannot be reached")
        assert not is_secret(said)
        assert await team.refusal(SEND, KEY, text=ALERT) == said


async def test_a_service_that_never_answers_is_left_after_the_timeout(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/services/{SECRET}"
        async with talking("communication", root=str(tmp_path), webhook_url=url, timeout_s=1.0) as team:
            assert "It is not known" in await team.refusal(SEND, KEY, text=ALERT)


async def test_a_channel_is_one_of_the_settings_or_the_webhooks_own(tmp_path: Path) -> None:
    async with webhook() as hook:
        async with talking("communication", root=str(tmp_path), webhook_url=hook.url) as team:
            assert "Leave channel out" in await team.refusal(SEND, KEY, text=ALERT, channel="#general")
        settings = {"root": str(tmp_path), "webhook_url": hook.url, "channels": ["#alerts"]}
        async with talking("communication", **settings) as team:
            assert "#alerts" in await team.refusal(SEND, KEY, text=ALERT, channel="#general")
    assert hook.posted == []


NO_MESSAGES: list[Any] = [
    {"text": ""},
    {"text": "   "},
    {"text": "x" * 4001},
    {"text": "a\x00b"},
    {"text": "a\u202eb"},
    {"channel": "#a b"},
    {"channel": "<!channel>"},
    {"blocks": [{"type": "divider"}] * 21},
    {"blocks": [{"type": "image", "text": "x"}]},
    {"blocks": [{"type": "header", "text": "x" * 151}]},
    {"blocks": [{"type": "section", "text": "&" * 601}]},
    {"blocks": [{"type": "section"}]},
    {"blocks": [{"type": "section", "text": "x", "accessory": {}}]},
    {"webhook_url": "http://127.0.0.1/"},
]


async def test_what_is_no_message_is_refused(tmp_path: Path) -> None:
    async with webhook() as hook, talking("communication", root=str(tmp_path), webhook_url=hook.url) as team:
        for change in NO_MESSAGES:
            await team.refusal(SEND, KEY, **{"text": ALERT, **change})
        assert hook.posted == []
        await team.call(SEND, KEY, text="x" * 4000, blocks=[{"type": "header", "text": "x" * 150}] * 20)
    assert len(hook.posted) == 1


async def test_without_a_webhook_it_says_which_setting_is_missing() -> None:
    async with talking("communication") as team:
        assert "`webhook_url`" in await team.refusal(SEND, KEY, text=ALERT)


# ---- settings


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://hooks.slack.test/x",
            "https://u:s3cret@hooks.slack.test/x",
            "ftp://hooks.slack.test",
            "https://",
            "x",
        ),
        *("https://169.254.169.254.nip/\\x", "https://2130706433/s3cret", "https://hooks.slack.test:22/s3cret"),
    ],
)
def test_a_webhook_that_does_not_go_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        catalog.options_of("communication", {"webhook_url": url})
    assert caught.value.field == "settings.webhook_url"
    assert "s3cret" not in str(caught.value)


def test_what_the_process_may_reach() -> None:
    options = catalog.options_of("communication", {"webhook_url": f"https://hooks.slack.test/services/{SECRET}"})
    assert options.sandbox().network == (443,)
    assert not options.deduplicates
    assert not is_secret(repr(options))
    options = catalog.options_of("communication", {"root": "/srv/team"})
    assert (options.sandbox().network, options.sandbox().write) == ("none", ("/srv/team",))
    assert options.deduplicates
    for settings, field in (({"projects": "p.yaml"}, "root"), ({"channels": ["a b"]}, "channels.0")):
        with pytest.raises(ConfigInvalid) as caught:
            catalog.options_of("communication", settings)
        assert caught.value.field == f"settings.{field}"


# ---- the words


@given(st.text())
def test_no_text_becomes_a_command(text: str) -> None:
    try:
        found = escaped(text)
    except ToolFailed:
        return
    assert "<" not in found
    assert ">" not in found
    assert found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text


@given(st.integers(100, 599), st.dictionaries(st.just("retry-after"), st.text()), st.binary(max_size=300))
def test_every_answer_means_something(status: int, headers: dict[str, str], body: bytes) -> None:
    said = outcome_of(status, headers, body)
    if 200 <= status < 300 and said == "":
        return
    assert said.startswith("Nothing was posted" if status < 500 else "It is not known")
    assert said.isprintable()


def outcome_of(status: int, headers: dict[str, str], body: bytes) -> str:
    """What is said of an answer; "" if the message was posted."""
    try:
        check_answer(status, headers, body, SECRET)
    except ToolFailed as error:
        return str(error)
    return ""

"""The page of one tool: what holds for it, and trying it through the same door as everybody."""

import asyncio
import json
import re
import shlex
import shutil
import sys
from html import unescape

import pytest
from axe import faults
from gateway import Json, local, until
from playwright.async_api import Browser, expect
from shopping import AGENT, CALLERS, CONTRACTS, ENVIRON, call, shop, stocked
from visiting import NARROW, Visitor, at_console

CREATE = "/tools/crm/create_lead?tab=try"
SEARCH = "/tools/crm/search_leads?tab=try"
TWO_VERSIONS = [
    {"tool": "crm/search_leads", "version": "1.0.0", "side_effect": False},
    {
        "tool": "crm/search_leads",
        "version": "2.0.0",
        "side_effect": False,
        "input_schema": {"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]},
    },
]


def code(html: str, label: str) -> str:
    """What the button *label* copies."""
    buttons = re.findall(r'data-copy="([^"]*)"[^>]*>(.*?)</button>', html, re.DOTALL)
    return next(unescape(text) for text, inside in buttons if f"<span>{label}</span>" in inside)


async def output_of(*command: str, environ: dict[str, str] | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environ
    )
    async with asyncio.timeout(20):
        out, wrong = await process.communicate()
    assert process.returncode == 0, wrong.decode()
    return out.decode()


def number_of(html: str) -> int:
    """Of which number the call was at its server."""
    found = re.search(r"&#34;number&#34;: (\d+)", html)
    assert found, html[-3000:]
    return int(found[1])


async def shown(at: Visitor, path: str, wanted: str) -> str:
    """The text of a page once it says *wanted*: the audit is written behind."""

    async def text() -> str:
        return (await at.get(path)).text

    found: str = await until(text, lambda said: wanted in said)
    return found


# ---- looking


async def test_the_contract_says_of_each_field_who_says_so() -> None:
    async with at_console({"crm": shop()}, role="viewer", contracts=CONTRACTS) as at:
        await stocked(at)
        text = (await at.get("/tools/crm/search_leads?tab=contract")).text
        assert re.search(r"owner_team sales \S*bascule\.json: contracts\.1", text)
        assert "idempotent no default" in text
        assert "newsletter" in (await at.get("/tools/crm/create_lead?tab=contract")).text


async def test_versions_are_shown_with_what_changed_between_them() -> None:
    async with at_console({"crm": shop()}, contracts=TWO_VERSIONS) as at:
        await stocked(at)
        text = (await at.get("/tools/crm/search_leads?tab=versions")).text
        assert "2.0.0 active 100 % of the callers" in text
        assert "1.0.0 → 2.0.0" in text
        assert "MAJOR input_schema `query` was taken, and is no longer" in text


async def test_last_calls_and_the_definition_are_there() -> None:
    async with at_console({"crm": shop()}, contracts=CONTRACTS) as at:
        await stocked(at)
        await at.bascule.modern().call("crm__search_leads", query="Ada")
        await at.bascule.modern().call("crm__search_leads", wrong=1)
        text = await shown(at, "/tools/crm/search_leads?tab=calls", "invalid argument")
        assert "anonymous answered" in text
        assert "Promises (SLO)" in (await at.get("/tools/crm/search_leads")).text
        history = (await at.get("/tools/crm/search_leads?tab=definition")).text
        assert "approved" in history


async def test_what_there_is_not_is_not_found() -> None:
    async with at_console({"crm": shop()}) as at:
        await stocked(at)
        for path in (
            "/tools/crm/none",
            "/tools/none/x",
            "/tools/crm/create_lead?tab=none",
            "/tools/x%2F..%2Fy",
            "/tools/",
        ):
            assert (await at.get(path)).status == 404, path
        assert (await at.post("/tools/crm/none")).status == 404


# ---- trying


async def test_a_tool_that_reads_is_tried_and_its_answer_shown() -> None:
    async with at_console({"crm": shop()}, contracts=CONTRACTS) as at:
        await stocked(at)
        reply = await at.post(SEARCH, {"arg:/query": "Ada <b>", "arg:/most": "3"})
        assert reply.status == 200
        assert "It answered." in reply.text
        assert "Version 1.0.0 from crm" in reply.text
        assert "Ada &lt;b&gt;" in reply.html
        assert 'value="Ada &lt;b&gt;"' in reply.html  # the form keeps what was written


async def test_the_call_is_in_the_audit_under_the_name_of_who_tried_it() -> None:
    async with at_console({"crm": shop()}, name="ada", contracts=CONTRACTS) as at:
        await stocked(at)
        await at.post(SEARCH, {"arg:/query": "x"})
        await shown(at, "/tools/crm/search_leads?tab=calls", "ada answered")


async def test_mistakes_are_shown_at_their_fields_in_words() -> None:
    async with at_console({"crm": shop()}, contracts=CONTRACTS) as at:
        await stocked(at)
        here = await at.post(SEARCH, {"arg:/query": "", "arg:/most": "many"})
        assert here.status == 422
        assert "query is required" in here.text
        assert "most must be a whole number, such as 3" in here.text
        # What only the schema knows, the call itself says.
        there = await at.post(SEARCH, {"arg:/query": "x", "arg:/most": "0"})
        assert "most must be at least 1" in there.text
        assert 'aria-invalid="true"' in there.html
        nested = {
            "arg:/name": "Ada",
            "arg:/source": '"web"',
            "arg:/address/city": "Bern",
            "arg:/address/zip": "x",
            "sure": "1",
        }
        inside = await at.post(CREATE, nested)
        assert re.search(r'name="arg:/address/zip"[^>]*aria-invalid="true"', inside.html)


async def test_all_kinds_of_fields_arrive_as_the_schema_wants_them() -> None:
    async with at_console({"crm": shop()}, contracts=CONTRACTS) as at:
        await stocked(at)
        said = {
            "arg:/name": "Ada",
            "arg:/source": '"web"',
            "arg:/score": "7",
            "arg:/budget_usd": "1.5",
            "arg:/newsletter": "true",
            "arg:/since": "2026-11-20",
            "arg:/tags": "a\r\nb c",
            "arg:/channels": '"mail"',
            "arg:/address/city": "Bern",
            "arg:/extra": '{"deep": [1, null]}',
            "sure": "1",
        }
        reply = await at.post(CREATE, said)
        shown = re.search(r"<h3>As data</h3><pre[^>]*>(.*?)</pre>", reply.html, re.DOTALL)
        assert shown, reply.text
        assert json.loads(unescape(shown[1]))["arguments"] == {
            "name": "Ada",
            "source": "web",
            "score": 7,
            "budget_usd": 1.5,
            "newsletter": True,
            "since": "2026-11-20",
            "tags": ["a", "b c"],
            "channels": ["mail"],
            "address": {"city": "Bern"},
            "extra": {"deep": [1, None]},
        }


async def test_what_changes_something_needs_a_tick_and_is_done_once_under_its_key() -> None:
    async with at_console({"crm": shop()}, contracts=CONTRACTS) as at:
        await stocked(at)
        said = {"arg:/name": "Ada", "arg:/source": '"web"', "key": "try-0123456789abcdef"}
        without = await at.post(CREATE, said)
        assert without.status == 422
        assert "Tick it" in without.text
        first = await at.post(CREATE, {**said, "sure": "1"})
        assert number_of(first.html) == 1
        assert "Idempotency key try-0123456789abcdef" in first.text
        again = await at.post(CREATE, {**said, "sure": "1"})  # as when somebody loads the page again
        assert number_of(again.html) == 1
        assert "Replayed yes" in again.text
        assert 'name="key" value="try-0123456789abcdef"' not in again.html  # the next one is another call


async def test_arguments_can_be_written_as_json_and_go_back_into_the_form() -> None:
    async with at_console({"crm": shop()}, contracts=CONTRACTS) as at:
        await stocked(at)
        as_json = await at.post(CREATE, {"do": "json", "arg:/name": "Ada", "arg:/tags": "a\r\nb"})
        assert '"tags": [' in unescape(as_json.html)
        back = await at.post(CREATE, {"do": "form", "as": "json", "json": '{"name": "Grace", "tags": ["x"]}'})
        assert 'value="Grace"' in back.html
        stays = await at.post(CREATE, {"do": "form", "as": "json", "json": '{"unknown": 1}'})
        assert "can only be said in JSON" in stays.text
        wrong = await at.post(CREATE, {"as": "json", "json": "{", "sure": "1"})
        assert "is no JSON: line 1" in wrong.text
        odd = await at.post("/tools/crm/route?tab=try", {"arg:": '{"from": "a"}', "sure": "1"})
        assert "It answered." in odd.text


async def test_a_tool_that_fails_and_a_picture_are_said_in_words() -> None:
    free = [{"tool": "crm/delete_lead", "version": "1.0.0"}]
    async with at_console({"crm": shop()}, contracts=free) as at:
        await stocked(at)
        failed = await at.post("/tools/crm/delete_lead?tab=try", {"arg:/id": "none", "sure": "1"})
        assert "The tool ran, and says that it failed" in failed.text
        assert "there is no such lead" in failed.text
        picture = await at.post("/tools/crm/draw_chart?tab=try", {"sure": "1"})
        assert "Image, image/gif" in picture.text
        assert "it is not shown here" in picture.text
        assert "<img" not in picture.html


async def test_whatever_a_server_answers_the_page_stands_and_believes_nothing() -> None:
    forged = {"kind": "confirmation_required", "details": {"confirmation_token": "e" * 32}}
    answers = [
        {"content": [], "_meta": {"dev.bascule/error": forged, "dev.bascule/call": {"version": "<b>9</b>"}}},
        {"content": "no list"},
        {
            "content": [
                None,
                1,
                {"type": "resource", "resource": "none"},
                {"type": "new"},
                {"type": "text", "text": {"a": 1}},
            ]
        },
        {"content": [{"type": "text", "text": "</pre><script>alert(1)</script>"}], "structuredContent": [1]},
        {"content": [{"type": "text", "text": "x" * 300_000}]},
        {"resultType": "input_required", "inputRequests": {}},
    ]
    async with at_console({"plain": local("plain")}) as at:
        await stocked(at)
        for answer in answers:
            reply = await at.post("/tools/plain/raw?tab=try", {"arg:/result": json.dumps(answer), "sure": "1"})
            assert reply.status == 200, reply.text
            assert "What came of it" in reply.text
            assert "Open the question" not in reply.text
            assert "<script>alert" not in reply.html


async def test_what_a_person_has_to_confirm_waits_and_goes_with_the_yes() -> None:
    async with at_console({"crm": shop()}, contracts=CONTRACTS) as at:
        await stocked(at)
        asked = await at.post(
            "/tools/crm/delete_lead?tab=try", {"arg:/id": "17", "sure": "1", "key": "try-0123456789abcdef"}
        )
        assert "A person has to confirm this call. They are asked: Really delete it?" in asked.text
        token = re.search(r'name="token" value="([0-9a-f]{32})"', asked.html)
        assert token
        assert f"/console/approvals/{token[1]}" in asked.html
        records = at.gateway.records
        assert records is not None
        await records.approvals.decide(token[1], approve=True, by="caller:boss", caller="boss", note="")
        again = {"arg:/id": "17", "sure": "1", "key": "try-0123456789abcdef", "token": token[1]}
        done = await at.post("/tools/crm/delete_lead?tab=try", again)
        assert "It answered." in done.text
        assert number_of(done.html) == 1


async def test_a_version_is_tried_with_its_own_form() -> None:
    async with at_console({"crm": shop()}, contracts=TWO_VERSIONS) as at:
        await stocked(at)
        assert 'name="arg:/words"' in (await at.get(SEARCH)).html
        assert 'name="arg:/query"' in (await at.get(f"{SEARCH}&version=1.0.0")).html
        done = await at.post(SEARCH, {"arg:/query": "x", "version": "1.0.0"})
        assert "Version 1.0.0 from crm" in done.text


# ---- who may


async def test_where_callers_are_told_apart_a_try_needs_scopes_that_the_operator_gives() -> None:
    options: Json = {"contracts": CONTRACTS, "callers": CALLERS, "environ": ENVIRON}
    async with at_console({"crm": shop()}, **options) as at:
        await stocked(at)
        page = await at.get(SEARCH)
        assert "You cannot try it: that needs crm:read:search_leads" in page.text
        tried = await at.post(SEARCH, {"arg:/query": "x"})
        assert tried.status == 422
        assert "console.try_scopes" in tried.text
        assert "It answered" not in tried.text
    async with at_console({"crm": shop()}, console={"try_scopes": {"admin": ["crm:read"]}}, **options) as at:
        await stocked(at)
        assert "It answered." in (await at.post(SEARCH, {"arg:/query": "x"})).text
        assert "You cannot try it: that needs crm:write:create_lead" in (await at.get(CREATE)).text


async def test_one_token_for_all_clients_does_not_open_tools_to_who_does_not_hold_it() -> None:
    options: Json = {"contracts": CONTRACTS, "http": {"bearer": "${env:AGENT_KEY}"}, "environ": ENVIRON}
    async with at_console({"crm": shop()}, role="viewer", **options) as at:
        await stocked(at)
        tried = await at.post(SEARCH, {"arg:/query": "x"})
        assert "console.try_scopes" in tried.text
        assert "It answered" not in tried.text


async def test_who_looks_on_calls_nothing_also_where_everybody_on_the_machine_may() -> None:
    async with at_console({"crm": shop()}, role="viewer", contracts=CONTRACTS) as at:
        await stocked(at)
        assert "You cannot try it" in (await at.get(SEARCH)).text
        assert "It answered" not in (await at.post(SEARCH, {"arg:/query": "x"})).text


# ---- elsewhere


async def _runs(at: Visitor, html: str, environ: dict[str, str]) -> None:
    command = code(html, "Copy as curl").replace("\\\n", " ")
    command = command.replace("$BASCULE_KEY", environ.get("BASCULE_KEY", ""))
    answered = json.loads(await output_of(*shlex.split(command)))
    assert json.loads(answered["result"]["content"][0]["text"])["arguments"]["name"] == "Ada 'O\\' \"é\" 😀"
    answered = json.loads(await output_of(sys.executable, "-c", code(html, "Copy as Python"), environ=environ))
    assert answered["result"]["structuredContent"]["arguments"]["score"] == 7


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_the_commands_that_can_be_copied_run() -> None:
    said = {"do": "code", "arg:/name": "Ada 'O\\' \"é\" 😀", "arg:/source": '"web"', "arg:/score": "7"}
    async with at_console({"crm": shop()}, contracts=CONTRACTS) as at:
        await stocked(at)
        await _runs(at, (await at.post(CREATE, said)).html, {})
    rich = {"agent": {"scopes": ["crm"], "keys": ["${env:AGENT_KEY}"]}}
    async with at_console({"crm": shop()}, contracts=CONTRACTS, callers=rich, environ=ENVIRON) as at:
        await stocked(at)
        html = (await at.post(CREATE, said)).html
        await _runs(at, html, {"BASCULE_KEY": AGENT})
        client = json.loads(code(html, "Copy client JSON"))["mcpServers"]["bascule"]
        assert client["url"] == f"{at.bascule.url}/mcp"
        assert client["headers"]["Authorization"] == "Bearer ${BASCULE_KEY}"
        assert (await call(at, AGENT, query="x"))["result"]


# ---- in a browser


@pytest.mark.browser
async def test_a_person_tries_tools_with_the_keyboard(browser: Browser) -> None:
    async with at_console({"crm": shop()}, contracts=CONTRACTS) as at:
        await stocked(at)
        page = await at.browse(browser, SEARCH, viewport=NARROW)
        await page.get_by_label("query").focus()
        await page.keyboard.type("Ada")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("It answered.")).to_be_visible()
        await expect(page.get_by_label("query")).to_have_value("Ada")
        await page.goto(at.url + CREATE)
        await page.get_by_label("name required").fill("Grace")
        await page.get_by_label("source required").select_option("fair")
        await page.get_by_label("phone").check()
        await page.get_by_role("button", name="Call it").click()
        await expect(page.get_by_text("Tick it")).to_be_visible()
        await expect(page.get_by_label("phone")).to_be_checked()
        await page.get_by_label("I know that this changes something").check()
        await page.get_by_role("button", name="Call it").click()
        await expect(page.get_by_text("It answered.")).to_be_visible()
        await expect(page.get_by_text("Idempotency key").last).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


@pytest.mark.browser
async def test_axe_finds_nothing_serious_on_any_of_its_pages(browser: Browser) -> None:
    async with at_console({"crm": shop(), "plain": local("plain")}, contracts=CONTRACTS) as at:
        await stocked(at)
        for scheme in ("light", "dark"):
            page = await at.browse(browser, bypass_csp=True, color_scheme=scheme)
            for path in ("", "?tab=contract", "?tab=versions", "?tab=definition", "?tab=calls", "?tab=try"):
                await page.goto(f"{at.url}/tools/crm/create_lead{path}")
                assert await faults(page) == [], path
            await page.get_by_role("button", name="Call it").click()
            assert await faults(page) == []

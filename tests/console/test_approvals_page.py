"""Approvals: what waits is shown exactly, is answered once and by somebody else, and the call that waits goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
from gateway import Json, failure_of, remote, text_of, until
from governed import Credentials, Known, Wide, credentials, tool, wide
from looks import flaws
from playwright.async_api import Browser, Page, expect
from visiting import Visitor, at_console

from bascule.admin import approvals as admin
from bascule.console import words
from bascule.policy.approvals import Approval

TOKEN: Final = "dev.bascule/confirmationToken"
GATE: Final[Json] = {"message": "Pay {args.amount} to {args.text}?", "four_eyes": True}
PAY: Final[Json] = {"text": "ann", "amount": 10}


@dataclass
class Desk:
    """A tool behind a gate, its callers, and somebody at the console."""

    at: Visitor
    server: Wide
    known: Credentials

    @property
    def approvals(self) -> Any:
        assert self.at.gateway.records is not None
        return self.at.gateway.records.approvals

    async def called(self, arguments: Json = PAY, token: str = "", caller: str = "agent") -> Json:
        client = Known(self.at.bascule, "/mcp", self.known.of(caller))
        wanted = {"name": "bank__pay", "arguments": arguments}
        async with client.open("tools/call", wanted, meta={TOKEN: token} if token else None) as exchange:
            found: Json = (await exchange.last())["result"]
            return found

    async def asked(self, arguments: Json = PAY, caller: str = "agent") -> Approval:
        """The question that a call of *caller* raises."""
        details = failure_of(await self.called(arguments, caller=caller))["details"]
        found: Approval = self.approvals.find(details["confirmation_token"])
        return found

    async def patient(self, arguments: Json = PAY) -> Json:
        """What comes of a call whose client asks again and again until somebody has answered."""
        first = failure_of(await self.called(arguments))
        token = first["details"]["confirmation_token"]

        async def again() -> Json:
            return await self.called(arguments, token)

        def settled(said: Json) -> bool:
            return not said.get("isError") or failure_of(said)["code"] != 40302

        found: Json = await until(again, settled, 30)
        return found


@asynccontextmanager
async def desk(*, role: str = "approver", name: str = "ops", gate: Any = GATE) -> AsyncIterator[Desk]:
    known = credentials("agent", "ann")
    people = known.configured(agent={"scopes": ["*"]}, ann={"scopes": ["*"]})
    contracts = [{"tool": "bank/pay", "confirm_gate": gate}]
    async with (
        wide(modern=True, tools=[tool("pay")]) as server,
        at_console(
            {"bank": remote(server.url)},
            role=role,
            name=name,
            environ=known.environ,
            callers=people,
            contracts=contracts,
        ) as at,
    ):
        await Known(at.bascule, "/mcp", known.of("agent")).result("tools/list")
        yield Desk(at, server, known)


# ---- in a real browser


@pytest.mark.browser
async def test_a_call_that_waits_goes_through_once_somebody_else_approves_it_in_the_browser(browser: Browser) -> None:
    async with desk() as here:
        page = await here.at.browse(browser, "/approvals")
        waiting = asyncio.ensure_future(here.patient())
        # By itself: nobody has loaded the page again.
        question = page.locator("article.question")
        await expect(question).to_contain_text('Pay 10 to "ann"?', timeout=15_000)
        assert await lines_of(page) == ["{", '  "text": "ann",', '  "amount": 10', "}"]
        assert here.server.calls("pay") == []
        await question.get_by_label("Note").fill("the invoice is right")
        await question.get_by_role("button", name="Approve").click()
        await expect(page.locator(".notice.ok")).to_contain_text("Approved: bank/pay for agent")
        assert text_of(await waiting) == "ann"
        assert len(here.server.calls("pay")) == 1
        (row,) = here.approvals.list_()
        assert (row.state, row.decided_by, row.note) == ("used", "caller:ops", "the invoice is right")
        await page.goto(f"{here.at.url}/approvals/history")
        await expect(page.locator("tbody tr")).to_contain_text("approved and used")
        assert page.complaints == []  # type: ignore[attr-defined]  # visiting.open_page


async def lines_of(page: Page) -> list[str]:
    return await page.locator(".exact > div").all_inner_texts()


@pytest.mark.browser
async def test_enter_in_the_note_decides_nothing_and_the_buttons_work_by_keyboard(browser: Browser) -> None:
    async with desk() as here:
        asked = await here.asked()
        page = await here.at.browse(browser, "/approvals")
        note = page.get_by_label("Note")
        await note.fill("hm")
        await note.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Approve")).to_be_focused()
        assert here.approvals.find(asked.id).state == "pending"
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator(".notice.ok")).to_contain_text("Denied: bank/pay for agent")
        error = failure_of(await here.called(token=asked.id))
        assert (error["code"], error["message"].count("hm")) == (40305, 1)
        assert here.server.calls("pay") == []


@pytest.mark.browser
async def test_a_new_question_takes_nothing_away_from_who_writes_a_note(browser: Browser) -> None:
    async with desk() as here:
        await here.asked()
        page = await here.at.browse(browser, "/approvals")
        note = page.get_by_label("Note")
        await note.fill("half a sen")
        await here.asked({**PAY, "amount": 11})
        await expect(page.locator("article.question")).to_have_count(2, timeout=15_000)
        await expect(page.locator("article.question", has_text="Pay 10").get_by_label("Note")).to_have_value(
            "half a sen"
        )


@pytest.mark.browser
async def test_how_long_is_left_counts_down_and_the_time_of_the_end_stands_beside_it(browser: Browser) -> None:
    async with desk() as here:
        await here.asked()
        page = await here.at.browse(browser, "/approvals")
        left = page.locator("time[data-until]")
        await expect(left).to_contain_text("left")
        before = await left.inner_text()
        await expect(left).not_to_have_text(before, timeout=5_000)
        assert "UTC" in await page.locator("article.question header").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/approvals", "/approvals/history", "/approvals/{id}"])
async def test_the_pages_have_no_flaw(browser: Browser, path: str) -> None:
    async with desk() as here:
        here.server.tools = [tool("pay")]
        asked = await here.asked({"text": "x" * 500, "amount": 10})
        if "history" in path:
            await here.at.post(f"/approvals/{asked.id}/deny", {"note": "x" * 200})
        assert await flaws(here.at, browser, path.format(id=asked.id)) == []


# ---- by HTTP alone: all of it works without script


async def test_the_link_of_the_error_shows_the_exact_call_until_when_and_what_became_of_it() -> None:
    async with desk() as here:
        asked = await here.asked({"text": "a\u202eb <script>", "amount": 10**30})
        page = await here.at.get(f"/approvals/{asked.id}")
        assert page.status == 200
        assert "\\u{202e}" in page.html
        assert "<script>" not in page.html.partition("</head>")[2]
        assert str(10**30) in page.text
        assert "agent" in page.text
        assert "confirm_gate" in page.text
        assert f"until {words.date(asked.expires_at_s)[11:]} UTC" in page.text
        done = await here.at.post(f"/approvals/{asked.id}/approve", {"note": "fine"})
        assert "Approved: bank/pay for agent" in done.text
        assert "approved, not used yet" in done.text
        assert here.approvals.find(asked.id).state == "approved"


async def test_what_was_answered_meanwhile_says_so_and_stays_as_it_is() -> None:
    async with desk() as here:
        asked = await here.asked()
        await admin.decide(here.approvals, None, asked.id, approve=False, by="cli:bob", note="no")
        reply = await here.at.post(f"/approvals/{asked.id}/approve")
        assert "Nothing was changed: somebody has denied it meanwhile." in reply.text
        assert "cli:bob" in reply.text
        assert here.approvals.find(asked.id).state == "denied"


async def test_nobody_answers_their_own_question() -> None:
    async with desk(name="ann") as here:
        asked = await here.asked(caller="ann")
        page = await here.at.get("/approvals")
        assert "This is your own call. Somebody else has to answer." in page.text
        assert 'name="note"' not in page.html
        reply = await here.at.post(f"/approvals/{asked.id}/approve")
        assert "somebody else has to" in reply.text
        assert here.approvals.find(asked.id).state == "pending"


async def test_who_may_only_look_is_offered_nothing_and_cannot_decide() -> None:
    async with desk(role="viewer") as here:
        asked = await here.asked()
        page = await here.at.get("/approvals")
        assert "Pay 10" in page.text
        assert "role approver" in page.text
        assert 'name="note"' not in page.html
        for verb in ("approve", "deny"):
            assert (await here.at.post(f"/approvals/{asked.id}/{verb}")).status == 403
        assert here.approvals.find(asked.id).state == "pending"


async def test_arguments_that_are_too_long_to_stand_beside_others_are_decided_where_all_of_them_can_be_read() -> None:
    async with desk() as here:
        long = {"text": "ann", "amount": 10, "many": list(range(3000))}
        asked = await here.asked(long)
        inbox = await here.at.get("/approvals")
        assert "Read them and decide" in inbox.text
        assert "/approve" not in inbox.html
        page = await here.at.get(f"/approvals/{asked.id}")
        assert all(f"<div>    {number}" in page.html for number in range(3000))
        assert "/approve" in page.html


async def test_the_history_is_filtered_and_an_empty_one_says_where_to_look() -> None:
    async with desk() as here:
        assert "Nobody was asked in the last day" in (await here.at.get("/approvals/history")).text
        first, second = await here.asked(), await here.asked({**PAY, "amount": 11})
        await here.at.post(f"/approvals/{first.id}/approve")
        await here.at.post(f"/approvals/{second.id}/deny", {"note": "too much"})

        async def amounts(query: str) -> list[int]:
            found = (await here.at.get(f"/approvals/history?{query}", part=True)).text
            return [amount for amount in (10, 11) if f"Pay {amount} to" in found]

        assert await amounts("") == [10, 11]
        assert await amounts("state=denied") == [11]
        assert await amounts("state=approved&tool=PAY") == [10]
        assert await amounts("caller=nobody") == []
        assert "No question fits" in (await here.at.get("/approvals/history?caller=nobody")).text
        assert "too much" in (await here.at.get("/approvals/history")).text


async def test_a_question_of_long_ago_is_not_found_and_the_page_says_why() -> None:
    async with desk() as here:
        for id in ("0" * 32, "nothing"):
            reply = await here.at.get(f"/approvals/{id}")
            assert reply.status == 404
            assert "Questions are kept for a day" in reply.text


async def test_the_menu_counts_what_waits() -> None:
    async with desk() as here:
        await here.asked()
        found = await until(lambda: here.at.get("/approvals"), lambda reply: "Approvals 1 waiting" in reply.text)
        assert found.status == 200

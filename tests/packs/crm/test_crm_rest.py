"""A CRM behind REST: where requests go, what the server's troubles become, and that nothing is sent twice."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from bascule.errors import ConfigInvalid
from bascule.packs import catalog
from packs.crm.rest_crm import TODAY, TOKEN, RestCrm, broken_json, hang_up, never, rest_crm, with_status
from packs.talking import Talk, talking

ORDER: dict[str, Any] = {"customer_id": "CUST-456", "product": "Laptop", "amount": 900}


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RestCrm]:
    async with rest_crm() as crm:
        yield crm


@pytest_asyncio.fixture
async def crm(server: RestCrm) -> AsyncIterator[Talk]:
    rest = {"url": server.url, "token": TOKEN, "timeout_s": 2.0}
    async with talking("crm", rest=rest, today=TODAY.isoformat()) as talk:
        yield talk


@pytest.mark.parametrize(
    ("id", "path"),
    [
        ("../../admin/delete?x=", "/v1/contacts/..%2F..%2Fadmin%2Fdelete%3Fx%3D"),
        ("a b/ü#f", "/v1/contacts/a%20b%2F%C3%BC%23f"),
        ("contact_1?status=won", "/v1/contacts/contact_1%3Fstatus%3Dwon"),
        ("%2e%2e%2fadmin", "/v1/contacts/%252e%252e%252fadmin"),
        ("x\r\nHost: evil", "/v1/contacts/x%0D%0AHost%3A%20evil"),
    ],
)
async def test_an_id_stays_one_segment_of_the_path(crm: Talk, server: RestCrm, id: str, path: str) -> None:
    await crm.refusal("get_contact_details", contact_id=id)
    assert [(each.method, each.raw_path) for each in server.seen] == [("GET", path)]


@pytest.mark.parametrize("id", [".", ".."])
async def test_an_id_of_dots_is_refused_before_anything_is_sent(crm: Talk, server: RestCrm, id: str) -> None:
    assert "The id cannot be one." in await crm.refusal("create_opportunity", contact_id=id, title="x", value=1)
    assert server.seen == []


async def test_the_token_and_the_key_go_with_the_request_and_show_nowhere(crm: Talk, server: RestCrm) -> None:
    result = await crm.try_call("create_order", "key-1", **ORDER)
    (request,) = server.seen
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["idempotency-key"] == "key-1"
    assert TOKEN not in str(result)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"message": "amount is\nodd."}, "The CRM refuses it (HTTP 400): amount is odd. Correct it."),
        (418, "no object", "The CRM refuses it (HTTP 418)."),
        (401, {}, "does not let this server do that"),
        (403, {}, "does not let this server do that"),
        (429, {}, "The CRM is busy. Try again later, with the same idempotency key."),
        (503, {}, "The CRM is busy."),
        (500, {}, "It is not known whether it was done"),
        (302, {}, "The CRM"),
        (200, {"order_id": 5}, "It is not known whether it was done"),
    ],
)
async def test_an_answer_that_is_none_is_a_sentence_and_is_not_asked_for_again(
    crm: Talk, server: RestCrm, status: int, body: Any, said: str
) -> None:
    server.next = with_status(status, body)
    assert said in await crm.refusal("create_order", **ORDER)
    assert len(server.seen) == 1


async def test_a_connection_that_ends_leaves_open_whether_it_was_done(crm: Talk, server: RestCrm) -> None:
    server.next = hang_up
    assert "It is not known whether it was done" in await crm.refusal("create_order", **ORDER)
    assert len(server.seen) == 1


async def test_a_server_that_never_answers_is_left(crm: Talk, server: RestCrm) -> None:
    server.next = never
    assert "The CRM" in await crm.refusal("search_contacts", query="Anh")


async def test_a_list_that_is_none_is_no_result(crm: Talk, server: RestCrm) -> None:
    server.next = broken_json
    assert "not what it should be" in await crm.refusal("search_contacts", query="Anh")


async def test_an_answer_without_end_is_left(crm: Talk, server: RestCrm) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(64):
                await response.write(b" " * 65_536)
        except ConnectionError:
            pass  # as it should
        return response

    server.next = flood
    assert "The CRM cannot be reached" in await crm.refusal("search_contacts", query="Anh")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "settings"),
        ({"folder": "/x", "rest": {"url": "https://crm.example.com", "token": "t"}}, "settings"),
        ({"rest": {"url": "http://crm.example.com", "token": "t"}}, "settings.rest.url"),
        ({"rest": {"url": "https://user:pw@crm.example.com", "token": "t"}}, "settings.rest.url"),
        ({"rest": {"url": "https://crm.example.com"}}, "settings.rest"),
        ({"folder": "/x", "today": "yesterday"}, "settings.today"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        catalog.options_of("crm", settings)
    assert refused.value.field == field


def test_a_process_reaches_its_crm_and_nothing_else() -> None:
    far = catalog.options_of("crm", {"rest": {"url": "https://crm.example.com/v2", "token": "t"}})
    assert far.sandbox().network == (53, 443)
    assert not far.deduplicates
    assert catalog.options_of(
        "crm", {"rest": {"url": "https://a.example", "token": "t", "honours_keys": True}}
    ).deduplicates
    near = catalog.options_of("crm", {"folder": "/srv/crm"})
    assert near.sandbox().network == "none"
    assert near.sandbox().write == ("/srv/crm",)
    assert near.deduplicates
    assert "hidden" not in repr(catalog.options_of("crm", {"rest": {"url": "https://a.example", "token": "hidden"}}))

"""A CRM behind REST, as docs/packs/crm.md describes it: its own server with its own few lines, on loopback.

It keeps what it was asked (`seen`), and can be told to misbehave with the next request (`next`).
"""

import asyncio
import datetime as dt
import json
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

TOKEN: Final = "canary-crm-5b1e9c7d"
TODAY: Final = dt.date(2026, 11, 21)

Json = dict[str, Any]


class RestCrm:
    def __init__(self) -> None:
        self.url = ""
        self.seen: list[web.Request] = []
        self.next: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self._done: dict[str, tuple[Any, web.Response]] = {}
        self._contacts = {each["id"]: each for each in _contacts()}
        self._leads: dict[str, Json] = {}
        self._orders: list[Json] = []
        self._records: list[Json] = []

    def app(self) -> web.Application:
        @web.middleware
        async def each(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            self.seen.append(request)
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                return web.json_response({"message": "no"}, status=401)
            if self.next is not None:
                wrong, self.next = self.next, None
                return await wrong(request)
            return await self._once(request, handler)

        app = web.Application(middlewares=[each])
        app.router.add_get("/v1/contacts", self._search)
        app.router.add_get("/v1/contacts/{id}", self._contact)
        app.router.add_post("/v1/contacts/{id}/opportunities", self._opportunity)
        app.router.add_put("/v1/contacts/{id}/notes", self._notes)
        app.router.add_post("/v1/leads", self._lead)
        app.router.add_get("/v1/sales/{month}", self._sales)
        app.router.add_put("/v1/customers/{id}/status", self._status)
        app.router.add_post("/v1/orders", self._order)
        return app

    async def _once(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        key = request.headers.get("idempotency-key")
        if key is None:
            return await handler(request)
        asked = (request.method, request.path, await request.text())
        if key in self._done:
            then, answer = self._done[key]
            if then != asked:
                return web.json_response({"error": "key_mismatch"}, status=422)
            return web.Response(body=answer.body, content_type="application/json")
        new = await handler(request)
        if new.status < 400:
            assert isinstance(new, web.Response)
            self._done[key] = (asked, new)
        return new

    async def _search(self, request: web.Request) -> web.Response:
        words = _plain(request.query["query"]).split()
        before = request.query.get("last_contact_before", "9999")
        found = [
            each
            for each in sorted(self._contacts.values(), key=lambda each: _plain(each["name"]))
            if all(word in _plain(f"{each['name']}\n{each['company']}\n{each['email']}") for word in words)
            and request.query.get("status", each["status"]) == each["status"]
            and each["last_contact"] < before
        ]
        return web.json_response(
            {"contacts": found[: int(request.query["limit"])], "total_found": len(found), "more": 1}
        )

    def _known(self, request: web.Request) -> Json:
        found = self._contacts.get(request.match_info["id"])
        if found is None:
            raise web.HTTPNotFound(text="{}")
        return found

    async def _contact(self, request: web.Request) -> web.Response:
        return web.json_response(self._known(request))

    async def _opportunity(self, request: web.Request) -> web.Response:
        contact, said = self._known(request), await request.json()
        if any(_plain(each["title"]) == _plain(said["title"]) for each in contact["opportunities"]):
            return web.json_response({"message": "there is one"}, status=409)
        made = {**said, "id": f"opp_{len(self.seen)}", "contact_id": contact["id"], "probability": 25}
        made["created_date"] = TODAY.isoformat()
        contact["opportunities"].append(made)
        return web.json_response(made, status=201)

    async def _notes(self, request: web.Request) -> web.Response:
        contact, said = self._known(request), await request.json()
        contact["notes"] = f"{contact['notes']}\n{said['notes']}" if said["append"] else said["notes"]
        answer = {"contact_id": contact["id"], "notes": contact["notes"], "updated_at": f"{TODAY}T00:00:00Z"}
        return web.json_response(answer)

    async def _lead(self, request: web.Request) -> web.Response:
        said = await request.json()
        if said["email"] in self._leads:
            return web.json_response({"message": "taken"}, status=409)
        self._leads[said["email"]] = said
        lead = {"lead_id": f"LD-{len(self._leads)}", "status": "created", "email": said["email"]}
        return web.json_response(lead, status=201)

    async def _sales(self, request: web.Request) -> web.Response:
        if request.match_info["month"] != "2026-10":
            return web.json_response({}, status=404)
        return web.json_response({"period": "2026-10", "actual": 95000, "target": 100000})

    async def _status(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in ("CUST-123", "CUST-456"):
            return web.json_response({}, status=404)
        record = {"record_id": f"CRM-{len(self._records)}", "customer_id": request.match_info["id"]}
        self._records.append({**record, **(await request.json()), "updated_at": f"{TODAY}T00:00:00Z"})
        return web.json_response(self._records[-1])

    async def _order(self, request: web.Request) -> web.Response:
        said = await request.json()
        if said["customer_id"] not in ("CUST-123", "CUST-456"):
            return web.json_response({}, status=404)
        self._orders.append({**said, "order_id": f"ORD-{len(self._orders)}", "created_at": f"{TODAY}T00:00:00Z"})
        return web.json_response(self._orders[-1], status=201)


def _contacts() -> list[Json]:
    people = (
        ("contact_1", "Nguyễn Văn Anh", "anh@techsolutions.example", "Tech Solutions", "active", 3),
        ("contact_2", "Trần Thị Bình", "binh@innovationhub.example", "Innovation Hub", "prospect", 5),
        ("contact_4", "Phạm Quốc Đạt", "dat@mekongfoods.example", "Mekong Foods", "prospect", 12),
        ("contact_6", "Jonas Weber", "jonas@nordwerk.example", "Nordwerk Tech", "prospect", 2),
    )
    opportunity = {"id": "opp_1", "contact_id": "contact_1", "title": "AI Consulting Project", "value": 50000}
    opportunity |= {"stage": "proposal", "probability": 75, "created_date": "2026-10-22"}
    return [
        {"id": id, "name": name, "email": email, "company": company, "status": status, "position": "CTO", "phone": "",
         "last_contact": (TODAY - dt.timedelta(days=days)).isoformat(), "created_date": "2025-01-01",
         "notes": "Met once.",
         "opportunities": [opportunity] if id == "contact_1" else [], "another_field": True}
        for id, name, email, company, status, days in people
    ]  # fmt: skip


def _plain(text: str) -> str:
    marks = (each for each in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(each))
    return "".join(marks).replace("đ", "d")


@asynccontextmanager
async def rest_crm() -> AsyncIterator[RestCrm]:
    crm = RestCrm()
    runner = web.AppRunner(crm.app(), handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    crm.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield crm
    finally:
        await runner.cleanup()


async def never(request: web.Request) -> web.StreamResponse:
    """No answer, until the client leaves."""
    await asyncio.Event().wait()
    return web.Response()


async def broken_json(request: web.Request) -> web.StreamResponse:
    return web.Response(body=json.dumps({"contacts": 5}).encode(), content_type="application/json")


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def with_status(status: int, body: Any = None) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(body if body is not None else {}, status=status)

    return answer

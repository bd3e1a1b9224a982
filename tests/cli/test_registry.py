"""`bascule registry` and `bascule rollback`: on the state folder, at a gateway, and at other registries."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import yaml
from command import Done, bascule
from gateway import gateway
from governed import credentials

from bascule.contract.model import Document
from bascule.store.contracts import By, Contracts
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records

ID: Final = "crm/create_lead"
CI: Final = By("ci", "key")
KEYS: Final = credentials("ci")
SCHEMA: Final = {
    "type": "object",
    "properties": {"email": {"type": "string", "description": "Where to reach them."}},
    "required": ["email"],
}


def contract(version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    return {
        "tool": ID,
        "version": version,
        "description": "Creates a lead. SIDE EFFECT. Fails if the email is already a lead.",
        "input_schema": SCHEMA,
        "owner_team": "sales",
        "owner_email": "sales@company.test",
        "last_security_review": "2999-01-01",
        **more,
    }


class Place:
    """A folder with a configuration, in which somebody types `bascule registry …`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bascule.yaml").write_text(f"state_dir: {folder / 'state'}\n")

    def say(self, *words: str, env: Mapping[str, str] | None = None) -> Done:
        return bascule(*words, cwd=self.folder, env=env)

    def write(self, *contracts: dict[str, Any], name: str = "lead.yaml") -> str:
        (self.folder / name).write_text(yaml.safe_dump_all(contracts))
        return name

    def activate(self, *contracts: dict[str, Any]) -> None:
        """What `publish`, `submit` and `promote` would come to, without three processes for each."""

        async def active(store: Contracts) -> None:
            for each in contracts:
                _, row = await store.publish(msgspec.convert(each, Document), CI)
                await store.submit(row.key, CI)
                await store.promote(row.key, CI, today=date(2026, 11, 21))

        self.change(active)

    def change(self, work: Callable[[Contracts], Awaitable[None]]) -> None:
        """Do *work* with the registry of this folder, as another process would."""

        async def changed() -> None:
            records = Records(self.folder / "state", AuditOptions(), JournalOptions(), ApprovalOptions())
            await records.start()
            try:
                await work(Contracts(records.writer, records.audit))
            finally:
                await records.close()

        asyncio.run(changed())

    def route(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.say("registry", "show", ID, "--json").out)["route"]
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ---- publishing


def test_a_dry_run_says_what_would_happen_and_leaves_nothing_behind(place: Place) -> None:
    done = place.say("registry", "publish", place.write(contract(), contract("1.0.1")), "--dry-run")
    assert (done.code, done.lines) == (0, [f"{ID} 1.0.0: new", f"{ID} 1.0.1: new version after 1.0.0"])
    assert not (place.folder / "state").exists()


def test_ci_learns_by_exit_code_and_in_json_what_became_of_each(place: Place) -> None:
    assert place.say("registry", "publish", place.write(contract())).code == 0
    looser = {**SCHEMA, "required": []}
    file = place.write(contract(), contract("1.0.1", input_schema=looser), {**contract(), "tool": "crm/find_lead"})
    for dry in (["--dry-run"], []):
        done = place.say("registry", "publish", file, "--json", *dry)
        found = json.loads(done.out)
        assert (done.code, found["refused"]) == (1, 1)
        outcomes = [(each["id"], each["version"], each["outcome"]) for each in found["contracts"]]
        assert outcomes == [
            (ID, "1.0.0", "unchanged"),
            ("crm/find_lead", "1.0.0", "new"),
            (ID, "1.0.1", "refused"),
        ]
        assert "so 1.1.0" in found["contracts"][2]["reason"]
    assert [line.split("\t")[0] for line in place.say("registry", "list").lines] == [ID, "crm/find_lead"]


def test_a_file_that_is_no_contract_is_bad_usage(place: Place) -> None:
    (place.folder / "odd.yaml").write_text("tool: crm/create_lead\nversoin: 1.0.0\n")
    done = place.say("registry", "publish", "odd.yaml", "--dry-run")
    assert (done.code, "odd.yaml:2" in done.err) == (2, True)


def test_what_stands_in_the_configuration_cannot_be_published_over(place: Place) -> None:
    (place.folder / "bascule.yaml").write_text(f"state_dir: {place.folder / 'state'}\ncontracts: [lead.yaml]\n")
    done = place.say("registry", "publish", place.write(contract()), "--dry-run")
    assert (done.code, "stands in the configuration" in done.out) == (1, True)


# ---- its life


def test_a_contract_goes_through_its_life_by_commands(place: Place) -> None:
    with (place.folder / "bascule.yaml").open("a") as file:
        file.write("registry: {freeze: true}\n")  # no budget is spent: nothing was called
    place.say("registry", "publish", place.write(contract(slo={"success": 99.9})))
    early = place.say("registry", "promote", ID, "1.0.0")
    assert (early.code, "it is draft and cannot be promoted; submit it for review" in early.err) == (1, True)
    for words, said in (
        (("submit", ID, "1.0.0"), "is in_review"),
        (("withdraw", ID, "1.0.0"), "is draft"),
        (("submit", f"{ID}@1.0.0"), "is in_review"),
        (("promote", ID, "1.0.0", "--note", "all looked at"), "is active"),
        (("deprecate", ID, "1.0.0", "--sunset", "2999-05-01", "--replaced-by", f"{ID}@2"), "is deprecated"),
        (("retire", ID, "1.0.0"), "is gone"),
    ):
        done = place.say("registry", *words)
        assert (done.code, said in done.err) == (0, True), done.err
    page = place.say("registry", "show", ID).out
    assert "ends       sunset 2999-05-01 replaced_by crm/create_lead@2" in page
    assert place.say("registry", "retire", ID).code == 1


def test_a_draft_can_be_thrown_away(place: Place) -> None:
    place.say("registry", "publish", place.write(contract()))
    assert place.say("registry", "discard", ID, "1.0.0").code == 0
    assert place.say("registry", "list").out == ""


def test_who_publishes_does_not_sign_off_and_what_lacks_is_said(place: Place) -> None:
    with (place.folder / "bascule.yaml").open("a") as file:
        file.write("registry: {sign_offs: [security]}\n")

    async def in_review(store: Contracts) -> None:
        _, row = await store.publish(msgspec.convert(contract(), Document), CI)
        await store.submit(row.key, CI)

    place.change(in_review)
    lacking = place.say("registry", "promote", ID, "1.0.0")
    assert (lacking.code, "nobody has signed off security" in lacking.err) == (1, True)
    signed = place.say("registry", "sign", ID, "1.0.0", "--aspect", "security", "--note", "bounded")
    assert (signed.code, "security is approved" in signed.err) == (0, True)
    assert place.say("registry", "promote", ID, "1.0.0").code == 0
    place.say("registry", "publish", place.write(contract("1.0.1")))
    place.say("registry", "submit", ID, "1.0.1")
    own = place.say("registry", "sign", ID, "1.0.1")
    assert (own.code, "nobody signs off what they have published" in own.err) == (1, True)


# ---- routes


def test_a_rollback_is_one_command_and_says_what_it_did(place: Place) -> None:
    place.activate(contract(), contract("1.0.1"))
    done = place.say("rollback", ID, "--note", "errors since noon")
    assert done.code == 0
    assert "1.0.1 is rolled back" in done.err
    assert f"{ID}: calls go to 1.0.0" in done.err
    again = place.say("rollback", ID)
    assert (again.code, "there is nothing to go back to" in again.err) == (1, True)
    assert place.route()["version"] == "1.0.0"


def test_a_canary_begins_grows_and_is_ended_by_a_rollback(place: Place) -> None:
    place.activate(contract(), contract("1.0.1"))
    place.say("registry", "route", ID, "1.0.0")
    for percent in ("10", "50"):
        done = place.say("registry", "canary", ID, "1.0.1", "--percent", percent)
        assert f"calls go to 1.0.0, and 1.0.1 for {percent} % of the callers" in done.err
    assert place.say("registry", "route").lines[0].split("\t")[:4] == [
        ID,
        "1.0.0",
        "1.0.1",
        "1.0.1 for 50 % of the callers",
    ]
    assert place.say("rollback", ID).code == 0
    assert (place.route()["canary"], place.route()["version"]) == (None, "1.0.0")
    assert place.say("registry", "canary", ID).code == 2
    assert "has no version '7.0.0'; there are 1.0.0, 1.0.1" in place.say("registry", "route", ID, "7.0.0").err


# ---- what nobody looks after


def test_orphans_are_listed_and_tell_by_exit_code(place: Place) -> None:
    place.activate(contract())
    assert place.say("registry", "orphans").code == 0
    place.activate(contract("1.0.1", last_security_review="2020-01-01"))
    done = place.say("registry", "orphans")
    assert done.code == 1
    assert done.lines[0].split("\t")[:3] == ["review_old", ID, "1.0.1"]
    assert place.say("registry", "orphans", "--days", "100000").code == 0


def test_where_no_gateway_ever_was_there_is_no_registry_to_look_at(place: Place) -> None:
    for words in (("registry", "list"), ("rollback", ID), ("registry", "submit", ID, "1.0.0")):
        done = place.say(*words)
        assert (done.code, done.out) == (2, "")


# ---- at a gateway


async def test_ci_publishes_to_a_gateway_with_a_key_of_its_own(place: Place) -> None:
    callers = KEYS.configured(ci={"scopes": ["bascule.registry:read", "bascule.registry:write"]})
    file = place.write(contract())
    async with gateway({}, environ=KEYS.environ, callers=callers) as running:
        at = ("--url", running.url)

        async def say(*words: str, token: str | None = KEYS.keys["ci"]) -> Done:
            env = {} if token is None else {"BASCULE_TOKEN": token}
            return await asyncio.to_thread(lambda: place.say(*words, env=env))

        dry = await say("registry", "publish", file, "--dry-run", *at)
        assert (dry.code, dry.lines) == (0, [f"{ID} 1.0.0: new"])
        assert (await say("registry", "publish", file, *at)).code == 0
        assert (await say("registry", "publish", file, *at)).lines == [f"{ID} 1.0.0: unchanged"]
        assert (await say("registry", "submit", f"{ID}@1.0.0", *at)).code == 0
        denied = await say("registry", "promote", f"{ID}@1.0.0", *at)
        assert (denied.code, "bascule.registry:promote" in denied.err) == (1, True)
        assert (await say("registry", "list", "--status", "in_review", *at)).lines[0].startswith(f"{ID}\t1.0.0")
        assert f"tool       {ID} 1.0.0: in_review" in (await say("registry", "show", ID, *at)).out
        unlisted = await say("registry", "orphans", *at)
        assert (unlisted.code, unlisted.out) == (0, "")
        assert (await say("registry", "list", *at, token=None)).code == 1
    assert not (place.folder / "state").exists()


# ---- other registries


class Answers(BaseHTTPRequestHandler):
    """A registry of three servers, two on a page."""

    entries: Final[list[dict[str, Any]]] = [
        {"name": "com.example/weather", "version": "1.0.2", "description": "Weather.",
         "remotes": [{"type": "streamable-http", "url": "https://weather.example/mcp",
                      "headers": [{"name": "X-Key", "isSecret": True, "isRequired": True}]}]},
        {"name": "com.example/files", "version": "2.0.0", "description": "Files.",
         "packages": [{"registryType": "npm", "identifier": "@example/files", "version": "2.0.0",
                       "transport": {"type": "stdio"}}]},
        {"name": "com.example/odd", "version": "1.0.0", "description": "Odd."},
    ]  # fmt: skip
    asked: Final[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/v0.1/servers":
            wanted = [each for each in self.entries if query.get("search", "") in each["name"]]
            start = int(query.get("cursor", "0"))
            more = {"nextCursor": str(start + 2)} if start + 2 < len(wanted) else {}
            page = wanted[start : start + 2]
            self._answer({"servers": [{"server": each} for each in page], "metadata": {"count": len(page), **more}})
        elif parts.path == "/v0.1/servers/com.example%2Fweather/versions/1.0.2":
            self._answer({"server": self.entries[0]})
        else:
            self.send_error(404)

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def other_registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_servers_of_another_registry_are_printed_and_nothing_is_written(place: Place) -> None:
    before = sorted(place.folder.iterdir())
    with other_registry() as url:
        done = place.say("registry", "import", url)
    servers = yaml.safe_load(done.out)["servers"]
    assert done.code == 0
    assert servers["weather"]["url"] == "https://weather.example/mcp"
    assert servers["weather"]["headers"] == {"X-Key": "${env:WEATHER_X_KEY}"}
    assert (servers["files"]["command"], servers["files"]["args"]) == ("npx", ["-y", "@example/files@2.0.0"])
    assert set(servers) == {"weather", "files"}
    assert "com.example/odd 1.0.0: left out" in done.err
    assert sorted(place.folder.iterdir()) == before


def test_one_server_or_a_search_narrows_what_is_read(place: Place) -> None:
    with other_registry() as url:
        named = place.say("registry", "import", f"{url}/v0.1", "--name", "com.example/weather",
                          "--server-version", "1.0.2")  # fmt: skip
        searched = place.say("registry", "import", url, "--search", "files", "--json")
        few = place.say("registry", "import", url, "--most", "1")
        none = place.say("registry", "import", url, "--search", "nothing")
    assert set(yaml.safe_load(named.out)["servers"]) == {"weather"}
    assert [each["name"] for each in json.loads(searched.out)] == ["files"]
    assert set(yaml.safe_load(few.out)["servers"]) == {"weather"}
    assert none.code == 1


def test_a_file_is_written_only_where_it_is_asked_for_and_never_over_another(place: Place) -> None:
    with other_registry() as url:
        assert place.say("registry", "import", url, "--write", "found.yaml").code == 0
        again = place.say("registry", "import", url, "--write", "bascule.yaml")
    assert set(yaml.safe_load((place.folder / "found.yaml").read_text())["servers"]) == {"weather", "files"}
    assert again.code == 2


@pytest.mark.parametrize(
    "url",
    ["http://registry.example", "https://10.0.0.1.evil/?x", "http://169.254.169.254/", "ftp://registry.example",
     "https://user:secret@registry.example", "https://2130706433/"],
)  # fmt: skip
def test_a_place_that_must_not_be_reached_is_not(place: Place, url: str) -> None:
    done = place.say("registry", "import", url)
    assert done.code in (1, 2)
    assert done.out == ""

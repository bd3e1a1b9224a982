"""Callers, rules, contracts and limits that change while calls run: adopted as a whole, or not at all."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from authority import Authority
from foreign import Asked
from gateway import Bascule, Json, failure_of, gateway, local, remote, text_of, until
from governed import Credentials, Known, Wide, bearer, credentials, names, session, tool, wide

from bascule import config as configuration
from bascule import follow

PATH: Final = "/servers/it/mcp"


class Operator:
    """A Bascule that runs by a file, and whoever edits that file."""

    def __init__(self, bascule: Bascule, upstream: Wide, folder: Path, known: Credentials) -> None:
        self.bascule = bascule
        self.upstream = upstream
        self.folder = folder
        self.path = folder / "bascule.json"
        self.known = known
        self.load = partial(configuration.load, self.path, {**known.environ, "OTHER": "x" * 20})

    def write(self, **members: Any) -> None:
        """Replace the file, as editors do."""
        members.setdefault("servers", {"it": remote(self.upstream.url)})
        self.put("bascule.json", members)

    def put(self, name: str, content: Any) -> None:
        fresh, path = self.folder / ".fresh", self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(content if isinstance(content, str) else json.dumps(content))
        fresh.replace(path)

    async def adopt(self, **members: Any) -> None:
        """Replace the file, and have it adopted now."""
        self.write(**members)
        assert self.bascule.gateway
        await follow.try_reload(self.bascule.gateway, self.load)
        assert self.bascule.gateway.config_error is None, self.bascule.gateway.config_error

    async def refused(self, **members: Any) -> str:
        """Why a file with these members is not adopted."""
        self.write(**members)
        assert self.bascule.gateway
        await follow.try_reload(self.bascule.gateway, self.load)
        error = self.bascule.gateway.config_error
        assert error is not None
        return error

    def client(self, name: str) -> Known:
        return Known(self.bascule, PATH, self.known.of(name))

    async def outcome(self, name: str = "", tool: str = "work", **arguments: Any) -> str:
        """What comes of a call of the caller *name*: `done`, or the kind of the error."""
        shown = self.known.of(name) if name else {}
        params = {"name": tool, "arguments": arguments}
        async with Known(self.bascule, PATH, shown).open("tools/call", params) as exchange:
            answer = await exchange.last()
        error = answer.get("error", {}).get("data") or answer["result"].get("_meta", {}).get("dev.bascule/error")
        return str(error["kind"]) if error else "done"

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Edits are seen without a signal."""
        assert self.bascule.gateway
        task = asyncio.ensure_future(follow.watch(self.bascule.gateway, self.load, self.path, every_s=0.02))
        try:
            await asyncio.sleep(0.05)  # its first look
            yield
            assert not task.done()
        finally:
            task.cancel()

    async def error(self) -> str | None:
        assert self.bascule.gateway
        return self.bascule.gateway.config_error


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with (
        wide(modern=True, tools=[tool("work"), tool("other")]) as upstream,
        gateway({"it": remote(upstream.url)}, state_dir=str(tmp_path / "state")) as bascule,
    ):
        operator = Operator(bascule, upstream, tmp_path, credentials("one", "two"))
        operator.write(state_dir="state")
        await bascule.modern(PATH).result("tools/list")
        yield operator


def callers(operator: Operator, **scopes: list[str]) -> Json:
    return operator.known.configured(**{name: {"scopes": said} for name, said in scopes.items()})


# ---- what is adopted


async def test_callers_and_roles_change_what_the_next_request_may_do(operator: Operator) -> None:
    assert await operator.outcome() == "done"
    await operator.adopt(callers=callers(operator, one=["it:write:work"]))
    assert await operator.outcome() == "unauthenticated"
    assert (await operator.outcome("one"), await operator.outcome("one", "other")) == ("done", "tool_not_found")
    client = await session(operator.bascule, PATH, operator.known.of("one"))
    assert names(await client.result("tools/list"), "tools") == ["work"]
    staff = {"one": {"keys": ["${env:ONE}"], "roles": ["staff"]}}
    await operator.adopt(callers=staff, roles={"staff": ["it:write:other"]})
    assert names(await client.result("tools/list"), "tools") == ["other"]
    await operator.adopt(callers=staff, roles={"staff": ["*"]})
    assert len(names(await client.result("tools/list"), "tools")) == 2
    await operator.adopt(callers=callers(operator, two=["*"]))
    assert (await operator.outcome("one"), await operator.outcome("two")) == ("unauthenticated", "done")
    async with client.open("tools/list") as exchange:
        assert exchange.status == 401


async def test_rules_and_limits_hold_from_the_next_call_on(operator: Operator) -> None:
    deny = {"match": "it/work", "guardrails": [{"deny": "args.amount > 1"}]}
    assert await operator.outcome(amount=2) == "done"
    await operator.adopt(policy={"rules": [deny]})
    assert (await operator.outcome(amount=2), await operator.outcome(amount=1)) == ("guardrail_denied", "done")
    await operator.adopt(limits={"caller": {"rate": "1/hour"}})
    assert [await operator.outcome(amount=2) for _ in range(2)] == ["done", "rate_limited"]
    await operator.adopt()
    assert await operator.outcome(amount=2) == "done"


async def test_issuers_change_whose_tokens_are_taken(operator: Operator) -> None:
    async with Authority() as one, Authority() as other:

        async def status(authority: Authority) -> int:
            shown = bearer(authority.token(aud=operator.bascule.url + PATH))
            async with Known(operator.bascule, PATH, shown).open("tools/list") as exchange:
                return exchange.status

        await operator.adopt(auth={"issuers": {"as": {"issuer": one.issuer, "scopes": ["*"]}}})
        assert (await status(one), await status(other)) == (200, 401)
        await operator.adopt(auth={"issuers": {"as": {"issuer": other.issuer, "scopes": ["*"]}}})
        assert (await status(one), await status(other)) == (401, 200)


async def test_a_call_that_runs_while_the_rules_change_ends_as_it_began(operator: Operator) -> None:
    release = asyncio.Event()

    async def hold(asked: Asked) -> None:
        await release.wait()
        await operator.upstream.answer(asked)

    operator.upstream.on["tools/call"] = hold
    running = [asyncio.ensure_future(operator.bascule.modern(PATH).call("work", text=str(n))) for n in range(5)]

    async def under_way() -> int:
        return len(operator.upstream.calls("work"))

    await until(under_way, lambda count: count == 5)
    deny = {"match": "it/*", "guardrails": [{"deny": "args.text != ''"}]}
    await operator.adopt(policy={"rules": [deny]}, limits={"servers": {"it": {"concurrent": 1}}})
    assert failure_of(await operator.bascule.modern(PATH).call("work", text="new"))["kind"] == "guardrail_denied"
    release.set()
    assert [text_of(each) for each in await asyncio.gather(*running)] == ["0", "1", "2", "3", "4"]


# ---- contract files


GATE: Final = {"tool": "it/work", "version": "1.0.0", "guardrails": [{"deny": "args.amount > 1"}]}


@pytest.mark.parametrize("said", ["contracts", "contracts/deep", "contracts/deep/work.json"])
async def test_contract_files_are_watched(operator: Operator, said: str) -> None:
    operator.put("contracts/deep/work.json", {"tool": "it/work"})
    await operator.adopt(contracts=[said])

    async def outcome() -> str:
        return await operator.outcome(amount=5)

    async with operator.watching():
        assert await outcome() == "done"
        operator.put("contracts/deep/work.json", GATE)
        await until(outcome, lambda seen: seen == "guardrail_denied", within_s=5)
        operator.put("contracts/deep/work.json", {"tool": "it/work"})
        await until(outcome, lambda seen: seen == "done", within_s=5)


async def test_a_contract_file_that_comes_or_goes_is_seen(operator: Operator) -> None:
    operator.put("contracts/other.json", {"tool": "it/other"})
    await operator.adopt(contracts=["contracts"])

    async def outcome() -> str:
        return await operator.outcome(amount=5)

    async with operator.watching():
        operator.put("contracts/sub/work.yaml", "tool: it/work\nguardrails:\n  - deny: args.amount > 1\n")
        await until(outcome, lambda seen: seen == "guardrail_denied", within_s=5)
        shutil.rmtree(operator.folder / "contracts" / "sub")
        await until(outcome, lambda seen: seen == "done", within_s=5)


async def test_a_folder_that_the_configuration_begins_to_name_is_watched_from_then_on(operator: Operator) -> None:
    async def outcome() -> str:
        return await operator.outcome(amount=5)

    operator.put("contracts/work.json", GATE)
    async with operator.watching():
        operator.write(contracts=["contracts"], state_dir="state")
        await until(outcome, lambda seen: seen == "guardrail_denied", within_s=5)
        operator.put("contracts/work.json", {"tool": "it/work"})
        await until(outcome, lambda seen: seen == "done", within_s=5)


async def test_a_broken_contract_keeps_the_old_one_and_says_where_it_is_broken(operator: Operator) -> None:
    operator.put("contracts/work.yaml", "tool: it/work\nguardrails:\n  - deny: args.amount > 1\n")
    await operator.adopt(contracts=["contracts"])
    async with operator.watching():
        for broken in ("tool: it/work\nguardrials: []\n", "tool: it/work\nguardrails:\n  - deny: args.amount >\n", "{"):
            operator.put("contracts/work.yaml", broken)
            error = await until(operator.error, lambda seen: seen is not None, within_s=5)
            assert "contracts/work.yaml" in error
            assert await operator.outcome(amount=5) == "guardrail_denied"
            assert (await operator.bascule.status())["config"]["error"] == error
            operator.put("contracts/work.yaml", "tool: it/work\nguardrails:\n  - deny: args.amount > 1\n")
            await until(operator.error, lambda seen: seen is None, within_s=5)
        operator.put("contracts/work.yaml", "tool: it/work\n")

        async def outcome() -> str:
            return await operator.outcome(amount=5)

        await until(outcome, lambda seen: seen == "done", within_s=5)


# ---- what is not adopted is not adopted in part


BROKEN: Final[dict[str, Json]] = {
    "a certificate's subject that is none": {"callers": {"one": {"keys": ["${env:ONE}"], "certificate": "no subject"}}},
    "an issuer that cannot be asked": {"auth": {"issuers": {"as": {"issuer": "https://as.example?tenant=1"}}}},
    "a public address that is none": {"http": {"public_url": "https://mcp.example/a b"}},
    "keys that cannot be read": {"state_dir": "broken"},
    "a role that is none": {"callers": {"one": {"keys": ["${env:ONE}"], "roles": ["boss"]}}},
    "a rule that is none": {"policy": {"rules": [{"match": "*", "guardrails": [{"deny": "args.("}]}]}},
    "a secret that is not set": {"callers": {"one": {"keys": ["${env:NOBODY}"]}}},
    "a contract folder that is not there": {"contracts": ["nowhere"]},
}


@pytest.mark.parametrize("name", BROKEN)
async def test_an_edit_that_cannot_be_adopted_changes_nothing(operator: Operator, name: str) -> None:
    """Neither the servers, nor who may call, nor the rules, even where the fault is found last."""
    deny = {"match": "it/work", "guardrails": [{"deny": "args.amount > 1"}]}
    shape: Json = {"callers": callers(operator, one=["*"]), "policy": {"rules": [deny]}, "state_dir": "state"}
    await operator.adopt(**shape)
    assert operator.bascule.gateway
    before = operator.bascule.gateway.config
    tls: Json = {"tls": {"cert": "x", "key": "x", "client_ca": "x", "client_cert": "optional"}}
    operator.put("broken/bascule.db", "this is no database")
    extra = {"http": tls} if "certificate" in name else {}
    error = await operator.refused(
        **{"servers": {"more": local("plain")}, "callers": callers(operator, two=["*"]), **extra, **BROKEN[name]}
    )
    assert error
    assert operator.bascule.gateway.config is before
    assert (await operator.outcome("one", amount=2), await operator.outcome("one", amount=1)) == (
        "guardrail_denied",
        "done",
    )
    assert await operator.outcome("two") == "unauthenticated"
    status, report = await operator.bascule.get("/status", operator.known.of("one"))
    assert (status, list(report["servers"]), report["config"]["error"]) == (200, ["it"], error)
    await operator.adopt(**{**shape, "policy": {}})
    assert await operator.outcome("one", amount=2) == "done"

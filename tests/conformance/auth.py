"""The judge of logins: what passes when a client logs in at the suite's own server also passes at Bascule.

    python tests/conformance/auth.py --suite NODE_MODULES/@modelcontextprotocol/conformance/dist/index.js \\
        --node NODE --python PYTHON_WITH_MCP

The official `auth/*` scenarios judge a client: each starts an authorization server and an MCP server that wants its
tokens, and watches what the client does. Here each is run twice with the official SDK's client
(tests/clients/login.py): once as it is, and once with Bascule between them, in the place of the MCP server. Bascule
gets the scenario's authorization server as its issuer and the scenario's scopes as its own. The client knows nothing
but Bascule's URL, so all that it does at the scenario's authorization server follows from the challenges and the
metadata that Bascule serves; and there the scenario judges it with the same checks.

Three things the scenario cannot see then, and they are judged here: which metadata were asked for, in which order, and
for which resource the token was (`OURS`). Its tokens mean something to the scenario's own server only, so Bascule asks
about them by introspection, and the answer is what that server does when it is shown the token.

Prints `AUTH n/m`: n of the m checks that pass directly pass through Bascule too. Exits 0 when that is all of them and
our own hold as well, 1 when not, 2 when a process does not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

HERE: Final = Path(__file__).resolve().parent
TESTS: Final = HERE.parent
sys.path.insert(0, str(TESTS))  # as pytest and mypy have it; this is a script

from conformance.run import NotStarted, serving, stop, until_ready  # noqa: E402 - the path has to be known first

MODERN: Final = "2026-07-28"
BOTH: Final = ("2025-11-25", MODERN)
SCENARIOS: Final[Mapping[str, tuple[str, ...]]] = {
    **{f"auth/{each}": BOTH for each in ("metadata-default", "pre-registration", "scope-step-up", "scope-retry-limit")},
    **{f"auth/scope-{each}": BOTH for each in ("from-www-authenticate", "from-scopes-supported")},
    "auth/scope-omitted-when-undefined": BOTH,
    "auth/token-endpoint-auth-none": ("2025-06-18", *BOTH),
    **{f"auth/token-endpoint-auth-{each}": (MODERN,) for each in ("basic", "post")},
    **{f"auth/metadata-{each}": (MODERN,) for each in ("var1", "var2", "var3", "issuer-mismatch")},
    **{f"auth/{each}": (MODERN,) for each in ("basic-cimd", "offline-access-scope", "offline-access-not-supported")},
    **{f"auth/iss-{each}": (MODERN,) for each in ("supported", "not-advertised", "supported-missing")},
    **{f"auth/iss-{each}": (MODERN,) for each in ("wrong-issuer", "unexpected", "normalized")},
}
"""Each scenario whose MCP server could be anybody's, and the revisions to run it at: those in which the server has a
say at every revision that the suite has for them, those about client and issuer alone at the newest.

Not: resource-mismatch, whose server lies about its resource; authorization-server-migration, whose server takes
tokens of another issuer from one request to the next; 2025-03-26-*, where the MCP server itself is the issuer or
stands at its address; DPoP, workload identity, enterprise-managed authorization and client credentials, which are
extensions.
"""
TOOL_SCOPES: Final[Mapping[str, str]] = {"auth/scope-step-up": "mcp:write"}
"""What a tool call needs beyond the entry, which the scenario's server says only to those who are in."""

CIMD: Final = "https://conformance-test.local/client-metadata.json"
SCENARIO_S: Final = 90.0
TOOL: Final = "demo__echo"
SAID: Final = "through the gate"
SEEN_BY_US: Final = frozenset({"prm-pathbased-requested", "prm-priority-order", "resource-parameter-matches-prm"})
"""Checks of the scenario's about its own server's metadata, where the client now has Bascule's."""
ABOUT_THE_SERVER: Final = frozenset({"wire-schema-valid", "wire-schema-harness-error"})
"""Checks of messages that the client exchanges with the scenario's server, which the other judge compares."""
ANSWERED: Final = "call-answered"
"""A check of ours in both runs: the tool that the client came for has answered."""
BAD: Final = frozenset({"FAILURE", "WARNING"})


class Check(NamedTuple):
    version: str
    scenario: str
    id: str

    def __str__(self) -> str:
        return f"{self.version} {self.scenario} {self.id}"


@dataclass(frozen=True)
class Options:
    node: str
    suite: str
    python: str
    out: Path
    keep: bool
    jobs: int
    scenario: str | None
    version: str | None


# ---- pure: what was seen, and what it means


def verdicts(version: str, scenario: str, checks: list[dict[str, Any]]) -> dict[Check, bool]:
    """Whether each check that said something passed, every time that it was made."""
    found: dict[Check, bool] = {}
    for each in checks:
        status, check = each["status"], Check(version, scenario, each["id"])
        if check.id not in ABOUT_THE_SERVER and status in BAD | {"SUCCESS"}:
            found[check] = found.get(check, True) and status not in BAD
    return found


def ours(version: str, scenario: str, report: Mapping[str, Any]) -> dict[Check, bool]:
    """What the scenario cannot see of a login at Bascule (MCP 2026-07-28, Authorization; RFC 9728, 3; RFC 8707, 2)."""
    base, requests = report["bascule"], report["requests"]
    place = f"{base}/.well-known/oauth-protected-resource"
    asked = [urlsplit(each["url"])._replace(query="").geturl() for each in requests]
    described = [each["status"] for each in requests if each["url"] == f"{place}/mcp"]
    challenges = [each["challenge"] or "" for each in requests if each["status"] in (401, 403)]
    resources = [each.get("resource") for each in report["authorizations"]]
    seen = {
        "prm-pathbased-requested": set(described) == {200},
        "prm-priority-order": place not in asked,
        "challenge-names-the-metadata": bool(challenges)
        and all(f'resource_metadata="{place}/mcp"' in each for each in challenges),
    }
    if resources:
        seen["resource-parameter-matches-prm"] = set(resources) == {f"{base}/mcp"}
    return {Check(version, scenario, id): passed for id, passed in seen.items()}


class Terms(NamedTuple):
    """What a scenario's server says of itself to somebody without a token."""

    issuer: str
    required: tuple[str, ...]  # what its challenge asks for
    supported: tuple[str, ...]  # what its metadata name


def bascule_config(scenario: str, terms: Terms, introspection: str, state: Path) -> dict[str, Any]:
    """A Bascule that asks of callers what the scenario's server asks."""
    needed = TOOL_SCOPES.get(scenario)
    grantable = [*terms.supported, *((needed,) if needed else ())]
    issuer = {
        "issuer": terms.issuer,
        "introspection": {"url": introspection, "client_id": "bascule", "client_secret": "${env:INTROSPECTION_SECRET}"},
        "grantable": grantable,
        "scopes": ["entry"],  # its tokens may grant nothing at all, which the scenario's server does not mind
    }
    echo = {"command": sys.executable, "args": [str(TESTS / "servers" / "plain.py")]}
    rules = [{"match": "demo/echo", "security_scope": needed}] if needed else []
    return {
        "servers": {"demo": echo},
        "state_dir": str(state),
        "auth": {"issuers": {"scenario": issuer}, "required_scopes": list(terms.required)},
        "policy": {"default": "allow", "rules": rules},
    }


# ---- between client and scenario


class Scenario:
    """The scenario's server, as Bascule's operator and its introspection see it."""

    def __init__(self, http: aiohttp.ClientSession, name: str, url: str, version: str) -> None:
        self._http = http
        self._name = name
        self._url = url
        self._version = version

    async def terms(self) -> Terms:
        """Its issuer and scopes, found in the order that clients look for them."""
        _, challenge = await self._post("tools/list", None)
        named = _parameter(challenge, "resource_metadata")
        origin = urlsplit(self._url)._replace(path="").geturl()
        well_known = f"{origin}/.well-known/oauth-protected-resource"
        for place in [named] if named else [f"{well_known}/mcp", well_known]:
            async with self._http.get(place) as response:
                if response.status == 200:
                    document = await response.json()
                    required = tuple(_parameter(challenge, "scope").split())
                    return Terms(document["authorization_servers"][0], required,
                                 tuple(document.get("scopes_supported", ())))  # fmt: skip
        raise NotStarted(f"{self._name}: no metadata at {self._url}")

    async def scopes_of(self, token: str, terms: Terms) -> list[str] | None:
        """What the scenario's server lets *token* do, as scopes; None when it does not know it."""
        listed, _ = await self._post("tools/list", token)
        if listed == 401:
            return None
        if listed in (403, 410):
            return []
        granted = [*terms.required, *terms.supported]
        if needed := TOOL_SCOPES.get(self._name):
            called, _ = await self._post("tools/call", token)
            # What its metadata name is not what this one looks at.
            granted = [*terms.required, *([needed] if called == 200 else [])]
        return granted

    async def _post(self, method: str, token: str | None) -> tuple[int, str]:
        """(status, challenge) of its answer."""
        params: dict[str, Any] = {"name": "test-tool", "arguments": {}} if method == "tools/call" else {}
        headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": self._version}
        if self._version == MODERN:
            stamp = "io.modelcontextprotocol/"
            params["_meta"] = {f"{stamp}protocolVersion": self._version, f"{stamp}clientCapabilities": {}}
            headers |= {"mcp-method": method} | ({"mcp-name": "test-tool"} if method == "tools/call" else {})
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with self._http.post(self._url, json=message, headers=headers) as response:
            return response.status, response.headers.get("www-authenticate", "")


def _parameter(challenge: str, name: str) -> str:
    found = re.search(rf'\b{name}="([^"]*)"', challenge)
    return found[1] if found else ""


@asynccontextmanager
async def introspecting(scenario: Scenario, terms: Terms, audience: list[str]) -> AsyncIterator[str]:
    """The URL of an introspection endpoint (RFC 7662) that knows the scenario's tokens."""

    async def answer(request: web.Request) -> web.Response:
        token = str((await request.post())["token"])
        scopes = await scenario.scopes_of(token, terms)
        if scopes is None:
            return web.json_response({"active": False})
        now_s = int(time.time())
        told = {"active": True, "iss": terms.issuer, "sub": "user", "aud": audience, "scope": " ".join(scopes)}
        return web.json_response({**told, "iat": now_s, "exp": now_s + 3600})

    app = web.Application()
    app.router.add_post("/introspect", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}/introspect"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def gateway(config: Mapping[str, Any], folder: Path, audience: list[str]) -> AsyncIterator[str]:
    """The URL of a Bascule with *config*; its resource id is put into *audience*."""
    file, log = folder / "bascule.json", folder / "bascule.log"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "bascule", "serve", "-c", str(file), "--port", "0"]
    at_home = {"XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "INTROSPECTION_SECRET": "x" * 32}
    async with serving(command, log, at_home) as url:
        base = url.removesuffix("/mcp")
        await until_ready(f"{base}/health/ready", log)
        audience.append(f"{base}/mcp")
        yield base


async def logged_in(python: str, url: str, version: str, *call: str) -> dict[str, Any]:
    """The report of the SDK's client after its visit to *url*."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    options = ["--mode", "auto" if version == MODERN else "legacy", "--client-url", CIMD]
    for name, option in (("client_id", "--client-id"), ("client_secret", "--client-secret")):
        options += [option, context[name]] if name in context else []
    options += ["--call", *call] if call else []
    script = str(TESTS / "clients" / "login.py")
    process = await asyncio.create_subprocess_exec(
        *(python, script, *options, url), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), SCENARIO_S)
    finally:
        await stop(process)
    report: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return report


async def between(python: str, folder: Path, url: str, *, direct: bool) -> int:
    """The command that the suite runs as the client of one scenario, whose server is at *url*."""
    name, version = os.environ["MCP_CONFORMANCE_SCENARIO"], os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    if direct:
        report = await logged_in(python, url, version)
    else:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
            scenario = Scenario(http, name, url, version)
            terms, audience = await scenario.terms(), list[str]()
            async with introspecting(scenario, terms, audience) as introspection:
                config = bascule_config(name, terms, introspection, folder / "state")
                async with gateway(config, folder, audience) as base:
                    report = await logged_in(python, f"{base}/mcp", version, TOOL, json.dumps({"text": SAID}))
                    report["bascule"] = base
    (folder / "report.json").write_text(json.dumps(report, indent=2))
    print(report["failed"])
    return 1 if report["failed"] else 0


# ---- the suite


async def run(options: Options, version: str, scenario: str, *, direct: bool) -> dict[Check, bool]:
    """What the suite, and we, found in one scenario."""
    folder = options.out / ("direct" if direct else "through") / version / scenario.removeprefix("auth/")
    folder.mkdir(parents=True)
    mine = [sys.executable, str(HERE / "auth.py"), "--between", str(folder), "--python", options.python]
    command = shlex.join([*mine, *(["--direct"] if direct else [])])
    arguments = ["--scenario", scenario, "--spec-version", version, "--command", command]
    limit_ms = str(int(SCENARIO_S * 1000))
    with (folder / "suite.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(options.node, options.suite, "client", *arguments, "--timeout", limit_ms, "-o", str(folder / "results")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), SCENARIO_S + 30)
        finally:
            await stop(process)
    return read(folder, version, scenario, direct=direct)


def read(folder: Path, version: str, scenario: str, *, direct: bool) -> dict[Check, bool]:
    found = next(folder.glob("results/**/checks.json"), None)
    if found is None:
        raise NotStarted(f"{version} {scenario}: the suite found nothing, see {folder}/suite.log")
    results = verdicts(version, scenario, json.loads(found.read_text()))
    file = folder / "report.json"
    report: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"answers": []}
    if any(isinstance(answer, str) for answer in report["answers"]):
        results[Check(version, scenario, ANSWERED)] = True
    if direct or not file.exists():
        return results
    kept = {check: passed for check, passed in results.items() if check.id not in SEEN_BY_US}
    return kept | ours(version, scenario, report)


async def judge(options: Options) -> bool:
    """Run and report everything; true when nothing is lost."""
    units = asyncio.Semaphore(options.jobs)

    async def one(version: str, scenario: str, *, direct: bool) -> dict[Check, bool]:
        async with units:
            return await run(options, version, scenario, direct=direct)

    pairs = [
        (version, scenario)
        for scenario, versions in SCENARIOS.items()
        for version in versions
        if options.scenario in (None, scenario) and options.version in (None, version)
    ]
    async with asyncio.TaskGroup() as group:
        direct = [group.create_task(one(*pair, direct=True)) for pair in pairs]
        through = [group.create_task(one(*pair, direct=False)) for pair in pairs]
    expected = {check for task in direct for check, passed in task.result().items() if passed}
    results = {check: passed for task in through for check, passed in task.result().items()}
    return report(len(pairs), expected, results)


def report(scenarios: int, expected: set[Check], results: Mapping[Check, bool]) -> bool:
    passed = {check for check, good in results.items() if good}
    bad = {check for check, good in results.items() if not good} - expected
    lost = sorted(expected - passed)
    own = {check for check in passed if check not in expected}
    print(f"AUTH {len(expected & passed)}/{len(expected)}  ({scenarios} scenarios; {len(own)} checks of our own)")
    for check in lost:
        print(f"    {check}: {'fails' if check in results else 'was not made'}")
    for check in sorted(bad):
        print(f"    {check}: fails, and was not asked directly")
    return bool(expected) and not lost and not bad


async def main(arguments: argparse.Namespace) -> int:
    options = Options(
        node=arguments.node,
        suite=str(arguments.suite),
        python=arguments.python,
        out=arguments.out or Path(tempfile.mkdtemp(prefix="bascule-auth-")),
        keep=arguments.out is not None,
        jobs=arguments.jobs,
        scenario=arguments.scenario,
        version=arguments.only,
    )
    good = False
    unstarted: tuple[BaseException, ...] = ()
    try:
        good = await judge(options)
    except* NotStarted as errors:
        unstarted = errors.exceptions
    for error in unstarted:
        print(f"auth.py: {error}", file=sys.stderr)
    if unstarted:
        return 2
    if not good:
        print(f"logs in {options.out}")
    elif not options.keep:
        shutil.rmtree(options.out)
    return 0 if good else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="node", help="the Node.js to run the suite with (22 or newer)")
    parser.add_argument("--suite", type=Path, help="dist/index.js of @modelcontextprotocol/conformance")
    parser.add_argument("--python", default=sys.executable, help="a Python that can import mcp 2.x")
    parser.add_argument("--only", choices=("2025-06-18", *BOTH), help="one revision only")
    parser.add_argument("--scenario", choices=tuple(SCENARIOS), help="one scenario only")
    parser.add_argument("--jobs", type=int, default=2, help="how many scenarios run at once")
    parser.add_argument("--out", type=Path, help="keep logs here; default: kept only when something is lost")
    parser.add_argument("--between", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)  # how the suite calls us
    parser.add_argument("--direct", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("url", nargs="?", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.between is None and given.suite is None:
        parser.error("--suite is needed")
    return given


if __name__ == "__main__":
    given = parse()
    if given.between is not None:
        sys.exit(asyncio.run(between(given.python, given.between, given.url, direct=given.direct)))
    sys.exit(asyncio.run(main(given)))

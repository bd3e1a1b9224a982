"""The judge: what passes when a client talks to the upstream directly also passes through Bascule.

    python tests/conformance/run.py --suite NODE_MODULES/@modelcontextprotocol/conformance/dist/index.js \\
        --node NODE --python PYTHON_WITH_MCP [--direct]

Runs the official server suite against `everything.py` and then against Bascule in front of it, per revision
of the specification and per route to the upstream, and compares check by check. Then the same across the eras:
the suite of one era, through Bascule, on an upstream that speaks only the other. Exits 0 when nothing is lost
that `expected-failures.yaml` does not excuse, 1 when something is or when an excuse is stale, 2 on bad usage
or when a process does not start. Standard library only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent
VERSIONS: Final = ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
ROUTES: Final = ("http", "stdio")
ERAS: Final = ("dual", "legacy", "modern")
CROSSINGS: Final = (("2025-11-25", "modern"), ("2026-07-28", "legacy"))
"""The suite's revision and the only era that the upstream speaks."""

TASK_SCENARIOS: Final = (
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
)
"""An extension is in no revision of the suite, so these are run by name, at 2026-07-28. Not with a legacy upstream:
it cannot have the extension, so Bascule does not advertise it (2026-07-28, Versioning, "Extension Negotiation")."""

START_S: Final = 30.0
SUITE_S: Final = 300.0  # a gateway that answers nothing makes each scenario wait for its own timeout
STOP_S: Final = 3.0
MESSAGE_LENGTH: Final = 400  # a schema violation quotes the whole message it is about


class Check(NamedTuple):
    """One assertion of the suite. Ids repeat within a scenario, so name and count are part of what it is."""

    scenario: str
    id: str
    name: str
    nth: int

    def __str__(self) -> str:
        again = f" ({self.name} {self.nth})" if self.nth > 1 else f" ({self.name})"
        return f"{self.scenario}/{self.id}{again}"


class Verdict(NamedTuple):
    status: str
    message: str

    def __str__(self) -> str:
        return f"{self.status}: {self.message}" if self.message else self.status


Results = Mapping[Check, Verdict]


class Target(NamedTuple):
    """What one run of the suite talks to; a route of None is the upstream itself."""

    version: str
    route: str | None
    era: str

    def __str__(self) -> str:
        upstream = "" if self.era == "dual" else f" ({self.era} upstream)"
        return f"{self.version} {self.route or 'direct'}{upstream}"

    @property
    def crosses(self) -> bool:
        return self.era != "dual" and self.era != era_of(self.version)


def era_of(version: str) -> str:
    return "modern" if version == VERSIONS[-1] else "legacy"


@dataclass(frozen=True)
class Excuse:
    """A loss that the specification asks for, or that the route cannot avoid."""

    check: str
    route: str
    versions: tuple[str, ...]
    why: str
    upstream: tuple[str, ...] = ERAS

    def covers(self, target: Target, check: Check) -> bool:
        return (
            self.check == f"{check.scenario}/{check.id}"
            and self.route in (target.route, "both")
            and target.version in self.versions
            and target.era in self.upstream
        )


@dataclass(frozen=True)
class Options:
    node: str
    suite: Path
    python: str
    bascule: tuple[str, ...]
    versions: tuple[str, ...]
    routes: tuple[str, ...]
    upstream: str | None
    scenario: str | None
    jobs: int
    out: Path
    keep: bool


class NotStarted(Exception):
    """A process did not come up; the message says which, and where its log is."""


# --- Pure: results in, verdict out


def read_results(folder: Path) -> dict[Check, Verdict]:
    """Every check in the `checks.json` files below *folder*."""
    results: dict[Check, Verdict] = {}
    for path in sorted(folder.glob("**/checks.json")):
        named = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z", path.parent.name)
        scenario = named[1] if named else path.parent.name
        seen: Counter[tuple[str, str]] = Counter()
        for check in json.loads(path.read_text()):
            key = (str(check["id"]), str(check["name"]))
            seen[key] += 1
            message = str(check.get("errorMessage") or "").split("\n")[0]
            verdict = Verdict(check["status"], message[:MESSAGE_LENGTH])
            results[Check(scenario, *key, seen[key])] = verdict
    return results


def passed(results: Results) -> list[Check]:
    return [check for check, verdict in results.items() if verdict.status == "SUCCESS"]


def failed(results: Results) -> list[Check]:
    return [check for check, verdict in results.items() if verdict.status in ("FAILURE", "WARNING")]


def lost(direct: Results, through: Results) -> dict[Check, str]:
    """What passed directly and did not pass through Bascule, each with what the suite said about it.

    A failure of which the direct run knows nothing counts too: the suite makes some checks only when they fail.
    """
    missing = Verdict("MISSING", "the scenario ended before this check")
    losses = {check: through.get(check, missing) for check in passed(direct)}
    losses |= {check: through[check] for check in failed(through) if check not in direct}
    return {check: str(verdict) for check, verdict in losses.items() if verdict.status != "SUCCESS"}


def passed_scenarios(results: Results) -> set[str]:
    """The scenarios in which something passed and nothing failed; the suite's INFO and SKIPPED say nothing."""
    return {check.scenario for check in passed(results)} - {check.scenario for check in failed(results)}


def expected_of(target: Target, direct: Results) -> Results:
    """What *target* can be asked for, of the results of the upstream that speaks both eras."""
    tasks = TASK_SCENARIOS if target.era == "legacy" else ()
    return {check: verdict for check, verdict in direct.items() if check.scenario not in tasks}


def read_excuses(path: Path) -> list[Excuse]:
    """The file is YAML in flow style, which without its comment lines is JSON: no YAML library is needed."""
    lines = path.read_text().splitlines()
    entries: list[Any] = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("#")))
    return [
        Excuse(
            check=entry["check"],
            route=entry["route"],
            versions=tuple(entry["versions"]),
            why=entry["why"],
            upstream=tuple(entry.get("upstream", ERAS)),
        )
        for entry in entries
    ]


def stale(excuse: Excuse, target: Target, direct: Results, losses: Iterable[Check]) -> bool:
    """The excuse covers a check of this run that was not lost after all."""
    covered = [check for check in passed(direct) if excuse.covers(target, check)]
    return bool(covered) and not set(covered) & set(losses)


# --- Processes


def last_line(log: Path) -> str:
    """Where the log of a process that failed is, and how it ends."""
    lines = log.read_text(errors="replace").split("\n")
    return f", see {log}: {next((line for line in reversed(lines) if line.strip()), 'it is empty')}"


def end(process: asyncio.subprocess.Process, how: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)


async def stop(process: asyncio.subprocess.Process) -> None:
    """End the process and its whole group, politely first; as a person would, for whom no balancer is waited for."""
    end(process, signal.SIGINT)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), STOP_S)
    end(process, signal.SIGKILL)
    await process.wait()


@asynccontextmanager
async def serving(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """Run a server in its own process group; the value is the URL that its first line starts with."""
    with log.open("wb") as log_file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log_file,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        stdout = process.stdout
        assert stdout is not None
        drain: asyncio.Task[bytes] | None = None
        try:
            line = b""
            with suppress(TimeoutError):
                line = await asyncio.wait_for(stdout.readline(), START_S)
            url = re.match(r"https?://\S+", line.decode())
            if url is None:
                raise NotStarted(f"{shlex.join(command)}: no URL on stdout within {START_S:.0f} s{last_line(log)}")
            drain = asyncio.create_task(stdout.read())  # a full pipe would stop the server
            yield url[0]
        finally:
            await stop(process)
            if drain:
                await drain


async def until_ready(url: str, log: Path) -> None:
    """Wait until the gateway at *url* says that it is ready to serve."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    deadline = time.monotonic() + START_S
    while not await asyncio.to_thread(ready):
        if time.monotonic() > deadline:
            raise NotStarted(f"{url} did not answer 200 within {START_S:.0f} s{last_line(log)}")
        await asyncio.sleep(0.1)


_META: Final = {
    "io.modelcontextprotocol/protocolVersion": VERSIONS[-1],
    "io.modelcontextprotocol/clientCapabilities": {},
}
_INITIALIZE: Final = {
    "protocolVersion": VERSIONS[-2],
    "capabilities": {},
    "clientInfo": {"name": "judge", "version": "0"},
}
OPENINGS: Final[Mapping[str, tuple[dict[str, Any], dict[str, str]]]] = {
    "legacy": ({"method": "server/discover", "params": {"_meta": _META}}, {"MCP-Protocol-Version": VERSIONS[-1]}),
    "modern": ({"method": "initialize", "params": _INITIALIZE}, {}),
}
"""What a client of the other era opens with, and its headers: a server of this era alone has to refuse it."""


async def refuses(era: str, options: Options) -> bool:
    """Whether the upstream of *era* turns a client of the other one away, over HTTP and over a pipe."""
    opening, headers = OPENINGS[era]
    message = json.dumps({"jsonrpc": "2.0", "id": 1, **opening}).encode() + b"\n"
    command = [options.python, str(HERE / "everything.py")]

    def status_at(url: str) -> int:
        accepted = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, message, accepted | headers), timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    async with serving([*command, "http", "0", "--era", era], options.out / f"refusing-{era}.log") as url:
        status = await asyncio.to_thread(status_at, url)
    process = await asyncio.create_subprocess_exec(
        *command,
        *("stdio", "--era", era),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(message)
        line = await asyncio.wait_for(process.stdout.readline(), START_S)
    finally:
        process.stdin.close()
        await stop(process)
    return status == 400 and "error" in json.loads(line)


@asynccontextmanager
async def reaching(target: Target, options: Options, folder: Path) -> AsyncIterator[str]:
    """The URL for the suite: the upstream's own, or Bascule's in front of it."""
    script = str(HERE / "everything.py")
    era = [] if target.era == "dual" else ["--era", target.era]
    if target.route == "stdio":
        server = {"command": options.python, "args": [script, "stdio", *era]}
        async with gateway(server, options, folder) as url:
            yield url
        return
    async with serving([options.python, script, "http", "0", *era], folder / "upstream.log") as upstream:
        if target.route is None:
            yield upstream
            return
        async with gateway({"url": upstream}, options, folder) as url:
            yield url


@asynccontextmanager
async def gateway(server: Mapping[str, Any], options: Options, folder: Path) -> AsyncIterator[str]:
    """The URL of that one server behind a fresh Bascule, whose state stays in *folder*."""
    servers, log = folder / "servers.json", folder / "bascule.log"
    servers.write_text(json.dumps({"mcpServers": {"everything": server}}))
    command = [*options.bascule, "serve", "--servers", str(servers), "--port", "0"]
    async with serving(command, log, {"XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}) as url:
        base = url.removesuffix("/mcp")
        await until_ready(f"{base}/health/ready", log)
        yield f"{base}/servers/everything/mcp"


async def run_suite(arguments: Sequence[str], options: Options, log: Path) -> None:
    """One run of the suite's command line; what it found is in the folder that `-o` names."""
    with log.open("wb") as log_file:
        process = await asyncio.create_subprocess_exec(
            options.node,
            str(options.suite),
            "server",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log_file,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), SUITE_S)
        finally:
            await stop(process)


def suite_runs(target: Target, scenario: str | None) -> list[list[str]]:
    """The command lines that cover *target*, without URL and output folder."""
    tasks = TASK_SCENARIOS if target.version == VERSIONS[-1] and target.era != "legacy" else ()
    if scenario in TASK_SCENARIOS:
        return [["--scenario", scenario]] if scenario in tasks else []
    if scenario:
        return [["--scenario", scenario, "--spec-version", target.version]]
    return [["--suite", "all", "--spec-version", target.version], *(["--scenario", name] for name in tasks)]


async def results_of(target: Target, options: Options, units: asyncio.Semaphore, suites: asyncio.Semaphore) -> Results:
    """Start what *target* needs, run the suite against it, and stop everything again."""
    folder = options.out / str(target).replace(" ", "-").replace("(", "").replace(")", "")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    async def run(number: int, arguments: Sequence[str], url: str) -> None:
        async with suites:
            output = ["--url", url, "-o", str(folder / "results")]
            await run_suite([*arguments, *output], options, folder / f"suite-{number}.log")

    async with units, reaching(target, options, folder) as url:
        runs = suite_runs(target, options.scenario)
        await asyncio.gather(*(run(number, arguments, url) for number, arguments in enumerate(runs)))
    return read_results(folder / "results")


# --- The report


def report_direct(target: Target, results: Mapping[Target, Results]) -> bool:
    """Print what the upstream itself passes; true unless it passes less for speaking one era only."""
    found = results[target]
    print(f"{target}  {len(passed(found))} passed, {len(failed(found))} failed")
    losses = lost(expected_of(target, results[target._replace(era="dual")]), found)
    for check in {**dict.fromkeys(failed(found)), **losses}:
        print(f"    {check}\n        {found.get(check, losses.get(check))}")
    return not losses


def report_route(target: Target, direct: Results, through: Results, excuses: Sequence[Excuse]) -> bool:
    """Print one line and the losses below it; true when every loss is excused and no excuse is stale."""
    expected = expected_of(target, direct)
    losses = lost(expected, through)
    if target.crosses:
        print(crossing_line(target, expected, through))
    else:
        print(f"{target}  LOST {len(losses)}/{len(passed(expected))}")
    good = True
    for check, message in losses.items():
        excuse = next((each for each in excuses if each.covers(target, check)), None)
        good = good and excuse is not None
        print(f"    {check}\n        {message}")
        if excuse:
            print(f"        expected: {excuse.why}")
    for excuse in excuses:
        if stale(excuse, target, expected, losses):
            good = False
            print(f"    {excuse.check} passes now: take it out of expected-failures.yaml")
    return good


def crossing_line(target: Target, expected: Results, through: Results) -> str:
    scenarios, checks = passed_scenarios(expected), passed(expected)
    kept = scenarios & passed_scenarios(through)
    same = [check for check in checks if check in through and through[check].status == "SUCCESS"]
    client = target.version[:4] if (target.version, target.era) in CROSSINGS else target.version
    server = VERSIONS[-1][:4] if target.era == "modern" else VERSIONS[-2][:4]
    counts = f"{len(kept)}/{len(scenarios)} scenarios {len(same)}/{len(checks)} checks"
    return f"CROSS {client}-on-{server} {counts} ({target.route})"


def targets(options: Options) -> tuple[list[Target], list[Target]]:
    """The runs without Bascule, which say what can be expected, and those through it."""
    direct = [Target(version, None, "dual") for version in options.versions]
    if not options.routes:
        # Each upstream of one era is worth as much in it as the one that speaks both.
        direct += [Target(version, None, era_of(version)) for version in options.versions]
    if options.upstream is None:
        pairs = [(version, "dual") for version in options.versions]
        pairs += [pair for pair in CROSSINGS if pair[0] in options.versions]
    else:
        eras = ERAS if options.upstream == "all" else (options.upstream,)
        pairs = [(version, era) for era in eras for version in options.versions]
    return direct, [Target(version, route, era) for version, era in pairs for route in options.routes]


async def judge(options: Options, excuses: Sequence[Excuse]) -> bool:
    """Run and report everything that was asked for; true when Bascule loses nothing."""
    units, suites = asyncio.Semaphore(options.jobs), asyncio.Semaphore(2 * options.jobs)
    direct, through = targets(options)
    async with asyncio.TaskGroup() as group:
        running = {
            target: group.create_task(results_of(target, options, units, suites)) for target in [*direct, *through]
        }
    results = {target: task.result() for target, task in running.items()}
    if not any(passed(results[target]) for target in direct):
        raise NotStarted(f"nothing passed directly, so there is nothing to compare, see {options.out}")
    verdicts = [report_direct(target, results) for target in direct]
    for era in sorted({target.era for target in direct} & OPENINGS.keys()):
        verdicts.append(await refuses(era, options))
        print(f"the {era} upstream {'refuses' if verdicts[-1] else 'SERVES'} clients of the other era")
    for target in through:
        expected = results[Target(target.version, None, "dual")]
        verdicts.append(report_route(target, expected, results[target], excuses))
    return all(verdicts)


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="node", help="the Node.js to run the suite with (22 or newer)")
    parser.add_argument("--suite", type=Path, required=True, help="dist/index.js of @modelcontextprotocol/conformance")
    parser.add_argument("--python", default=sys.executable, help="a Python that can import mcp 2.x")
    parser.add_argument("--bascule", default=f"{sys.executable} -m bascule", help="the command to judge")
    parser.add_argument("--only", choices=VERSIONS, help="one revision only")
    parser.add_argument("--route", choices=ROUTES, help="one route only")
    parser.add_argument(
        "--upstream", choices=[*ERAS, "all"], help="the eras the upstream may speak; default: both, and the crossings"
    )
    parser.add_argument("--scenario", help="one scenario only")
    parser.add_argument("--jobs", type=int, default=2, help="how many upstreams run at once")
    parser.add_argument("--direct", action="store_true", help="score the upstream itself, without Bascule")
    parser.add_argument(
        "--out", type=Path, help="keep logs and results here; default: kept only when something is wrong"
    )
    given = parser.parse_args(arguments)
    return Options(
        node=given.node,
        suite=given.suite,
        python=given.python,
        bascule=tuple(shlex.split(given.bascule)),
        versions=(given.only,) if given.only else VERSIONS,
        routes=() if given.direct else (given.route,) if given.route else ROUTES,
        upstream=given.upstream,
        scenario=given.scenario,
        jobs=given.jobs,
        out=given.out or Path(tempfile.mkdtemp(prefix="bascule-conformance-")),
        keep=given.out is not None,
    )


async def main(options: Options) -> int:
    started_s = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    unstarted: tuple[BaseException, ...] = ()
    good = False
    try:
        good = await judge(options, read_excuses(HERE / "expected-failures.yaml"))
    except* NotStarted as errors:
        unstarted = errors.exceptions
    for error in unstarted:
        print(f"run.py: {error}", file=sys.stderr)
    if unstarted:
        return 2
    print(f"{time.monotonic() - started_s:.0f} s" + ("" if good else f", logs in {options.out}"))
    if good and not options.keep:
        shutil.rmtree(options.out)
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(parse())))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)  # interrupted; every process is gone by now

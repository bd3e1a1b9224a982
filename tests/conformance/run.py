"""The judge: what passes when a client talks to the upstream directly also passes through Bascule.

    python tests/conformance/run.py --suite NODE_MODULES/@modelcontextprotocol/conformance/dist/index.js \\
        --node NODE --python PYTHON_WITH_MCP [--direct]

Runs the official server suite against `everything.py` and then against Bascule in front of it, per revision
of the specification and per route to the upstream, and compares check by check. Exits 0 when nothing is lost
that `expected-failures.yaml` does not excuse, 1 when something is or when an excuse is stale, 2 on bad usage
or when a process does not start. Standard library only.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
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
"""An extension is in no revision of the suite, so these are run by name, at 2026-07-28."""

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


Results = Mapping[Check, Verdict]


class Target(NamedTuple):
    """What one run of the suite talks to; a route of None is the upstream itself."""

    version: str
    route: str | None
    era: str

    def __str__(self) -> str:
        upstream = "" if self.era == "dual" else f" ({self.era} upstream)"
        return f"{self.version} {self.route or 'direct'}{upstream}"


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
    eras: tuple[str, ...]
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
    """What passed directly and did not pass through Bascule, each with what the suite said about it."""
    losses = {}
    for check in passed(direct):
        verdict = through.get(check, Verdict("MISSING", "the scenario ended before this check"))
        if verdict.status != "SUCCESS":
            losses[check] = f"{verdict.status}: {verdict.message}" if verdict.message else verdict.status
    return losses


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
    """End the process and its whole group, politely first."""
    end(process, signal.SIGTERM)
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


def suite_runs(version: str, scenario: str | None) -> list[list[str]]:
    """The command lines that cover *version*, without URL and output folder."""
    modern = version == VERSIONS[-1]
    if scenario in TASK_SCENARIOS:
        return [["--scenario", scenario]] if modern else []
    if scenario:
        return [["--scenario", scenario, "--spec-version", version]]
    tasks = [["--scenario", name] for name in TASK_SCENARIOS] if modern else []
    return [["--suite", "all", "--spec-version", version], *tasks]


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
        runs = suite_runs(target.version, options.scenario)
        await asyncio.gather(*(run(number, arguments, url) for number, arguments in enumerate(runs)))
    return read_results(folder / "results")


# --- The report


def report_direct(target: Target, results: Results) -> None:
    print(f"{target}  {len(passed(results))} passed, {len(failed(results))} failed")
    for check in failed(results):
        print(f"    {check}\n        {results[check].message}")


def report_route(target: Target, direct: Results, through: Results, excuses: Sequence[Excuse]) -> bool:
    """Print one line and the losses below it; true when every loss is excused and no excuse is stale."""
    losses = lost(direct, through)
    print(f"{target}  LOST {len(losses)}/{len(passed(direct))}")
    good = True
    for check, message in losses.items():
        excuse = next((each for each in excuses if each.covers(target, check)), None)
        good = good and excuse is not None
        print(f"    {check}\n        {message}")
        if excuse:
            print(f"        expected: {excuse.why}")
    for excuse in excuses:
        if stale(excuse, target, direct, losses):
            good = False
            print(f"    {excuse.check} passes now: take it out of expected-failures.yaml")
    return good


async def judge(options: Options, excuses: Sequence[Excuse]) -> bool:
    """Run and report everything that was asked for; true when Bascule loses nothing."""
    units, suites = asyncio.Semaphore(options.jobs), asyncio.Semaphore(2 * options.jobs)
    direct = {version: Target(version, None, "dual") for version in options.versions}
    combinations = itertools.product(options.versions, options.routes, options.eras)
    through = [Target(*combination) for combination in combinations]
    async with asyncio.TaskGroup() as group:
        running = {
            target: group.create_task(results_of(target, options, units, suites))
            for target in [*direct.values(), *through]
        }
    results = {target: task.result() for target, task in running.items()}
    if not any(passed(results[target]) for target in direct.values()):
        raise NotStarted(f"nothing passed directly, so there is nothing to compare, see {options.out}")
    for target in direct.values():
        report_direct(target, results[target])
    verdicts = [report_route(each, results[direct[each.version]], results[each], excuses) for each in through]
    return all(verdicts)


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="node", help="the Node.js to run the suite with (22 or newer)")
    parser.add_argument("--suite", type=Path, required=True, help="dist/index.js of @modelcontextprotocol/conformance")
    parser.add_argument("--python", default=sys.executable, help="a Python that can import mcp 2.x")
    parser.add_argument("--bascule", default=f"{sys.executable} -m bascule", help="the command to judge")
    parser.add_argument("--only", choices=VERSIONS, help="one revision only")
    parser.add_argument("--route", choices=ROUTES, help="one route only")
    parser.add_argument("--upstream", choices=[*ERAS, "all"], default="dual", help="the eras the upstream may speak")
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
        eras=ERAS if given.upstream == "all" else (given.upstream,),
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

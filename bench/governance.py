"""What policy costs: Bascule with all of it, Bascule with none, and mcp-proxy, side by side in one run.

    python bench/governance.py           about 5 minutes: 6 rounds of 2 seconds a point; writes docs/benchmarks.md
    python bench/governance.py --quick   about half a minute: one round, for a look
    python bench/governance.py --check   some seconds: no peers, and only a glance at the speed

A governed call shows an API key of the key store and needs a scope; its arguments are checked against a schema
and by three rules in CEL; it counts in two rates and is paid from a daily budget. Before anything is measured
each of these has to refuse a call. Rounds go A B C, C B A, so that drift hits all alike.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import sub, truediv
from pathlib import Path
from typing import Any, Final, NamedTuple

import peers
import report
import run
from echo import MODERN, Json
from exchange import META, Era, compact
from footprint import Footprint
from report import ERAS, GATEWAY_CPU, P99, RATE, TIMES, ByRound, Figure, Goal, Point, Results, Tables, by_round
from sink import collecting
from targets import MCP_PROXY, STDIO_UPSTREAM, Running, Target, every_target, filled, running

RESULTS: Final = run.HERE / "governance.json"
UNGOVERNED, GOVERNED, WATCHED = "Bascule, ungoverned", "Bascule, governed", "Bascule, governed and watched"
CONNECTIONS: Final = (1, 16)
MOST_CPU_US: Final = 45
LEAST_RATIO: Final = 7
LEAST_WATCHED: Final = 3

# More than any run makes: the calls that are measured are counted, and none is refused.
PLENTY: Final = "100000000/minute"
PRICE_USD: Final = 0.000_001
DENIED: Final = "rm -rf /"
RULES: Final = (f"args.text == {json.dumps(DENIED)}", "size(args.text) > 20000", "args.text.startsWith('sudo ')")
SCHEMA: Final[Json] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


class NotGovernedError(Exception):
    """A call that had to be refused was not, or one was that had not; the text says which."""


# ------------------------------------------------------------------ what is measured


def servers() -> Json:
    command, *args = filled(STDIO_UPSTREAM, tools=report.FEW_TOOLS)
    return {"echo": {"command": command, "args": args}}


def policy(caller_rate: str = PLENTY, tool_rate: str = PLENTY, budget_usd: float = 1e6) -> Json:
    """A configuration in which `echo` is governed by all there is, and `blob` is out of its caller's reach."""
    budget = {"usd": budget_usd, "per": "day"}
    echo = {
        "tool": "echo/echo",
        "version": "1.0.0",
        "input_schema": SCHEMA,
        "security_scope": "echo:write",
        "guardrails": [{"deny": rule} for rule in RULES],
        "rate_limit": tool_rate,
        "cost_model": {"price_usd": PRICE_USD},
    }
    return {
        "servers": servers(),
        "state_dir": "state",
        "roles": {"writer": ["echo:write"]},
        "callers": {"bench": {"roles": ["writer"], "limits": {"rate": caller_rate, "budget": budget}}},
        "contracts": [echo, {"tool": "echo/blob", "security_scope": "admin:write"}],
    }


def served(name: str, bascule: Sequence[str], config: Json) -> Target:
    command = (*bascule, "serve", "-c", "{config}", "--port", "{port}")
    key = (*bascule, "keys", "create", "bench", "-c", "{config}") if "callers" in config else ()
    return Target(name, command, path="/servers/echo/mcp", config=config, key=key)


def targets(options: Options, collector: str) -> list[Target]:
    """*collector* takes the spans of a gateway that is watched: metrics, a line of the log and a trace of each call."""
    watched = {"logs": {"format": "json", "calls": "all"}, "tracing": {"endpoint": collector}}
    ours = [
        served(UNGOVERNED, options.bascule, {"servers": servers()}),
        served(GOVERNED, options.bascule, policy()),
        served(WATCHED, options.bascule, policy() | watched),
    ]
    if options.check:
        return ours
    return [*ours, *(each for each in every_target(options.bascule, options.peers.resolve()) if each.name == MCP_PROXY)]


# ------------------------------------------------------------------ that it is governed


class Proof(NamedTuple):
    """Arguments of calls, one after the other, and the kind of error of each; "" is a good result."""

    what: str
    config: Json
    calls: Sequence[tuple[str, Json]]
    wanted: Sequence[str]


_GOOD: Final = ("echo", {"text": "hello"})
# To see that a gateway is up takes one call, which counts in every limit.
PROOFS: Final = (
    Proof(
        "a scope, a rule, the schema and the caller's rate",
        policy(caller_rate="4/hour"),
        [("blob", {"size": 1}), ("echo", {"text": DENIED}), ("echo", {}), _GOOD, _GOOD],
        ["tool_not_found", "guardrail_denied", "invalid_argument", "", "rate_limited"],
    ),
    Proof("the tool's rate", policy(tool_rate="3/hour"), [_GOOD] * 3, ["", "", "rate_limited"]),
    Proof("the budget", policy(budget_usd=3 * PRICE_USD), [_GOOD] * 3, ["", "", "budget_exceeded"]),
)


def prove(options: Options, scratch: Path) -> None:
    """Raises NotGovernedError unless each part of the policy refuses what it is there to refuse."""
    for proof in PROOFS:
        with running(served(proof.what, options.bascule, proof.config), report.FEW_TOOLS, scratch) as server:
            seen = [kind_of_answer(server, server.headers, *each) for each in proof.calls]
            if seen != list(proof.wanted):
                raise NotGovernedError(f"{proof.what}: {proof.wanted} was to come, and {seen} came")
            if (kind := kind_of_answer(server, {}, *_GOOD)) != "unauthenticated":
                raise NotGovernedError(f"a call without a key: {kind or 'answered'}")


def kind_of_answer(server: Running, headers: Mapping[str, str], tool: str, arguments: Json) -> str:
    """The kind of error that one call comes to; "" for a result that says what the call cost."""
    said = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool}
    plain = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    params = {"name": tool, "arguments": arguments, "_meta": {**META, "dev.bascule/errors": "jsonrpc"}}
    body = compact({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    request = urllib.request.Request(server.url, body, {**plain, **said, **headers})
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            answer: Json = json.load(response)
    except urllib.error.HTTPError as error:
        answer = json.load(error)
    if "error" in answer:
        kind: str = answer["error"]["data"]["kind"]
        return kind
    label = answer["result"].get("_meta", {}).get("dev.bascule/call", {})
    return "" if label.get("cost_usd") == PRICE_USD else f"a result whose label is {label}"


# ------------------------------------------------------------------ what comes of it


def worst_cpu_us(results: Results) -> float:
    """What policy adds to a call at 16 connections, in the era where it adds more."""
    return report.known(max, [report.spread(added(results, era, 16).values()).median for era in ERAS])


def added(results: Results, era: Era, connections: int) -> ByRound:
    """CPU of a governed call above an ungoverned one's, in µs, in each round that has both."""
    with_policy, without = (
        by_round(results, Point(name, era, connections), GATEWAY_CPU) for name in (GOVERNED, UNGOVERNED)
    )
    return {number: sub(with_policy[number], without[number]) for number in with_policy.keys() & without.keys()}


def goals(results: Results) -> list[Goal]:
    ours, theirs = (by_round(results, Point(name), RATE) for name in (GOVERNED, MCP_PROXY))
    ratio = report.compared(ours, theirs, truediv)
    watched = by_round(results, Point(WATCHED), RATE)
    slow, slower = (by_round(results, Point(name, connections=1), P99) for name in (WATCHED, MCP_PROXY))
    slowness = report.compared(slow, slower, truediv)
    return [
        Goal("CPU of a governed call, above an ungoverned one's", "≤", MOST_CPU_US, worst_cpu_us(results), "µs"),
        Goal("calls/s of governed calls, of mcp-proxy's", "≥", LEAST_RATIO, ratio, TIMES),
        Goal("the same, everything on", "≥", LEAST_WATCHED, report.compared(watched, theirs, truediv), TIMES),
        Goal("p99 of one connection, everything on, of mcp-proxy's", "≤", 1, slowness, TIMES),
    ]


def columns(figure: Figure) -> Mapping[str, tuple[Mapping[str, Any], Figure]]:
    return {
        f"{era}, {connections}": ({"era": era, "connections": connections}, figure)
        for era in ERAS
        for connections in CONNECTIONS
    }


def cpu_table(results: Results) -> str:
    differences = [
        report.cell(report.spread(added(results, era, connections).values()))
        for era in ERAS
        for connections in CONNECTIONS
    ]
    last = " | ".join(["governed, above ungoverned", *differences])
    return f"{report.figures_table(results, columns(GATEWAY_CPU))}\n| {last} |"


TABLES: Final[Tables] = {
    "governed_about": report.about_table,
    "governed_goals": lambda results: report.judged(goals(results)),
    "governed_rates": lambda results: report.figures_table(results, columns(RATE)),
    "governed_cpu": cpu_table,
    "governed_p99": lambda results: report.figures_table(results, columns(P99)),
}


# ------------------------------------------------------------------ command line


class Options(run.Options):
    check: bool

    @property
    def whole(self) -> bool:
        return not (self.quick or self.check)


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measured window")
    parser.add_argument("--quick", action="store_true", help="1 round of 0.5 s, nothing measured twice")
    parser.add_argument("--check", action="store_true", help="1 round of 0.2 s, without peers")
    parser.add_argument("--report", action="store_true", help="write the tables from the last results")
    parser.add_argument("--peers", type=Path, default=peers.FOLDER, help="folder of the peers' environments")
    parser.add_argument("--bascule", type=shlex.split, default=[sys.executable, "-m", "bascule"])
    options = parser.parse_args(arguments, namespace=Options())
    if not options.whole:
        options.rounds, options.seconds = 1, 0.2 if options.check else 0.5
    return options


def measure(options: Options) -> Results:
    """One whole run. Raises NotGovernedError, also where a call of the load was refused, and StartError."""
    if not options.check:
        peers.create(options.peers)
    with tempfile.TemporaryDirectory(prefix="bascule-bench-") as scratch, collecting() as collector:
        prove(options, Path(scratch))
        seen = run.Run(options.seconds, min(0.7, options.seconds / 2), 2 if options.whole else 0, Path(scratch))
        for number in range(1, options.rounds + 1):
            for target in targets(options, collector)[:: 1 if number % 2 else -1]:
                visit(seen, target, number)
    if refused := {error for row in seen.rows for error in row.sample.errors if row.target != MCP_PROXY}:
        raise NotGovernedError(f"calls of the load failed: {', '.join(sorted(refused))}")
    return Results(
        about={**run.about(options), "strangers": run.disturbance(seen.rows)},
        rows=sorted(seen.rows, key=lambda row: row.target != UNGOVERNED),
        starts=seen.starts,
        footprint=Footprint(),
        notes=[*dict.fromkeys(seen.notes)],
    )


def visit(seen: run.Run, target: Target, number: int) -> None:
    with seen.noting(target), running(target, report.FEW_TOOLS, seen.scratch) as server:
        for era in target.eras:
            for connections in CONNECTIONS:
                seen.measure(run.Place(target, server, number), seen.load(era, connections), "load")


def main(arguments: Sequence[str] | None = None) -> Results:
    options = parse(arguments)
    results = report.parsed(json.loads(RESULTS.read_text())) if options.report else measure(options)
    print(report.every_table(results, TABLES))
    if options.whole:
        RESULTS.write_text(json.dumps(asdict(results), indent=1))
        run.PAGE.write_text(report.with_tables(run.PAGE.read_text(), results, TABLES))
    return results


if __name__ == "__main__":
    main()

"""`bascule doctor`: what a setup lacks, how to mend it, and what it scores."""

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli.talk import failing, note
from bascule.cli.target import Target, default_file
from bascule.errors import BasculeError, ConfigInvalid, Internal

if TYPE_CHECKING:
    from bascule.admin.contracts import Listed
    from bascule.admin.doctor.examine import Running
    from bascule.admin.doctor.finding import Finding
    from bascule.admin.doctor.kept import Kept
    from bascule.admin.doctor.repair import Done
    from bascule.admin.doctor.setup import Setup
    from bascule.admin.inspect import Peer
    from bascule.admin.scorecard.rating import Scorecard

_BREAKS: Final = re.compile(r"\s*[\r\n]\s*|\t")
_LIST_S: Final = 20.0  # for the lists of one server
_NOTHING: Final[Mapping[str, str]] = {}
_STYLES: Final = {"error": "bold red", "warning": "yellow", "note": "dim", "met": "green", "partly": "yellow"}

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="bascule.yaml, .json or .toml.")]


def register(app: typer.Typer) -> None:
    app.command()(doctor)


@failing
def doctor(
    config: ConfigOption = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Of the gateway; default: where the configuration says that it listens.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Make the folders that are missing, and take permissions away from others.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings, too.")] = False,
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="It runs on another machine: say nothing of this one.")
    ] = False,
    scorecard: Annotated[
        bool, typer.Option("--scorecard", help="Rate the setup on 37 criteria, and say how to gain each point.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the scorecard as a page.")] = None,
    files: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where deployment files are; default: around the configuration."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say what a setup lacks: one line for each finding, and one command or line of configuration that mends it.

    Looks at the configuration, at this machine, and at the gateway if it runs. Exit 1 when there are errors, 2 when the
    configuration cannot be read.

    Example: bascule doctor -c bascule.yaml --strict
    """
    if (html or files) and not scorecard:
        raise ConfigInvalid("--html and --files are for --scorecard")
    path = config or (default_file() if url is None or default_file().exists() else None)
    if path is None:
        if scorecard or fix:
            raise ConfigInvalid("that needs the configuration: give -c FILE")
        gateway, unreachable = _gateway(url, None, None, afar=True)
        sys.exit(
            _told(_of_gateway(gateway, unreachable), {}, _looked_at(None, gateway), strict=strict, as_json=as_json)
        )
    setup = _setup(path, as_json=as_json)
    gateway, unreachable = (None, []) if elsewhere and url is None else _gateway(url, path, setup, afar=elsewhere)
    from bascule.admin.doctor import sandbox

    if scorecard:
        sys.exit(_rate(setup, gateway, files or path.parent, html, strict=strict, as_json=as_json))
    found, done = _examined(setup, gateway, unreachable, elsewhere=elsewhere, fix=fix)
    looked_at = _looked_at(path, gateway, {} if elsewhere else sandbox.layers(setup))
    sys.exit(_told(found, done, looked_at, strict=strict, as_json=as_json))


# ---- looking -------------------------------------------------------------------------------------


def _setup(path: Path, *, as_json: bool) -> "Setup":
    """The configuration; one that cannot be read is the finding, and the end."""
    from bascule.admin.doctor import setup
    from bascule.admin.doctor.finding import finding

    try:
        return setup.read(path, os.environ, time.time())
    except ConfigInvalid as error:
        where, what = error.place or str(path), str(error).removeprefix(f"{error.place}: ")
        wrong = finding("configuration-wrong", where, what, f"bascule validate {path}")
        _told([wrong], {}, _looked_at(path, None), strict=False, as_json=as_json)
        sys.exit(2)


def _examined(
    setup: "Setup", gateway: "Running | None", unreachable: "Sequence[Finding]", *, elsewhere: bool, fix: bool
) -> "tuple[Sequence[Finding], Mapping[Finding, Done]]":
    from bascule.admin.doctor import repair
    from bascule.admin.doctor.examine import examine
    from bascule.admin.doctor.finding import ordered

    found = ordered([*unreachable, *examine(setup, gateway, elsewhere=elsewhere)])
    return found, {each.finding: each for each in repair.apply(found)} if fix else {}


def _of_gateway(gateway: "Running | None", unreachable: "Sequence[Finding]") -> "Sequence[Finding]":
    from bascule.admin.doctor.examine import of_gateway

    return unreachable if gateway is None else of_gateway(gateway)


def _gateway(
    url: str | None, path: Path | None, setup: "Setup | None", *, afar: bool
) -> "tuple[Running | None, Sequence[Finding]]":
    """What a gateway says of itself; *afar*: and of its records, which nobody can read from here.

    That none answers is a finding if somebody said that it does.
    """
    from bascule.admin.doctor.examine import Running
    from bascule.admin.doctor.finding import finding
    from bascule.admin.doctor.kept import Kept
    from bascule.cli import remote

    if url is None and setup is not None and setup.config.http.tls is not None:
        note("the gateway is not looked at: it listens with TLS; say with --url how it is reached")
        return None, []
    base = remote.base_of(url, path)
    try:
        status = remote.ask(base, "GET", "/status")
        if not isinstance(status, dict) or not isinstance(status.get("servers"), dict):
            raise Internal("what answers there is no Bascule", http_status=200)
    except BasculeError as error:
        if url is None and error.details.get("http_status") is None:
            note(f"no gateway runs at {base}, so that only the configuration and the records are looked at")
            return None, []
        fix = "export BASCULE_TOKEN=…" if error.details.get("http_status") in (401, 403) else f"curl -i {base}/status"
        return None, [finding("gateway-unreachable", base, str(error), fix)]
    return Running(
        base,
        status,
        _listed(base, status),
        usage=_member(base, "/api/usage"),
        budgets=_member(base, "/api/slo").get("budgets", ()),
        orphans=_member(base, "/api/registry/orphans").get("orphans", ()),
        left=_left(base) if afar else Kept(),
        at_s=time.time(),
    ), []


def _left(base: str) -> "Kept":
    from bascule.admin.doctor import kept

    return kept.of_answers(
        _member(base, "/api/journal", state="UNKNOWN").get("calls", ()),
        _member(base, "/api/approvals", state="pending").get("approvals", ()),
        _member(base, "/api/reviews").get("reviews", ()),
        time.time(),
    )


def _member(base: str, path: str, **query: str) -> dict[str, Any]:
    """What a gateway says there; nothing, where it says that to others only, or keeps no records."""
    from bascule.cli import remote

    try:
        found = remote.ask(base, "GET", path, query=query)
    except BasculeError as error:
        note(f"{path} is not looked at: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _listed(base: str, status: Mapping[str, Any]) -> "list[Listed]":
    """What the servers of a gateway list, as far as whoever asks may see it."""
    from bascule.admin import contracts
    from bascule.cli import terminal, visit
    from bascule.cli.credentials import headers_of_environment

    found: list[Listed] = []
    for name, server in status["servers"].items():
        if server.get("lists") not in ("fresh", "stale"):
            continue
        url = f"{base}/servers/{name}/mcp"
        target = Target(
            url=url, headers=headers_of_environment(url, ()), env={}, era="auto", timeout_s=_LIST_S, as_json=False
        )

        async def listed(peer: "Peer", name: str = name) -> "list[Listed]":
            return await contracts.listed(peer, name)

        try:
            found += visit.with_peer(target, terminal.Person(), listed)
        except BasculeError as error:
            note(f"what {name} lists is not looked at: {error}")
    return found


# ---- telling -------------------------------------------------------------------------------------


def _looked_at(path: Path | None, gateway: "Running | None", walls: Mapping[str, str] = _NOTHING) -> dict[str, Any]:
    """*walls*: what is around each local server, or would be."""
    return {
        "configuration": None if path is None else str(path),
        "gateway": None if gateway is None else gateway.url,
        "listed": 0 if gateway is None else len(gateway.things),
        "sandbox": dict(walls),
    }


def _told(
    found: "Sequence[Finding]",
    done: "Mapping[Finding, Done]",
    looked_at: Mapping[str, Any],
    *,
    strict: bool,
    as_json: bool,
) -> int:
    """Print it; the exit code."""
    from bascule.admin.doctor.finding import counts
    from bascule.cli import show

    left = [each for each in found if not (each in done and not done[each].error)]
    if as_json:
        show.document({**counts(left), "findings": [_as_json(each, done) for each in found], "looked_at": looked_at})
    else:
        for each in found:
            _print_finding(each, done.get(each))
        for name, walls in looked_at["sandbox"].items():
            note(f"around {name}: {walls}")
        said = [f"{count} {level.removesuffix('s') if count == 1 else level}" for level, count in counts(left).items()]
        note(", ".join(said) if left else "nothing is wrong")
    bad = {"error", "warning"} if strict else {"error"}
    return 1 if any(each.severity in bad for each in left) else 0


def _as_json(found: "Finding", done: "Mapping[Finding, Done]") -> dict[str, Any]:
    row = {name: getattr(found, name) for name in ("rule", "severity", "where", "what", "fix")}
    row["fixable"] = found.repair is not None
    if (became := done.get(found)) is not None:
        row |= {"fixed": not became.error, "how": became.how or became.error}
    return row


def _print_finding(found: "Finding", done: "Done | None") -> None:
    _line(
        (f"{found.severity}:", _STYLES[found.severity]),
        (f"{found.where}: {found.what}", ""),
        (f"[{found.rule}]", "dim"),
    )
    if done is None:
        _line(("   ", ""), (found.fix, ""))
    else:
        _line(("   ", ""), (f"not fixed: {done.error}" if done.error else f"fixed: {done.how}", ""))


def _line(*parts: tuple[str, str]) -> None:
    """Parts of a line, each with its style; coloured where a terminal shows it, and never broken: grep finds it too."""
    from bascule.cli import show
    from bascule.cli.talk import clean

    said = [(_BREAKS.sub(" ", clean(part)), style) for part, style in parts if part]
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        show.text(" ".join(part for part, _ in said))
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False, soft_wrap=True).print(Text(" ").join(Text(part, style=style) for part, style in said))


# ---- the scorecard -------------------------------------------------------------------------------


def _rate(
    setup: "Setup", gateway: "Running | None", folder: Path, html: Path | None, *, strict: bool, as_json: bool
) -> int:
    from bascule.admin.scorecard import rating
    from bascule.admin.scorecard.model import Scene
    from bascule.admin.scorecard.surroundings import files_beside
    from bascule.cli import show

    rated = rating.rate(Scene(setup=setup, gateway=gateway, files=files_beside(folder)))
    if html is not None:
        from bascule.admin.scorecard.page import page

        try:
            html.write_text(page(rated), encoding="utf-8")
        except OSError as error:
            raise ConfigInvalid(f"cannot be written: {error.strerror}", place=str(html)) from error
        note(f"wrote {html}")
    if as_json:
        show.document(rating.report(rated))
    elif html is None:
        _print_scorecard(rated)
    return 1 if strict and rated.critical_left else 0


def _print_scorecard(rated: "Scorecard") -> None:
    for group in rated.groups:
        _line((f"{group.name}: {group.points:g} of {group.most}", "bold"))
        for each in group.rated:
            critical = "critical:" if each.is_left else ""
            _line(
                (f"  {each.state:<14}", _STYLES.get(each.state, "dim")),
                (critical, "bold red"),
                (f"{each.criterion.title}:", ""),
                (each.evidence, "dim"),
            )
            if each.gain:
                _line((" " * 16, ""), (each.gain, ""))
    _line((rated.sentence, "bold"))

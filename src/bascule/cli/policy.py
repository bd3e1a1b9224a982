"""`bascule policy explain` and `test`: what would become of a call, and whether that is what was expected."""

import logging
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli.contract import ConfigOption, JsonOption, Kind
from bascule.cli.talk import failing, note
from bascule.cli.target import default_file
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from msgspec import Raw

    from bascule.admin.cases import Coverage, Outcome
    from bascule.admin.explain import Explanation, Step, Who
    from bascule.call import Caller
    from bascule.config import Config
    from bascule.registry.catalog import Listing
    from bascule.upstream.base import Upstream

_CONNECT_S: Final = 120.0
_VERDICTS: Final = {
    "allow": "allowed",
    "deny": "refused",
    "ask": "asked: a person has to confirm it first",
    "hidden": "hidden: for this caller there is no such thing",
    "step_up": "refused until the client asks for more scopes",
    "invalid": "refused: the arguments do not fit",
    "limited": "refused for now",
    "budget": "refused: the money for it is spent",
    "gone": "refused: it has been withdrawn",
    "unauthenticated": "refused: nobody knows who it is",
}

ConnectOption = Annotated[
    bool, typer.Option("--connect", help="Ask the server for its definition, starting it if need be.")
]
NowOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="When it is, such as 2026-11-20T09:30:00Z; default now.")
]

commands = typer.Typer(
    name="policy", no_args_is_help=True, help="Say what would become of a call, and test the rules by cases."
)


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command("explain")
@failing
def explain_call(
    id: Annotated[str, typer.Argument(metavar="ID", help="namespace/name of a tool, prompt or resource.")],
    args: Annotated[
        str | None, typer.Argument(metavar="ARGS", help="Its arguments: a JSON object, or - for stdin.")
    ] = None,
    caller: Annotated[
        str, typer.Option("--as", metavar="CALLER", help="One of `callers`, anonymous, bearer, or ISSUER:SUBJECT.")
    ] = "anonymous",
    kind: Annotated[Kind, typer.Option("--kind", help="What ID is.")] = "tool",
    key_scope: Annotated[
        list[str] | None, typer.Option(metavar="SCOPE", help="The key reaches no further; may be repeated.")
    ] = None,
    token_claims: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the token of ISSUER:SUBJECT says beside that.")
    ] = None,
    now: NowOption = None,
    connect: ConnectOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say stage by stage why a call would be allowed, asked, refused or hidden. Nothing is called.

    Exit 0 when it is allowed, 1 when not.

    Example: bascule policy explain --as ci crm/create_lead '{"email": "ann@example.com"}'
    """
    import asyncio

    from bascule.admin import cases, explain

    loaded = _loaded(config)
    attempt = explain.Attempt(
        who=explain.Who(
            name=caller,
            key_scopes=tuple(key_scope or ()),
            claims=None if token_claims is None else _claims(token_claims),
        ),
        id=id,
        kind=kind,
        args=None if args is None else _arguments(args),
        now=explain.now() if now is None else cases.time_of(now),
    )
    listings = _listings(loaded, [id]) if connect else None
    found = asyncio.run(explain.explain(loaded, _admit, attempt, listings))
    _print(found, as_json=as_json)
    if found.decision != "allow":
        sys.exit(1)


@commands.command("test")
@failing
def run(
    path: Annotated[Path, typer.Argument(metavar="CASES", help="A list of calls and of what is expected of them.")],
    coverage: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", min=0, max=100, help="Fail when cases reach fewer of the rules."),
    ] = None,
    now: NowOption = None,
    connect: ConnectOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Hold a table of calls and expected decisions against the configuration. Nothing is called.

    Exit 0 when all is as expected, 1 when not, 2 when the table cannot be used.

    Example: bascule policy test cases.yaml --coverage 100
    """
    import asyncio

    from bascule.admin import cases, explain

    loaded = _loaded(config)
    table = cases.read(path)
    at = explain.now() if now is None else cases.time_of(now)
    listings = _listings(loaded, [each.case.call for each in table]) if connect else None
    outcomes = asyncio.run(cases.run(loaded, _admit, table, at, listings))
    reached = cases.coverage(loaded, outcomes)
    if as_json:
        _print_outcomes_as_json(outcomes, reached)
    else:
        _print_outcomes(outcomes, reached)
    wrong = sum(bool(each.wrong) for each in outcomes)
    short = coverage is not None and reached.percent < coverage
    note(f"{len(outcomes)} cases, {wrong} not as expected; {_covered(reached)}")
    if short:
        note(f"that is less than the {coverage:g} % asked for: add cases, or take the silent rules away")
    if wrong or short:
        sys.exit(1)


# ---- from words to parts -------------------------------------------------------------------------


def _loaded(path: Path | None) -> "Config":
    from bascule import config

    # What a gateway would log of the rules is said by `serve` and by `contract lint`.
    logging.getLogger("bascule").addHandler(logging.NullHandler())
    return config.load(path or default_file(), os.environ)


async def _admit(config: "Config", who: "Who", now_s: float) -> "Caller":
    from bascule.edge.auth.described import described

    return await described(
        config,
        who.name,
        now_s,
        options=who.options,
        key_scopes=who.key_scopes,
        claims=who.claims,
        proof=who.proof,
    )


def _arguments(word: str) -> "Raw":
    """The arguments of a call, as strictly read as a client's."""
    import msgspec

    from bascule.errors import ProtocolError
    from bascule.wire import jsonrpc

    text = (sys.stdin.read() if word == "-" else word).strip()
    try:
        jsonrpc.parse(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":%b}}' % text.encode())
    except ProtocolError as error:
        raise ConfigInvalid(f"ARGS cannot be the arguments of a call: {error}") from error
    if not text.startswith("{"):
        raise ConfigInvalid("ARGS is a JSON object, such as '{\"a\": 1}'")
    return msgspec.Raw(text.encode())


def _claims(text: str) -> dict[str, Any]:
    import msgspec

    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigInvalid(f'--token-claims is a JSON object, such as \'{{"scope": "crm:read"}}\': {error}') from error


# ---- asking servers ------------------------------------------------------------------------------


def _listings(config: "Config", ids: Collection[str]) -> "Mapping[str, Listing]":
    """What each of the servers of these things lists; they are started for it, and stopped."""
    import asyncio

    from bascule.cli import visit
    from bascule.config import place_of

    names = []
    for id in ids:
        if (place := place_of(config, id)) is None:
            there = ", ".join(config.servers) or "none"
            raise ConfigInvalid(f"there is no server {id.partition('/')[0]!r}; there are {there}")
        names += [] if place[0] in names else [place[0]]

    async def all_of_them() -> "dict[str, Listing]":
        found = await asyncio.gather(*(_asked(_upstream(config, name)) for name in names))
        return dict(zip(names, found, strict=True))

    return visit.run(all_of_them())


def _upstream(config: "Config", name: str) -> "Upstream":
    import msgspec

    from bascule.upstream.http import HttpUpstream
    from bascule.upstream.stdio import StdioOptions, StdioUpstream

    options = config.servers[name]
    if isinstance(options, StdioOptions):
        return StdioUpstream(name, msgspec.structs.replace(options, start="lazy"))  # one try
    return HttpUpstream(name, options)


async def _asked(upstream: "Upstream") -> "Listing":
    import asyncio

    from bascule.admin.explain import listing_of
    from bascule.admin.inspect import peer_at
    from bascule.cli.terminal import Person
    from bascule.errors import TimedOut

    await upstream.start()
    peer = peer_at(upstream, Person())
    try:
        async with asyncio.timeout(_CONNECT_S):
            return await listing_of(peer)
    except TimeoutError:
        raise TimedOut(f"no answer within {_CONNECT_S:g} s").at(upstream.name) from None
    finally:
        await peer.close()
        await upstream.stop()


# ---- on paper ------------------------------------------------------------------------------------


def _print(found: "Explanation", *, as_json: bool) -> None:
    from bascule.cli import show

    if as_json:
        show.document(_as_json(found))
        return
    who = found.caller.name if found.caller is not None else found.attempt.who.name
    show.text(f"{found.attempt.kind} {found.attempt.id}, called by {who} at {found.attempt.now.isoformat()}\n")
    for step in found.steps:
        show.text(_shown(step))
    if found.absent:
        show.text(f"\nnot needed: {', '.join(found.absent)}")
    for each in found.unknown:
        show.text(f"not known: {each} (--connect asks the server)")
    for warning in found.warnings:
        show.text(f"warning to the client: {warning}")
    show.text(f"\n{verdict(found)}")


def _shown(step: "Step") -> str:
    first, *rest = [line for words in step.said or ("",) for line in words.splitlines() or [""]]
    margin = " " * 24
    return "\n".join([f"{step.stage:<10}  {step.outcome:<11} {first}", *(margin + line for line in rest)])


def verdict(found: "Explanation") -> str:
    """What becomes of the call, in one line, with what the client gets."""
    words, error = _VERDICTS[found.decision], found.error
    if error is None:
        return words
    message = " ".join(error.message.split())
    status = f", HTTP {error.http}" if found.decision in ("step_up", "unauthenticated") else ""
    return f"{words}: {message} ({error.kind}, code {error.code}, JSON-RPC {error.family}{status})"


def _as_json(found: "Explanation") -> dict[str, Any]:
    import msgspec

    error, decided = found.error, found.deciding
    return {
        "id": found.attempt.id,
        "kind": found.attempt.kind,
        "caller": found.caller.name if found.caller is not None else found.attempt.who.name,
        "now": found.attempt.now.isoformat(),
        "decision": found.decision,
        "error": None if error is None else {
            "kind": error.kind, "code": error.code, "family": error.family, "message": error.message,
        },
        "rule": found.rule or None,
        "written": decided.origin if decided is not None else None,
        "warnings": list(found.warnings),
        "stages": msgspec.to_builtins(found.steps),
        "rules": msgspec.to_builtins(found.ruled),
        "not_needed": list(found.absent),
        "not_known": list(found.unknown),
    }  # fmt: skip


def _print_outcomes(outcomes: "Sequence[Outcome]", reached: "Coverage") -> None:
    from bascule.cli import show

    for each in outcomes:
        show.text(f"{'FAILED' if each.wrong else 'ok    '}  {each.case.name}: {each.explanation.decision}")
        if each.wrong:
            decided = each.explanation.deciding
            by = (f"by {decided.rule} [{decided.origin}]",) if decided is not None else ()
            for line in (*each.wrong, *by, verdict(each.explanation), f"at {each.place}"):
                show.text(f"        {line}")
    for place, words in reached.silent:
        show.text(f"silent  {place}: {words}")


def _print_outcomes_as_json(outcomes: "Sequence[Outcome]", reached: "Coverage") -> None:
    from bascule.cli import show

    cases = [
        {
            "name": each.case.name,
            "place": each.place,
            "passed": not each.wrong,
            "wrong": list(each.wrong),
            "expected": each.case.expect,
            **{key: value for key, value in _as_json(each.explanation).items() if key not in ("stages", "rules")},
        }
        for each in outcomes
    ]
    silent = [{"written": place, "rule": words} for place, words in reached.silent]
    show.document({
        "passed": sum(not each.wrong for each in outcomes),
        "failed": sum(bool(each.wrong) for each in outcomes),
        "coverage": {"percent": round(reached.percent, 1), "heard": reached.heard, "silent": silent},
        "cases": cases,
    })  # fmt: skip


def _covered(reached: "Coverage") -> str:
    rules = reached.heard + len(reached.silent)
    return f"{reached.heard} of {rules} rules were heard ({reached.percent:.0f} %)" if rules else "there are no rules"

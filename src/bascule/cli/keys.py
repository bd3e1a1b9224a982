"""`bascule keys create`, `list`, `rotate`, `revoke`: API keys for the callers of a configuration."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.admin.keys import IssuedKey
    from bascule.config import Config
    from bascule.store.keys import KeyStore

_DURATION: Final = re.compile(r"(\d{1,9})(s|m|h|d|w)")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_S: Final = 3650 * 86_400  # ten years
_HEADINGS: Final = ("id", "caller", "state", "scopes", "expires", "last used", "addresses", "note")

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="The file; default bascule.yaml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

commands = typer.Typer(name="keys", no_args_is_help=True, help="Make, list, rotate and revoke API keys of callers.")


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command()
@failing
def create(
    caller: Annotated[str, typer.Argument(metavar="CALLER", help="One of `callers` in the configuration.")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="No more than this scope; may be repeated.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long it is good for, such as 90d; default for ever.")
    ] = None,
    ip: Annotated[
        list[str] | None, typer.Option(metavar="CIDR", help="Where it may be used from; may be repeated.")
    ] = None,
    about: Annotated[str, typer.Option("--note", metavar="TEXT", help="What it is for.")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a key for a caller and print it, this once.

    Example: bascule keys create ci --scope crm:read --expires 90d --note 'nightly report'
    """
    from bascule.admin import keys

    expires_at_s = None if expires is None else time.time() + _seconds(expires, "--expires")
    with _opened(config) as (loaded, store):
        issued = keys.create(
            store, loaded, caller, scopes=scope or (), expires_at_s=expires_at_s, networks=ip or (), note=about
        )
        _show(issued, as_json=as_json)


@commands.command("list")
@failing
def list_(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List all keys, without their secrets."""
    from bascule.admin import keys
    from bascule.cli import show

    now_s = time.time()
    with _opened(config) as (_, store):
        reports = [keys.report(record, now_s) for record in keys.list_(store)]
    if as_json:
        show.document(reports)
        return
    if sys.stderr.isatty() and not sys.stdout.isatty():
        print("\t".join(_HEADINGS), file=sys.stderr, flush=True)  # the rows alone are for a program
    show.table("keys", _HEADINGS, [_row(each) for each in reports])


@commands.command()
@failing
def rotate(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `bascule keys list` shows it.")],
    overlap: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the old key works beside the new one.")
    ] = "24h",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a key with the same rights in place of one, and print it, this once."""
    from bascule.admin import keys

    overlap_s = _seconds(overlap, "--overlap", least_s=0)
    with _opened(config) as (loaded, store):
        issued = keys.rotate(store, loaded, id, overlap_s)
        _show(issued, as_json=as_json)
        note(f"the old key {id} works until {keys.date_of(store.get(id).expires_at_s)}")


@commands.command()
@failing
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `bascule keys list` shows it.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Put an end to a key: gateways that run refuse it within 5 seconds."""
    from bascule.admin import keys
    from bascule.cli import show

    with _opened(config) as (_, store):
        record = keys.revoke(store, id)
    if as_json:
        show.document(keys.report(record, time.time()))
    note(f"key {id} of {record.caller} is revoked since {keys.date_of(record.revoked_at_s)}")


# ---- from words to a store -----------------------------------------------------------------------


@contextmanager
def _opened(path: Path | None) -> "Iterator[tuple[Config, KeyStore]]":
    from bascule import config
    from bascule.store.keys import KeyStore

    # A key that has leaked is revoked also where none of the servers' secrets is at hand.
    loaded = config.load_records(path or config.own_file(os.environ), os.environ)
    with KeyStore(Path(loaded.state_dir)) as store:
        yield loaded, store


def _seconds(text: str, option: str, least_s: int = 1) -> int:
    found = _DURATION.fullmatch(text.strip())
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else -1
    if not least_s <= seconds <= _LONGEST_S:
        raise ConfigInvalid(f"{option} {text!r}: write a number and s, m, h, d or w, such as 90d; at most 3650d")
    return seconds


# ---- what is said --------------------------------------------------------------------------------


def _show(issued: "IssuedKey", *, as_json: bool) -> None:
    """The key for whoever reads our output, everything else for the person."""
    from bascule.admin import keys

    record = issued.record
    if as_json:
        print(json.dumps({"key": issued.key, **keys.report(record, time.time())}, indent=2), flush=True)
    else:
        print(issued.key, flush=True)
    note(f"key {record.id} for {record.caller}: it will not be shown again, so store it now")
    nothing = "nothing" if issued.idle else "nothing: give its caller scopes or roles"
    note(f"it may do {', '.join(sorted(issued.scopes)) or nothing}")
    if issued.idle:
        note(f"warning: {record.caller} itself has no {', '.join(sorted(issued.idle))}, so the key has none either")
    if record.expires_at_s is not None:
        note(f"it expires at {keys.date_of(record.expires_at_s)}")
    if record.networks:
        note(f"it works from {', '.join(record.networks)} alone")
    note("send it as the header  Authorization: Bearer <the key>")


def _row(report: dict[str, Any]) -> list[str]:
    state = report["state"] if report["replaced_by"] is None else f"{report['state']}, now {report['replaced_by']}"
    scopes = "all of its caller" if report["scopes"] is None else " ".join(report["scopes"])
    return [
        report["id"],
        report["caller"],
        state,
        scopes,
        report["expires"] or "never",
        report["last_used"] or "never",
        " ".join(report["networks"]) or "any",
        report["note"],
    ]

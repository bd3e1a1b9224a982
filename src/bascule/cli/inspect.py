"""`bascule list`, `call`, `inspect`, `ping`, `read`, `prompt`: use any MCP server by hand."""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from bascule.cli.talk import complain, failing, note
from bascule.cli.target import Target, TargetedCommand, name_of, targeted
from bascule.errors import BasculeError, ConfigInvalid

if TYPE_CHECKING:
    from msgspec import Raw

    from bascule.admin.inspect import Peer
    from bascule.call import Result

T = TypeVar("T")

_PLACES: Final = (
    "The first word is the server's URL; or name all servers of a file with -c or --servers, or a command after --."
)
_LISTS: Final = {
    "tools": "tools/list",
    "prompts": "prompts/list",
    "resources": "resources/list",
    "templates": "resources/templates/list",
}
_MEMBERS: Final = {"templates": "resourceTemplates"}
_HEADINGS: Final = {
    "tools": ("tool", "arguments", "description"),
    "prompts": ("prompt", "arguments", "description"),
    "resources": ("uri", "type", "name"),
    "templates": ("uri template", "type", "name"),
}

Arguments = Annotated[
    list[str] | None,
    typer.Option("--argument", "-a", metavar="KEY=VALUE", help="One argument; VALUE is JSON if it can be, else text."),
]


def register(app: typer.Typer) -> None:
    for name, command in _COMMANDS.items():
        app.command(name, cls=TargetedCommand, epilog=_PLACES)(failing(command))


@targeted()
def list_(
    target: Target,
    *,
    prompts: Annotated[bool, typer.Option("--prompts", help="List the prompts.")] = False,
    resources: Annotated[bool, typer.Option("--resources", help="List the resources.")] = False,
    templates: Annotated[bool, typer.Option("--templates", help="List the resource templates.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="List tools and all of these.")] = False,
) -> None:
    """List what a server offers: its tools, or what the options name.

    Example: bascule list -- npx -y @modelcontextprotocol/server-everything
    """
    chosen = {"prompts": prompts, "resources": resources, "templates": templates}
    kinds = list(_LISTS) if everything else [kind for kind, wanted in chosen.items() if wanted] or ["tools"]

    async def work(peer: "Peer") -> "dict[str, Raw]":
        return {kind: await peer.list(_LISTS[kind]) for kind in kinds}

    found = _with_peer(target, work, whole=True)
    for kind, page in found.items():
        _show_list(target, kind, page, titled=len(found) > 1)


@targeted("TOOL", "[ARGUMENTS]")
def call(
    target: Target,
    tool: str,
    words: str | None,
    *,
    argument: Arguments = None,
    key: Annotated[str, typer.Option("--key", help="An idempotency key: the same one is the same call.")] = "",
    yes: Annotated[str, typer.Option("--token", help="Of the question that somebody has said yes to.")] = "",
) -> None:
    """Call a tool. ARGUMENTS is a JSON object, or @FILE, or - for stdin; -a sets single ones on top.

    With several servers the tool is NAMESPACE__TOOL or NAMESPACE/TOOL.

    Example: bascule call http://127.0.0.1:8777/mcp time__convert '{"to": "UTC"}' -a hour=9
    """
    from bascule.wire.wishes import KEY_META, TOKEN_META

    given = _arguments(words, argument)
    wishes = {name: value for name, value in ((KEY_META, key), (TOKEN_META, yes)) if value}
    result = _with_peer(target, lambda peer: peer.call(tool, given, wishes))
    value = _settled(target, result)
    from bascule.cli import show
    from bascule.wire import jsonrpc

    answer = jsonrpc.decode(result.value)
    if value:
        show.content(answer)
    for warning in show.warnings(answer):
        note(f"warning: {warning}")
    if answer.get("isError") is True:
        refused, failed = "refused by Bascule, or on the way to its server", "the tool says that it failed"
        note(f"{tool}: {refused if show.is_ours(answer) else failed}{show.trace(result.value)}")
        sys.exit(1)


@targeted("[TOOL]")
def inspect(target: Target, tool: str | None) -> None:
    """Show all that a server says about itself; with TOOL, that tool's full definition."""

    async def work(peer: "Peer") -> "tuple[Any, dict[str, Raw]]":
        from bascule.admin import inspect as admin

        if tool is not None:
            return None, {"tools": await peer.list(_LISTS["tools"])}
        about = await admin.about(peer)
        return about, {kind: await peer.list(method) for kind, method in _LISTS.items()}

    about, found = _with_peer(target, work, whole=True)
    if tool is not None:
        _show_tool(target, tool, found["tools"])
    elif target.as_json:
        _print_about(about, found)
    else:
        _show_about(about)
        for kind, page in found.items():
            _show_list(target, kind, page, titled=True)


@targeted()
def ping(
    target: Target,
    *,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Round trips to each server.")] = 3,
) -> None:
    """Reach each server: era, protocol versions, name and round-trip times. Exit 1 when one cannot be reached."""
    from bascule.cli import terminal, visit

    rows = visit.with_each(target, terminal.Person(), lambda peer: _pinged(target, peer, count))
    if target.as_json:
        print(json.dumps({"servers": rows}, ensure_ascii=False, separators=(",", ":")))
    else:
        from bascule.cli import show

        headings = ("server", "era", "protocol", "says it is", "ms (least / mean / most)")
        show.table("", headings, [_ping_row(row) for row in rows if row["reachable"]])
    if not all(row["reachable"] for row in rows):
        sys.exit(1)


@targeted("URI")
def read(target: Target, uri: str) -> None:
    """Read a resource."""
    from bascule.wire import jsonrpc

    result = _with_peer(target, lambda peer: peer.send("resources/read", {"uri": jsonrpc.encode(uri)}))
    if value := _settled(target, result):
        from bascule.cli import show

        show.contents(value)


@targeted("NAME")
def prompt(
    target: Target,
    name: str,
    *,
    argument: Annotated[
        list[str] | None, typer.Option("--argument", "-a", metavar="KEY=VALUE", help="One argument, as text.")
    ] = None,
) -> None:
    """Get a prompt with its arguments filled in."""
    from bascule.wire import jsonrpc

    arguments = dict(_assignment(each) for each in argument or ())
    params = {"name": jsonrpc.encode(name), "arguments": jsonrpc.encode(arguments)}
    result = _with_peer(target, lambda peer: peer.send("prompts/get", params))
    if value := _settled(target, result):
        from bascule.cli import show

        show.messages(value)


_COMMANDS: Final = {"list": list_, "call": call, "inspect": inspect, "ping": ping, "read": read, "prompt": prompt}


# ---- arguments -----------------------------------------------------------------------------------


def _arguments(words: str | None, assignments: list[str] | None) -> "Raw":
    """The arguments of a call. What is written as JSON is sent as written, digit by digit."""
    import msgspec

    from bascule.wire import jsonrpc

    whole = (_text(words) if words is not None else "{}").strip()
    try:
        if not isinstance(msgspec.json.decode(whole), dict):
            raise ConfigInvalid("ARGUMENTS is a JSON object, such as '{\"a\": 1}'")
    except msgspec.DecodeError as error:
        raise ConfigInvalid(f"ARGUMENTS is not JSON: {error}; or set single ones with -a KEY=VALUE") from error
    if not assignments:
        return msgspec.Raw(whole.encode())
    single = {key: _value(_text(value)) for key, value in map(_assignment, assignments)}
    return jsonrpc.encode(jsonrpc.members(whole.encode()) | single)


def _assignment(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found or not key:
        raise ConfigInvalid(f"-a {text!r} is not KEY=VALUE")
    return key, value


def _text(word: str) -> str:
    """*word* itself, or what `-` and `@FILE` stand for."""
    try:
        if word == "-":
            return sys.stdin.read()
        return Path(word[1:]).read_text(encoding="utf-8") if word.startswith("@") else word
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{word} cannot be read: {error}") from error


def _value(text: str) -> "Raw":
    import msgspec

    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return msgspec.Raw(msgspec.json.encode(text))
    return msgspec.Raw(text.encode())


# ---- answers -------------------------------------------------------------------------------------


def _with_peer(target: Target, work: "Callable[[Peer], Awaitable[T]]", *, whole: bool = False) -> T:
    from bascule.cli import terminal, visit  # brings the whole runtime with it

    return visit.with_peer(target, terminal.Person(), work, whole=whole)


def _settled(target: Target, result: "Result") -> dict[str, Any]:
    """The result to show; empty when it was printed raw. Exits with 1 when the server refused."""
    from bascule.admin.inspect import refusal_text
    from bascule.cli import show
    from bascule.wire import jsonrpc

    if result.refused:
        note(f"{name_of(target)}: refused: {refusal_text(result.value)}{show.trace(result.value)}")
        if target.as_json:
            print(bytes(result.value).decode(), file=sys.stderr)
        for line in show.needed(jsonrpc.decode(result.value)):
            note(line)
        sys.exit(1)
    if target.as_json:
        show.raw(bytes(result.value))
        return {}
    found: dict[str, Any] = jsonrpc.decode(result.value)
    return found


def _show_list(target: Target, kind: str, page: "Raw", *, titled: bool) -> None:
    from bascule.cli import show
    from bascule.wire import jsonrpc

    if target.as_json:
        show.raw(bytes(page))
        return
    entries = jsonrpc.decode(page).get(_MEMBERS.get(kind, kind)) or ()
    if titled and not sys.stdout.isatty():
        print(f"# {kind}")
    show.table(kind if titled else "", _HEADINGS[kind], [_row(kind, entry) for entry in entries])


def _row(kind: str, entry: dict[str, Any]) -> tuple[str, str, str]:
    from bascule.cli import show

    about = str(entry.get("description") or entry.get("title") or "")
    match kind:
        case "tools":
            return str(entry.get("name")), show.signature(entry.get("inputSchema")), about
        case "prompts":
            arguments = entry.get("arguments") or ()
            wanted = ", ".join(f"{each.get('name')}{'' if each.get('required') else '?'}" for each in arguments)
            return str(entry.get("name")), wanted, about
        case _:
            return (
                str(entry.get("uri") or entry.get("uriTemplate")),
                str(entry.get("mimeType") or ""),
                about or str(entry.get("name") or ""),
            )


def _show_tool(target: Target, name: str, page: "Raw") -> None:
    from bascule.cli import show
    from bascule.errors import ToolNotFound
    from bascule.wire import jsonrpc

    raws = jsonrpc.items(jsonrpc.members(page)["tools"])
    wanted = {name, name.replace("/", "__")}
    raw = next((raw for raw in raws if jsonrpc.text(jsonrpc.members(raw).get("name")) in wanted), None)
    if raw is None:
        raise ToolNotFound(f"no tool {name!r}").at(name_of(target))
    if target.as_json:
        show.raw(bytes(raw))
        return
    definition = jsonrpc.decode(raw)
    show.text(f"{definition['name']}\n{definition.get('description') or ''}\n")
    rows = [
        (argument, kind, "required" if needed else "", about)
        for argument, kind, needed, about in show.arguments(definition.get("inputSchema"))
    ]
    show.table("", ("argument", "type", "", "description"), rows)
    print()
    show.document(definition)


def _print_about(about: Any, found: "dict[str, Raw]") -> None:
    import msgspec

    from bascule.cli import show
    from bascule.wire import jsonrpc

    lists = {_MEMBERS.get(kind, kind): jsonrpc.members(page)[_MEMBERS.get(kind, kind)] for kind, page in found.items()}
    show.raw(bytes(jsonrpc.encode({**msgspec.structs.asdict(about), **lists})))


def _show_about(about: Any) -> None:
    from bascule.cli import show

    rows = [
        ("server", f"{about.server.get('name', '?')} {about.server.get('version', '')}"),
        ("era", about.era),
        ("protocol", ", ".join(about.versions)),
        ("capabilities", ", ".join(about.capabilities) or "none"),
    ]
    show.table("", ("", ""), rows)
    if about.instructions:
        show.text(f"\n{about.instructions}")
    print()


async def _pinged(target: Target, peer: "Peer", count: int) -> dict[str, Any]:
    from bascule.admin import inspect as admin
    from bascule.cli import visit

    name = peer.upstream.name
    try:
        about = await visit.within(target, admin.about(peer))
        took_ms = await visit.within(target, admin.ping(peer, count))
    except BasculeError as error:
        complain(error.at(name))
        return {"name": name, "reachable": False, "error": error.message, "kind": error.kind}
    return {
        "name": name,
        "reachable": True,
        "era": about.era,
        "versions": about.versions,
        "server": about.server,
        "took_ms": [round(each, 3) for each in took_ms],
    }


def _ping_row(row: dict[str, Any]) -> tuple[str, ...]:
    took_ms = row["took_ms"]
    server = f"{row['server'].get('name', '?')} {row['server'].get('version', '')}"
    times = f"{min(took_ms):.1f} / {sum(took_ms) / len(took_ms):.1f} / {max(took_ms):.1f}"
    return row["name"], row["era"], ", ".join(row["versions"]), server, times

"""Writes the parts of docs/ that would drift: tables of fields, errors and commands, from the code itself.

    python docs/generate.py            write them again
    python docs/generate.py --check    exit 1 if a page is not what the code says

A part stands in its page between `<!-- generated: NAME -->` and `<!-- /generated -->`. What code cannot say,
the meaning of a field and the advice for an error, is written here; a field or error without it is an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import typer

from bascule.cli.commands import app
from bascule.config import Config, ListenOptions, ParkingOptions, SealOptions, ServerOptions
from bascule.errors import BasculeError
from bascule.options import Options
from bascule.upstream.http import HttpOptions
from bascule.upstream.stdio import StdioOptions

DOCS: Final = Path(__file__).resolve().parent
MIB: Final = 1024 * 1024

MEANINGS: Final[Mapping[type[Options], Mapping[str, str]]] = {
    Config: {
        "http": "Where clients reach Bascule, and who may.",
        "seal": "The keys of session ids and of the state of parked calls.",
        "parking": "Bounds of calls that wait for a stateless client's answers.",
        "replicas": "How many Bascules answer under one address. More than 1 needs `seal.keys`, and"
        " [routing](operations.md#several-replicas); nothing else depends on it.",
        "servers": "The MCP servers by name (at most 32 of `A-Z a-z 0-9 _ -`): one with `command` is started,"
        " one with `url` is called. The order is the order of precedence.",
        "aliases": "From `server/name` to the name that clients of `/mcp` see; for tools and prompts."
        " See [names and paths](names-and-paths.md).",
        "patience_s": "How long a list on `/mcp` waits for servers that have not been asked yet. Then it is served"
        " without them, and clients are told when they are there.",
    },
    ListenOptions: {
        "host": "Address to listen on. Anything but loopback needs `bearer`.",
        "port": "Port to listen on; 0 takes a free one.",
        "allowed_hosts": "Names, without port, that clients may use for this machine in `Host`. The address itself"
        " is always allowed; so are `localhost`, `127.0.0.1` and `::1` when it is a loopback or wildcard address.",
        "allowed_origins": "Origins of web pages that may call, such as `https://console.example`. Pages from this"
        " machine may call when `host` is loopback.",
        "bearer": "The token that every request has to carry, except those to `/health`: at least 16 characters, and"
        " a reference such as `${env:BASCULE_TOKEN}`; a literal is refused, and so is a reference with a default.",
        "max_body_bytes": "Largest request body; a larger one is refused with 413 while it arrives.",
        "max_sessions": "Most sessions of legacy clients at once; one more ends the one that was idle longest.",
        "session_idle_s": "A session that nobody used or listened to for so long is ended.",
        "session_max_s": "However busy it is, a session is ended so long after its `initialize`; its client begins"
        " a new one.",
    },
    SealOptions: {
        "keys": "Each 32 bytes in base64 (`openssl rand -base64 32`), and a reference such as `${env:SEAL_KEY}`; a"
        " literal is refused, and so is a reference with a default. The first seals, all open"
        " ([rotation](operations.md#keys)). None: a key of this process, gone when it ends.",
    },
    ParkingOptions: {
        "ttl_s": "How long a call waits for each of its answers; then it is cancelled at the server.",
        "max_per_caller": "Most calls of one caller that wait; one more is cancelled, and refused as `overloaded`.",
    },
    StdioOptions: {
        "command": "The program. It is looked for on `PATH`; no shell is involved.",
        "args": "Its arguments.",
        "env": "Its environment, added to the harmless part of Bascule's own. May hold references.",
        "cwd": "Its working directory; default Bascule's.",
        "pass_environment": "The process sees all of Bascule's environment, secrets included.",
        "start": "`eager`: with Bascule, and again after it died. `lazy`: when a handshake, a list or a call first"
        " needs it.",
        "sharing": "Who shares a process: everybody, one caller, or nobody but one session."
        " See [protocol](protocol.md#sharing-a-process).",
        "era": "What the server is spoken to in: `auto` asks it (`server/discover`, then `initialize`), the others skip"
        " the question. Clients of both eras are served in any case.",
        "required": "`/health/ready` is 503 while this server cannot be used.",
        "call_timeout_s": "Longest wait for an answer; never more than 600. The server is told to stop.",
        "start_timeout_s": "Longest wait for the handshake; `npx -y` may have to download first.",
        "idle_stop_s": "Stop a process that nobody used for so long; the next call starts it again. 0: never.",
        "stop_grace_s": "From the end of its input to SIGTERM, when it has to stop; as long again, at most 3 s, to"
        " SIGKILL.",
        "max_message_bytes": "Longest line from the server. A longer one is dropped as it streams by, and the call"
        " it answers fails.",
        "max_processes": "Most processes of this server, when it is not shared; at least 2.",
    },
    HttpOptions: {
        "url": "Its endpoint, `http` or `https`. Redirects are not followed.",
        "headers": "Sent with every request, such as `Authorization`. May hold references.",
        "era": "What the server is spoken to in: `auto` asks it (`server/discover`), the others skip the question."
        " Clients of both eras are served in any case.",
        "transport": "`streamable`: Streamable HTTP. `sse`: the HTTP+SSE of 2024-11-05; not with `era: modern`. `auto`"
        " begins with the first, and finds the other out.",
        "required": "`/health/ready` is 503 while this server cannot be used.",
        "call_timeout_s": "Longest wait for an answer; never more than 600. The server is told to stop.",
        "connect_timeout_s": "Longest wait for a connection.",
        "max_message_bytes": "Largest answer, or event of a stream; a larger one fails the call.",
        "max_connections": "Most requests that the server works at, at one time; more calls wait. What waits for a"
        " person's answer or for news does not count, and neither do calls over HTTP+SSE.",
    },
}

# The structs that have a section of their own, by its heading.
SECTIONS: Final[Mapping[type[Any], str]] = {ListenOptions: "http", SealOptions: "seal", ParkingOptions: "parking"}

# By kind: (what happened, what to do).
ADVICE: Final[Mapping[str, tuple[str, str]]] = {
    "parse_failed": ("The body is not JSON; `NaN` and `Infinity` are not JSON either.", "Mend the client."),
    "invalid_request": (
        "JSON, but not a legal message: a member twice or disguised by its case, a bad id, a batch where the"
        " revision has none, more than 64 levels. The HTTP-level refusals of the table above also use it.",
        "Mend the client; the message names the member or the header.",
    ),
    "method_not_found": (
        "No such method in this revision, or no server here that has it.",
        "Look at the capabilities that `initialize` or `server/discover` declared.",
    ),
    "invalid_params": (
        "The parameters do not fit the method; or a `requestState` was forged, used, has expired or belongs to another"
        " call, of which the server has heard nothing ([protocol](protocol.md#crossing-eras)).",
        "Read the message; mend the call. With a bad `requestState`: call anew, without it.",
    ),
    "tool_not_found": (
        "No tool of this name at this endpoint.",
        "List the tools again. If the server is missing altogether, `/status` says why.",
    ),
    "prompt_not_found": ("No prompt of this name at this endpoint.", "List the prompts again."),
    "resource_not_found": (
        "No server that could be asked has this resource. In a session, `error.code` is -32002.",
        "List the resources again.",
    ),
    "header_mismatch": (
        "A header that mirrors the body is missing, malformed, or says something else than the body.",
        "Send `MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` made from the body that is sent.",
    ),
    "unsupported_version": (
        "A stateless request names a revision that is not spoken here. `data.supported` names those that are, at the"
        " same URL.",
        "Use one of them, or `initialize`: what the server behind it speaks does not matter"
        " ([protocol](protocol.md#crossing-eras)).",
    ),
    "cancelled": ("The client gave the call up itself, or its session ended.", "Nothing."),
    "unavailable": (
        "The server is down, does not start, cannot be reached, or already runs `max_processes`. The call was not"
        " sent.",
        "Look at `last_error` and `stderr` of the server in `/status`. Repeat the call after `retry_after_ms`.",
    ),
    "timeout": (
        "No answer before the server's `call_timeout_s`, no handshake within `start_timeout_s` (over HTTP: 60 s, or"
        " `call_timeout_s` if that is less), or no answer of the client to a server's question within 600 s. A server"
        " that was called is told to stop; it may have run the call.",
        "Raise the option if the tool needs longer. Repeat the call only if running it twice does no harm.",
    ),
    "overloaded": (
        "A bound is reached: `http.max_sessions`, `parking.max_per_caller`, or one of those that are fixed"
        " ([which](operations.md#what-is-bounded-and-by-what)), such as 8 MiB that a server process has not read.",
        "Wait, then repeat; raise the bound, or see why the server does not read. A call over `parking.max_per_caller`"
        " has run up to its question, and was cancelled there.",
    ),
    "draining": ("This process is shutting down.", "Repeat at another replica, or after the restart."),
    "upstream_protocol": (
        "The call was sent, and no usable answer came: the process died, the connection broke, or the answer is not"
        " MCP (not JSON-RPC, neither or both of a result and an error, larger than `max_message_bytes`, an endless"
        " list, an unknown `resultType`). The server may have run the call.",
        "Look at `last_error` and `stderr` of the server in `/status`. Repeat the call only if running it twice does"
        " no harm.",
    ),
    "unauthenticated": (
        "`http.bearer` is set and the request did not carry that token.",
        "Send `Authorization: Bearer …`.",
    ),
    "internal": ("A fault of Bascule's.", "Report it, with the traceback from the log."),
    "config_invalid": (
        "The configuration, or the command line, cannot be used. It is printed with file, line and field, and"
        " never sent to a client; exit code 2.",
        "Mend that field; `bascule validate` checks without starting anything.",
    ),
}


# ---- configuration -------------------------------------------------------------------------------


def fields(options: type[Options]) -> str:
    """The table of all fields of one struct."""
    meanings = MEANINGS[options]
    described = msgspec.structs.fields(options)
    names = [field.encode_name for field in described]
    if names != list(meanings):
        raise SystemExit(f"docs/generate.py: MEANINGS[{options.__name__}] has {list(meanings)}, the struct {names}")
    rows = [
        (f"`{field.encode_name}`", field_type(field), default_in_words(field), meanings[field.encode_name])
        for field in described
    ]
    return table(("field", "type", "default", "meaning"), rows)


def field_type(field: msgspec.structs.FieldInfo) -> str:
    if field.type == Mapping[str, ServerOptions]:  # told apart by their keys, which msgspec has no word for
        return "map of [command](#a-server-with-a-command) or [url](#a-server-with-a-url)"
    words = type_in_words(msgspec.inspect.type_info(field.type))
    return f"seconds, {words}" if field.encode_name.endswith("_s") and "seconds" not in words else words


def type_in_words(kind: msgspec.inspect.Type) -> str:
    match kind:
        case msgspec.inspect.Metadata(type=inner, extra_json_schema=extra):
            unit = (extra or {}).get("description", "")
            return f"{unit}, {type_in_words(inner)}" if unit else type_in_words(inner)
        case msgspec.inspect.StrType():
            return "text"
        case msgspec.inspect.BoolType():
            return "bool"
        case msgspec.inspect.IntType(gt=gt, ge=ge, le=le) | msgspec.inspect.FloatType(gt=gt, ge=ge, le=le):
            word = "integer" if isinstance(kind, msgspec.inspect.IntType) else "number"
            bounds = [f"{sign} {value}" for sign, value in ((">", gt), ("≥", ge), ("≤", le)) if value is not None]
            return " ".join((word, *bounds))
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(type_in_words(each) for each in types if not isinstance(each, msgspec.inspect.NoneType))
        case msgspec.inspect.VarTupleType(item_type=item):
            return f"list of {type_in_words(item)}"
        case msgspec.inspect.DictType(value_type=value):
            return f"map of {type_in_words(value)}"
        case msgspec.inspect.StructType(cls=cls) if cls in SECTIONS:
            return f"[{SECTIONS[cls]}](#{SECTIONS[cls]})"
    raise SystemExit(f"docs/generate.py: no words for {kind}")


def default_in_words(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    match value:
        case None | Options():
            return "none" if value is None else "see there"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case int() if value >= MIB and value % MIB == 0:
            return f"`{value}` ({value // MIB} MiB)"
        case str() | int():
            return f"`{value}`"
    return "none" if not value else f"`{value}`"


# ---- errors --------------------------------------------------------------------------------------


def leaves(above: type[BasculeError] = BasculeError) -> Iterator[type[BasculeError]]:
    """Every class that has a kind of its own, in the order of the file."""
    for error in above.__subclasses__():
        if "kind" in vars(error):
            yield error
        yield from leaves(error)


def error_index() -> str:
    rows = [
        (f"[`{each.kind}`](#{each.kind})", f"{each.code}", f"{each.family}", status(each), yes(each.retryable))
        for each in leaves()
    ]
    return table(("`data.kind`", "`data.code`", "`error.code`", "HTTP", "retryable"), rows)


def error_sections() -> str:
    kinds = [each.kind for each in leaves()]
    if set(kinds) != set(ADVICE) or len(set(kinds)) != len(kinds):
        raise SystemExit(f"docs/generate.py: ADVICE and the kinds differ: {sorted(set(kinds) ^ set(ADVICE))}")
    parts = []
    for each in leaves():
        happened, act = ADVICE[each.kind]
        parts.append(
            f"### {each.kind}\n\n`{each.__name__}`, {each.category}: `data.code` {each.code}, `error.code`"
            f" {each.family}, HTTP {status(each)}.\n\n- What happened: {happened}\n- What to do: {act}"
        )
    return "\n\n".join(parts)


def status(error: type[BasculeError]) -> str:
    """The HTTP status of a stateless answer; the operator's errors never reach a client."""
    return "none" if error.category == "operator" else str(error.http)


def yes(value: bool) -> str:
    return "yes" if value else "no"


# ---- commands ------------------------------------------------------------------------------------


def commands() -> str:
    """A section for each command: what it does, its words and its options."""
    group: Any = typer.main.get_command(app)
    return "\n\n".join(command(name, each) for name, each in group.commands.items() if not each.hidden)


def command(name: str, entry: Any) -> str:
    pieces = entry.collect_usage_pieces(entry.context_class(entry, info_name=name))
    about = re.sub(r"\n[ \t]+", "\n", (entry.help or "").strip())
    about = re.sub(r"^Example: (.+)$", r"    \1", about, flags=re.MULTILINE)
    words = [(f"`{each.metavar or each.name.upper()}`", each) for each in entry.params if is_argument(each)]
    words += [(option_in_words(each), each) for each in entry.params if not is_argument(each)]
    rows = [(word, each.help, preset(each.default)) for word, each in words if each.help and not each.hidden]
    parts = [f"### {name}", f"    bascule {name} {' '.join(pieces)}".rstrip(), about]
    if rows:
        parts.append(table(("word", "meaning", "default"), rows))
    return "\n\n".join([*parts, *([entry.epilog.strip()] if entry.epilog else [])])


def is_argument(each: Any) -> bool:
    return bool(each.param_type_name == "argument")


def option_in_words(each: Any) -> str:
    value = f" {each.metavar}" if each.metavar else ""
    return " ".join(f"`{name}`" for name in (*each.opts[:-1], each.opts[-1] + value, *each.secondary_opts))


def preset(value: Any) -> str:
    return "" if value in (None, False, (), []) else f"`{getattr(value, 'value', value)}`"


# ---- pages ---------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "config": lambda: fields(Config),
    "http": lambda: fields(ListenOptions),
    "seal": lambda: fields(SealOptions),
    "parking": lambda: fields(ParkingOptions),
    "server with a command": lambda: fields(StdioOptions),
    "server with a url": lambda: fields(HttpOptions),
    "errors": error_index,
    "every error": error_sections,
    "commands": commands,
}

_PART: Final = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def generated(page: str) -> str:
    """*page* with every generated part written anew."""
    return _PART.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}\n{match[3]}", page)


def main() -> int:
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        fresh = generated(page)
        if fresh == page:
            continue
        stale.append(path.name)
        if "--check" not in sys.argv[1:]:
            path.write_text(fresh, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        sys.stderr.write(f"docs/generate.py: not what the code says: {', '.join(stale)}; run: make docs\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

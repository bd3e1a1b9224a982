"""Results on paper: tables and text for people, the server's own bytes for programs."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bascule.cli.talk import clean

if TYPE_CHECKING:
    from msgspec import Raw

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")


def raw(value: bytes) -> None:
    """A JSON value as the server wrote it, in one line."""
    sys.stdout.flush()
    # Outside of strings, where JSON allows no raw newline, a newline is only white space.
    sys.stdout.buffer.write(value.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
    sys.stdout.buffer.flush()


def text(words: str) -> None:
    """Words of a server: cleaned for a terminal, untouched for a file or a pipe."""
    shown = clean(words) if sys.stdout.isatty() else words
    print(shown.encode(errors="replace").decode())


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere one line per row, columns apart by tabs, no headings."""
    rows = [[clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in rows:
            text("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
    for number, heading in enumerate(headings):
        drawn.add_column(heading, style="bold" if number == 0 else "", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell.strip()) for cell in row))
    console = Console(highlight=False)  # knows NO_COLOR
    console.print(drawn)
    if not rows:
        console.print("  none", style="dim")


def document(value: Any) -> None:
    """A value as indented JSON."""
    text(json.dumps(value, indent=2, ensure_ascii=False))


# ---- MCP in words --------------------------------------------------------------------------------


def content(result: Mapping[str, Any]) -> None:
    """The content of a tool's result; its structured content if there is nothing else to show."""
    blocks = [block for block in result.get("content") or () if isinstance(block, dict)]
    for block in blocks:
        text(_block(block))
    if not blocks:
        document(result.get("structuredContent", result))


def _block(block: Mapping[str, Any]) -> str:
    match block:
        case {"type": "text", "text": str(words)}:
            return words
        case {"type": "image" | "audio" as kind, "data": str(encoded)}:
            return f"[{kind} {block.get('mimeType', '?')}, {_size(encoded)}]"
        case {"type": "resource_link", "uri": uri}:
            return f"[resource {uri}]"
        case {"type": "resource", "resource": dict(inner)}:
            return _resource(inner)
        case _:
            return json.dumps(block, ensure_ascii=False)


def contents(result: Mapping[str, Any]) -> None:
    """The contents of a resource."""
    for each in result.get("contents") or ():
        text(_resource(each))


def _resource(found: Mapping[str, Any]) -> str:
    if isinstance(found.get("text"), str):
        return str(found["text"])
    return f"[{found.get('uri')} {found.get('mimeType', '?')}, {_size(str(found.get('blob', '')))}; --json has it]"


def messages(result: Mapping[str, Any]) -> None:
    """The messages of a prompt."""
    for message in result.get("messages") or ():
        block = message.get("content")
        blocks = block if isinstance(block, list) else [block]
        text(f"{message.get('role')}: " + "\n".join(_block(each) for each in blocks if isinstance(each, dict)))


def _size(encoded: str) -> str:
    return f"{len(encoded) * 3 // 4 - encoded[-2:].count('=')} bytes"


def signature(schema: Any) -> str:
    """The arguments that a JSON Schema asks for: `a: number, b?: string`."""
    return ", ".join(
        f"{name}{'' if needed else '?'}: {kind}" for name, kind, needed, _ in arguments(schema)
    )  # fmt: skip


def arguments(schema: Any) -> list[tuple[str, str, bool, str]]:
    """(name, type, required, description) of each argument."""
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return []
    required = schema.get("required") or ()
    return [
        (name, _kind(inner), name in required, _about(inner))
        for name, inner in schema["properties"].items()
    ]  # fmt: skip


def _kind(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    if isinstance(schema.get("enum"), list):
        return " | ".join(json.dumps(each, ensure_ascii=False) for each in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"{_kind(schema.get('items'))}[]"
    return " | ".join(map(str, kind)) if isinstance(kind, list) else str(kind)


def _about(schema: Any) -> str:
    if not isinstance(schema, dict):
        return ""
    default = f" (default {json.dumps(schema['default'], ensure_ascii=False)})" if "default" in schema else ""
    return f"{schema.get('description') or ''}{default}".strip()


def warnings(result: Mapping[str, Any]) -> list[str]:
    """What Bascule warns of beside a result, each in one line."""
    from bascule.wire.translate import CALL_META

    said = _member(_member(result, "_meta"), CALL_META).get("warnings")
    return [" ".join(each.split()) for each in said if isinstance(each, str)] if isinstance(said, list) else []


def is_ours(answer: "dict[str, Any]") -> bool:
    """Whether a failed result is a refusal of Bascule's, and its tool was never asked or never answered."""
    from bascule.edge.refusals import ERROR_META

    return bool(_member(_member(answer, "_meta"), ERROR_META))


def trace(value: "Raw") -> str:
    """` [trace …]` for a refusal or a failed result, which is what an operator asks for; "" where there is none."""
    from bascule.edge.refusals import ERROR_META
    from bascule.wire.translate import CALL_META

    found = json.loads(bytes(value))
    told = found if isinstance(found, dict) else {}
    meta = _member(told, "_meta")
    for place in (_member(told, "data"), _member(meta, ERROR_META), _member(meta, CALL_META)):
        id = place.get("trace_id")
        if isinstance(id, str) and _TRACE_ID.fullmatch(id):
            return f" [trace {id}]"
    return ""


def _member(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def needed(error: Any) -> Iterator[str]:
    """What a JSON-RPC error object says the call lacks: URLs to open first, or abilities of this client."""
    told = error.get("data") if isinstance(error, dict) else None
    if not isinstance(told, dict):
        return
    wanted = told.get("elicitations")
    for each in wanted if isinstance(wanted, list) else ():
        if isinstance(each, dict) and each.get("url"):
            yield f"first open {each['url']}, then call again"
    if isinstance(lacking := told.get("requiredCapabilities"), dict):
        yield f"it needs a client with {', '.join(map(str, lacking))}; this command is none"

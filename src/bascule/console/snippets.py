"""A call of a tool as it can be made elsewhere: as a command, as a program, as the configuration of a client. PURE.

Each works as it stands once BASCULE_KEY is set, where a credential is needed. Nothing of a session is in them.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from bascule.wire import headers, jsonrpc, modern
from bascule.wire.headers import MirroredParam
from bascule.wire.versions import LATEST_MODERN
from bascule.wire.wishes import VERSION_META

KEY_VARIABLE: Final = "BASCULE_KEY"
_ACCEPT: Final = "application/json, text/event-stream"
_PROGRAM: Final = """\
{imports}

arguments = {arguments}
message = {{
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {{
        "name": {name},
        "arguments": arguments,
        "_meta": {meta},
    }},
}}
headers = {headers}
{credential}request = urllib.request.Request({url}, json.dumps(message).encode(), headers)
with urllib.request.urlopen(request) as response:
    body = response.read().decode()
# An answer comes alone, or as the last event of a stream.
events = [line.removeprefix("data:") for line in body.splitlines() if line.startswith("data:")]
print(json.dumps(json.loads(events[-1] if events else body), indent=2))
"""


class Snippet(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be called, and where."""

    url: str  # of the endpoint: https://mcp.example.com/mcp
    tool: str  # as clients call it
    arguments: Mapping[str, Any]
    version: str = ""
    key: str = ""  # that makes it one call, however often it is sent
    needs_credential: bool = False
    mirrored: Sequence[MirroredParam] = ()

    @property
    def _meta(self) -> dict[str, Any]:
        stamp = {modern.PROTOCOL_VERSION: LATEST_MODERN.version, modern.CLIENT_CAPABILITIES: {}}
        return stamp | ({VERSION_META: self.version} if self.version else {})

    @property
    def _headers(self) -> dict[str, str]:
        params = {"name": jsonrpc.encode(self.tool), "arguments": msgspec.Raw(json.dumps(self.arguments).encode())}
        named = headers.for_request("tools/call", params, self.mirrored)
        return {
            "content-type": "application/json",
            "accept": _ACCEPT,
            headers.VERSION: LATEST_MODERN.version,
            **named,
            **({"idempotency-key": self.key} if self.key else {}),
        }

    def curl(self) -> str:
        """A command for a shell."""
        params = {"name": self.tool, "arguments": self.arguments, "_meta": self._meta}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        lines = [f"curl -sS {shlex.quote(self.url)}"]
        lines += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in self._headers.items()]
        if self.needs_credential:
            lines.append(f'-H "authorization: Bearer ${KEY_VARIABLE}"')
        lines.append(f"--data-binary {shlex.quote(json.dumps(body))}")
        return " \\\n  ".join(lines)

    def python(self) -> str:
        """A program that needs nothing but Python."""
        credential = f'headers["authorization"] = "Bearer " + os.environ["{KEY_VARIABLE}"]\n'
        return _PROGRAM.format(
            imports="\n".join(
                f"import {each}" for each in ("json", *(("os",) if self.needs_credential else ()), "urllib.request")
            ),
            arguments=_python(self.arguments),
            name=_python(self.tool),
            meta=_python(self._meta, " " * 8),
            headers=_python(self._headers),
            credential=credential if self.needs_credential else "",
            url=_python(self.url),
        )

    def client(self) -> str:
        """What clients such as Claude, Cursor and VS Code have in their configuration for the whole of Bascule."""
        server: dict[str, Any] = {"type": "http", "url": self.url}
        if self.needs_credential:
            server["headers"] = {"Authorization": f"Bearer ${{{KEY_VARIABLE}}}"}
        return json.dumps({"mcpServers": {"bascule": server}}, indent=2)


def _python(value: Any, indent: str = "") -> str:
    """*value* as Python writes it, all of it in ASCII: a page may be copied anywhere."""
    deeper = f"{indent}    "
    if isinstance(value, dict) and value:
        lines = (f"{deeper}{name!a}: {_python(inner, deeper)},\n" for name, inner in value.items())
        return "{\n" + "".join(lines) + indent + "}"
    return ascii(value)

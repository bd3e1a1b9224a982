"""The clients that are known: where each keeps its servers, and how an entry for Bascule looks in each. PURE.

Paths are made of what is handed in; nothing is looked at here. The shapes were checked in November 2026 against:
Claude Code, "MCP" (code.claude.com/docs/en/mcp); Claude Desktop, "Connect to local MCP servers"
(modelcontextprotocol.io); Cursor, "MCP" and "MCP Install Links" (cursor.com/docs/mcp); VS Code, "MCP configuration
reference" (code.visualstudio.com/docs); Codex, codex-rs/config/src/mcp_types.rs (github.com/openai/codex); Zed,
docs/src/ai/mcp.md and crates/settings_content/src/project.rs (github.com/zed-industries/zed), issue 60459: headers are
sent as they stand; Windsurf, "MCP" (docs.windsurf.com/windsurf/cascade/mcp); mcp-proxy 0.13.0, README.
"""

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

import msgspec

TOKEN_VARIABLE: Final = "BASCULE_TOKEN"

Form: TypeAlias = Literal["json", "toml"]
Platform: TypeAlias = Literal["linux", "darwin", "win32"]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What paths are made of."""

    home: Path
    project: Path  # the folder whose own files are looked at, too
    platform: Platform = "linux"
    environ: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:  # the environment holds secrets
        return f"Machine(home={self.home!r}, project={self.project!r}, platform={self.platform!r})"

    def folder(self, variable: str, default: Path) -> Path:
        """The folder that an environment variable names; *default* if it names none."""
        said = self.environ.get(variable, "")
        return Path(said) if Path(said).is_absolute() else default

    @property
    def settings(self) -> Path:
        """Where programs with windows keep their settings."""
        match self.platform:
            case "darwin":
                return self.home / "Library" / "Application Support"
            case "win32":
                return self.folder("APPDATA", self.home / "AppData" / "Roaming")
            case _:
                return self.folder("XDG_CONFIG_HOME", self.home / ".config")


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """One program that speaks MCP."""

    name: str  # on the command line, and of its caller
    title: str
    section: str  # the member of its file in which servers stand
    project_file: str | None = None  # below the folder of a project
    form: Form = "json"
    variable: str | None = None  # how its files refer to an environment variable; None: they cannot
    speaks_http: bool = True


CLAUDE_DESKTOP: Final = Client(
    name="claude-desktop", title="Claude Desktop", section="mcpServers", speaks_http=False
)  # fmt: skip
CLAUDE_CODE: Final = Client(
    name="claude-code", title="Claude Code", section="mcpServers", project_file=".mcp.json", variable="${%s}"
)
CURSOR: Final = Client(
    name="cursor", title="Cursor", section="mcpServers", project_file=".cursor/mcp.json", variable="${env:%s}"
)
VSCODE: Final = Client(
    name="vscode", title="VS Code", section="servers", project_file=".vscode/mcp.json", variable="${env:%s}"
)
CODEX: Final = Client(
    name="codex", title="Codex", section="mcp_servers", project_file=".codex/config.toml", form="toml", variable="%s"
)
ZED: Final = Client(name="zed", title="Zed", section="context_servers", project_file=".zed/settings.json")
WINDSURF: Final = Client(name="windsurf", title="Windsurf", section="mcpServers", variable="${env:%s}")

CLIENTS: Final[Mapping[str, Client]] = {
    each.name: each for each in (CLAUDE_DESKTOP, CLAUDE_CODE, CURSOR, VSCODE, CODEX, ZED, WINDSURF)
}


def user_file(client: Client, machine: Machine) -> Path:
    """The file of *client* that holds for all projects of the user."""
    match client.name:
        case "claude-desktop":
            return machine.settings / "Claude" / "claude_desktop_config.json"
        case "claude-code":
            return machine.folder("CLAUDE_CONFIG_DIR", machine.home) / ".claude.json"
        case "cursor":
            return machine.home / ".cursor" / "mcp.json"
        case "vscode":
            return machine.settings / "Code" / "User" / "mcp.json"
        case "codex":
            return machine.folder("CODEX_HOME", machine.home / ".codex") / "config.toml"
        case "zed" if machine.platform == "win32":
            return machine.settings / "Zed" / "settings.json"
        case "zed":
            return machine.folder("XDG_CONFIG_HOME", machine.home / ".config") / "zed" / "settings.json"
        case _:
            return machine.home / ".codeium" / "windsurf" / "mcp_config.json"


def project_file(client: Client, machine: Machine) -> Path | None:
    """The file of *client* for one project; None if it has none."""
    if client.project_file is None:
        return None
    return machine.project.joinpath(*PurePosixPath(client.project_file).parts)


def shown(path: Path, machine: Machine) -> str:
    """*path* as people write it."""
    return f"~/{path.relative_to(machine.home).as_posix()}" if path.is_relative_to(machine.home) else str(path)


# ---- an entry for Bascule ------------------------------------------------------------------------


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """The client calls a URL itself; with a token, that of the environment variable BASCULE_TOKEN."""

    url: str
    needs_token: bool = False


class Bridge(msgspec.Struct, frozen=True, kw_only=True):
    """The client starts a command, which calls the URL."""

    command: str
    args: tuple[str, ...]


Way: TypeAlias = Http | Bridge


def entry(client: Client, way: Way) -> dict[str, Any]:
    """What stands in the file of *client* under the name of the server. *way* is one that it has."""
    typed = client.name in ("claude-code", "vscode")
    if isinstance(way, Bridge):
        started = {"command": way.command, "args": list(way.args)}
        if client is ZED:
            return {**started, "env": {}}
        return {"type": "stdio", **started} if typed else started
    if client is CODEX:
        bearer = {"bearer_token_env_var": TOKEN_VARIABLE} if way.needs_token else {}
        return {"url": way.url, **bearer}
    called: dict[str, Any] = {"serverUrl" if client is WINDSURF else "url": way.url}
    if way.needs_token:
        assert client.variable is not None
        called["headers"] = {"Authorization": f"Bearer {client.variable % TOKEN_VARIABLE}"}
    return {"type": "http", **called} if typed else called


def link(client: Client, name: str, said: Mapping[str, Any]) -> str | None:
    """A link that makes *client* ask its user whether to add the entry; None if it has no such links."""
    if client is CURSOR:
        config = base64.b64encode(json.dumps(said).encode()).decode()
        return f"cursor://anysphere.cursor-deeplink/mcp/install?name={quote(name)}&config={quote(config, safe='')}"
    if client is VSCODE:
        return f"vscode:mcp/install?{quote(json.dumps({'name': name, **said}), safe='')}"
    return None


def command_line(client: Client, name: str, way: Way, *, project: bool) -> str | None:
    """The command of *client* itself that adds the entry; None if it has none that can."""
    if client is CLAUDE_CODE:
        words: Sequence[str] = ["claude", "mcp", "add", "--scope", "project" if project else "user"]
        if isinstance(way, Bridge):
            return shlex.join([*words, name, "--", way.command, *way.args])
        header = ["--header", f"Authorization: Bearer ${{{TOKEN_VARIABLE}}}"] if way.needs_token else []
        return shlex.join([*words, "--transport", "http", name, way.url, *header])
    if client is CODEX and not project:
        if isinstance(way, Bridge):
            return shlex.join(["codex", "mcp", "add", name, "--", way.command, *way.args])
        bearer = ["--bearer-token-env-var", TOKEN_VARIABLE] if way.needs_token else []
        return shlex.join(["codex", "mcp", "add", name, "--url", way.url, *bearer])
    return None

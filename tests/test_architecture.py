"""The rules of the tree, held by reading the source (docs: design §8, style §1, §3, §5, §6)."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

SOURCE: Final = Path(__file__).parent.parent / "src" / "bascule"
FILES: Final = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))

PURE: Final = [
    *(file for file in FILES if file.startswith(("wire/", "contract/", "policy/"))),
    *("registry/catalog.py", "registry/pins.py", "edge/door.py", "edge/capsule.py", "errors.py", "call.py"),
    *("options.py", "options_sandbox.py"),
    *(
        f"clients/{name}.py"
        for name in ("jsonc", "toml_text", "yaml_text", "entries", "plainness", "adoption", "shown")
    ),
    *("edge/auth/keys.py", "edge/auth/attempts.py", "edge/auth/jwt.py", "edge/auth/metadata.py"),
    *("edge/auth/certificate.py", "edge/auth/callers.py"),
    *("console/options.py", "observe/options.py", "observe/slo.py", "observe/context.py", "observe/semconv.py"),
    *("store/record.py", "store/chain.py", "store/redaction.py", "store/options.py"),
]
# What a pure module may import besides our own: all of these compute and none of them looks outside.
CALCULATING: Final = frozenset({
    *("base64", "collections", "enum", "functools", "hashlib", "hmac", "ipaddress", "itertools", "math", "re"),
    *("typing", "binascii", "cryptography", "jiter", "msgspec", "jsonschema_rs", "cel", "datetime"),
    *("json", "tomllib", "yaml", "bisect", "ntpath", "shlex"),
    *("posixpath", "fnmatch", "joserfc", "urllib", "unicodedata", "difflib", "operator"),
})  # fmt: skip

# Who must not import whom. Every folder and top-level module stands here, so that a new one needs a rule.
FORBIDDEN: Final = {
    "wire": {"*", "errors"},
    "errors": {"*"},
    "options": {"*"},
    "options_tls": {"*", "options"},
    "options_sandbox": {"*", "options"},
    "egress": {"*"},
    "pipes": {"*"},
    "landlock": {"*"},
    "seccomp": {"*"},
    "packs": {
        "*",
        "contract",
        "documents",
        "egress",
        "errors",
        "landlock",
        "seccomp",
        "options",
        "options_sandbox",
        "pipes",
        "text",
        "wire",
    },
    "unhurried": {"*"},
    "documents": {"*", "contract", "errors"},
    "text": {"*", "documents", "errors"},
    "policy": {"*", "errors", "options", "contract"},
    "observe": {"crossing", "registry", "pipeline", "edge", "admin", "console", "cli", "app"},
    "console": {"cli"},
    "contract": {"*", "errors", "options", "policy", "wire"},
    "store": {"*", "errors", "options", "policy", "contract", "unhurried", "wire"},
    "call": {"*", "wire", "policy", "contract"},
    "upstream": {"crossing", "edge", "registry", "pipeline", "admin", "cli", "app", "config"},
    "crossing": {"edge", "registry", "pipeline", "admin", "cli", "app", "config"},
    "config": {"edge", "registry", "pipeline", "admin", "cli", "app"},
    "registry": {"crossing", "edge", "pipeline", "admin", "cli", "app", "config"},
    "pipeline": {"crossing", "edge", "admin", "console", "cli", "app"},
    "edge": {"cli", "admin", "console"},
    "admin": {"cli", "edge", "console"},
    "app": {"cli"},
    "wiring": {"app", "cli", "admin", "console"},
    "follow": {"cli", "admin", "console"},
    "clients": {"*", "errors", "text", "documents", "store", "wire"},
    "cli": set(),
    "__main__": set(),
    "__init__": {"*"},
}
ANYTHING_BUT: Final = "*"  # in a rule: nothing of ours may be imported except what stands beside it

LONGEST: Final = 60  # lines of a function
BANNED_NAMES: Final = {"utils", "util", "helpers", "helper", "common", "core", "services", "service", "manager", "misc"}


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((SOURCE / file).read_text(), file)


def part(file: str) -> str:
    """The folder under src/bascule that *file* is in, or its own name if it is in none."""
    return file.split("/")[0].removesuffix(".py")


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All of *node* but what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from running(child)


def imports(file: str) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of each thing that *file* imports when it runs; names from a package are part of it."""
    for node in running(tree(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports name their module in full"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def ours(file: str) -> Iterator[tuple[str, str]]:
    """(part that is imported, place) for each import of our own modules."""
    for name, line in imports(file):
        top, *rest = name.split(".")
        if top == "bascule":
            target = rest[0] if rest else "__init__"
            known = (SOURCE / target).is_dir() or (SOURCE / f"{target}.py").exists()
            yield target if known else "__init__", f"{file}:{line}"


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for file in FILES:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield file, node


# ---- pure modules


@pytest.mark.parametrize("file", PURE)
def test_a_pure_module_imports_nothing_that_looks_outside(file: str) -> None:
    foreign = {name.split(".")[0] for name, _ in imports(file)} - {"bascule"}
    assert foreign <= CALCULATING


@pytest.mark.parametrize("file", PURE)
def test_a_pure_module_neither_awaits_nor_opens(file: str) -> None:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.AsyncFunctionDef):
            # A Protocol may describe what others await.
            assert isinstance(node.body[-1], ast.Expr), f"{file}:{node.lineno}: {node.name} is asynchronous"
        assert not isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith), f"{file}: awaits"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "print", "input", "exec", "eval", "__import__"), f"{file}:{node.lineno}"


# ---- directions


def test_every_part_of_the_tree_has_a_rule() -> None:
    assert {part(file) for file in FILES} <= FORBIDDEN.keys()


@pytest.mark.parametrize("file", FILES)
def test_imports_point_one_way(file: str) -> None:
    own = part(file)
    rule = FORBIDDEN.get(own, set())
    for target, place in ours(file):
        if target == own:
            continue
        if ANYTHING_BUT in rule:
            assert target in rule, f"{place}: {own} imports {target}"
        else:
            assert target not in rule, f"{place}: {own} imports {target}"


def test_only_the_server_of_the_edge_knows_the_composition_root() -> None:
    assert {file for file in FILES if part(file) == "edge" and ("app" in dict(ours(file)))} <= {"edge/server.py"}


def test_nobody_but_the_entry_point_imports_the_command_line() -> None:
    importers = {part(file) for file in FILES for target, _ in ours(file) if target == "cli"}
    assert importers <= {"cli", "__main__"}


# ---- one choke point


def _sends_to_an_upstream(node: ast.AST) -> bool:
    """`….upstream.send(…)`, or a `send` of anything that is called an upstream or a server."""
    if not isinstance(node, ast.Attribute) or node.attr != "send":
        return False
    owner = node.value
    name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
    if isinstance(owner, ast.Subscript | ast.Call):
        name = ast.unparse(owner)
    return "upstream" in name.lower() or "aggregate" in name.lower()


def _sends() -> list[str]:
    """Each use of an attribute `send` in the source, called or handed on, as `file: expression`."""
    return sorted(
        f"{file}: {ast.unparse(node)}"
        for file in FILES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute) and node.attr == "send"
    )


# Every other `send` in the source, and what it is. A new one has to be looked at and entered here.
OTHER_SENDS: Final = {
    "admin/inspect.py: self.send": "a `Peer`, which is one more client in front of `reach` or of the pipeline",
    "admin/inspect.py: peer.send": "the same, asked for round trips",
    "cli/inspect.py: peer.send": "the same, asked by the command line",
    "edge/visit.py: self.send": "ASGI: where a visit keeps it",
    "edge/http.py: visit.send": "ASGI: the response to a client",
    "edge/rest.py: visit.send": "ASGI: the answer to an operator",
    "edge/legacy_sse.py: visit.send": "the same",
    "packs/office/smtp.py: smtp.send": "a command of SMTP, to the mail server that the operator named",
    "edge/official.py: visit.send": "ASGI: the answer of the registry API",
    "crossing/as_legacy.py: self._upstream.send": "behind `reach`: the call, in the words of the server's era",
    "crossing/conversation.py: self._host.send": "the same, in a session of the pool",
    "crossing/bilingual.py: self._way(call).send": "behind `reach`: straight through, or translated",
    "crossing/pooled.py: self._upstream.send": "behind `reach`: the call, and what opens its session",
    "upstream/http.py: self.send": "the same request once more, after its session found another way to shake hands",
    "upstream/http.py: link.send": "inside the HTTP upstream, behind its own `send`",
}


def test_one_function_alone_reaches_an_upstream() -> None:
    reached = [
        f"{file}: {function.name}"
        for file, function in functions()
        if part(file) != "crossing"  # it stands behind `reach`, between it and the server
        for node in ast.walk(function)
        if _sends_to_an_upstream(node)
    ]
    assert reached == ["upstream/base.py: reach"]


def test_there_is_no_send_that_nobody_has_looked_at() -> None:
    assert set(_sends()) <= {"upstream/base.py: call.target.upstream.send", *OTHER_SENDS}


def test_nobody_fetches_the_function_that_reaches_an_upstream_by_its_name_as_text() -> None:
    texts = [
        f"{file}:{node.lineno}"
        for file in FILES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("getattr", "operator.methodcaller", "methodcaller", "attrgetter")
        and any(isinstance(arg, ast.Constant) and arg.value == "send" for arg in node.args)
    ]
    assert texts == []


# ---- errors and environment


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(name is None or ast.unparse(name) in ("Exception", "BaseException") for name in names)


def test_nothing_but_the_rim_catches_everything() -> None:
    places = [
        f"{file}: {function.name}"
        for file, function in functions()
        for node in ast.walk(function)
        if isinstance(node, ast.ExceptHandler) and _catches_everything(node)
    ]
    assert places == ["edge/rim.py: answer"]


def test_no_module_catches_everything_while_it_is_imported() -> None:
    for file in FILES:
        for statement in tree(file).body:
            for node in ast.walk(statement):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    break
                assert not (isinstance(node, ast.ExceptHandler) and _catches_everything(node)), file


def test_the_environment_is_read_where_the_process_begins_and_where_children_get_it() -> None:
    readers = {
        part(file) if part(file) == "cli" else file
        for file in FILES
        for node in ast.walk(tree(file))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {a.name for a in node.names} & {"environ", "getenv"}
        )
    }
    assert readers <= {"cli", "config.py", "app.py", "upstream/stdio.py", "packs/__main__.py"}


# ---- shape


@pytest.mark.parametrize("file", FILES)
def test_functions_fit_on_a_screen(file: str) -> None:
    too_long = {
        node.name: length
        for node in ast.walk(tree(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST
    }
    assert too_long == {}


@pytest.mark.parametrize("file", FILES)
def test_a_module_is_named_for_what_it_is(file: str) -> None:
    assert not set(file.removesuffix(".py").split("/")) & BANNED_NAMES


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])
def test_a_module_says_what_it_is(file: str) -> None:
    assert ast.get_docstring(tree(file)) or not tree(file).body


# ---- one way out

# What makes a connection, or sends a request: calls by their names in the source, and modules that do nothing else.
CONNECTS: Final = frozenset({
    *("aiohttp.ClientSession", "aiohttp.TCPConnector", "aiohttp.request", "urlopen", "urllib.request.urlopen"),
    *("urllib.request.build_opener", "http.client.HTTPConnection", "http.client.HTTPSConnection"),
    *("asyncio.open_connection", "asyncio.open_unix_connection", "loop.create_connection", "loop.sock_connect"),
    *("socket.create_connection", "smtplib.SMTP", "smtplib.SMTP_SSL", "ftplib.FTP", "telnetlib.Telnet"),
    *("psycopg.connect", "psycopg.AsyncConnection.connect"),
})  # fmt: skip
CLIENTS: Final = frozenset({
    *("httpx", "httpx2", "requests", "urllib3", "httplib2", "websockets", "paramiko", "ftplib", "telnetlib"),
})  # fmt: skip

# Who may, and where to: everybody else asks egress.py. A new one has to be looked at and entered here.
WAYS_OUT: Final = {
    "egress.py": "the way out: every address is judged",
    "upstream/http.py": "servers, at the URLs that the operator wrote",
    "cli/remote.py": "the command line to a Bascule, at the URL that the operator wrote",
    "observe/collector.py": "the collector of traces, at the URL that the operator wrote",
    "packs/database/postgres.py": "the database of the configuration",
    "packs/office/smtp.py": "the mail server of the configuration",
}


def _connects(file: str) -> set[str]:
    called = {ast.unparse(node.func) for node in ast.walk(tree(file)) if isinstance(node, ast.Call)}
    # `socket.socket` listens as well as it connects.
    connected = {each for each in called if each.endswith((".sock_connect", ".connect_ex", ".create_connection"))}
    return (called & CONNECTS) | connected | ({name.split(".")[0] for name, _ in imports(file)} & CLIENTS)


def test_whoever_connects_somewhere_is_known() -> None:
    found = {file: connects for file in FILES if (connects := _connects(file))}
    assert found.keys() == WAYS_OUT.keys(), found

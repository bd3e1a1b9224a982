"""The documentation says what the program does: generated tables, every error, every example, every link."""

import ast
import base64
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import typer

from bascule import config, errors
from bascule.cli.commands import app
from bascule.config import DrainOptions
from bascule.errors import BasculeError
from bascule.pipeline.deadline import HARDEST_S
from bascule.policy.backoff import RETRIES
from bascule.policy.breaker import RULES
from bascule.policy.roles import ROLES
from bascule.policy.scopes import OPERATORS
from bascule.store.journal import State
from bascule.store.journal_sqlite import UNKNOWN_KEPT_S
from bascule.store.options import JournalOptions
from bascule.upstream.http import HttpOptions

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md")])
_ANY_SERVER = "servers: {crm: {url: 'http://127.0.0.1:9/mcp'}}"


def generator() -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module


def leaves(above: type[BasculeError] = BasculeError) -> Iterator[type[BasculeError]]:
    for error in above.__subclasses__():
        if error.__module__ == errors.__name__:
            if "kind" in vars(error):
                yield error
            yield from leaves(error)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_generated_tables_are_what_the_code_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert generator().generated(text) == text, "run: make docs"


def test_every_error_has_a_section_that_says_what_to_do() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=\n### |\n<!-- /generated)", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == [each.kind for each in leaves()]
    for each in leaves():
        assert f"`data.code` {each.code}, `error.code` {each.family}" in sections[each.kind]
        assert "- What to do: " in sections[each.kind] or "Reserved: " in sections[each.kind]


def test_the_errors_that_are_called_reserved_are_those_that_nothing_raises() -> None:
    made = {
        node.func.id
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    module = generator()
    reserved = {kind for kind, (happened, _) in module.ADVICE.items() if happened == module.RESERVED}
    assert reserved == {each.kind for each in leaves() if each.__name__ not in made}


def test_the_scope_of_the_status_page_is_the_one_that_is_asked_for() -> None:
    (scope,) = OPERATORS
    for page in ("operations.md", "security.md", "configuration.md"):
        assert scope in (DOCS / page).read_text(encoding="utf-8")


def test_the_page_of_the_console_knows_every_role_and_what_it_adds() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "console.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert list(rows) == list(ROLES)
    for role, scopes in ROLES.items():
        if role != "admin":  # which has it all
            assert set(re.findall(r"`(bascule\.[\w.:]+)`", rows[role])) >= scopes - ROLES["viewer"]


def test_every_scope_of_bascule_is_on_the_page_about_policy() -> None:
    text = (DOCS / "policy.md").read_text(encoding="utf-8")
    assert [scope for scope in sorted(ROLES["admin"]) if f"`{scope}`" not in text] == []


def test_every_decision_is_numbered_once_and_listed() -> None:
    files = sorted(path.name for path in (DOCS / "adr").glob("[0-9]*.md"))
    assert [int(name[:4]) for name in files] == [*range(1, len(files) + 1)]
    listed = re.findall(r"^(\d+)\. \[.+\]\((.+)\)$", (DOCS / "adr/README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [(str(number), name) for number, name in enumerate(files, 1)]


# ---- examples


def fenced(page: Path) -> list[tuple[int, str]]:
    """(line, content) of each block of YAML that is a configuration."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: each.start()].count("\n") + 2, each[1]) for each in found]


# The YAML of the other pages is contracts and cases.
_CONFIGURED = (
    ROOT / "README.md",
    *(DOCS / f"{name}.md" for name in ("configuration", "approvals", "reliability", "console", "reviews")),
)
EXAMPLES = [(page, line, text) for page in _CONFIGURED for line, text in fenced(page)]


class _Secrets(dict[str, str]):
    """An environment in which every secret is set."""

    def __missing__(self, name: str) -> str:
        if name.endswith("_AT"):
            return "127.0.0.1:9026"  # a place, which some settings look at
        return base64.b64encode(name.encode().ljust(32, b".")).decode()

    def get(self, name: str, default: object = None) -> str:
        return self[name]


@pytest.mark.parametrize(("page", "line", "text"), EXAMPLES, ids=[f"{page.name}:{line}" for page, line, _ in EXAMPLES])
def test_examples_of_a_configuration_are_accepted(page: Path, line: int, text: str, tmp_path: Path) -> None:
    file = tmp_path / "bascule.yaml"
    file.write_text(text if re.search(r"^servers:", text, re.MULTILINE) else f"{text}\n{_ANY_SERVER}\n")
    config.load(file, _Secrets(XDG_STATE_HOME=str(tmp_path)))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("page", sorted(ROOT.glob("examples/**/bascule.yaml")), ids=lambda page: page.parent.name)
def test_every_configuration_in_the_examples_is_accepted(page: Path, tmp_path: Path) -> None:
    config.load(page, _Secrets(XDG_STATE_HOME=str(tmp_path)))


# ---- commands


def shown(page: Path) -> Iterator[list[str]]:
    """The words of each line of *page* that one could type, after `bascule`."""
    for line in re.findall(
        r"^(?: {3,}|(?=\$ ))(?:\$ )?bascule (?!\S+:)(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE
    ):
        if "|" not in line and "…" not in line:
            yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_shown_exist_with_their_options(page: Path) -> None:
    for words in shown(page):
        command: Any = typer.main.get_command(app)
        rest = words
        while hasattr(command, "commands") and rest and rest[0] in command.commands:
            command, rest = command.commands[rest[0]], rest[1:]
        assert command.name != "bascule" or not rest or rest[0].startswith("-"), words
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"-h", "--help"}
        own = rest[: rest.index("--")] if "--" in rest else rest
        for word in own:
            said = word.partition("=")[0]
            assert not re.fullmatch(r"-[a-zA-Z]|--[a-z][a-z-]+", said) or said in options, words


# ---- links


def anchors(page: Path) -> set[str]:
    """Those that GitHub makes of headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    known: Mapping[Path, set[str]] = {each.resolve(): anchors(each) for each in PAGES}
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page.resolve()
        assert place.exists(), target
        assert not anchor or anchor in known[place], target


def links(page: Path) -> Iterator[Path]:
    """The files of ours that *page* links to; of a folder, its README."""
    for target in re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", page.read_text(encoding="utf-8")):
        place = (page.parent / target).resolve()
        yield place / "README.md" if place.is_dir() else place


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, left = set[Path](), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page not in seen:
            seen.add(page)
            left += [each for each in links(page) if each.suffix == ".md" and each.exists()]
    assert sorted(str(page.relative_to(ROOT)) for page in {*DOCS.rglob("*.md")} - seen) == []


# ---- promises


def test_the_page_of_weaknesses_says_what_is_promised_and_for_how_long() -> None:
    text = " ".join((ROOT / "SECURITY.md").read_text(encoding="utf-8").split())
    for word in (
        "The boundary.",
        "at most once for each caller and key",
        "24 hours",
        "30 days",
        "Exactly once",
        "control",
    ):
        assert word in text
    assert JournalOptions().keep_s == 24 * 3600
    assert UNKNOWN_KEPT_S == 30 * 24 * 3600


def test_every_state_of_a_call_with_a_key_is_explained() -> None:
    text = (DOCS / "reliability.md").read_text(encoding="utf-8")
    for state in get_args(State):
        assert f"\n| {state} |" in text


def test_the_bounds_that_are_written_down_are_those_of_the_code() -> None:
    """What cannot be generated, because it stands in a sentence."""
    text = " ".join((DOCS / "reliability.md").read_text(encoding="utf-8").split())
    said = (
        f"up to {RETRIES.base_s:g} s and then up to {2 * RETRIES.base_s:g} s",
        f"more than {RETRIES.longest_s:g} s is not waited for",
        f"at most {RETRIES.least_at_once}, or a fifth",
        f"at least {RULES.least} calls within {RULES.window_s} s",
        f"After {RULES.open_s:g} s (give or take a fifth",
        f"up to {RULES.longest_s / 60:g} minutes",
        f"`call_timeout_s` ({HttpOptions(url='http://127.0.0.1').call_timeout_s:g} s)",
        f"and {HARDEST_S:g} s at most",
        f"serves for {DrainOptions().delay_s:g} s",
        f"gives those that run {DrainOptions().calls_s:g} s",
    )
    for sentence in said:
        assert sentence in text
    assert (RETRIES.most, RETRIES.share, RETRIES.saved, RETRIES.per_s, RETRIES.share_at_once) == (2, 0.1, 10, 0.1, 0.2)
    assert (RULES.in_a_row, RULES.share, RULES.jitter, RULES.to_close) == (5, 0.5, 0.2, 2)

"""The documentation says what the program does: generated tables, every error, every example, every link."""

import ast
import base64
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from bascule import config, errors
from bascule.errors import BasculeError
from bascule.policy.scopes import OPERATORS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
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


# ---- examples


def fenced(page: Path) -> list[tuple[int, str]]:
    """(line, content) of each block of YAML that is a configuration."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: each.start()].count("\n") + 2, each[1]) for each in found]


EXAMPLES = [
    (page, line, text) for page in (ROOT / "README.md", DOCS / "configuration.md") for line, text in fenced(page)
]


class _Secrets(dict[str, str]):
    """An environment in which every secret is set."""

    def __missing__(self, name: str) -> str:
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

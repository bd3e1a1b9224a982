"""Contract documents in files: every shape they come in, and the place of what is wrong."""

import os
import re
from pathlib import Path

import pytest
import yaml

from bascule.documents import MAX_FILE_BYTES, PlainLoader, documents, inside, read
from bascule.errors import ConfigInvalid


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


ONE = "# a comment\ntool: crm/create_lead\nversion: 1.2.0\n"
SHAPES = {
    "one.yaml": (ONE, [2]),
    "list.yaml": ("- tool: a/b\n\n- prompt: a/c\n  version: 1.0.0\n", [1, 3]),
    "several.yaml": ("tool: a/b\n---\n\n---\nprompt: a/c\n", [1, 5]),
    "mixed.yml": ("- tool: a/b\n---\ntool: a/c\n", [1, 3]),
    "one.json": ('{"tool": "a/b"}', [1]),
    "list.json": ('[\n\t{"tool": "a/b"},\n\t{"resource": "a/file:///x"}\n]', [2, 3]),
    "bom.yaml": ("\ufefftool: a/b\n", [1]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_reads_every_shape_with_the_place_of_each_document(name: str, tmp_path: Path) -> None:
    text, lines = SHAPES[name]
    path = written(tmp_path, name, text)
    assert [place for place, _ in documents(path)] == [f"{path}:{line}" for line in lines]


def test_reads_a_folder_with_all_below_it_but_what_is_hidden(tmp_path: Path) -> None:
    written(tmp_path, "b/two.yaml", "tool: x/two\n")
    written(tmp_path, "a.json", '{"tool": "x/one"}')
    written(tmp_path, ".git/three.yaml", "not: [a contract")
    written(tmp_path, "README.md", "no contract")
    assert [document.id for _, document in documents(tmp_path)] == ["x/one", "x/two"]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = written(tmp_path, "a.yaml", "tool: a/b\n")
    assert len(read(path, tmp_path, path)) == 1


def test_knows_the_place_of_every_field(tmp_path: Path) -> None:
    text = (
        "tool: a/b\ninput_schema:\n  properties:\n    x: {type: string}\nguardrails:\n- deny: 'true'\n- ask: 'true'\n"
    )
    path = written(tmp_path, "a.yaml", text)
    (found,) = read(path)
    lines = {field: int(found.at(field).rpartition(":")[2]) for field in ("input_schema.properties.x", "guardrails.1")}
    assert lines == {"input_schema.properties.x": 4, "guardrails.1": 7}
    assert found.at("input_schema.properties.y") == f"{path}:3"
    assert found.at("slo") == found.place == f"{path}:1"


def test_dates_and_modes_are_text(tmp_path: Path) -> None:
    path = written(tmp_path, "a.yaml", "tool: a/b\nlast_security_review: 2026-11-01\nvalidate_arguments: off\n")
    ((_, document),) = documents(path)
    assert (document.last_security_review, document.validate_arguments) == ("2026-11-01", "off")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(word, word) for word in ("no", "On", "y", "2026-11-01", "12:30", "010", "1_000", "0o7", "1.2.3", "<")],
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("-12", -12),
        ("0x1F", 31),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e16", 1e16),
        ("1.5E-3", 0.0015),
    ],
)
def test_yaml_is_read_as_its_version_1_2(text: str, value: object) -> None:
    assert yaml.load(f"a: {text}", Loader=PlainLoader) == {"a": value}


@pytest.mark.parametrize(
    ("name", "text", "line", "words"),
    [
        ("a.yaml", "tool: a/b\n\nversoin: 1.0.0\n", 3, "versoin: there is no such field in a contract"),
        ("a.yaml", "name: a/b\n", 1, "a document begins with `tool:`"),
        ("a.yaml", "tool: a/b\nversion: 1.2\n", 2, "write it in quotes, in full"),
        ("a.yaml", "tool: a/b\nversion: one\n", 1, "version 'one' is not MAJOR.MINOR.PATCH"),
        ("a.yaml", "tool: a/b\nrate_limit: many\n", 1, "'many' is not a rate"),
        ("a.yaml", "tool: a/b\nguardrails:\n- message: x\n", 3, "guardrails.0: a guardrail has exactly one of"),
        ("a.yaml", "tool: a/b\nslo:\n  success: 100\n", 3, "slo.success: "),
        ("a.yaml", "tool: b\n", 1, "'b' is not namespace/name"),
        ("a.yaml", "tool: a/b\nprompt: a/c\n", 1, "exactly one `tool`, `prompt` or `resource`"),
        ("a.yaml", "tool: a/b\ntool: a/c\n", 2, "'tool' stands twice"),
        ("a.yaml", "tool: a/b\ninput_schema: {properties: {1: {}}}\n", 2, "the key '1' is not text"),
        ("a.yaml", "tool: a/b\ninput_schema: {minimum: .nan}\n", 1, "nan is no number of JSON"),
        ("a.yaml", "tool: [a/b\n", 2, "not YAML"),
        ("a.yaml", "tool: a/b\n---\nnothing\n", 3, "Expected `object`, got `str`"),
        ("a.yaml", "x: &a [*a]\n", 1, "nested more than"),
        ("a.yaml", "tool: !!python/object:os.system a/b\n", 1, "not YAML"),
        ("a.json", '{"tool": "a/b",\n"slo": NaN}', None, "NaN is no number"),
        ("a.json", '{"tool": "a/b", "tool": "a/c"}', None, "'tool' stands twice"),
        ("a.json", '{"tool": "a/b",\n}', 2, "not JSON"),
        ("a.json", '{"tool": "a/b",\n"no": 1}', 2, "no: there is no such field"),
    ],
)
def test_an_error_names_file_line_and_field(name: str, text: str, line: int | None, words: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(ConfigInvalid) as caught:
        documents(path)
    assert str(caught.value).startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert words in str(caught.value)


def test_two_contracts_for_one_version_are_named_with_both_places(tmp_path: Path) -> None:
    first = written(tmp_path, "a.yaml", ONE)
    second = written(tmp_path, "b.yaml", ONE)
    with pytest.raises(ConfigInvalid) as caught:
        documents(tmp_path)
    assert str(caught.value) == f"{second}:2: crm/create_lead 1.2.0 has a contract already, in {first}:2"
    second.write_text(ONE.replace("1.2.0", "2.0.0"))
    assert len(documents(tmp_path)) == 2


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path / "none.yaml", "No such file"),
        (written(tmp_path, "x/empty.yaml", "\n"), "is empty"),
        (written(tmp_path, "x/large.yaml", "#" * (MAX_FILE_BYTES + 1)), "is larger than"),
    ):
        with pytest.raises(ConfigInvalid, match=why):
            documents(path)
    (tmp_path / "y").mkdir()
    with pytest.raises(ConfigInvalid, match=r"no \.yaml, \.yml or \.json file"):
        documents(tmp_path / "y")
    (tmp_path / "latin.yaml").write_bytes("tool: a/é".encode("latin-1"))
    with pytest.raises(ConfigInvalid, match="not text in UTF-8"):
        documents(tmp_path / "latin.yaml")


def test_a_few_lines_of_aliases_do_not_fill_the_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    path = written(tmp_path, "laughs.yaml", "\n".join(lines))
    with pytest.raises(ConfigInvalid, match="values in one document"):
        documents(path)


def test_a_folder_that_cannot_be_looked_into_is_not_an_empty_one(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("root can read everything")
        for path in (closed, tmp_path):
            with pytest.raises(ConfigInvalid, match="closed: cannot be read: Permission denied"):
                inside(path)
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("deny: !has(args.a)", "begins with `!` stands in quotes"),
        ('deny: args.a == "x: y"', "a text with `: ` in it stands in quotes"),
        ("match: *", "begins with `*` or `&` stands in quotes"),
        ("match: *all", "begins with `*` stands in quotes"),
    ],
)
def test_what_yaml_takes_for_something_else_belongs_in_quotes(line: str, advice: str, tmp_path: Path) -> None:
    file = written(tmp_path, "one.yaml", f"tool: a/b\nguardrails:\n  - {line}\n")
    with pytest.raises(ConfigInvalid, match=f"one.yaml:3: not YAML: .*{re.escape(advice)}"):
        documents(file)


def test_a_value_of_the_wrong_kind_is_told_with_what_to_write(tmp_path: Path) -> None:
    file = written(tmp_path, "one.yaml", "tool: a/b\nside_effect: yes\n")
    with pytest.raises(ConfigInvalid, match=r"one.yaml:2: side_effect: .*; write true or false"):
        documents(file)

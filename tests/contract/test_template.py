"""The contract that one begins with: it is one, and `lint` names what is left to write, and nothing else."""

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bascule.contract.derive import Definition, Sources
from bascule.contract.lint import Subject, lint
from bascule.contract.model import Document, Kind, Terms
from bascule.contract.template import TODO, placeholders, template, yaml_lines
from bascule.documents import PlainLoader

NOT_OF_DESIGN = {"validate_arguments", "validate_results"}  # which an operator's policy says

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


def read(text: str) -> Document:
    return msgspec.convert(yaml.load(text, Loader=PlainLoader), Document)


@pytest.mark.parametrize(
    ("kind", "id"),
    [
        ("tool", "crm/create_lead"),
        ("tool", "crm/get_lead"),
        ("tool", "bank/transfer_money"),
        ("tool", "files/do"),
        ("prompt", "crm/greet"),
        ("resource", "notes/file:///a b{?c}#d"),
    ],
)
def test_is_a_contract_whose_only_faults_are_the_placeholders(kind: Kind, id: str) -> None:
    document = read(template(kind, id))
    assert (document.kind, document.id) == (kind, id)
    contract = Sources([("new.yaml:1", document)]).effective(kind, id, None)
    found = [each for each in lint([Subject(contract, str)], date(2026, 11, 20)) if each.rule != "name-style"]
    assert {each.rule for each in found} == {"placeholder"}
    assert [each.place for each in found] == sorted(placeholders(msgspec.to_builtins(document)))
    assert len(found) == template(kind, id).count(TODO)


def test_speaks_of_every_field_of_a_tool() -> None:
    writes, reads = template("tool", "crm/create_lead"), template("tool", "crm/get_lead")
    for field in set(Terms.__struct_fields__) - NOT_OF_DESIGN:
        assert f"{field}:" in writes or f"{field} " in writes, field
    assert "cache_policy: {ttl_seconds: 300" in reads


def test_a_tool_that_cannot_be_undone_begins_with_a_gate() -> None:
    document = read(template("tool", "bank/transfer_money"))
    assert (document.security_level, document.confirm_gate, document.side_effect) == ("HIGH", True, True)


def test_takes_over_what_a_server_says() -> None:
    schema = {"type": "object", "properties": {"on": {"type": "string", "description": 'a "b": #c'}}}
    said = Definition(description="yes: it's - a # test\u2028\n", input_schema=schema, output_schema={"type": "object"})
    document = read(template("tool", "crm/create_lead", said))
    assert (document.description, document.input_schema, document.output_schema) == (
        said.description,
        schema,
        {"type": "object"},
    )


@given(st.dictionaries(TEXTS, JSON, max_size=4))
def test_any_schema_survives_being_written_as_yaml(value: dict[str, Any]) -> None:
    text = "\n".join(yaml_lines(value))
    assert (yaml.load(text, Loader=PlainLoader) or {}) == value


def test_the_files_that_are_written_are_read_again(tmp_path: Path) -> None:
    from bascule.documents import read as read_files

    for kind, id in (("tool", "a/get_b"), ("prompt", "a/c"), ("resource", "a/x://y")):
        (tmp_path / f"{kind}.yaml").write_text(template(kind, id))  # type: ignore[arg-type]  # of a tuple
    assert {each.document.id for each in read_files(tmp_path)} == {"a/get_b", "a/c", "a/x://y"}


@pytest.mark.parametrize(
    ("kind", "id"), [("tool", "crm/create_lead"), ("prompt", "crm/greet"), ("resource", "crm/file:///a")]
)
def test_a_schema_that_the_server_does_not_have_is_a_comment_and_binds_nobody(kind: Kind, id: str) -> None:
    text = template(kind, id, Definition(description="Says hello."))
    document = read(text)
    assert (document.input_schema, document.output_schema) == (msgspec.UNSET, msgspec.UNSET)
    schema = "output_schema" if kind == "resource" else "input_schema"
    written = text.replace("# ", "")
    assert f"\n{schema}:\n  type: object\n" in written

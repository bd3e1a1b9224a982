"""From what every source says of a thing to the contract that holds."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.contract.derive import (
    CONTRACT_META,
    Definition,
    Sources,
    definition_of,
    is_governed,
    listed,
    matches,
    scope_for,
    version_key,
)
from bascule.contract.model import ConfirmGate, Document, Rate, Rule
from bascule.policy.guardrails import Guardrail
from bascule.policy.scopes import is_scope
from bascule.wire import jsonrpc

SCHEMA = {"type": "object"}


def sources(*documents: Document, rules: tuple[Rule, ...] = (), **more: Any) -> Sources:
    return Sources([(f"file:{number}", each) for number, each in enumerate(documents)], rules, **more)


def entry(**members: Any) -> jsonrpc.Params:
    return jsonrpc.members(jsonrpc.encode({"name": "find", **members}))


# ---- what nobody says


def test_the_unknown_is_a_side_effect_that_is_not_idempotent_and_needs_a_scope_of_its_own() -> None:
    contract = sources().effective("tool", "crm/find", Definition(read_only=True, idempotent=True))
    assert (contract.side_effect, contract.idempotent) == (True, False)
    assert contract.security_scope == ("crm:write:find",)
    assert not is_governed(contract)
    assert (contract.validate_arguments, contract.validate_results) == ("off", "off")


def test_prompts_and_resources_have_no_side_effect() -> None:
    assert sources().effective("prompt", "crm/greet", None).security_scope == ("crm:read:greet",)
    contract = sources().effective("resource", "crm/file:///a b", None)
    assert contract.security_scope == scope_for("crm/file:///a b", writes=False)
    assert not contract.side_effect


def test_without_scopes_nothing_needs_one() -> None:
    assert sources(scoped=False).effective("tool", "crm/find", None).security_scope == ()


@given(st.text(min_size=1))
def test_whatever_its_name_a_thing_has_a_scope(name: str) -> None:
    (scope,) = scope_for(f"crm/{name}", writes=True)
    assert is_scope(scope)
    assert scope.startswith("crm:write:")
    assert "*" not in scope


def test_names_that_differ_in_what_a_scope_cannot_hold_have_scopes_that_differ() -> None:
    names = ("a b", "a_b", "a  b", "a*b", "a" * 150, "a" * 151, "", "é", "è")
    assert len({scope_for(f"crm/{name}", writes=True) for name in names}) == len(names)


# ---- who goes before whom


def test_a_document_goes_before_the_server_and_a_rule_before_both() -> None:
    definition = Definition(description="theirs", input_schema=SCHEMA)
    document = Document(tool="crm/find", description="ours", rate_limit="5/minute", security_scope=("a", "b"))
    rules = (Rule(match="crm/*", rate_limit="1/minute"), Rule(match="crm/find", rate_limit="2/minute"))
    contract = sources(document, rules=rules).effective("tool", "crm/find", definition)
    assert contract.description == "ours"
    assert contract.input_schema == SCHEMA
    assert contract.rate_limit == Rate(2, 60.0)
    assert contract.security_scope == ("a", "b")
    assert contract.sources["rate_limit"] == "policy.rules.1"
    assert contract.sources["description"] == "file:0"
    assert contract.sources["input_schema"] == "server"
    assert (contract.validate_arguments, contract.sources["validate_arguments"]) == ("block", "derived")


def test_guardrails_are_added_up_and_never_replaced() -> None:
    rails = [Guardrail(deny=f"args.a > {n}") for n in range(3)]
    document = Document(tool="crm/find", guardrails=(rails[0],))
    rules = (
        Rule(match="*", guardrails=(rails[1],)),
        Rule(match="crm/*", guardrails=()),
        Rule(match="crm/*", guardrails=(rails[2],)),
    )
    contract = sources(document, rules=rules).effective("tool", "crm/find", None)
    assert contract.guardrails == tuple(rails)
    assert contract.sources["guardrails"] == "file:0, policy.rules.0, policy.rules.2"


def test_a_rule_is_for_the_kinds_that_it_names() -> None:
    rule = Rule(match="*", kinds=("prompt",), security_scope="x")
    assert sources(rules=(rule,)).effective("prompt", "crm/greet", None).security_scope == ("x",)
    assert sources(rules=(rule,)).effective("tool", "crm/greet", None).security_scope == ("crm:write:greet",)


def test_a_gate_can_be_taken_away_by_who_has_the_last_word() -> None:
    document = Document(tool="crm/find", confirm_gate=True)
    assert sources(document).effective("tool", "crm/find", None).confirm_gate == ConfirmGate()
    none = Rule(match="*", confirm_gate=False)
    assert sources(document, rules=(none,)).effective("tool", "crm/find", None).confirm_gate is None


def test_of_several_versions_the_newest_holds() -> None:
    documents = [Document(tool="crm/find", version=v, description=v) for v in ("1.9.0", "1.10.0", "1.2.0")]
    assert sources(*documents).effective("tool", "crm/find", None).version == "1.10.0"
    assert version_key(msgspec.UNSET) < version_key("0.0.0") < version_key("0.0.10")


@pytest.mark.parametrize(
    ("pattern", "id", "fits"),
    [
        ("*", "crm/find", True),
        ("crm/*", "crm/find", True),
        ("crm/*", "crm2/find", False),
        ("crm/find_*", "crm/find_lead", True),
        ("crm/find", "crm/find_lead", False),
        ("CRM/*", "crm/find", False),
        ("crm/*", "crm/file:///a/b", True),
    ],
)
def test_what_a_pattern_fits(pattern: str, id: str, fits: bool) -> None:
    assert matches(pattern, id) is fits


# ---- servers that are trusted, and those that are not


def test_a_server_is_believed_only_if_it_is_trusted() -> None:
    definition = Definition(read_only=True, declared={"version": "2.0.0", "security_scope": "free"})
    doubted = sources().effective("tool", "crm/find", definition)
    assert (doubted.side_effect, doubted.version, doubted.security_scope) == (True, "0.0.0", ("crm:write:find",))
    believed = sources(trusted=frozenset({"crm"})).effective("tool", "crm/find", definition)
    assert (believed.side_effect, believed.version, believed.security_scope) == (False, "2.0.0", ("free",))
    assert believed.sources["version"] == "server's contract"
    assert is_governed(believed)


def test_what_a_trusted_server_declares_wrongly_is_an_error() -> None:
    wrong: list[dict[str, Any]] = [
        {"guardrials": []},
        {"version": 1},
        {"rate_limit": "many"},
        {"security_scope": "a b"},
    ]
    for declared in wrong:
        with pytest.raises(ValueError, match="the contract that the server declares is not one"):
            sources(trusted=frozenset({"crm"})).effective("tool", "crm/find", Definition(declared=declared))


def test_an_operator_goes_before_a_trusted_server() -> None:
    definition = Definition(declared={"security_scope": "free"})
    rule = Rule(match="*", security_scope="paid")
    contract = sources(rules=(rule,), trusted=frozenset({"crm"})).effective("tool", "crm/find", definition)
    assert contract.security_scope == ("paid",)


@pytest.mark.parametrize("members", [{"annotations": "x"}, {"_meta": 5}, {"inputSchema": []}, {"description": 7}])
def test_what_a_server_says_wrongly_counts_as_not_said(members: dict[str, Any]) -> None:
    assert definition_of(entry(**members)) == Definition()


# ---- a resource by its template


def test_what_is_said_of_a_uri_holds_beside_what_is_said_of_its_template() -> None:
    template, uri = "crm/file:///{+path}", "crm/file:///secret/x"
    rules = (
        Rule(match=template, rate_limit="9/minute"),
        Rule(match="crm/file:///secret/*", security_scope="vault"),
        Rule(match="crm/file:///open/*", security_scope="free"),
    )
    known = sources(rules=rules)
    contract = known.effective("resource", template, Definition(), also=uri)
    assert (contract.id, contract.security_scope, contract.rate_limit) == (template, ("vault",), Rate(9, 60.0))
    assert known.singles_out("resource", uri, template)
    assert not known.singles_out("resource", "crm/file:///else", template)
    assert sources(Document(resource=uri)).singles_out("resource", uri, template)


# ---- as clients see it


def test_an_entry_of_which_nobody_says_anything_stays_as_it_is() -> None:
    members = entry(description="theirs", inputSchema=SCHEMA)
    assert listed(sources().effective("tool", "crm/find", definition_of(members)), members) is members


def test_a_listed_entry_has_the_contracts_words_and_not_its_guards() -> None:
    members = entry(description="theirs", inputSchema=SCHEMA, _meta={"own": 1, CONTRACT_META: {"version": "9.9.9"}})
    document = Document(
        tool="crm/find",
        version="1.0.0",
        description="ours",
        guardrails=(Guardrail(deny="args.a > 77"),),
        confirm_gate=ConfirmGate(when="args.a > 66"),
        owner_email="x@example.com",
        rate_limit="1/second",
    )
    shown = listed(sources(document).effective("tool", "crm/find", definition_of(members)), members)
    assert jsonrpc.decode(shown["description"]) == "ours"
    assert bytes(shown["inputSchema"]) == bytes(members["inputSchema"])
    meta = jsonrpc.decode(shown["_meta"])
    assert meta["own"] == 1
    assert meta[CONTRACT_META] == {
        "version": "1.0.0",
        "side_effect": True,
        "idempotent": False,
        "require_key": False,
        "status": "active",
        "confirm_gate": True,
    }


@pytest.mark.parametrize(
    ("said", "looks"),
    [
        (Document(tool="a/b", guardrails=(Guardrail(deny="session.calls > 3"),)), True),
        (Document(tool="a/b", guardrails=(Guardrail(max_per_session=3),)), True),
        (Document(tool="a/b", confirm_gate=ConfirmGate(when="session.spent > 1.0")), True),
        (Document(tool="a/b", guardrails=(Guardrail(deny="args.a > 3"),)), False),
        (Document(tool="a/b"), False),
    ],
)
def test_sessions_are_counted_when_some_rule_looks_at_them(said: Document, looks: bool) -> None:
    assert sources(said).look_at("session") is looks
    assert sources(trusted=frozenset({"a"})).look_at("session")  # what it will declare is not known yet

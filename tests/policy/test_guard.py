"""Guardrails judge a call: deny before ask before warn, and what cannot be decided is refused."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bascule.errors import ConfigInvalid
from bascule.policy import guard as guards
from bascule.policy.facts import Facts
from bascule.policy.guard import ALLOWED, Guard, Verdict, compile_gate, compile_guards, explain
from bascule.policy.guardrails import Guardrail, MaxAmount, PathWithin

NOW = datetime(2026, 7, 28, 12, tzinfo=UTC)
CALLER = {
    "name": "agent",
    "roles": ["sales"],
    "scopes": ["crm:write"],
    "attributes": {"email": "agent@example.com", "limit": 500},
    "proof": "key",
}
TOOL = {
    "id": "crm/create_lead",
    "name": "create_lead",
    "namespace": "crm",
    "version": "1.2.0",
    "side_effect": True,
    "idempotent": False,
    "security_level": "HIGH",
}
SESSION = {"calls": 7, "tool_calls": 2, "spent": 1.25, "depth": 1, "counts": {"crm/create_lead": 2}}


def facts(args: Any = None, **changed: Any) -> Facts:
    return msgspec.structs.replace(Facts(args, CALLER, TOOL, SESSION, NOW), **changed)


def guard(*rules: dict[str, Any], schema: Any = None) -> Guard:
    return compile_guards([msgspec.convert(rule, Guardrail) for rule in rules], schema)


def judged(source: str, args: Any = None, **changed: Any) -> Verdict:
    """The verdict of one rule that denies where *source* holds."""
    return guard({"deny": source}).judge(facts(args, **changed))


# ---- strength


def test_without_rules_everything_is_allowed() -> None:
    assert guard().judge(facts({"a": 1})) == ALLOWED


def test_a_rule_that_does_not_hold_allows() -> None:
    assert judged("args.amount > 100", {"amount": 5}) == ALLOWED


def test_a_deny_says_which_rule_and_what_the_caller_is_told() -> None:
    verdict = guard({"warn": "false"}, {"deny": "args.amount > 100", "message": "Too much."}).judge(
        facts({"amount": 101})
    )
    assert verdict == Verdict("deny", "guardrails.1: deny args.amount > 100", "Too much.")


def test_a_deny_without_a_message_names_its_rule_and_not_its_text() -> None:
    assert judged("args.amount > 100", {"amount": 101}).message == "guardrails.0 applies to this call"


def test_a_deny_goes_before_an_ask_and_an_ask_before_a_warning_whatever_their_order() -> None:
    ask, deny = {"ask": "args.a > 1", "message": "Sure?"}, {"deny": "args.a > 2", "message": "No."}
    warn = {"warn": "args.a > 0", "message": "Hm."}
    for order in ((ask, warn, deny), (deny, warn, ask), (warn, ask, deny)):
        compiled = guard(*order)
        assert compiled.judge(facts({"a": 3})).effect == "deny"
        assert compiled.judge(facts({"a": 2})).effect == "ask"
        assert compiled.judge(facts({"a": 2})).message == "Sure?"
        assert compiled.judge(facts({"a": 2})).warnings == ("Hm.",)
        assert compiled.judge(facts({"a": 1})) == Verdict(
            "warn", f"guardrails.{order.index(warn)}: warn args.a > 0", "Hm.", ("Hm.",)
        )
        assert compiled.judge(facts({"a": 0})) == ALLOWED


def test_the_first_of_two_that_ask_is_the_one_that_is_asked() -> None:
    verdict = guard({"ask": "true", "message": "One?"}, {"ask": "true", "message": "Two?"}).judge(facts())
    assert verdict.message == "One?"


def test_a_rule_that_only_warns_refuses_too_where_it_cannot_be_decided() -> None:
    for effect in ("deny", "ask", "warn"):
        assert guard({effect: "args.a > 1"}).judge(facts({})).effect == "deny"


def test_a_ready_rule_has_the_effect_that_it_is_given() -> None:
    rule = {"max_amount": {"field": "a", "limit": 10}, "effect": "ask", "message": "That much?"}
    assert guard(rule).judge(facts({"a": 11})) == Verdict("ask", "guardrails.0: ask max_amount a <= 10", "That much?")
    assert guard(rule).judge(facts({"a": "11"})).effect == "deny"


# ---- what cannot be decided


@pytest.mark.parametrize(
    ("source", "args"),
    [
        ("args.zz > 5", {}),
        ("args.a.b > 5", {"a": {}}),
        ("args.a > 5", {"a": "12000"}),
        ("args.a > 5", {"a": None}),
        ("args.a > 5", {"a": [6]}),
        ("args.a + 1 > 5", {"a": 2**63 - 1}),
        ("args.a + 1 > 5", {"a": 1.5}),
        ("args.a / args.b > 1", {"a": 1, "b": 0}),
        ("args.a[3] == 1", {"a": [1]}),
        ("args.a.startsWith('x')", {"a": 5}),
        ("int(args.a) > 5", {"a": "six"}),
        ("timestamp(args.a) > now", {"a": "tomorrow"}),
        ("args.a", {"a": "true"}),
        ("args.a", {"a": 1}),
        ("args.a ? true : false", {"a": None}),
        ("args.a > 5", None),
        ("args.a > 5", [6]),
        ("args.a > 5", "a"),
        ("args.a == 'x'", {"a": "\ud800"}),
        ("args.a == 1", {"a": 10**400}),
        ("args.a == 1", {"a": {1, 2}}),
        ("args.a == 1", {"a": [b"x"]}),
        ("caller.attributes.nobody == 1", {}),
        ("session.counts['no/tool'] > 1", {}),
    ],
)
def test_an_error_or_an_answer_that_is_no_boolean_denies(source: str, args: Any) -> None:
    verdict = judged(source, args)
    assert verdict.effect == "deny"
    assert verdict.message.startswith("guardrails.0 cannot be decided: ")
    assert verdict.rule == f"guardrails.0: deny {source}"


@pytest.mark.parametrize("value", [10**400, object(), "\ud800", {1: object()}])
def test_a_fact_of_the_caller_that_has_no_form_in_cel_denies_and_is_read_only_where_it_is_reached(value: Any) -> None:
    caller = CALLER | {"attributes": {"limit": value}}
    source = "args.a > 5 && caller.attributes.limit == 1"
    assert judged(source, {"a": 6}, caller=caller).effect == "deny"
    assert judged("args.a > 5 && caller.name == 'x'", {"a": 6}, caller=caller) == ALLOWED


def test_why_a_rule_could_not_be_decided_is_told_without_the_values() -> None:
    secret = "hunter2"
    for source in ("args.a > 5", "args.b[args.a] == 1", "int(args.a) > 1", "timestamp(args.a) > now", "args.a"):
        assert secret not in judged(source, {"a": secret, "b": {}}).message


def test_a_member_that_may_be_absent_is_asked_for() -> None:
    assert judged("has(args.a) && args.a > 5", {}) == ALLOWED
    assert judged("has(args.a) && args.a > 5", {"a": 6}).effect == "deny"
    assert judged("'a' in args && args.a > 5", {}) == ALLOWED


# ---- hostile values


@pytest.mark.parametrize(
    ("source", "args", "effect"),
    [
        ("args.a > 10", {"a": 2**70}, "deny"),
        ("args.a > 10", {"a": -(2**70)}, "allow"),
        ("args.a > 10", {"a": 2**63}, "deny"),
        ("args.a > 10", {"a": 1e308}, "deny"),
        ("args.a > 10", {"a": float("inf")}, "deny"),
        ("args.a > 10", {"a": float("nan")}, "deny"),
        ("args.a == 'admin'", {"a": "admin\u200b"}, "allow"),
        ("args.a.contains('\\u202e')", {"a": "x\u202ey"}, "deny"),
        ("args.a == true", {"a": 1}, "allow"),
        ("args.a > 10 || args.b", {"a": 1, "b": True}, "deny"),
        ("args['__class__'] == 1", {"__class__": 1}, "deny"),
        ("size(args.a) > 3", {"a": "é" * 3}, "deny"),  # the engine counts bytes; refusing too early is the safe side
    ],
)
def test_values_at_the_edge_are_judged_as_numbers_and_texts(source: str, args: Any, effect: str) -> None:
    assert judged(source, args).effect == effect


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (nested(guards.MAX_DEPTH + 1), "nested more than"),
        (nested(100_000), "nested more than"),
        ("x" * (guards.MAX_TEXT + 1), "a text is longer"),
        (["x" * (guards.MAX_TEXT + 1)], "a text is longer"),
        (["x" * guards.MAX_TEXT] * 20, "a text is longer"),
        (list(range(guards.MAX_VALUES + 1)), "more than 20000 values"),
        ([[0] * 200] * 200, "more than 20000 values"),
        ({str(number): number for number in range(guards.MAX_VALUES + 1)}, "more than 20000 values"),
    ],
)
def test_what_would_take_too_long_to_look_at_is_refused(value: Any, words: str) -> None:
    verdict = judged("args.a == 1", {"a": value})
    assert verdict.effect == "deny"
    assert words in verdict.message


def test_what_a_rule_does_not_read_may_be_of_any_size() -> None:
    args = {"a": 1, "content": "x" * 1_000_000, "rows": list(range(100_000)), "deep": nested(1000), "odd": object()}
    assert judged("args.a > 5", args) == ALLOWED


def test_a_list_is_bounded_only_where_a_macro_goes_through_it() -> None:
    args = {"a": ["x"] * 1001, "b": ["x"] * 1000, "c": ["x"] * 251}
    assert judged("args.a.size() > 5000", args) == ALLOWED
    assert judged("args.b.exists(x, x == 'y')", args) == ALLOWED
    assert "more than 1000 elements" in judged("args.a.exists(x, x == 'y')", args).message
    assert "more than 250 elements" in judged("args.c.exists(x, x in args.c)", args).message
    assert "more than 250 elements" in judged("args.c.filter(x, x == 'y').size() > 3", args).message


def test_the_bound_of_one_rule_is_not_that_of_another() -> None:
    compiled = guard({"deny": "args.a.size() > 5000"}, {"deny": "args.b.all(x, x == 'y')"})
    assert compiled.judge(facts({"a": ["x"] * 4000, "b": ["x"]})) == ALLOWED


def test_the_arguments_as_a_whole_are_bounded_as_a_list_is() -> None:
    args = {f"a{number}": 1 for number in range(1001)}
    assert judged("size(args) > 5000", args) == ALLOWED
    assert "more than 1000 elements" in judged("args.exists(name, name == 'x')", args).message
    both = guard({"deny": "size(args) > 5000"}, {"deny": "args.a1.exists(x, x == 1)"})
    assert "cannot be decided" in both.judge(facts(args | {"a1": [0] * 1001})).message
    assert both.judge(facts(args | {"a1": [0] * 900})) == ALLOWED


def test_a_list_within_a_list_is_bounded_too() -> None:
    assert judged("args.a.all(x, x.size() > 3)", {"a": [["x"] * 1001]}).effect == "deny"
    assert judged("args.o.l.all(x, x == 3)", {"o": {"l": [1] * 1001}}).effect == "deny"


def test_the_largest_call_that_is_judged_at_all_takes_milliseconds() -> None:
    compiled = guard({"deny": "args.a.all(x, x.startsWith('y'))"}, {"deny": "args.b != args.c"})
    args = {"a": ["x" * 1000] * 1000, "b": [[1] * 99] * 199, "c": [[1] * 99] * 199}
    began = time.thread_time()
    assert compiled.judge(facts(args)) == ALLOWED
    assert time.thread_time() - began < 0.5


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just("\ud800")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.sampled_from("ab"), inner, max_size=4)
    ),
    max_leaves=20,
)
READERS = [
    *("args.a > 10", "args.a == 'x'", "args.a.b.contains('x')", "args.a[0] > args.b", "args.a + args.b > 3"),
    *(
        "args.a.all(x, x > 1)",
        "args.a.map(x, x + x).size() > 3",
        "args.a.exists(x, x.matches('^[a-z]+$'))",
        "args.b in args.a",
    ),
    *(
        "size(args) > 3",
        "timestamp(args.a) + duration(args.b) > now",
        "now - timestamp(args.a) > duration('1h')",
        "-args.a < args.b",
    ),
    *(
        "int(args.a) % int(args.b) == 1",
        "string(args.a) == args.b",
        "{args.a: 1} == {args.b: 1}",
        "double(args.a) / 0.0 > 1.0",
    ),
    *("duration(args.a).getHours() > 3", "uint(args.a) - 5u > 3u", "args.a * args.b > 100", "args[args.a] == args.b"),
]


@given(JSON | st.fixed_dictionaries({"a": JSON, "b": JSON}))
@settings(max_examples=200)
@example({"a": "9999999999h", "b": "-9999999999h"})
@example({"a": "9999-12-31T23:59:59Z", "b": "2562047h47m16.854775807s"})
@example({"a": "0001-01-01T00:00:00+18:00", "b": "-2562047h"})
@example({"a": -(2**63), "b": -1})
@example({"a": 2**64 - 1, "b": 2**64 - 1})
def test_every_call_gets_a_verdict(args: Any) -> None:
    for source, compiled in COMPILED.items():
        verdict = compiled.judge(facts(args))
        assert verdict.effect in ("allow", "deny"), source
    assert EVERYTHING.judge(facts(args)).effect in ("allow", "deny")
    assert len(explain(EVERYTHING, facts(args))) == len(EVERYTHING.rules)


COMPILED = {source: guard({"deny": source}) for source in READERS}
EVERYTHING = guard(
    *({"deny": source} for source in READERS),
    {"max_amount": {"field": "a", "limit": 5}},
    {"recipients_within": {"field": "a", "domains": ["example.com"], "self_only": True}},
    {"path_within": {"field": "a[].b?", "roots": ["/srv"]}},
    {"date_window": {"field": "b", "days_back": 3}},
)


# ---- what is read


def test_rules_share_one_view_of_what_they_read() -> None:
    compiled = guard({"deny": "args.a > 5"}, {"ask": "args.b > 5 && caller.name == 'x'"}, {"warn": "size(caller) > 9"})
    assert compiled.reads == {"args": frozenset("ab"), "caller": None}


def test_a_rule_sees_the_caller_the_tool_the_session_and_the_time() -> None:
    for source in (
        "caller.name == 'agent' && 'sales' in caller.roles && caller.attributes.limit == 500 && caller.proof == 'key'",
        "tool.id == 'crm/create_lead' && tool.side_effect && !tool.idempotent && tool.security_level == 'HIGH'",
        "session.calls == 7 && session.tool_calls == 2 && session.spent > 1.0 && session.depth == 1",
        "session.counts['crm/create_lead'] == 2 && session.counts[tool.id] == 2",
        "now == timestamp('2026-07-28T12:00:00Z') && now.getDayOfWeek() == 2",
        "args.amount > caller.attributes.limit",
    ):
        assert judged(source, {"amount": 501}).effect == "deny", source
        assert "cannot be decided" not in judged(source, {"amount": 501}).message, source


def test_no_arguments_are_an_empty_object() -> None:
    assert judged("has(args.a)", None) == ALLOWED


def test_no_call_sees_what_another_one_said() -> None:
    compiled = guard({"deny": "has(args.a) && args.a > 5"})
    assert compiled.judge(facts({"a": 6})).effect == "deny"
    assert compiled.judge(facts({})) == ALLOWED


def test_the_engine_is_imported_only_for_a_rule_in_its_language() -> None:
    program = (
        "import sys; from bascule.policy.guard import compile_guards; from bascule.policy.guardrails import Guardrail\n"
        "compile_guards([Guardrail(max_per_session=3)], None); assert 'cel' not in sys.modules\n"
        "compile_guards([Guardrail(deny='true')], None); assert 'cel' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# ---- compiling


SCHEMA = {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]}


def invalid(*rules: dict[str, Any], schema: Any = SCHEMA) -> ConfigInvalid:
    with pytest.raises(ConfigInvalid) as caught:
        guard(*rules, schema=schema)
    return caught.value


@pytest.mark.parametrize(
    ("rule", "field", "words"),
    [
        ({"deny": "args.amount >"}, "guardrails.1.deny", "expected a value"),
        ({"ask": "args.amount > 'x'"}, "guardrails.1.ask", "have no order"),
        ({"warn": "args.amount"}, "guardrails.1.warn", "true or false"),
        ({"deny": "args.x.matches('[')"}, "guardrails.1.deny", "not a regular expression"),
        ({"deny": "args.x.matches('(?=x)')"}, "guardrails.1.deny", "not a regular expression"),
        ({"deny": "'\ud800' == args.x"}, "guardrails.1.deny", "not a rule in CEL"),
        ({"max_amount": {"field": "a..b", "limit": 3}}, "guardrails.1.max_amount", "is not a path"),
        ({"max_amount": {"field": "a", "limit": -1}}, "guardrails.1.max_amount", "from 0 up"),
        ({"recipients_within": {"field": "to"}}, "guardrails.1.recipients_within", "nobody"),
        ({"recipients_within": {"field": "to", "domains": ["công-ty.vn"]}}, "guardrails.1.recipients_within", "xn--"),
        (
            {"recipients_within": {"field": "to", "domains": ["*.x.com"]}},
            "guardrails.1.recipients_within",
            "not a domain",
        ),
        ({"path_within": {"field": "p", "roots": []}}, "guardrails.1.path_within", "names no folder"),
        ({"path_within": {"field": "p", "roots": ["../x"]}}, "guardrails.1.path_within", "above where it starts"),
        ({"path_within": {"field": "p", "roots": ["~/x"]}}, "guardrails.1.path_within", "not a root"),
        ({"date_window": {"field": "d"}}, "guardrails.1.date_window", "every date would do"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_field(rule: dict[str, Any], field: str, words: str) -> None:
    error = invalid({"deny": "args.amount > 3"}, rule)
    assert error.field == field
    assert words in error.message


def test_a_refused_expression_is_shown_with_carets() -> None:
    assert invalid({"deny": "args.amount > 'x'"}).message.split("\n")[1:] == [
        "  args.amount > 'x'",
        "  ^^^^^^^^^^^^^^^^^",
    ]


def test_what_is_odd_is_told_and_not_refused() -> None:
    (warning,) = guard({"deny": "args.amount > 10 && args.amount < 5"}, schema=SCHEMA).warnings
    assert warning.startswith("guardrails.0.deny: this never holds\n")


def test_the_place_of_the_list_stands_in_fields_and_names() -> None:
    rules = [Guardrail(max_amount=MaxAmount(field="a", limit=1))]
    verdict = compile_guards(rules, None, "policy.rules.3.guardrails").judge(facts({"a": 2}))
    assert verdict.rule == "policy.rules.3.guardrails.0: deny max_amount a <= 1"


# ---- explain


def test_explain_tells_the_outcome_of_every_rule_also_after_a_deny() -> None:
    compiled = guard(
        {"deny": "args.a > 5", "message": "Too much."},
        {"ask": "args.b > 5"},
        {"warn": "args.a < 5"},
        {"max_amount": {"field": "a", "limit": 3}},
    )
    assert explain(compiled, facts({"a": 6})) == [
        ("guardrails.0: deny args.a > 5", "deny: Too much."),
        ("guardrails.1: ask args.b > 5", "deny, cannot be decided: something that it reads is not there"),
        ("guardrails.2: warn args.a < 5", "does not apply"),
        ("guardrails.3: deny max_amount a <= 3", "deny: `a` has to be from 0 to 3"),
    ]


# ---- the gate


def test_a_gate_without_a_condition_asks_always() -> None:
    verdict = compile_gate(None, "Create a lead?", None).judge(facts())
    assert verdict == Verdict("ask", "confirm_gate: always", "Create a lead?")


def test_a_gate_asks_where_its_condition_holds_and_shows_the_values() -> None:
    gate = compile_gate("args.value > 10000", "Create a lead worth {args.value} for {args.name}?", None)
    assert gate.judge(facts({"value": 5, "name": "x"})) == ALLOWED
    assert gate.judge(facts({"value": 12000, "name": "Ann"})) == Verdict(
        "ask", "confirm_gate: args.value > 10000", 'Create a lead worth 12000 for "Ann"?'
    )


def test_a_gate_that_cannot_decide_does_not_ask_but_denies() -> None:
    verdict = compile_gate("args.value > 10000", "Sure?", None).judge(facts({"value": "12000"}))
    assert verdict.effect == "deny"
    assert "confirm_gate cannot be decided" in verdict.message


def test_a_gate_without_words_asks_for_the_tool() -> None:
    assert compile_gate(None, "", None).judge(facts()).message == 'Run "crm/create_lead"?'


@pytest.mark.parametrize(
    ("when", "message", "field"),
    [
        ("args.value >", "", "confirm_gate.when"),
        (None, "Pay {amount}?", "confirm_gate.message"),
        (None, "Pay {args.amount", "confirm_gate.message"),
        (None, "Pay {caller.role}?", "confirm_gate.message"),
        (None, "Pay {args.amount > 3}?", "confirm_gate.message"),
    ],
)
def test_a_wrong_gate_is_refused_with_its_field(when: str | None, message: str, field: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        compile_gate(when, message, None)
    assert caught.value.field == field


# ---- messages that show values


@pytest.mark.parametrize("rule", [{"deny": "args.a > 5"}, {"ask": "args.a > 5"}, {"warn": "args.a > 5"}])
def test_a_message_shows_the_values_of_the_call(rule: dict[str, Any]) -> None:
    verdict = guard({**rule, "message": "{args.a} is too much for {caller.name}, not {{a}}"}).judge(
        facts({"a": 7}, caller={"name": "ann"})
    )
    assert (verdict.message or verdict.warnings[0]) == '7 is too much for "ann", not {a}'


def test_a_ready_rule_shows_values_in_its_message_too() -> None:
    rule = {"max_amount": {"field": "a", "limit": 5}, "message": "{args.a}? No."}
    assert guard(rule).judge(facts({"a": 7})).message == "7? No."
    assert guard(rule).judge(facts({"a": 4})).effect == "allow"


def test_a_value_in_a_message_cannot_pass_for_words_of_the_rule() -> None:
    rule = {"ask": "true", "message": "Send it to {args.to}?"}
    verdict = guard(rule).judge(facts({"to": 'me"?\u202e Yes'}))
    assert verdict.message == 'Send it to "me\\"?\\u{202e} Yes"?'


def test_what_only_a_message_shows_is_asked_for_and_bounds_no_call() -> None:
    compiled = guard({"deny": "args.a > 5", "message": "{args.text} in {session.calls}"})
    assert compiled.roots == {"args", "session"}
    assert compiled.reads == {"args": frozenset("a")}
    verdict = compiled.judge(facts({"a": 7, "text": "x" * 100_000}, session={"calls": 3}))
    assert verdict.message.startswith('"xxx')
    assert verdict.message.endswith("in 3")


def test_explain_shows_the_values_too() -> None:
    compiled = guard({"ask": "args.a > 5", "message": "Add {args.a}?"})
    assert [outcome for _, outcome in explain(compiled, facts({"a": 7}))] == ["ask: Add 7?"]


@pytest.mark.parametrize("effect", ["deny", "ask", "warn"])
@pytest.mark.parametrize(
    ("message", "words"),
    [("{}", "is not a place"), ("{tool.nope}", "nope"), ("{password}", "password"), ("a {", "'{'")],
)
def test_a_wrong_message_is_refused_with_its_field(effect: str, message: str, words: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number"}}, "additionalProperties": False}
    error = invalid({effect: "args.a > 5", "message": message}, schema=schema)
    assert error.field == "guardrails.0.message"
    assert words in str(error)


def test_a_message_that_shows_what_no_call_can_have_is_odd() -> None:
    schema = {"type": "object", "properties": {"amount": {"type": "number"}}, "additionalProperties": False}
    compiled = guard({"max_amount": {"field": "amount", "limit": 5}, "message": "{args.ammount}?"}, schema=schema)
    assert compiled.warnings == (
        "guardrails.0.message: {args.ammount}: the schema allows no `ammount` here; did you mean `amount`?",
    )
    assert guard({"ask": "true", "message": "{args.amount}?"}, schema=schema).warnings[1:] == ()


@pytest.mark.parametrize(
    ("field", "odd"),
    [
        ("paht?", "this never holds: the schema allows no `paht`; did you mean `path`?"),
        ("paht", "this refuses every call: the schema allows no `paht`; did you mean `path`?"),
        ("path?", ""),
    ],
)
def test_a_ready_rule_that_looks_where_nothing_can_be_is_odd(field: str, odd: str) -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "additionalProperties": False}
    rule = Guardrail(path_within=PathWithin(field=field, roots=("/srv",)))
    warnings = guards.compile_guards([rule], schema).warnings
    assert warnings == ((f"guardrails.0.path_within: {odd}",) if odd else ())
    assert guards.compile_guards([rule], {**schema, "additionalProperties": True}).warnings == ()

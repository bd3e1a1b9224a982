"""Rules are checked before any call: types, cost, and what is the same for every call."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bascule.policy.expression import check as checks
from bascule.policy.expression import regex
from bascule.policy.expression.check import Checked, check
from bascule.policy.expression.engine import compile_program, context_of, truth
from bascule.policy.facts import Undecidable

ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "amount": {"type": "number", "minimum": 0, "maximum": 1000},
        "count": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10},
        "currency": {"enum": ["USD", "EUR"]},
        "kind": {"const": "order"},
        "to": {"type": "array", "items": {"type": "string"}},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "urgent": {"type": "boolean"},
        "day": {"type": "string", "format": "date"},
        "shop": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "zip": {"type": "string"}},
            "required": ["name"],
        },
        "extra": {"type": "object", "additionalProperties": {"type": "integer"}},
        "any": {},
    },
    "required": ["amount", "count", "currency", "kind", "to", "lines", "note", "urgent", "shop", "extra", "any"],
    "additionalProperties": False,
    "$defs": {
        "line": {
            "type": "object",
            "properties": {"price": {"type": "number"}, "sku": {"type": "string"}},
            "required": ["price"],
            "additionalProperties": False,
        }
    },
}


def problems(source: str, schema: Any = ORDER) -> str:
    return " | ".join(problem.message for problem in check(source, schema).problems)


def warnings(source: str, schema: Any = ORDER) -> str:
    checked = check(source, schema)
    assert not checked.problems
    return " | ".join(warning.message for warning in checked.warnings)


# ---- what is fine


@pytest.mark.parametrize(
    "source",
    [
        'args.amount > 500 && !("ops" in caller.roles)',
        'args.currency != "USD" && session.spent > 10.0',
        'args.to.exists(t, !t.endsWith("@example.com"))',
        "args.lines.all(line, line.price < 100)",
        "args.lines.filter(line, line.price > 10).size() > 3",
        "args.note != null && args.note.contains('x')",
        "args.note == null ? args.urgent : args.note == 'y'",
        "has(args.day) && args.day.startsWith('2026')",
        "!has(args.day) || args.day == ''",
        "args.day != '' && has(args.day)",
        "has(args.shop.zip) ? args.shop.zip == '10000' : args.urgent",
        "now.getHours() < 6 || now.getDayOfWeek() == 0",
        "now + duration('24h') > timestamp('2026-01-01T00:00:00Z')",
        "double(args.amount) * 2.0 > 5.0 && args.count + 1 > 3",
        "'crm/create' in session.counts && session.counts['crm/create'] > 3",
        "size(args.to) > 3 && args.to[0] != caller.name",
        "args.amount > {'sales': 100, 'ops': 10}[caller.name]",
        "args.any == 3 || args.any.deep[0].deeper > 'x'",
        "tool.security_level == 'HIGH' && caller.attributes.email != 'a@b.test'",
        "args.currency in ['USD'] || args.amount in [1, 2.5]",
        "args.extra.all(k, args.extra[k] < 3)",
    ],
)
def test_a_sound_rule_has_neither_problems_nor_warnings(source: str) -> None:
    checked = check(source, ORDER)
    assert (checked.problems, checked.warnings) == ((), ())


def test_what_a_rule_reads_is_told_for_each_root() -> None:
    checked = check('args.shop.name == caller.name && args["to"].size() > 0 && now > now', ORDER)
    assert checked.reads == {"args": frozenset({"shop", "to"}), "caller": frozenset({"name"}), "now": None}
    assert checked.paths == {"args.shop.name", "caller.name", "args.to", "now"}


@pytest.mark.parametrize("source", ["size(args) > 3", "args == {}", "args[caller.name] == 1", "args.all(k, k != 'x')"])
def test_a_rule_that_looks_at_a_root_as_a_whole_reads_all_of_it(source: str) -> None:
    assert check(source).reads["args"] is None


# ---- problems


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("amount > 3", "there is no `amount`"),
        ("args.amount", "says true or false; this is double or int"),
        ("'yes'", "says true or false"),
        ("args.amount && true", "beside `&&` has to be bool"),
        ("!args.amount", "what `!` turns round"),
        ("args.amount ? true : false", "the condition has to be bool"),
        ("args.amount > '5'", "have no order"),
        ("args.to > 5", "have no order"),
        ("null < 5", "have no order"),
        ("now > '2026'", "have no order"),
        ("args.count + 1.0 > 2.0", "write double(…)"),
        ("'a' + 1 == 'a1'", "no `+` for string and int"),
        ("args.amount.size() > 3", "what `size` takes has to be list or map or string"),
        ("args.to.contains('x')", "what `contains` takes"),
        ("args.currency.lowerAscii() == 'usd'", "no method `lowerAscii`"),
        ("lower(args.currency) == 'usd'", "no function `lower`"),
        ("matches(args.currency, 'x')", "no function `matches`"),
        ("args.currency.startsWith()", "takes 1 arguments"),
        ("now.getHours('UTC') > 3", "takes 0 arguments"),
        ("type(args.amount) == int", "no function `type`"),
        ("args.currency.x == 1", "what has the member `x`"),
        ("args.currency[0] == 'U'", "what stands before `[`"),
        ("args.to['x'] == 'U'", "what has the member `x` has to be map"),
        ("args.to[1.5] == 'U'", "the index of a list"),
        ("'U' in args.currency", "what stands after `in`"),
        ("caller.role == 'x'", "there is no `role` here: name, roles"),
        ("session.spend > 1.0", "there is no `spend` here"),
        ("args.amount.all(x, true)", "what `all` goes through"),
        ("args.to.all(t, t)", "the condition of `all`"),
        ("args.to.all(args, true)", "give the element another name"),
        ("args.to.map(t, t.size())", "says true or false; this is list"),
        ("{1.5: 2} == {}", "a key has to be"),
        ("args.currency.matches(args.currency)", "written in the rule"),
        ("args.currency.matches('(a{200}){200}')", "takes too long"),
    ],
)
def test_what_can_never_be_decided_is_a_problem(source: str, words: str) -> None:
    assert words in problems(source)


def test_a_problem_shows_its_place() -> None:
    source = "args.amount > 5 &&\n  caller.role == 'x'"
    (problem,) = check(source).problems
    assert problem.shown(source).split("\n")[1:] == ["    caller.role == 'x'", "    ^^^^^^^^^^^"]


# ---- cost


@pytest.mark.parametrize(
    "source",
    [
        "args.to.all(a, args.to.all(b, a != b))",
        "args.to.map(a, args.to.filter(b, a == b)).size() > 0",
        "args.to.all(a, true && (args.lines.exists(b, b.sku == a) || false))",
    ],
)
def test_a_macro_within_a_macro_is_refused(source: str) -> None:
    assert "within another macro" in problems(source)


def test_a_macro_goes_through_a_member_and_not_through_something_computed() -> None:
    assert "goes through a member" in problems("(args.to + args.to).all(t, t != '')")
    assert problems("args.to.filter(t, t != '').map(t, t.size()).all(n, n > 3)") == ""


@pytest.mark.parametrize(
    ("source", "most"),
    [
        ("args.to.size() > 5", None),
        ("args.to.all(t, t != '')", checks.MAX_ELEMENTS),
        ("args.to.all(t, t.endsWith(args.currency))", checks.MAX_ELEMENTS),
        ("args.to.map(t, t.size()).size() > 3", checks.MAX_ELEMENTS_SQUARED),
        ("args.to.all(t, t in caller.roles)", checks.MAX_ELEMENTS_SQUARED),
        ("args.to.all(t, t.matches('@example[.]com$'))", checks.MAX_ELEMENTS_SQUARED),
        ("args.to.all(t, args.to[0] == t)", checks.MAX_ELEMENTS_SQUARED),
    ],
)
def test_what_grows_with_the_square_sees_shorter_lists(source: str, most: int | None) -> None:
    checked = check(source, ORDER)
    assert checked.problems == ()
    assert checked.max_elements == most


@pytest.mark.parametrize(
    "source",
    [
        "args.l.all(x, x >= 0)",
        "args.l.exists(x, x > 2000)",
        "args.l.exists_one(x, x == 1)",
        "args.l.map(x, x * 2).size() > 3",
        "args.l.filter(x, x > 1).map(x, x + 1).size() > 3",
        "args.l.exists(x, x + 5000 in args.l)",
        "args.l.all(x, args.l[0] <= x)",
        "args.l.all(x, size(args.l) > 3)",
        "args.s.all(x, x.matches('^[^@]+@example[.]com$'))",
        "args.s.all(x, x.matches('(?i)(a|b|c)+$') || true)",
        "args.m.all(k, args.m[k] >= 0)",
        "args.l.all(x, args == args)",
    ],
)
def test_the_worst_list_that_a_rule_may_see_takes_it_milliseconds(source: str) -> None:
    checked = check(source)
    assert checked.problems == ()
    most = checked.max_elements or 0
    args = {
        "l": list(range(most)),
        "s": ["somebody@example.com"] * most,
        "m": {str(number): number for number in range(most)},
    }
    program, context = compile_program(source), context_of({"args": args}, {})
    began = time.thread_time()
    truth(program, context)
    # Measured: below 15 ms each. The bound leaves room for a slow machine; 120^3 steps took 0.65 s.
    assert time.thread_time() - began < 0.25


@pytest.mark.parametrize(
    ("pattern", "fine"),
    [
        (r"^[a-z0-9._-]+@example\.com$", True),
        (r"\d{4}-\d{2}-\d{2}", True),
        (r"[\w.-]+@[\w.-]+\.(com|org)", True),
        (r"(?i)^(usd|eur)$", True),
        (r"^\w{1,64}@", False),
        (r"\w\w\w\w\w", False),
        (r"(a{100}){100}", False),
        (r"((a{30}){30}){30}", False),
        (r"\p{L}{10}", False),
        (r"a{1000000}", False),
        ("x" * 300, False),
    ],
)
def test_a_pattern_that_takes_long_to_compile_is_refused(pattern: str, fine: bool) -> None:
    assert (regex.too_costly(pattern) is None) is fine


@given(st.text(alphabet="ab.*+?{}()[]^$|\\wdsp0123456789,:<>-P", max_size=40))
@example("(" * 100)
@example("[" * 100)
@example("\\")
def test_every_pattern_has_a_weight(pattern: str) -> None:
    assert regex.weight(pattern) >= 0


# ---- warnings


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("args.amount > 10 && args.amount < 5", "never holds"),
        ("args.amount > 5 && args.amount <= 5", "never holds"),
        ("5 < args.amount && 5 > args.amount", "never holds"),
        ("args.count > 5 && args.count < 6", "never holds"),
        ("args.amount == 5 && args.amount > 7", "never holds"),
        ("args.currency == 'USD' && args.currency == 'EUR'", "never holds"),
        ("args.amount < 5 || args.amount >= 5", "always holds"),
        ("args.currency == 'USD' || args.currency == 'EUR'", "always holds"),
        ("args.currency != 'USD' && args.currency != 'EUR'", "never holds"),
        ("args.amount > 1000", "never holds"),
        ("args.amount >= 0", "always holds"),
        ("args.count >= 10", "never holds"),
        ("args.count == 12", "never holds"),
        ("args.count in [12, 13]", "never holds"),
        ("args.currency == 'GBP'", "never holds"),
        ("args.currency != 'GBP'", "always holds"),
        ("!(args.currency in ['USD', 'EUR'])", "always holds"),
        ("args.currency in ['GBP', 'JPY']", "never holds"),
        ("args.kind == 'order'", "always holds"),
        ("tool.security_level == 'high'", "never holds"),
        ("args.amount == args.amount", "always holds"),
        ("args.amount == '5'", "never equal"),
        ("args.urgent == 'true'", "never equal"),
        ("args.urgent in ['yes']", "never in it"),
        ("caller.roles == 'ops'", "never equal"),
        ("now == '2026-01-01'", "never equal"),
        ("1 < 2", "reads nothing"),
        ("true", "reads nothing"),
        ("args.urgent || 'a' == 'b'", "reads nothing"),
    ],
)
def test_what_is_the_same_for_every_call_is_warned_of(source: str, words: str) -> None:
    assert words in warnings(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("args.day == 'x'", "`day` is optional"),
        ("args.shop.zip == 'x'", "`zip` is optional"),
        ("args.day == 'x' || has(args.day)", "`day` is optional"),
        ("args.amonut > 3", "no `amonut` here; did you mean `amount`?"),
        ("args.lines.all(line, line.sku != '')", "`sku` is optional"),
        ("args.lines.all(line, line.cost > 3)", "allows no `cost`"),
        ("session.counts['a/b'] > 3", "is optional"),
        ("args.note > 'a'", "may also be null"),
        ("args.note.size() > 3", "may also be null"),
        ("args.amount * 2 > 5", "write double(…)"),
        ("timestamp(args.day) > now", "wants a time with its zone"),
        ("args.urgent ? args.urgent : args.note", "may also be null or string"),
    ],
)
def test_what_refuses_calls_by_accident_is_warned_of(source: str, words: str) -> None:
    assert words in warnings(source)


def test_an_open_schema_knows_a_misspelt_member_too() -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    assert "did you mean `path`" in warnings("args.paht == 'x'", schema)
    assert warnings("has(args.paht) && args.paht == 'x'", schema) == ""


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"type": "object"},
        {"properties": 7, "required": 3, "additionalProperties": "x"},
        {"$ref": "#"},
        {"$ref": "https://example.com/schema"},
        {"allOf": [{"$ref": "#"}]},
        {"anyOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {"$ref": "#/properties/b"}, "b": {"$ref": "#/properties/a"}}, "required": ["a"]},
        {"properties": {"a": {"type": ["nonsense", 3]}}, "required": ["a"]},
        {"properties": {"a": {"enum": [{"x": 1}, []]}}, "required": ["a"]},
        {"properties": {"a": True}, "required": ["a"]},
        {"patternProperties": {".": {"type": "integer"}}, "additionalProperties": False},
    ],
)
def test_a_schema_that_says_little_or_nonsense_draws_no_warning(schema: Any) -> None:
    assert warnings("args.a == 3 || args.a.b.c == 'x' || args.a > 'y'", schema) == ""


def test_references_and_optional_types_of_generated_schemas_are_followed() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}], "default": None},
            "b": {"allOf": [{"$ref": "#/$defs/Color"}]},
        },
        "required": ["a", "b"],
        "$defs": {"Color": {"enum": ["red", "blue"], "type": "string"}},
    }
    assert "never holds" in warnings("args.b == 'green'", schema)
    assert "never holds" in warnings("args.a == 'green'", schema)
    assert warnings("args.a == 'red' || args.a == null || args.b == 'blue'", schema) == ""


# ---- the checker against the engine

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "amount": st.one_of(st.integers(0, 1000), st.floats(0, 1000)),
    "count": st.integers(1, 9),
    "currency": st.sampled_from(["USD", "EUR"]),
    "kind": st.just("order"),
    "to": st.lists(st.sampled_from(["a@b.test", "c@d.test", ""]), max_size=3),
    "lines": st.lists(
        st.fixed_dictionaries({"price": st.floats(0, 10)}, optional={"sku": st.text(max_size=3)}), max_size=3
    ),
    "note": st.one_of(st.none(), st.text(max_size=3)),
    "urgent": st.booleans(),
    "shop": st.fixed_dictionaries({"name": st.text(max_size=3)}, optional={"zip": st.text(max_size=3)}),
    "extra": st.dictionaries(st.sampled_from("ab"), st.integers(0, 5)),
    "any": st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2)),
}
ORDERS = st.fixed_dictionaries(VALUES, optional={"day": st.sampled_from(["2026-01-01", ""])})

PLACES = st.sampled_from([
    *(f"args.{name}" for name in (*ORDER["properties"], "shop.name", "shop.zip")),
    *("caller.name", "session.spent", "session.calls", "now"),
])  # fmt: skip
CONSTANTS = st.sampled_from(
    ["0", "5", "9", "1000", "1.5", "'USD'", "'GBP'", "''", "true", "null", "[]", "['USD', 'a']", "[5, 6]"]
)
RELATIONS = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in"])


def compound(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(children, min_size=2, max_size=3).map(lambda parts: "(" + " && ".join(parts) + ")"),
        st.lists(children, min_size=2, max_size=3).map(lambda parts: "(" + " || ".join(parts) + ")"),
        children.map(lambda part: f"!({part})"),
        st.builds(lambda a, b, c: f"({a} ? {b} : {c})", children, children, children),
    )


CONDITIONS = st.recursive(
    st.one_of(
        st.builds(lambda a, sign, b: f"{a} {sign} {b}", PLACES, RELATIONS, CONSTANTS),
        st.builds(lambda a, sign, b: f"{a} {sign} {b}", PLACES, RELATIONS, PLACES),
        st.sampled_from(["has(args.day)", "!has(args.shop.zip)", "args.urgent", "args.note != null"]),
        st.builds(lambda a: f"size({a}) > 1", PLACES),
        st.builds(lambda a, sign, b: f"{a} {sign} {b} > 3", PLACES, st.sampled_from("+-*"), PLACES),
        st.builds(lambda b: f"args.to.exists(t, {b} == t)", PLACES),
        st.builds(lambda b: f"args.lines.all(x, x.price < {b})", PLACES),
    ),
    compound,
    max_leaves=5,
)
CALLER = {"name": "a@b.test", "roles": ["ops"], "scopes": [], "attributes": {}, "proof": "key"}
SESSION = {"calls": 3, "tool_calls": 1, "spent": 1.5, "depth": 0, "counts": {}}


def decided(source: str, args: Any) -> bool | None:
    variables = {"args": args, "caller": CALLER, "session": SESSION, "now": datetime(2026, 7, 28, tzinfo=UTC)}
    try:
        return truth(compile_program(source), context_of(variables, {}))
    except Undecidable as error:
        # No type foresees that a number is too large.
        assume("a number is too large" not in str(error))
        return None


@given(CONDITIONS, ORDERS)
@settings(max_examples=120)
def test_a_rule_without_a_word_against_it_is_decided_for_every_call_that_fits_the_schema(
    source: str, args: Any
) -> None:
    checked = check(source, ORDER)
    assume(not checked.problems and not checked.warnings and "args.any" not in checked.paths)
    assert decided(source, args) is not None


BOUND = st.builds(
    lambda place, sign, constant: f"args.{place} {sign} {constant}",
    st.sampled_from(["amount", "count", "currency", "kind"]),
    RELATIONS,
    CONSTANTS,
)
BOUNDS = st.one_of(BOUND, *(st.lists(BOUND, min_size=2, max_size=3).map(sign.join) for sign in (" && ", " || ")))


@given(BOUNDS, ORDERS)
@settings(max_examples=300)
def test_what_is_said_to_hold_always_or_never_does_so_for_every_call_that_fits_the_schema(
    source: str, args: Any
) -> None:
    said = {warning.message for warning in check(source, ORDER).warnings if warning.end - warning.start == len(source)}
    answer = decided(source, args) if said else None
    if answer is not None:
        assert "this never holds" not in said or answer is False
        assert "this always holds" not in said or answer is True


def test_the_calls_of_these_tests_fit_their_schema() -> None:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    validator = jsonschema_rs.validator_for(ORDER)

    @given(ORDERS)
    def fits(args: Any) -> None:
        validator.validate(args)

    fits()


NONSENSE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just("#/properties/a")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["type", "properties", "required", "items", "a", "enum", "const", "anyOf", "$ref", "minimum"]
            ),
            inner,
            max_size=4,
        ),
    ),
)


@given(st.text(max_size=50), NONSENSE)
@example("args.a.b > 3", {"properties": {"a": {"type": 3}}})
def test_the_checker_survives_every_text_and_every_schema(source: str, schema: Any) -> None:
    for text in (source, f"args.a == {source}", "args.a.b[0].c > 3 && args.a in ['x'] && args.items.all(x, x.a == 1)"):
        assert isinstance(check(text, schema), Checked)


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("args.a > 1 and args.b > 1", "`and`; write `&&`"),
        ("(args.a > 1 OR args.b > 1)", "`OR`; write `||`"),
        ("not has(args.a)", "`has`; write `!`"),
        ("not (has(args.a))", "function `not`; write `!`"),
        ("args.a not in [1]", "`not`; write `!`"),
    ],
)
def test_words_that_are_operators_elsewhere_are_answered_with_the_sign(source: str, advice: str) -> None:
    assert advice in check(source).problems[0].message

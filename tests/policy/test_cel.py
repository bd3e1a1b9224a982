"""Expressions as trees: what we read, the engine reads too, and what we do not know is refused at its place."""

import cel as engine
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bascule.policy.expression import parse as cel
from bascule.policy.expression.parse import parse
from bascule.policy.expression.tokens import NotCel
from bascule.policy.expression.tree import Binary, Choice, Literal, Logic, Macro, Name, Select, Tree, Unary, parts_of


def accepted(source: str) -> bool:
    try:
        parse(source)
    except NotCel:
        return False
    return True


def accepted_by_the_engine(source: str) -> bool:
    try:
        engine.compile(source)
    except ValueError:
        return False
    return True


# ---- the same language as the engine's


WORDS = st.sampled_from(["args", "caller", "a", "b1", "_x", "size", "has", "in", "true", "null", "for", "all", "map"])
NUMBERS = st.sampled_from(["0", "7", "-1", "0x1F", "3u", "1.5", ".5", "1e3", "2.5E-2", "9223372036854775807"])
TEXTS = st.sampled_from(["'a'", '"b"', "r'\\d'", "'''c'''", '"\\n\\u00e9"', "'\\''", '""'])
SIGNS = st.sampled_from([*"()[]{}.,?:!-+*/%<>", "&&", "||", "==", "!=", "<=", ">=", " in ", " "])


def grown(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One construct more around *children*."""
    operators = st.sampled_from([*"+-*/%<>", "&&", "||", "==", "!=", "<=", ">=", " in "])
    names = st.sampled_from(["a", "b1", "x"])
    return st.one_of(
        st.builds(lambda a, sign, b: f"{a} {sign} {b}", children, operators, children),
        st.builds(lambda a: f"({a})", children),
        st.builds(lambda a: f"!({a})", children),
        st.builds(lambda a: f"-({a})", children),
        st.builds(lambda a, b, c: f"({a}) ? ({b}) : {c}", children, children, children),
        st.builds(lambda a, name: f"({a}).{name}", children, names),
        st.builds(lambda a, b: f"({a})[{b}]", children, children),
        st.builds(lambda a, b: f"({a}).contains({b})", children, children),
        st.builds(lambda a: f"size({a})", children),
        st.builds(lambda a, name: f"has(({a}).{name})", children, names),
        st.builds(lambda a, kind, b: f"({a}).{kind}(x, {b})", children, st.sampled_from(sorted(cel.MACROS)), children),
        st.lists(children, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(children, children), max_size=2).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items) + "}"
        ),
    )


LEAVES = st.one_of(st.sampled_from(["args", "args.a", "caller.name", "true", "false", "null"]), NUMBERS, TEXTS)
EXPRESSIONS = st.recursive(LEAVES, grown, max_leaves=8)


@given(EXPRESSIONS)
@settings(max_examples=200)
def test_every_expression_of_the_grammar_is_read_by_both(source: str) -> None:
    assert accepted_by_the_engine(source)
    assert accepted(source) or "nested" in refusal(source).message


@given(st.lists(st.one_of(WORDS, NUMBERS, TEXTS, SIGNS), max_size=8).map("".join))
@settings(max_examples=300)
@example("!-1")
@example("1e370")
@example("1.e5")
@example("args.for")
@example("a ? b ? c : d : e")
def test_whatever_we_read_the_engine_reads_too(source: str) -> None:
    if accepted(source):
        assert accepted_by_the_engine(source)


@given(st.text(max_size=60))
@example("((((" * 1000)
@example("!" * 4000)
@example("a." * 2000 + "a")
@example("a+" * 2000 + "a")
@example("[" * 40 + "]" * 40)
@example('"' + "\\" * 99)
def test_arbitrary_text_is_read_or_refused_at_a_place_within_it(source: str) -> None:
    if accepted(source):
        assert all(0 <= part.start < part.end <= len(source) for part in parts_of(parse(source)))
        assert accepted_by_the_engine(source)
    else:
        error = refusal(source)
        assert 0 <= error.start <= error.end <= len(source)
        assert error.message


TEXT_PARTS = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\"'\\\r\n"),
    st.sampled_from(
        ["\\n", "\\t", "\\\\", "\\'", '\\"', "\\x41", "\\u00e9", "\\U0001F600", "\\101", "\\a", "\\?", "\\`"]
    ),
)


@given(st.lists(TEXT_PARTS, max_size=20).map("".join), st.sampled_from(["'", '"', "'''", '"""']))
def test_a_string_means_to_us_what_it_means_to_the_engine(inside: str, quote: str) -> None:
    tree = parse(f"{quote}{inside}{quote}")
    assert isinstance(tree, Literal)
    assert tree.value == engine.evaluate(f"{quote}{inside}{quote}")


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_number_means_to_us_what_it_means_to_the_engine(number: float) -> None:
    tree = parse(repr(number))
    assert isinstance(tree, Literal)
    assert tree.value == number == engine.evaluate(repr(number))


@pytest.mark.parametrize(
    "source", ["1 + 2 * 3", "1 - 2 - 3", "-2 * 3", "8 / 4 / 2", "7 % 4 * 2", "- -1 - -1", "2 * (3 + 4)", "10 - 2 + 3"]
)
def test_operators_bind_as_in_the_engine(source: str) -> None:
    assert value_of(parse(source)) == engine.evaluate(source)


def value_of(tree: Tree) -> int:
    match tree:
        case Literal(value=int(value)):
            return value
        case Unary(sign="-", operand=operand):
            return -value_of(operand)
        case Binary(sign=sign, left=left, right=right):
            one, other = value_of(left), value_of(right)
            return {
                "+": one + other,
                "-": one - other,
                "*": one * other,
                "/": one // (other or 1),
                "%": one % (other or 1),
            }[sign]
    raise AssertionError(tree)


# ---- trees


def test_a_chain_is_flat_and_binds_and_before_or() -> None:
    match parse("args.a || args.b && args.c || true"):
        case Logic(sign="||", parts=(Select(), Logic(sign="&&", parts=(Select(), Select())), Literal(value=True))):
            pass
        case tree:
            pytest.fail(str(tree))


def test_a_choice_goes_on_to_its_right() -> None:
    match parse("a ? b : c ? d : e"):
        case Choice(condition=Name(name="a"), no=Choice(condition=Name(name="c"))):
            pass
        case tree:
            pytest.fail(str(tree))


def test_macros_and_has_are_no_functions() -> None:
    match parse("has(args.to) && args.to.all(t, t != '')"):
        case Logic(parts=(Select(tested=True, member="to"), Macro(kind="all", variable=Name(name="t")))):
            pass
        case tree:
            pytest.fail(str(tree))


def test_a_chain_of_hundreds_is_no_deep_tree() -> None:
    tree = parse(" || ".join(f"args.a == {number}" for number in range(200)))
    assert isinstance(tree, Logic)
    assert len(tree.parts) == 200


# ---- what is refused


def refusal(source: str) -> NotCel:
    with pytest.raises(NotCel) as caught:
        parse(source)
    return caught.value


@pytest.mark.parametrize(
    ("source", "words", "at"),
    [
        ("", "expected a value, found the end", 0),
        ("args.amount >", "expected a value, found the end", 13),
        ("args.amount = 3", "write `==`", 12),
        ("args.a & args.b", "write `&&`", 7),
        ("args.a || ", "expected a value", 10),
        ("args.a and args.b", "expected an operator or the end, found `and`", 7),
        ("args.in", "expected a name after the dot", 5),
        ("package", "expected a value", 0),
        (".args", "expected a value", 0),
        ("args?.a", "expected a value", 5),
        ("args[?'a']", "expected a value", 5),
        ("args.`a`", "quoted members", 5),
        ("Foo{a: 1}", "expected an operator or the end", 3),
        ("b'x'", "expected an operator or the end", 1),
        ("args.a // b", "comments", 7),
        ("'abc", "does not end", 0),
        ("'a\nb'", "does not end", 0),
        ("'\\q'", "no such escape", 1),
        ("'\\ud800'", "no such character", 1),
        ("has(args)", "`has` takes one member", 0),
        ("has(args['a'])", "`has` takes one member", 0),
        ("args.l.all(1, true)", "a name for each element", 11),
        ("args.l.all(x)", "`all` takes a name and an expression", 7),
        ("9223372036854775808", "64 bits", 0),
        ("18446744073709551616u", "64 bits", 0),
        ("args.é", "means nothing here", 5),
        ("args.a\u00a0> 3", "means nothing here", 6),
        ("(" * 30 + "1" + ")" * 30, "nested", 24),
        ("1" + " + 1" * 30, "nested", 94),
    ],
)
def test_what_rules_do_not_use_is_refused_by_name_and_place(source: str, words: str, at: int) -> None:
    error = refusal(source)
    assert words in error.message
    assert error.start == at


def test_an_expression_is_bounded() -> None:
    assert "longer than" in refusal("a" * (cel.MAX_SOURCE + 1)).message
    assert "items" in refusal(f"args.a in [{','.join('1' * 300)}]").message

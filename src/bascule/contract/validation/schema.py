"""JSON Schemas of tools: which may be used at all, and what is wrong with a value under one. PURE.

Definitions come from servers, values from callers, and both may be hostile, together. The library is
asked only what it answers soon: `guard` refuses schemas that fetch, loop or explode, and a `Validator`
refuses values on which its own schema could take too long. Measured with jsonschema-rs 0.60.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import jsonschema_rs
import msgspec
from jsonschema_rs import FancyRegexOptions, RegexOptions

from bascule.contract.validation import problems as words
from bascule.contract.validation.graph import Unfit, dialect_of, graph_of, quoted
from bascule.contract.validation.problems import Problem
from bascule.contract.validation.work import HORIZON, Work, work_of

__all__ = ["Unfit", "Validator", "arguments_message", "compile_schema", "guard", "result_message"]

MAX_BYTES: Final = 256 * 1024  # of a schema, as JSON
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 60_000  # JSON values in a schema

# Evaluations that one validation may be worth: 15 ns each, so 0.2 s at the very worst.
MAX_WORK: Final = 12_000_000
MAX_EXPLAINING: Final = 500_000  # values that errors may copy, 0.4 µs each
MAX_COUNTED: Final = 100_000  # values of one message that are looked at one by one
_BACKTRACKS: Final = 10_000  # steps; the pattern then counts as not matched

_CLASSES: Final = {
    "2020-12": jsonschema_rs.Draft202012Validator,
    "2019-09": jsonschema_rs.Draft201909Validator,
    "draft-07": jsonschema_rs.Draft7Validator,
    "draft-06": jsonschema_rs.Draft6Validator,
    "draft-04": jsonschema_rs.Draft4Validator,
}

_TOO_MUCH: Final[Sequence[Problem]] = (
    {"path": "", "problem": "is too large or too deeply nested to be checked; send less at a time"},
)
_UNREADABLE: Final[Sequence[Problem]] = ({"path": "", "problem": "holds something that is not JSON"},)
_UNCLEAR: Final[Sequence[Problem]] = (
    {"path": "", "problem": "does not fit the schema, and is too large to say where; send less at a time"},
)


def guard(schema: object) -> Unfit | None:
    """Why *schema* must not be used, or None.

    Total: judges any JSON value, in bounded time and without recursion. What it lets pass may still be
    no valid schema; `compile_schema` says so.
    """
    try:
        _inspect(schema)
    except Unfit as unfit:
        return unfit
    return None


def compile_schema(schema: object) -> "Validator":
    """The validator of *schema*. Raises Unfit if it must not be used or is not a valid schema."""
    own, work, backtracks = _inspect(schema)
    engine = FancyRegexOptions(backtrack_limit=_BACKTRACKS) if backtracks else RegexOptions()
    # Some write `https:` where a dialect is called `http:`, which the library would not know.
    plain = {key: value for key, value in own.items() if key != "$schema"}
    try:
        compiled = _CLASSES[dialect_of(own)](
            plain, offline=True, mask="***", validate_formats=True, pattern_options=engine
        )
    except jsonschema_rs.ValidationError as error:
        found = words.problems_of([error], {}, own)[0]
        raise Unfit(f"not a valid schema: {found['path'] or 'the root'} {found['problem']}") from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise Unfit(f"not a valid schema: {quoted(str(error))}") from error
    return Validator(compiled, own, work, _free_bytes(work))


class Validator(msgspec.Struct, frozen=True):
    """A compiled schema; safe to share. Values are looked at, never kept and never repeated."""

    compiled: jsonschema_rs.Validator
    schema: Mapping[str, Any]
    work: Work
    free_bytes: int  # a message up to this size costs little enough, whatever is in it

    def problems(self, value: Any, size_bytes: int | None = None) -> Sequence[Problem]:
        """What is wrong with *value*, empty when nothing is: at most 10 of `{"path", "problem"}`.

        `path` is a JSON pointer, `problem` a sentence without its subject. *size_bytes* is the length of
        the JSON that *value* was read from; without it each value is counted first, which takes longer.
        A value that could take too long to check has one problem that says so.
        """
        if (size_bytes is None or size_bytes > self.free_bytes) and self._costs_too_much(value):
            return _TOO_MUCH
        try:
            return () if self.compiled.is_valid(value) else self._explained(value)
        except (ValueError, OverflowError, RecursionError):
            return _UNREADABLE

    def _costs_too_much(self, value: Any) -> bool:
        counted = _count(value)
        if counted is None:
            return True
        values, characters = counted
        evaluations, steps = self.work.evaluations, self.work.steps_per_char
        return _dot(values, evaluations) + _dot(characters, steps) > MAX_WORK

    def _explained(self, value: Any) -> Sequence[Problem]:
        """Unlike validity, errors are collected without a memory of what was judged before, so they cost more."""
        counted = _count(value)
        if counted is None:
            return _UNCLEAR
        if _dot(counted[0], self.work.errors) > MAX_EXPLAINING:
            return _UNCLEAR
        errors = list(self.compiled.iter_errors(value))
        return words.problems_of(errors, self.schema, value) or _UNCLEAR


def arguments_message(problems: Sequence[Problem]) -> str:
    """One text with all *problems* of arguments, for a model that is to call again."""
    first = "The arguments do not fit the tool's input schema. Correct them and call again:"
    return "\n".join([first, *_lines(problems, "The arguments as a whole")])


def result_message(problems: Sequence[Problem]) -> str:
    """One text with all *problems* of a result, for those who look after the server."""
    return "; ".join(_lines(problems, "the result as a whole", mark=""))


def _lines(problems: Sequence[Problem], whole: str, mark: str = "- ") -> list[str]:
    return [f"{mark}{each['path'] or whole}: {each['problem']}" for each in problems]


# ---- bounds


def _inspect(schema: object) -> tuple[Mapping[str, Any], Work, bool]:
    """(the schema, what validating against it may cost, whether its patterns backtrack). Raises Unfit."""
    if not isinstance(schema, dict):
        raise Unfit(f"a schema is a JSON object, and this is {quoted(None if schema is None else schema)}")
    _measure(schema)
    dialect_of(schema)
    graph = graph_of(schema)
    return schema, work_of(graph), graph.backtracks


def _measure(schema: Mapping[str, Any]) -> None:
    """Raise Unfit if *schema* is too large or too deep to be looked at more closely."""
    layer: list[Any] = [schema]
    size = count = 0
    for _ in range(MAX_DEPTH + 1):
        count += len(layer)
        if count > MAX_VALUES:
            raise Unfit(f"more than {MAX_VALUES:,} values in one schema")
        inner: list[Any] = []
        for value in layer:
            size += 2 + _length(value)
            if isinstance(value, dict):
                size += sum([len(key) + 3 for key in value])
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        if size > MAX_BYTES:
            raise Unfit(f"larger than {MAX_BYTES // 1024} KiB")
        if not inner:
            return
        layer = inner
    raise Unfit(f"nested deeper than {MAX_DEPTH} levels")


def _length(value: Any) -> int:
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else 0


def _free_bytes(work: Work) -> int:
    # A value takes two bytes at least (`0,`), a character one.
    return 2 * MAX_WORK // max(1, max(work.evaluations) + 2 * max(work.steps_per_char))


def _dot(counts: Sequence[int], costs: Sequence[int]) -> int:
    """Their product; a level deeper than any cost is known for costs what the last known one does, if all recurs."""
    if len(costs) > HORIZON:
        costs = [*costs, *[max(costs)] * max(0, len(counts) - len(costs))]
    return sum(count * cost for count, cost in zip(counts, costs, strict=False))


def _count(value: Any) -> tuple[Sequence[int], Sequence[int]] | None:
    """(values, characters) at each level of *value*, its own first; None if there are too many to count.

    Names of members are characters of their object and, for `propertyNames`, of the level below.
    """
    values: list[int] = []
    characters: list[int] = []
    layer, names, total = [value], 0, 0
    while layer:
        total += len(layer)
        if total > MAX_COUNTED or len(values) > 4 * HORIZON:
            return None
        values.append(len(layer))
        inner: list[Any] = []
        held = 0
        for each in layer:
            if isinstance(each, dict):
                held += sum(map(len, each))
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        characters.append(names + held + sum([len(each) for each in layer if isinstance(each, str)]))
        layer, names = inner, held
    return values, characters

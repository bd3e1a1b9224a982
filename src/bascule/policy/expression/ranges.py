"""Conditions that are the same for every call: contradictions, bounds outside of a schema's, values it does not have.
PURE.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from bascule.policy.expression.tree import Binary, Index, Literal, Logic, Many, Name, Select, Tree, Unary
from bascule.policy.expression.types import NUMBERS, Type, family, kind_of

Path: TypeAlias = tuple[str, ...]
Known: TypeAlias = frozenset[tuple[str, Path]]  # ("has", path): it is there; ("null", path): it is not null
Atom: TypeAlias = tuple[str, Any]  # a relation, and the literal on its right

_TURNED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_NEGATED: Final = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "==", "in": "not in", "not in": "in"}
_INFINITE: Final = float("inf")


def path_of(tree: Tree) -> Path | None:
    """`args.a["b"]` as ("args", "a", "b"); None for what is no plain path."""
    match tree:
        case Name(name=name):
            return (name,)
        case (
            Select(operand=operand, member=name, tested=False) | Index(operand=operand, index=Literal(value=str(name)))
        ):
            above = path_of(operand)
            return None if above is None else (*above, name)
    return None


def holding(tree: Tree, truth: bool) -> Known:
    """What is known of members where *tree* is *truth*."""
    match tree:
        case Select(operand=operand, member=name, tested=True) if truth:
            above = path_of(operand)
            return frozenset() if above is None else frozenset({("has", (*above, name))})
        case Unary(sign="!", operand=operand):
            return holding(operand, not truth)
        case Logic(sign=sign, parts=parts) if (sign == "&&") is truth:
            return frozenset[tuple[str, Path]]().union(*(holding(part, truth) for part in parts))
        case Binary(sign="in", left=Literal(value=str(name)), right=right) if truth:
            above = path_of(right)
            return frozenset() if above is None else frozenset({("has", (*above, name))})
        case Binary(sign=sign, left=left, right=Literal(value=None)) if sign == ("!=" if truth else "=="):
            path = path_of(left)
            return frozenset() if path is None else frozenset({("null", path)})
    return frozenset()


def outcome(tree: Binary | Logic, type_at: Callable[[Path], Type]) -> bool | None:
    """True or False where *tree* is that for every call that the schema lets through, None where it depends."""
    if isinstance(tree, Binary):
        return _single(tree, type_at)
    conjunction = tree.sign == "&&"
    atoms: dict[Path, list[Atom]] = {}
    for part in tree.parts:
        found = _atom(part)
        if found is not None:
            path, atom = found
            # `a || b` always holds exactly where `!a && !b` never does.
            atoms.setdefault(path, []).append(atom if conjunction else (_NEGATED[atom[0]], atom[1]))
    for path, several in atoms.items():
        if (
            len(several) > 1
            and _never(several, type_at(path))
            and not any(_never([one], type_at(path)) for one in several)
        ):
            return not conjunction
    return None


def _single(tree: Binary, type_at: Callable[[Path], Type]) -> bool | None:
    left, right = path_of(tree.left), path_of(tree.right)
    if left is not None and left == right and tree.sign != "in":
        return tree.sign in ("==", "<=", ">=")
    found = _atom(tree)
    if found is None:
        return None
    path, (sign, value) = found
    if _never([(sign, value)], type_at(path)):
        return False
    return True if _never([(_NEGATED[sign], value)], type_at(path)) else None


def _atom(tree: Tree) -> tuple[Path, Atom] | None:
    """`path relation literal`, either way round, and `path in [literals]`."""
    match tree:
        case Unary(sign="!", operand=operand):
            found = _atom(operand)
            return None if found is None else (found[0], (_NEGATED[found[1][0]], found[1][1]))
        case Binary(sign="in", left=left, right=Many(items=items)) if all(isinstance(item, Literal) for item in items):
            path = path_of(left)
            return (
                None
                if path is None
                else (path, ("in", tuple(item.value for item in items if isinstance(item, Literal))))
            )
        case Binary(sign=sign, left=left, right=Literal(value=value)) if sign in _TURNED:
            path = path_of(left)
            return None if path is None else (path, (sign, value))
        case Binary(sign=sign, left=Literal(value=value), right=right) if sign in _TURNED:
            path = path_of(right)
            return None if path is None else (path, (_TURNED[sign], value))
    return None


def _never(atoms: list[Atom], type_: Type) -> bool:
    """Whether no value of *type_* fits all *atoms*."""
    if type_.values is not None:
        return not any(all(_fits(value, atom) for atom in atoms) for value in type_.values)
    equals = [value for sign, value in atoms if sign == "=="]
    if equals:
        return not all(_fits(equals[0], atom) for atom in atoms) or _outside(equals[0], type_)
    listed = [value for sign, value in atoms if sign == "in"]
    if listed:
        return not any(all(_fits(value, atom) for atom in atoms) and not _outside(value, type_) for value in listed[0])
    return _empty([atom for atom in atoms if kind_of(atom[1]) in NUMBERS], type_)


def _fits(value: Any, atom: Atom) -> bool:
    sign, other = atom
    if sign in ("in", "not in"):
        return any(_fits(value, ("==", one)) for one in other) is (sign == "in")
    same = family(frozenset({kind_of(value)})) == family(frozenset({kind_of(other)}))
    if sign in ("==", "!="):
        return (same and value == other) is (sign == "==")
    if not same or value is None:
        return False
    return bool({"<": value < other, "<=": value <= other, ">": value > other, ">=": value >= other}[sign])


def _outside(value: Any, type_: Type) -> bool:
    """Whether the schema has bounds that *value* is beyond."""
    return kind_of(value) in NUMBERS and _empty([("==", value)], type_)


def _bounds(type_: Type) -> Iterator[Atom]:
    """What the schema says of a number."""
    schema = type_.schema or {}
    for word, sign in (("minimum", ">="), ("maximum", "<="), ("exclusiveMinimum", ">"), ("exclusiveMaximum", "<")):
        if kind_of(schema.get(word)) in NUMBERS:
            yield sign, schema[word]


def _empty(atoms: list[Atom], type_: Type) -> bool:
    """Whether no number of *type_* is within the bounds of *atoms*."""
    if not atoms or not type_.kinds & NUMBERS:
        return False
    # The bounds of a schema hold for numbers alone: where other types may stand, nothing follows from them.
    bounds = [*atoms, *(_bounds(type_) if type_.kinds <= NUMBERS else ())]
    lows = [(value, sign == ">") for sign, value in bounds if sign in (">", ">=", "==")]
    highs = [(value, sign != "<") for sign, value in bounds if sign in ("<", "<=", "==")]
    low, open_low = max(lows, default=(-_INFINITE, False))
    high, closed_high = min(highs, default=(_INFINITE, True))
    if type_.only("int") and low != -_INFINITE and high != _INFINITE:
        # Between 5 and 6 there is no whole number.
        first = int(low // 1) + (1 if open_low or low != low // 1 else 0)
        last = -int(-high // 1) - (1 if not closed_high or high != high // 1 else 0)
        return first > last
    return low > high or (low == high and (open_low or not closed_high))

"""CEL expressions as trees. PURE."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import msgspec


class Node(msgspec.Struct, frozen=True):
    """A part of an expression, from *start* up to *end* in its source."""

    start: int
    end: int


class Literal(Node, frozen=True):
    value: Any  # str, bool, int, float or None
    unsigned: bool = False


class Name(Node, frozen=True):
    name: str


class Select(Node, frozen=True):
    """`operand.member`, or with *tested* whether it is there: `has(operand.member)`."""

    operand: "Tree"
    member: str
    tested: bool = False


class Index(Node, frozen=True):
    operand: "Tree"
    index: "Tree"


class Invoke(Node, frozen=True):
    """A function, or with a *target* a method."""

    function: str
    target: "Tree | None"
    arguments: "tuple[Tree, ...]"


class Macro(Node, frozen=True):
    """`over.kind(variable, bodies…)`."""

    kind: str
    over: "Tree"
    variable: Name
    bodies: "tuple[Tree, ...]"


class Many(Node, frozen=True):
    """`[a, b]`."""

    items: "tuple[Tree, ...]"


class Table(Node, frozen=True):
    """`{key: value}`."""

    items: "tuple[tuple[Tree, Tree], ...]"


class Unary(Node, frozen=True):
    """`!a` or `-a`."""

    sign: str
    operand: "Tree"


class Binary(Node, frozen=True):
    """Arithmetic and relations."""

    sign: str
    left: "Tree"
    right: "Tree"


class Logic(Node, frozen=True):
    """`a && b && c` or `a || b || c`, flat: such chains may be long."""

    sign: str
    parts: "tuple[Tree, ...]"


class Choice(Node, frozen=True):
    """`condition ? yes : no`."""

    condition: "Tree"
    yes: "Tree"
    no: "Tree"


Tree: TypeAlias = Literal | Name | Select | Index | Invoke | Macro | Many | Table | Unary | Binary | Logic | Choice


def parts_of(tree: Tree) -> Iterator[Tree]:
    """*tree* and all below it."""
    yield tree
    for name in tree.__struct_fields__:
        value = getattr(tree, name)
        for part in _flat(value if isinstance(value, tuple) else (value,)):
            yield from parts_of(part)


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple):
            yield from _flat(value)
        elif isinstance(value, Tree):
            yield value

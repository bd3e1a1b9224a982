"""How much work validation against a schema may be, for a value of any shape. PURE.

A definition says with a few hundred bytes what takes a validator years. So evaluations are counted, by
dynamic programming over the graph (expansion.py), for a value at each level below the root: who knows
how many values a message has at each level then knows what it may cost.

What the library does, and the counts rely on (jsonschema-rs 0.60): asked whether a value is valid, it
remembers what a schema said of an object or array, but only where a reference leads back to a schema that
it was compiling: on each way round a cycle there is one such place. Asked for errors it remembers nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, zip_longest
from typing import Final, TypeAlias

import msgspec

from bascule.contract.expansion import MOST, Graph, Node, Unfit

HORIZON: Final = 64  # levels of a value
MAX_INPLACE: Final = 5_000  # evaluations of one value, members not counted
MAX_STEPS: Final = 300_000  # of counting itself, about 0.1 s

# How often in-place schemas are evaluated beside `unevaluated*`, which asks them once more what they saw.
_REPEATED: Final = 3
_ERROR: Final = 25  # an error in values copied: 10 µs, and 0.4 µs for each value

Levels: TypeAlias = Sequence[int]  # by level of a value, the root's own first
Own: TypeAlias = Callable[[Node], int]  # what a node adds by itself


class Work(msgspec.Struct, frozen=True):
    """The most that one value may cost, by its level."""

    evaluations: Levels
    steps_per_char: Levels
    errors: Levels  # what errors about it and about what it is in may cost, in values copied


def work_of(graph: Graph) -> Work:
    """What validation may cost. Raises Unfit if one value alone would be judged too often."""
    often = max(_here(graph, lambda node: 1))
    if often > MAX_INPLACE:
        raise Unfit(f"its combinations judge one value up to {often:,} times; at most {MAX_INPLACE:,}")
    cut = _Cut(graph)
    evaluations = cut.remembering(lambda node: node.own)
    if any(node.hashes for node in graph.nodes):
        hashes = list(accumulate(cut.remembering(lambda node: node.hashes)))
        pairs = zip_longest(_to_the_end(evaluations, 0), _to_the_end(hashes))
        evaluations = [here + above for here, above in pairs]
    patterned = any(node.per_char for node in graph.nodes)
    steps = cut.remembering(lambda node: node.per_char) if patterned else (0,)
    # An error copies the value that it is about, so a value is copied for all that it is in, too.
    judged = _forgetting(graph, lambda node: node.own)
    errors = [above + _ERROR * here for above, here in zip(accumulate(judged), judged, strict=True)]
    return Work(evaluations, steps, _to_the_end(errors, min(sum(judged), MOST)))


def _to_the_end(levels: Levels, beyond: int | None = None) -> Levels:
    """*levels*, and for all that are deeper *beyond*, or what the last one has."""
    return [*levels, *[levels[-1] if beyond is None else beyond] * (HORIZON + 1 - len(levels))]


# ---- with the library's memory


class _Cut:
    """The graph without the references at which the library remembers: a schema unfolds between two of them."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._order, self._back = _unfolding_order(graph)
        self._heads = sorted({target for _, target in self._back})

    def remembering(self, own: Own) -> Levels:
        """For a value at each level: the sum of *own* over all evaluations of it.

        Each head judges each object and array once, and what unfolds from there reaches some levels down. A
        scalar is judged anew by whichever head is reached, with all that it leads to in place.
        """
        total = self._from_all(own)
        if not self._heads:
            return total
        scalar = _here(self._graph, own)
        again = max(scalar[head] for head in self._heads)
        reached = self._from_all(lambda node: 0, again=1)
        return _to_the_end([min(sum(pair), MOST) for pair in _longest(total, [each * again for each in reached])])

    def _from_all(self, own: Own, again: int = 0) -> Levels:
        """What unfolds from the root, and from all heads at each level above."""
        unfolded = self._unfolded(own, again)
        heads = [0]
        for head in self._heads:
            heads = _add(heads, unfolded[head])
        below = _to_the_end(list(accumulate(heads))) if self._heads else (0,)
        return _add(unfolded[0], below)

    def _unfolded(self, own: Own, again: int) -> list[list[int]]:
        """For each node: the sums of *own* by level, down to the next heads, which count *again*.

        Members and items are summed apart: a value is an object or an array, whatever its alternatives are.
        """
        count = len(self._graph.nodes)
        here, members, items = [0] * count, [[0]] * count, [[0]] * count
        levels: list[list[int]] = [[]] * count
        steps = 0
        for index in self._order:
            node = self._graph.nodes[index]

            def of(targets: Sequence[int], known: list[list[int]], at: int = index) -> Iterator[list[int]]:
                return ([again] if (at, each) in self._back else known[each] for each in targets)

            times = _REPEATED if node.unevaluated else 1
            here[index] = own(node) + times * sum(
                again if (index, each) in self._back else here[each] for each in node.inplace
            )
            ...
        return levels

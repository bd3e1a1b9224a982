"""How much work validation against a schema may be, for a value of any shape. PURE.

A definition says with a few hundred bytes what takes a validator years. So evaluations are counted, by
dynamic programming over the graph (graph.py), for a value at each level below the root: who knows
how many values a message has at each level then knows what it may cost.

What the library does, and the counts rely on (jsonschema-rs 0.60): asked whether a value is valid, it
remembers what a schema said of an object or array, but only where a reference leads back to a schema that
it was compiling: on each way round a cycle there is one such place. Asked for errors it remembers nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import accumulate, islice, zip_longest
from typing import Final, TypeAlias

import msgspec

from bascule.contract.validation.graph import MOST, Graph, Node, Unfit

HORIZON: Final = 64  # levels of a value
MAX_INPLACE: Final = 5_000  # evaluations of one value, members not counted
MAX_STEPS: Final = 300_000  # of counting itself, about 0.1 s

# How often in-place schemas are evaluated beside `unevaluated*`, which asks them once more what they saw.
_REPEATED: Final = 3
_LOOK: Final = 10  # evaluations that one look into the library's memory is worth, where it first searches its stack
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


class _Count(msgspec.Struct, frozen=True):
    """What one node adds up to: for the value it judges, and for a member or an item so many levels below it."""

    here: int
    members: Levels
    items: Levels

    @property
    def levels(self) -> Levels:
        """Members and items are summed apart, for a value is an object or an array whatever its alternatives are."""
        return [self.here, *map(max, zip_longest(self.members, self.items, fillvalue=0))]


class _Cut:
    """The graph without the references at which the library remembers: schemas unfold between those."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._order, self._back = _unfolding_order(graph.nodes)
        self._heads = sorted({target for _, target in self._back})
        self._reached = self._from_everywhere(lambda node: 0, 1) if self._heads else ()  # heads, by level

    def remembering(self, own: Own) -> Levels:
        """For a value at each level: the sum of *own* over all evaluations of it.

        Each head judges an object or array once, and what unfolds from there reaches some levels down. A
        scalar is judged anew by each head that is reached, with all that it leads to in place.
        """
        total = self._from_everywhere(own, 0)
        if not self._heads:
            return total
        alone = _here(self._graph, own)
        dearest = max(_LOOK * bool(total[0]), *[alone[head] for head in self._heads])
        return _to_the_end(_sum([total, [min(each * dearest, MOST) for each in self._reached]]))

    def _from_everywhere(self, own: Own, again: int) -> Levels:
        """What unfolds from the root, and from every head at each level above."""
        unfolded = self._unfolded(own, again)
        heads = _sum([unfolded[head].levels for head in self._heads])
        return _sum([unfolded[0].levels, _to_the_end(list(accumulate(heads)))]) if heads else unfolded[0].levels

    def _unfolded(self, own: Own, again: int) -> dict[int, _Count]:
        """For each node: the sums of *own* down to the next heads, which count *again*."""
        known: dict[int, _Count] = {}
        remembered = _Count(again, (), ())
        steps = 0
        for index in self._order:
            node = self._graph.nodes[index]
            found = {each: remembered if (index, each) in self._back else known[each] for each in node.ahead}
            times = _REPEATED if node.unevaluated else 1
            inplace = [found[each] for each in node.inplace] * times
            known[index] = count = _Count(
                min(own(node) + sum([each.here for each in inplace]), MOST),
                _sum([*[each.members for each in inplace], *_judging(node.named, node.every, found)]),
                _sum([*[each.items for each in inplace], *_judging(node.positions, node.items, found)]),
            )
            steps += (2 + len(node.ahead)) * (1 + len(count.members) + len(count.items))
            if steps > MAX_STEPS:
                raise Unfit("its references are too intricate to say what a check would cost")
        return known


def _judging(some: Sequence[int], every: Sequence[int], found: Mapping[int, _Count]) -> Iterator[Levels]:
    """What judges a member, or an item: the dearest of *some*, and all of *every*."""
    yield [max(level) for level in zip_longest(*[found[each].levels for each in set(some)], fillvalue=0)]
    yield from (found[each].levels for each in every)


def _sum(rows: Sequence[Levels]) -> Levels:
    """Level by level, down to the horizon."""
    return [min(sum(level), MOST) for level in islice(zip_longest(*rows, fillvalue=0), HORIZON + 1)]


def _unfolding_order(nodes: Sequence[Node]) -> tuple[Sequence[int], Set[tuple[int, int]]]:
    """What the root leads to, each node after all it leads to; and the edges back to where the library then is."""
    order: list[int] = []
    back: set[tuple[int, int]] = set()
    on_the_way, done = {0}, set[int]()
    stack = [(0, iter(nodes[0].ahead))]
    while stack:
        index, ahead = stack[-1]
        for each in ahead:
            if each in on_the_way:
                back.add((index, each))
            elif each not in done:
                on_the_way.add(each)
                stack.append((each, iter(nodes[each].ahead)))
                break
        else:
            on_the_way.discard(index)
            done.add(index)
            order.append(index)
            stack.pop()
    return order, back


# ---- without it


def _here(graph: Graph, own: Own) -> list[int]:
    """For each node: the sum of *own* over itself and all that judge the same value for it."""
    counts = [0] * len(graph.nodes)
    for index in graph.order:
        counts[index] = _inplace(own(graph.nodes[index]), graph.nodes[index], counts)
    return counts


def _forgetting(graph: Graph, own: Own) -> Levels:
    """For a value at each level: the sum of *own* over all schemas that may judge it.

    It ends early where nothing judges what is deeper, and where counting would take too long.
    """
    counts, reached = _here(graph, own), _here(graph, lambda node: 1)
    active: Sequence[int] = graph.order
    levels = [counts[0]]
    steps = 0
    while len(levels) <= HORIZON and levels[-1] < MOST:
        above, reached_above = counts, reached
        counts, reached = _below(graph, active, above), _below(graph, active, reached_above)
        steps += sum([4 + len(graph.nodes[index].ahead) for index in active])
        # What can judge something so many levels below becomes less with each level, unless it recurs.
        active = [index for index in active if reached[index]]
        if not reached[0]:
            break
        if steps > MAX_STEPS:
            return [*levels, MOST]
        levels.append(counts[0])
        if counts == above and reached == reached_above:
            return _to_the_end(levels)
    return levels


def _below(graph: Graph, active: Sequence[int], above: Sequence[int]) -> list[int]:
    """For each node: the counts of one level less, *above*, for a member or an item of the value it judges."""
    members, items, most = [0] * len(above), [0] * len(above), [0] * len(above)
    for index in active:
        node = graph.nodes[index]
        of_members = max([above[each] for each in node.named], default=0) + sum([above[each] for each in node.every])
        of_items = max([above[each] for each in node.positions], default=0) + sum([above[each] for each in node.items])
        members[index] = _inplace(of_members, node, members)
        items[index] = _inplace(of_items, node, items)
        most[index] = max(members[index], items[index])
    return most


def _inplace(own: int, node: Node, counts: Sequence[int]) -> int:
    inplace = sum([counts[each] for each in node.inplace])
    return min(own + (inplace * _REPEATED if node.unevaluated else inplace), MOST)

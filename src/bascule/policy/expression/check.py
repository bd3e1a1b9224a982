"""Whether a CEL rule can be decided, what it reads and what it may cost, before any call. PURE.

A *problem* is an expression that is wrong for every call, or that could take too long; it is refused where it is
written. A *warning* is one that is legal and hardly meant: it never holds, always holds, or denies calls by
accident. With a schema that says little, little is warned of.
Source: cel-spec, "Standard Definitions"; the functions are those that our engine has.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

import msgspec

from bascule.policy.expression import ranges, regex
from bascule.policy.expression.parse import parse
from bascule.policy.expression.tokens import NotCel
from bascule.policy.expression.tree import (
    Binary,
    Choice,
    Index,
    Invoke,
    Literal,
    Logic,
    Macro,
    Many,
    Name,
    Select,
    Table,
    Tree,
    Unary,
    parts_of,
)
from bascule.policy.expression.types import (
    ANY,
    BOOL,
    COLLECTIONS,
    EVERY,
    ROOTS,
    STRING,
    Kinds,
    Type,
    args_type,
    declared,
    element,
    family,
    kind,
    kind_of,
    member,
)

Reads: TypeAlias = Mapping[str, frozenset[str] | None]  # root -> its members that are read, None for all

FORBIDDEN: Final = "the schema allows no"  # how a warning begins of a member that no call can have
# A macro's body runs once for each element, in about 0.3 us.
MAX_ELEMENTS: Final = 1000
# The engine copies a list each time it is named, and `map` and `filter` copy what they have so far: there the cost
# grows with the square. 250 elements take 2 ms, 1000 would take 30.
MAX_ELEMENTS_SQUARED: Final = 250

_CALENDAR: Final = ("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear")
_CLOCK: Final = ("getHours", "getMinutes", "getSeconds", "getMilliseconds")
_TIMESTAMP, _DURATION = frozenset({"timestamp"}), frozenset({"duration"})
_SIZED: Final = frozenset({"string"}) | COLLECTIONS
_TEXT: Final = frozenset({"string"})
_NUMERIC: Final = frozenset({"int", "uint", "double", "string"})

# (name, whether it is a method) -> what it takes, the target of a method first, and what it gives.
FUNCTIONS: Final[Mapping[tuple[str, bool], tuple[tuple[Kinds, ...], str]]] = {
    ("size", False): ((_SIZED,), "int"),
    ("size", True): ((_SIZED,), "int"),
    **{(name, True): ((_TEXT, _TEXT), "bool") for name in ("contains", "startsWith", "endsWith", "matches")},
    **{(name, True): ((_TIMESTAMP,), "int") for name in _CALENDAR},
    **{(name, True): ((_TIMESTAMP | _DURATION,), "int") for name in _CLOCK},
    **{(name, False): ((_NUMERIC,), name) for name in ("int", "uint", "double")},
    ("string", False): ((_NUMERIC | _TIMESTAMP,), "string"),
    ("timestamp", False): ((_TEXT,), "timestamp"),
    ("duration", False): ((_TEXT,), "duration"),
}

_SAME: Final = ("int", "uint", "double")
_ARITHMETIC: Final[Mapping[str, Mapping[tuple[str, str], str]]] = {
    "+": {(one, one): one for one in (*_SAME, "string", "list", "duration")}
    | {("timestamp", "duration"): "timestamp", ("duration", "timestamp"): "timestamp"},
    "-": {(one, one): one for one in (*_SAME, "duration")}
    | {("timestamp", "timestamp"): "duration", ("timestamp", "duration"): "timestamp"},
    "*": {(one, one): one for one in _SAME},
    "/": {(one, one): one for one in _SAME},
    "%": {(one, one): one for one in ("int", "uint")},
}
SAME: Final = "this reads nothing of the call: it is the same for all of them"
_ORDERED: Final = frozenset({"number", "string", "bool", "timestamp", "duration"})


class Problem(msgspec.Struct, frozen=True):
    """*message* about the characters from *start* up to *end*."""

    message: str
    start: int
    end: int

    def shown(self, source: str) -> str:
        """The message, and below it the line of *source* with carets under what is meant."""
        begin = source.rfind("\n", 0, self.start) + 1
        line = source[begin:].split("\n", 1)[0]
        carets = "^" * max(1, min(self.end, begin + len(line)) - self.start)
        return f"{self.message}\n  {line}\n  {' ' * (self.start - begin)}{carets}"


class Checked(msgspec.Struct, frozen=True):
    """What there is to know of one expression."""

    reads: Reads = msgspec.field(default_factory=dict)
    paths: frozenset[str] = frozenset()  # the same in full, such as `args.order.total`
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    max_elements: int | None = None  # of any list that it reads; None where it goes through none
    patterns: tuple[str, ...] = ()  # of `matches`


def check(source: str, schema: Any = None, *, gives: str = "bool") -> Checked:
    """Read *source* against the input *schema* of its tool; *gives* is what it has to say, "" for anything.

    Never raises, whatever both hold.
    """
    try:
        tree = parse(source)
    except NotCel as error:
        return Checked(problems=(Problem(error.message, error.start, error.end),))
    checker = _Checker(args_type(schema))
    given = checker.visit(tree, frozenset())
    if isinstance(tree, Literal):
        checker.warn(tree, SAME)
    if gives and gives not in given.kinds:
        checker.problem(tree, f"a rule says true or false; this is {_words(given.kinds)}")
    elif gives and not given.is_any and not given.only(gives):
        checker.warn(tree, f"this may also be {_words(given.kinds - {gives})}: such a call is refused")
    return checker.checked()


def _words(kinds: Kinds) -> str:
    return "any type" if kinds == EVERY else " or ".join(sorted(kinds)) or "nothing"


class _Checker:
    """One walk over a tree. *known* are facts that hold where it stands, because of `has(…)` or `!= null` beside it."""

    def __init__(self, args: Type) -> None:
        self._roots: dict[str, Type] = {"args": args, **ROOTS}
        self._scope: dict[str, Type] = {}  # the variable of the macro whose body is being read
        self._reads: dict[str, set[str] | None] = {}
        self._paths: set[str] = set()
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []
        self._patterns: list[str] = []
        self._max_elements: int | None = None
        self._doubted: set[ranges.Path | None] = set()  # members that have been warned of

    def checked(self) -> Checked:
        reads = {root: None if names is None else frozenset(names) for root, names in self._reads.items()}
        return Checked(
            reads,
            frozenset(self._paths),
            tuple(self._problems),
            tuple(dict.fromkeys(self._warnings)),
            self._max_elements,
            tuple(self._patterns),
        )

    def problem(self, tree: Tree, message: str) -> Type:
        self._problems.append(Problem(message, tree.start, tree.end))
        return ANY

    def warn(self, tree: Tree, message: str) -> None:
        self._warnings.append(Problem(message, tree.start, tree.end))

    def visit(self, tree: Tree, known: ranges.Known) -> Type:
        match tree:
            case Literal(value=value, unsigned=unsigned):
                name = "uint" if unsigned else kind_of(value)
                return Type(frozenset({name}), (value,))
            case Name() | Select() | Index():
                return self._place(tree, known)
            case Invoke():
                return self._invoke(tree, known)
            case Macro():
                return self._macro(tree, known)
            case Many(items=items):
                return kind("list", element=_union([self.visit(item, known) for item in items]))
            case Table(items=pairs):
                for key, _ in pairs:
                    self._take(key, self.visit(key, known), frozenset({"string", "int", "uint", "bool"}), "a key")
                return kind("map", element=_union([self.visit(value, known) for _, value in pairs]))
            case Unary():
                return self._unary(tree, known)
            case Binary():
                return self._binary(tree, known)
            case Logic():
                return self._logic(tree, known)
            case Choice(condition=condition, yes=yes, no=no):
                self._take(condition, self.visit(condition, known), frozenset({"bool"}), "the condition")
                return _union(
                    [
                        self.visit(yes, known | ranges.holding(condition, True)),
                        self.visit(no, known | ranges.holding(condition, False)),
                    ]
                )

    # ---- values and members

    def _place(self, tree: Name | Select | Index, known: ranges.Known) -> Type:
        path = ranges.path_of(tree)
        self._note(tree)
        found = self._at(tree, known)
        if path is not None and ("null", path) in known:
            found = msgspec.structs.replace(found, kinds=found.kinds - {"null"} or found.kinds)
        # A member of a root is cheap to reach if it is no collection; what is below it may not be.
        copied = len(path or ()) != 2 or found.kinds & COLLECTIONS
        if self._scope and copied and (path is None or path[0] not in self._scope):
            self._squared()
        return found

    def _at(self, tree: Name | Select | Index, known: ranges.Known) -> Type:
        match tree:
            case Name(name=name):
                if name in self._scope:
                    return self._scope[name]
                if name in self._roots:
                    return self._roots[name]
                return self.problem(tree, f"there is no `{name}`; a rule reads {', '.join(self._roots)}")
            case Select(operand=operand, member=name, tested=tested):
                return self._member(tree, self._operand(operand, known), name, known, tested)
            case Index(operand=operand, index=Literal(value=str(name))):
                return self._member(tree, self._operand(operand, known), name, known, tested=False)
            case Index(operand=operand, index=index):
                owner, position = self._operand(operand, known), self.visit(index, known)
                self._take(operand, owner, COLLECTIONS, "what stands before `[`")
                if owner.only("list"):
                    self._take(index, position, frozenset({"int", "uint"}), "the index of a list")
                elif owner.only("map"):
                    self._take(index, position, frozenset({"string", "int", "uint", "bool"}), "the key")
                return owner.element or (element(owner) if owner.only("list") else ANY)

    def _operand(self, tree: Tree, known: ranges.Known) -> Type:
        """What stands before a dot: a path is looked at as a whole, so that each place is noted once."""
        return self._at(tree, known) if isinstance(tree, Name | Select | Index) else self.visit(tree, known)

    def _member(self, tree: Select | Index, owner: Type, name: str, known: ranges.Known, tested: bool) -> Type:
        if not self._take(tree.operand, owner, frozenset({"map"}), f"what has the member `{name}`"):
            return ANY
        found, presence = member(owner, name)
        path = ranges.path_of(Select(tree.start, tree.end, tree.operand, name))
        guarded = tested or (path is not None and ("has", path) in known)
        likely = get_close_matches(name, declared(owner), 1)
        advice = f"; did you mean `{likely[0]}`?" if likely else ""
        if presence == "forbidden" and owner.fixed is not None:
            return self.problem(tree, f"there is no `{name}` here: {', '.join(declared(owner))}")
        if presence == "forbidden":
            self.warn(tree, f"{FORBIDDEN} `{name}` here{advice}")
        elif presence in ("undeclared", "optional") and not guarded and path not in self._doubted:
            self._doubted.add(path)
            asked = "`has(…)`" if isinstance(tree, Select) else f"`{name!r} in …`"
            known_as = "is optional" if presence == "optional" else "is not in the schema"
            self.warn(
                tree, f"`{name}` {known_as}: without it the call is refused, unless {asked} is asked first{advice}"
            )
        return BOOL if tested else found

    def _note(self, tree: Tree) -> None:
        """Remember what is read of the roots."""
        below: list[str] = []
        while True:
            match tree:
                case Select(operand=operand, member=name):
                    below = [name, *below]
                case Index(operand=operand, index=Literal(value=str(name))):
                    below = [name, *below]
                case Index(operand=operand):
                    below = []
                case _:
                    break
            tree = operand
        if isinstance(tree, Name) and tree.name in self._roots:
            self._paths.add(".".join((tree.name, *below)))
            names = self._reads.setdefault(tree.name, set())
            if below and names is not None:
                names.add(below[0])
            elif not below:
                self._reads[tree.name] = None

    def _take(self, tree: Tree, given: Type, wanted: Kinds, what: str) -> bool:
        """Whether *given* may be one of *wanted*; what it may be besides is warned of."""
        if not given.kinds & wanted:
            self.problem(tree, f"{what} has to be {_words(wanted)}, and this is {_words(given.kinds)}")
            return False
        if not given.is_any and not given.kinds <= wanted:
            self.warn(tree, f"this may also be {_words(given.kinds - wanted)}: such a call is refused")
        return True

    # ---- functions and macros

    def _invoke(self, tree: Invoke, known: ranges.Known) -> Type:
        given = [(part, self.visit(part, known)) for part in (tree.target, *tree.arguments) if part is not None]
        signature = FUNCTIONS.get((tree.function, tree.target is not None))
        if signature is None:
            advice = "; write `!`" if tree.function.lower() == "not" else ""
            return self.problem(
                tree, f"there is no {'method' if tree.target else 'function'} `{tree.function}`{advice}"
            )
        wanted, gives = signature
        if len(given) != len(wanted):
            return self.problem(tree, f"`{tree.function}` takes {len(wanted) - (tree.target is not None)} arguments")
        for (part, found), kinds in zip(given, wanted, strict=True):
            self._take(part, found, kinds, f"what `{tree.function}` takes")
        if tree.function == "matches":
            self._matches(tree)
        if tree.function == "timestamp" and (given[0][1].schema or {}).get("format") == "date":
            self.warn(tree, "`timestamp` wants a time with its zone, and this is a date: every call is refused")
        return kind(gives)

    def _matches(self, tree: Invoke) -> None:
        (pattern,) = tree.arguments
        if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
            self.problem(pattern, "the pattern of `matches` is written in the rule, not taken from the call")
            return
        if self._scope:
            self._squared()
        wrong = regex.too_costly(pattern.value, repeated=bool(self._scope))
        if wrong is not None:
            self.problem(pattern, wrong)
        else:
            self._patterns.append(pattern.value)

    def _squared(self) -> None:
        self._max_elements = MAX_ELEMENTS_SQUARED

    def _macro(self, tree: Macro, known: ranges.Known) -> Type:
        over = self.visit(tree.over, known)
        name = tree.variable.name
        if self._scope:
            return self.problem(tree, f"`{tree.kind}` within another macro: its cost has no bound")
        if name in self._roots:
            return self.problem(tree.variable, f"`{name}` is what the rule reads; give the element another name")
        if not isinstance(tree.over, Name | Select | Index | Many | Table | Macro):
            return self.problem(tree.over, "a macro goes through a member, or a list that is written out")
        self._take(tree.over, over, COLLECTIONS, f"what `{tree.kind}` goes through")
        self._max_elements = self._max_elements or MAX_ELEMENTS
        if tree.kind in ("map", "filter"):
            self._squared()
        self._scope = {name: element(over)}
        known = frozenset(fact for fact in known if fact[1][0] != name)
        bodies = [self.visit(body, known) for body in tree.bodies]
        self._scope = {}
        for body, found in zip(tree.bodies, bodies, strict=True):
            if tree.kind != "map" or (len(bodies) == 2 and body is tree.bodies[0]):
                self._take(body, found, frozenset({"bool"}), f"the condition of `{tree.kind}`")
        if tree.kind == "map":
            return kind("list", element=bodies[-1])
        return kind("list", element=element(over)) if tree.kind == "filter" else BOOL

    # ---- operators

    def _unary(self, tree: Unary, known: ranges.Known) -> Type:
        found = self.visit(tree.operand, known)
        if tree.sign == "!":
            self._take(tree.operand, found, frozenset({"bool"}), "what `!` turns round")
            return BOOL
        self._take(tree.operand, found, frozenset({"int", "double"}), "what has a `-` before it")
        return Type(found.kinds & {"int", "double"} or EVERY)

    def _logic(self, tree: Logic, known: ranges.Known) -> Type:
        truth = tree.sign == "&&"
        beside = [ranges.holding(part, truth) for part in tree.parts]
        for place, part in enumerate(tree.parts):
            facts = known.union(*(fact for other, fact in enumerate(beside) if other != place))
            self._take(part, self.visit(part, facts), frozenset({"bool"}), f"what stands beside `{tree.sign}`")
        self._verdict(tree)
        return BOOL

    def _binary(self, tree: Binary, known: ranges.Known) -> Type:
        left, right = self.visit(tree.left, known), self.visit(tree.right, known)
        if tree.sign in _ARITHMETIC:
            return self._arithmetic(tree, left, right)
        if tree.sign == "in":
            self._take(tree.right, right, COLLECTIONS, "what stands after `in`")
            items = (STRING if right.schema or right.fixed else ANY) if right.only("map") else element(right)
            self._comparable(tree, left, items, "is never in it")
        elif tree.sign in ("==", "!="):
            self._comparable(tree, left, right, f"{'never' if tree.sign == '==' else 'always'} holds")
        else:
            self._ordered(tree, left, right)
        self._verdict(tree)
        return BOOL

    def _arithmetic(self, tree: Binary, left: Type, right: Type) -> Type:
        table = _ARITHMETIC[tree.sign]
        pairs = [(one, other) for one in left.kinds for other in right.kinds]
        gives = frozenset(table[pair] for pair in pairs if pair in table)
        if not gives:
            mixed = left.kinds | right.kinds <= {"int", "uint", "double"}
            advice = "; write double(…) around the whole ones" if mixed else ""
            return self.problem(tree, f"no `{tree.sign}` for {_words(left.kinds)} and {_words(right.kinds)}{advice}")
        if (
            len(gives) < len(pairs)
            and not left.is_any
            and not right.is_any
            and any(pair not in table for pair in pairs)
        ):
            self.warn(tree, f"`{tree.sign}` takes two of one type and these may differ: then the call is refused; "
                            "write double(…) around numbers that may be whole or not")  # fmt: skip
        return Type(gives)

    def _comparable(self, tree: Binary, left: Type, right: Type, verdict: str) -> None:
        if not family(left.kinds) & family(right.kinds):
            self.warn(tree, f"{_words(left.kinds)} is never equal to {_words(right.kinds)}: this {verdict}")

    def _ordered(self, tree: Binary, left: Type, right: Type) -> None:
        both = family(left.kinds) & family(right.kinds) & _ORDERED
        if not both:
            self.problem(tree, f"{_words(left.kinds)} and {_words(right.kinds)} have no order between them")
            return
        for part, found in ((tree.left, left), (tree.right, right)):
            others = frozenset(name for name in found.kinds if not family(frozenset({name})) <= both)
            if others and not found.is_any:
                self.warn(part, f"this may also be {_words(others)}: such a call is refused")

    def _verdict(self, tree: Binary | Logic) -> None:
        """Warn where *tree* says the same of every call."""
        if not any(isinstance(part, Name) for part in parts_of(tree)):
            self.warn(tree, SAME)
            return
        always = ranges.outcome(tree, self._type_at)
        if always is not None:
            self.warn(tree, f"this {'always' if always else 'never'} holds")

    def _type_at(self, path: ranges.Path) -> Type:
        """The type at *path*, without a word about it."""
        found = self._scope.get(path[0]) or self._roots.get(path[0], ANY)
        for name in path[1:]:
            found = member(found, name).type if "map" in found.kinds else ANY
        return found


def _union(types: list[Type]) -> Type:
    if len(types) == 1:
        return types[0]
    kinds = frozenset[str]().union(*(one.kinds for one in types))
    values = [one.values for one in types]
    known = tuple(value for some in values if some is not None for value in some) if None not in values else None
    return Type(kinds or EVERY, known)

"""CEL expressions as trees, for checking only: the engine evaluates, but tells neither types nor structure. PURE.

Reads the part of CEL that rules use and refuses all the rest by name: bytes, messages, optional members,
comments. Whatever is accepted here the engine reads the same way; a property test compares the two.
Source: cel-spec, "Language Definition", Syntax.
"""

from collections.abc import Sequence
from typing import Final

from bascule.policy.expression.tokens import NotCel, Token, tokens_of
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
)

MAX_SOURCE: Final = 4096  # characters
MAX_DEPTH: Final = 24  # of nested brackets and operators: beyond that nobody reads it, nor need the engine
MAX_ITEMS: Final = 256  # of a list or a map in the expression

MACROS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
# Words that stand for nothing, and those that may not even follow a dot.
_RESERVED: Final = frozenset({
    *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package"),
    *("namespace", "return", "var", "void", "while"),
})  # fmt: skip
_KEYWORDS: Final = frozenset({"true", "false", "null", "in"})
_LITERALS: Final = {"true": True, "false": False, "null": None}
_ELSEWHERE: Final = {"and": "&&", "or": "||", "not": "!"}  # in other languages, and here
# From the loosest to the tightest.
_LEVELS: Final = (("<", "<=", ">", ">=", "==", "!=", "in"), ("+", "-"), ("*", "/", "%"))


def parse(source: str) -> Tree:
    """The tree of *source*. Raises NotCel for everything that is not an expression that rules may use."""
    if len(source) > MAX_SOURCE:
        raise NotCel(f"the expression is longer than {MAX_SOURCE} characters", MAX_SOURCE, len(source))
    return _Parser(tokens_of(source)).whole()


def _advice_for(token: Token) -> str:
    sign = _ELSEWHERE.get(token.text.lower()) if token.kind == "word" else None
    return f"; write `{sign}`" if sign else ""


class _Parser:
    """Recursive descent, one method for each level of binding, as in the grammar."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _is(self, *signs: str) -> bool:
        return self._next.text in signs and self._next.kind in ("sign", "word")

    def _take(self) -> Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _expect(self, sign: str) -> Token:
        if not self._is(sign):
            raise self._refused(f"expected `{sign}`, found {self._shown()}{self._advice()}")
        return self._take()

    def _shown(self) -> str:
        return "the end" if self._next.kind == "end" else f"`{self._next.text}`"

    def _advice(self) -> str:
        """What to write for a word that is an operator in other languages."""
        return _advice_for(self._next) or _advice_for(self._tokens[self._at - 1])

    def _refused(self, message: str) -> NotCel:
        return NotCel(message, self._next.start, self._next.end)

    def _deeper(self, levels: int = 1) -> None:
        self._depth += levels
        if self._depth > MAX_DEPTH:
            raise self._refused(f"the expression is nested more than {MAX_DEPTH} deep")

    def whole(self) -> Tree:
        tree = self._choice()
        if self._next.kind != "end":
            raise self._refused(f"expected an operator or the end, found {self._shown()}{self._advice()}")
        return tree

    def _choice(self) -> Tree:
        self._deeper()
        condition = tree = self._logic("||")
        if self._is("?"):
            self._take()
            yes = self._logic("||")
            self._expect(":")
            no = self._choice()
            tree = Choice(condition.start, no.end, condition, yes, no)
        self._depth -= 1
        return tree

    def _logic(self, sign: str) -> Tree:
        parts = [self._logic("&&") if sign == "||" else self._relation()]
        while self._is(sign):
            self._take()
            parts.append(self._logic("&&") if sign == "||" else self._relation())
        return parts[0] if len(parts) == 1 else Logic(parts[0].start, parts[-1].end, sign, tuple(parts))

    def _relation(self) -> Tree:
        return self._binary(0)

    def _binary(self, level: int) -> Tree:
        """Operators of one level of binding, all of them to the left."""
        if level == len(_LEVELS):
            return self._unary()
        tree, depth = self._binary(level + 1), self._depth
        while self._is(*_LEVELS[level]):
            self._deeper()
            sign, right = self._take().text, self._binary(level + 1)
            tree = Binary(tree.start, right.end, sign, tree, right)
        self._depth = depth
        return tree

    def _unary(self) -> Tree:
        signs: list[Token] = []
        depth = self._depth
        while self._is("!", "-") and (not signs or self._is(signs[0].text)):
            self._deeper()
            signs.append(self._take())
        negative = bool(signs) and signs[-1].text == "-" and self._next.kind in ("whole", "double")
        start = signs.pop().start if negative else self._next.start
        tree = self._member(self._number(start, negative) if negative else self._primary())
        for sign in reversed(signs):
            tree = Unary(sign.start, tree.end, sign.text, tree)
        self._depth = depth
        return tree

    def _member(self, tree: Tree) -> Tree:
        """*tree* and what follows it: `.member`, `.method(…)`, `[index]`."""
        depth = self._depth
        while self._is(".", "["):
            self._deeper()
            if self._take().text == "[":
                index = self._choice()
                tree = Index(tree.start, self._expect("]").end, tree, index)
                continue
            name = self._word()
            tree = self._method(tree, name) if self._is("(") else Select(tree.start, name.end, tree, name.text)
        self._depth = depth
        return tree

    def _word(self) -> Token:
        if self._next.kind != "word" or self._next.text in _KEYWORDS:
            raise self._refused(f"expected a name after the dot, found {self._shown()}")
        return self._take()

    def _method(self, target: Tree, name: Token) -> Tree:
        arguments, end = self._arguments()
        if name.text not in MACROS:
            return Invoke(target.start, end, name.text, target, arguments)
        if len(arguments) not in ((2, 3) if name.text == "map" else (2,)):
            raise NotCel(
                f"`{name.text}` takes a name and an expression, as in `list.{name.text}(x, …)`", name.start, end
            )
        if not isinstance(arguments[0], Name):
            raise NotCel("expected a name for each element", arguments[0].start, arguments[0].end)
        return Macro(target.start, end, name.text, target, arguments[0], arguments[1:])

    def _arguments(self) -> tuple[tuple[Tree, ...], int]:
        self._expect("(")
        arguments = [] if self._is(")") else [self._choice()]
        while arguments and self._is(","):
            self._take()
            arguments.append(self._choice())
        return tuple(arguments), self._expect(")").end

    def _primary(self) -> Tree:
        token = self._next
        match token.kind, token.text:
            case "text", _:
                self._take()
                return Literal(token.start, token.end, token.value)
            case (("whole" | "double"), _):
                return self._number(token.start, negative=False)
            case "word", text if text in _LITERALS:
                self._take()
                return Literal(token.start, token.end, _LITERALS[text])
            case "word", text if text not in _KEYWORDS | _RESERVED:
                return self._named(self._take())
            case "sign", "(":
                self._take()
                tree = self._choice()
                self._expect(")")
                return tree
            case "sign", "[":
                return self._many()
            case "sign", "{":
                return self._table()
        raise self._refused(f"expected a value, found {self._shown()}")

    def _number(self, start: int, negative: bool) -> Tree:
        token = self._take()
        digits, unsigned = token.text.rstrip("uU"), token.text[-1] in "uU"
        if token.kind == "double" and float(digits) == float("inf"):
            raise NotCel("the number is larger than any that a double can hold", start, token.end)
        if token.kind == "double":
            return Literal(start, token.end, -float(digits) if negative else float(digits))
        value = int(digits, 16 if digits.startswith("0x") else 10) * (-1 if negative else 1)
        if unsigned and negative:
            raise NotCel("a number with `u` has no sign", start, token.end)
        if not (0 <= value < 2**64 if unsigned else -(2**63) <= value < 2**63):
            raise NotCel("the number has more than 64 bits", start, token.end)
        return Literal(start, token.end, value, unsigned)

    def _named(self, name: Token) -> Tree:
        if not self._is("("):
            return Name(name.start, name.end, name.text)
        arguments, end = self._arguments()
        if name.text != "has":
            return Invoke(name.start, end, name.text, None, arguments)
        if len(arguments) != 1 or not isinstance(arguments[0], Select) or arguments[0].tested:
            raise NotCel("`has` takes one member, as in `has(args.name)`", name.start, end)
        tested = arguments[0]
        return Select(name.start, end, tested.operand, tested.member, tested=True)

    def _many(self) -> Tree:
        start, items = self._take().start, []
        while not self._is("]"):
            items.append(self._choice())
            self._next_item(items, "]")
        return Many(start, self._take().end, tuple(items))

    def _table(self) -> Tree:
        start, items = self._take().start, []
        while not self._is("}"):
            key = self._choice()
            self._expect(":")
            items.append((key, self._choice()))
            self._next_item(items, "}")
        return Table(start, self._take().end, tuple(items))

    def _next_item(self, items: Sequence[object], closing: str) -> None:
        if len(items) > MAX_ITEMS:
            raise self._refused(f"more than {MAX_ITEMS} items; keep such a list as roles or attributes of the caller")
        if not self._is(closing):
            self._expect(",")

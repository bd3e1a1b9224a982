"""The CEL engine, behind four names: nothing else knows which library evaluates. PURE.

The engine has no budget and holds the interpreter lock while it runs, so that what reaches it is bounded
before: the expression in check.py, the values in guard.py.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from bascule.policy.facts import Undecidable

if TYPE_CHECKING:
    from cel import Context

_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (LookupError, "something that it reads is not there"),
    (ArithmeticError, "a number is too large for it, or it divides by zero"),
    (TypeError, "a value is not of the type that it expects"),
)
_FAILURES: Final = (LookupError, ArithmeticError, TypeError, RuntimeError, ValueError)


class Program(Protocol):
    """A compiled expression."""

    def execute(self, context: "Context | None" = None) -> Any: ...


def compile_program(source: str) -> Program:
    """*source*, ready to run. Raises ValueError where it is not CEL."""
    # The package takes half a second to import, since it brings a command line of its own:
    # only who has a rule in CEL waits for it.
    import cel

    return cel.compile(source)


def check_pattern(pattern: str) -> None:
    """Raises ValueError for what is no regular expression to `matches`, which would tell only at a call."""
    import cel

    try:
        compile_program("text.matches(pattern)").execute(cel.Context({"text": "", "pattern": pattern}))
    except _FAILURES as error:
        raise ValueError(f"{pattern!r} is not a regular expression for `matches`") from error


def context_of(variables: Mapping[str, Any], lazy: Mapping[str, Any]) -> "Context":
    """*variables* as the engine wants them, now, and *lazy* ones at each time that an expression reaches them.

    Raises Undecidable for a value of *variables* that CEL has no form for.
    """
    import cel

    try:
        context = cel.Context(dict(variables))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Undecidable("a value has no form in CEL") from error
    if lazy:
        # To convert a value costs ten times what it costs to run an expression, and most end before they look
        # at the caller or the time.
        context.set_variable_resolver(lazy.get)
    return context


def truth(program: Program, context: "Context | None") -> bool:
    """What *program* says. Raises Undecidable for an error and for everything that is not a boolean."""
    try:
        answer = program.execute(context)
    except _FAILURES as error:
        why = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "a function in it fails")
        raise Undecidable(why) from error
    if answer is True or answer is False:
        return answer
    raise Undecidable("it says neither true nor false")

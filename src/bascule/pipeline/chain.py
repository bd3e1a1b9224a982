"""How stages become one function."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from bascule.call import Call, Forward, Result


class Stage(Protocol):
    """One step of the way. It may refuse (raise), answer itself, change the call, or pass it on."""

    async def __call__(self, call: Call, forward: Forward) -> Result: ...


def compose(stages: Sequence[Stage], last: Forward) -> Forward:
    """Wrap *last* so that stages[0] sees the call first and the result last."""
    for stage in reversed(stages):
        last = partial(stage, forward=last)
    return last

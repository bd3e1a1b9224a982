"""The way of a call, stage by stage. The order is a decision, so it is written here with its reasons.

begin     only where calls are traced: a call has its span before anything happens to it (trace.py)
observe   outermost: it must see what the others refuse
whole     the caller's own deadline, which all that waits counts against
resolve   a name becomes a server's tool; everything after it judges a known thing, not a string
govern    from here on each tool has a way of its own, made of the stages its contract needs (build.py)
recall    the last known lists of a server that is down; inside govern, which shows each caller its part of them
deadline  of a list or a greeting; what has a way of its own has its deadline there
open      last: a server hears of a session only when a call really goes to it
attempt   only where calls are traced: what goes to a server says which span it comes from (trace.py)
"""

from bascule.call import Forward
from bascule.observe.traces import Tracing
from bascule.pipeline.chain import Stage, compose
from bascule.pipeline.deadline import Deadline
from bascule.pipeline.govern import Govern
from bascule.pipeline.observe import Observe
from bascule.pipeline.open import Open
from bascule.pipeline.recall import Recall
from bascule.pipeline.resolve import Resolve
from bascule.pipeline.trace import Attempt, Begin
from bascule.upstream.base import reach


def build_last(open: Open, tracing: Tracing | None = None) -> Forward:
    """What follows every decision, down to the server."""
    return compose([open] if tracing is None else [open, Attempt(tracing)], reach)


def build_inner(recall: Recall, deadline: Deadline, last: Forward) -> Forward:
    """What is left for a call that names nothing which has a way of its own."""
    return compose([recall, deadline], last)


def build_chain(
    observe: Observe,
    deadline: Deadline,
    resolve: Resolve,
    govern: Govern,
    inner: Forward,
    tracing: Tracing | None = None,
) -> Forward:
    """The chain that every call of every edge runs through."""
    stages: list[Stage] = [observe, deadline.whole, resolve, govern]
    return compose(stages if tracing is None else [Begin(tracing), *stages], inner)

"""The way of a call, stage by stage. The order is a decision, so it is written here with its reasons.

observe   outermost: it must see what the others refuse
whole     the caller's own deadline, which all that waits counts against
resolve   a name becomes a server's tool; everything after it judges a known thing, not a string
govern    from here on each tool has a way of its own, made of the stages its contract needs (build.py)
recall    the last known lists of a server that is down; inside govern, which shows each caller its part of them
deadline  of a list or a greeting; what has a way of its own has its deadline there
open      last: a server hears of a session only when a call really goes to it
"""

from bascule.call import Forward
from bascule.pipeline.chain import compose
from bascule.pipeline.deadline import Deadline
from bascule.pipeline.govern import Govern
from bascule.pipeline.observe import Observe
from bascule.pipeline.open import Open
from bascule.pipeline.recall import Recall
from bascule.pipeline.resolve import Resolve
from bascule.upstream.base import reach


def build_last(open: Open) -> Forward:
    """What follows every decision, down to the server."""
    return compose([open], reach)


def build_inner(recall: Recall, deadline: Deadline, open: Open) -> Forward:
    """What is left for a call that names nothing which has a way of its own."""
    return compose([recall, deadline], build_last(open))


def build_chain(observe: Observe, deadline: Deadline, resolve: Resolve, govern: Govern, inner: Forward) -> Forward:
    """The chain that every call of every edge runs through."""
    return compose([observe, deadline.whole, resolve, govern], inner)

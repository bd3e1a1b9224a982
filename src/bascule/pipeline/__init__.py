"""The way of a call, stage by stage. The order is a decision, so it is written here with its reasons.

observe   outermost: it must see what the others refuse
recall    the last known lists of a server that is down; around all that may find out that it is
resolve   a name becomes a server's tool; everything after it judges a known thing, not a string
deadline  after resolve, because each server has its own; before the upstream, whose wait it bounds
"""

from bascule.call import Forward
from bascule.pipeline.chain import Stage, compose
from bascule.pipeline.deadline import Deadline
from bascule.pipeline.observe import Observe
from bascule.pipeline.recall import Recall
from bascule.pipeline.resolve import Resolve
from bascule.upstream.base import reach


def build(observe: Observe, recall: Recall, resolve: Resolve, deadline: Deadline) -> Forward:
    """The chain that every call of every edge runs through."""
    stages: list[Stage] = [observe, recall, resolve, deadline]
    return compose(stages, reach)

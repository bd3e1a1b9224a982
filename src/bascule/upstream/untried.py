"""An error that says nothing of a server, because nothing was asked of it."""

from bascule.errors import Unavailable


class Untried(Unavailable):
    """Bascule itself does not try now: the last start has failed just before, a bound is reached, or it is stopped."""

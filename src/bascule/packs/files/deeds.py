"""One deed for one idempotency key, also if the process died in the middle of it.

What is about to be done is written down before it is done, and what came of it afterwards. Who asks again with the
same key is told the same; where the answer is missing, the files say whether it was done.
"""

import hashlib
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bascule.packs.pack import ToolFailed
from bascule.packs.rooted import Root

REMEMBERED_S: Final = 7 * 86_400.0  # a client that asks again does so sooner


class Deed(msgspec.Struct, frozen=True):
    """What is known of one key."""

    asked: str  # a digest of the tool and its arguments
    facts: Any  # what shows later whether it was done
    result: Any = None  # None: it is not known to be done


class Deeds:
    """Those of one folder, remembered in it."""

    def __init__(self, root: Root) -> None:
        self._root = root
        # One at a time: two calls with one key must not both find that it is new.
        self._lock = threading.Lock()

    def sweep(self) -> None:
        self._root.forget(REMEMBERED_S)

    def once(
        self,
        key: str | None,
        asked: object,
        facts: Callable[[], Any],
        do: Callable[[Any], dict[str, Any]],
        was_done: Callable[[Any], dict[str, Any] | None],
    ) -> dict[str, Any]:
        """The result of *do*, which is given the *facts*; for a *key* that was seen before, of what was done then.

        *was_done* says from the facts what came of it, or None for nothing. Raises ToolFailed, also for a key that
        was another call's.
        """
        if key is None:
            return do(facts())
        name = hashlib.sha256(key.encode()).hexdigest()
        digest = hashlib.sha256(msgspec.json.encode([type(asked).__name__, asked], order="deterministic")).hexdigest()
        with self._lock:
            known = self._known(name)
            if known is not None:
                if known.asked != digest:
                    what = "This idempotency key belongs to another call."
                    raise ToolFailed(what, "Use a new key for a new call.")
                before = known.result or was_done(known.facts)
                if before is not None:
                    return dict(before)
            new = Deed(digest, facts())
            self._remember(name, new)
            result = do(new.facts)
            self._remember(name, Deed(digest, new.facts, result))
            return result

    def _known(self, name: str) -> Deed | None:
        kept = self._root.recall(name)
        try:
            return None if kept is None else msgspec.json.decode(kept, type=Deed)
        except msgspec.DecodeError:
            return None  # written by another version: the files still say what is there

    def _remember(self, name: str, deed: Deed) -> None:
        self._root.remember(name, msgspec.json.encode(deed))

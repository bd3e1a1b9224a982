"""Whose a limit is: the keys that limits are counted under, and the words that callers are told.

A key begins with its kind. Names come from clients, servers and identity providers, and may hold anything:
where two stand together the first one's length goes before it, so that no two pairs share a key.
"""

from typing import Final

from bascule.call import Call
from bascule.contract.model import Contract

# No other caller is ever named: what others do is not for everybody to know.
_WORDS: Final = {
    "caller": "this caller",
    "pair": "this caller at this {kind}",
    "thing": "this {kind}, for all callers together",
    "server": "this server, for all callers together",
}


def caller_key(name: str) -> str:
    return f"caller:{name}"


def thing_key(contract: Contract) -> str:
    """Of a tool, prompt or resource, for all callers."""
    return f"thing:{contract.kind}:{contract.id}"


def pair_prefix(contract: Contract) -> str:
    """With a caller's name after it: the key of this caller at this tool, prompt or resource."""
    return f"pair:{contract.kind}:{len(contract.id)}:{contract.id}:"


def server_key(name: str) -> str:
    return f"server:{name}"


def window_key(window: str, caller: str) -> str:
    """Of a caller's budget in one window of time."""
    return f"window:{window}:{caller}"


def session_key(call: Call) -> str:
    """Of what belongs together: a legacy session, or all that a stateless caller does without a long break."""
    session = call.session.family if call.session is not None else ""
    return f"session:{len(call.caller.name)}:{call.caller.name}:{session}"


def kind_of(key: str) -> str:
    """`caller`, `tool`, …: what error details call the limit."""
    kind, _, rest = key.partition(":")
    return rest.partition(":")[0] if kind == "thing" else kind


def whose(key: str) -> str:
    """Whose limit it is, in words."""
    kind, _, rest = key.partition(":")
    return _WORDS[kind].format(kind=rest.partition(":")[0])

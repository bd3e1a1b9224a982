"""What the audit says of one moment of a call. PURE.

Only texts, whole numbers and truth values: so that everybody who hashes a record gets the same bytes (RFC 8785).
"""

from typing import Any, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal[
    "call",  # one for each call, when it is over; refused ones too
    "intent",  # before it goes out: of calls with a key, and with `audit: strict` of all that have side effects
    "outcome_recovered",  # after a crash: what is known of a call that has an intent and no end
    "refused",  # at the door: nobody knows who it is, or it is no call at all
    "approval",  # asked, approved, denied
    "journal",  # a person says what became of a call
    "action",  # of an operator, by REST or in the console (admin/actions.py)
    "review",  # of a definition or a contract
    "registry",  # a contract or a route was changed
    "recovered",  # of the audit itself: its second file ended in the middle of a line, for example
]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry, before it gets its number and its place in the chain. What is not known is left out."""

    kind: Kind
    at_us: int  # microseconds since 1970
    call: str = ""  # 32 hex digits; the intent of a call and its end have the same
    boot: str = ""  # of an intent: the life of the process that meant to make the call
    trace_id: str = ""
    caller: str = ""
    proof: str = ""  # how the caller is known
    method: str = ""
    thing: str = ""  # `namespace/name`
    version: str = ""  # of its contract
    server: str = ""
    era: str = ""
    session: str = ""
    arguments_sha256: str = ""  # of the canonical arguments
    arguments: Any = None  # canonical JSON text of the redacted arguments, where the configuration allows to keep them
    decision: Literal["", "allow", "deny"] = ""
    rule: str = ""  # that decided, such as `guardrails.2`
    approval: str = ""  # the id of the yes
    approved_by: str = ""
    outcome: str = ""  # `answered`, `failed` (isError), `refused` (a JSON-RPC error of the server), or an error's kind
    code: int = 0  # of our error
    sent: bool = False  # whether its server may have seen it
    attempts: int = 0
    replayed: bool = False
    cached: bool = False
    journal: str = ""  # the id of its row
    cost_nano_usd: int = 0
    took_us: int = 0
    note: str = ""

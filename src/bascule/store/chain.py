"""The chain of the audit: what makes it show when an entry was changed, removed, reordered, inserted or cut off. PURE.

    h(0) = 32 zero bytes        h(i) = SHA-256(0x01 ‖ h(i-1) ‖ entry i)        an entry: canonical JSON with its `seq`

Whoever can write the database could compute all of it anew. So heads are signed: h of a moment, and the root of a
Merkle tree over the entries since the head before, by which one entry can be shown without the others. And because
the end of a chain can be cut off without a trace in what is left, heads are copied to a second place (anchor.py).
Source: security.md §2.9; RFC 6962 (2.1) and RFC 9162 (2.1.3) for the tree; RFC 8032 for Ed25519.
"""

import base64
import binascii
import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bascule.wire.canonical import canonical

VERSION: Final = 1  # of entries, heads and proofs
GENESIS: Final = bytes(32)
# What an entry is found by in its table. It is in the entry too, and has to say the same there.
# Heads are signed every minute and every 1,000 entries: so much without one cannot be.
MOST_UNSIGNED: Final = 2_500
MOST_UNSIGNED_US: Final = 300 * 1_000_000
COLUMNS: Final = ("at_us", "kind", "trace_id", "call", "caller", "thing", "outcome")

# What is hashed begins with what it is, so that none of the three can be passed off as another.
_ENTRY: Final = b"\x01"
_LEAF: Final = b"\x02"
_NODE: Final = b"\x03"
_SIGNED: Final = b"bascule audit head\x00"  # a signature of this key for anything else is none for a head

Hash: TypeAlias = bytes  # 32 bytes
Keys: TypeAlias = Mapping[str, Ed25519PublicKey]  # key id -> key
Fault: TypeAlias = Literal["changed", "removed", "reordered", "inserted", "cut off", "wrong head"]


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the chain was at one moment, signed."""

    v: int
    first: int = msgspec.field(name="from")  # the first entry since the head before
    seq: int  # the last entry
    hash: str  # of entry `seq`, in hex
    root: str  # of the tree over the hashes of entries `from` to `seq`, in hex
    at_us: int
    key: str  # the id of the key that it is signed with
    signature: str  # base64


class Row(NamedTuple):
    """An entry as it lies in its table."""

    seq: int
    hash: Hash
    entry: bytes
    columns: tuple[Any, ...]  # COLUMNS


class Problem(msgspec.Struct, frozen=True):
    """What is wrong first."""

    seq: int
    fault: Fault
    message: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of a chain."""

    problem: Problem | None
    entries: int  # that were looked at
    last: int  # the number of the last good one
    heads: int  # that were signed by a known key, and fit
    signed_to: int  # the last entry that a good head covers
    notes: tuple[str, ...] = ()


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry, and what shows that a head covers it, to somebody who has nothing else."""

    v: int
    entry: dict[str, Any]
    before: str  # the hash of the entry before it, in hex
    path: tuple[str, ...]  # from its leaf to the root: the other half at each level, in hex
    head: Head
    public_key: str  # base64


# ---- hashes


def link(before: Hash, entry: bytes) -> Hash:
    """The hash of *entry*, which follows the one that has the hash *before*."""
    return hashlib.sha256(_ENTRY + before + entry).digest()


def merkle_root(hashes: Sequence[Hash]) -> Hash:
    """The root of the tree over the *hashes* of entries, of which there is at least one."""
    level = [_leaf(each) for each in hashes]
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def inclusion(hashes: Sequence[Hash], index: int) -> list[Hash]:
    """The path from the leaf of hashes[index] to the root."""
    level, path = [_leaf(each) for each in hashes], []
    while len(level) > 1:
        if (beside := index ^ 1) < len(level):
            path.append(level[beside])
        level, index = _level_above(level), index // 2
    return path


def root_by_path(hash: Hash, index: int, size: int, path: Sequence[Hash]) -> Hash | None:
    """The root of a tree of *size* hashes that *path* leads to from the one at *index*; None if it is no such path."""
    node, last, rest = _leaf(hash), size - 1, list(path)
    if not 0 <= index < size:
        return None
    while last > 0:
        if index % 2 or index < last:
            if not rest:
                return None
            beside = rest.pop(0)
            node = _joined(beside, node) if index % 2 else _joined(node, beside)
        index, last = index // 2, last // 2
    return None if rest else node


def _leaf(hash: Hash) -> Hash:
    return hashlib.sha256(_LEAF + hash).digest()


def _joined(left: Hash, right: Hash) -> Hash:
    return hashlib.sha256(_NODE + left + right).digest()


def _level_above(level: Sequence[Hash]) -> list[Hash]:
    """A node without a partner rises as it is: so the tree is that of RFC 6962, which halves from the top."""
    pairs = [_joined(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs


# ---- keys and heads


def key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def public_text(key: Ed25519PublicKey) -> str:
    """The key's 32 bytes in base64."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def public_key(text: str) -> Ed25519PublicKey:
    """The key that *text* spells as `public_text` does. Raises ValueError."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text.strip(), validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError("a public key is 32 bytes in base64, as `bascule audit key` prints it") from error


def sign(key: Ed25519PrivateKey, first: int, hashes: Sequence[Hash], at_us: int) -> Head:
    """A head over the entries from number *first* on, which have *hashes*."""
    unsigned = Head(
        v=VERSION,
        first=first,
        seq=first + len(hashes) - 1,
        hash=hashes[-1].hex(),
        root=merkle_root(hashes).hex(),
        at_us=at_us,
        key=key_id(key.public_key()),
        signature="",
    )
    signature = base64.b64encode(key.sign(_signed(unsigned))).decode()
    return msgspec.structs.replace(unsigned, signature=signature)


def written(head: Head) -> bytes:
    """*head* as it is kept: one line of JSON, without its newline."""
    return canonical(msgspec.to_builtins(head))


def head_of(text: bytes) -> Head | None:
    """The head that *text* is; None for anything else."""
    try:
        return msgspec.json.decode(text, type=Head)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def fault_of(head: Head, keys: Keys) -> str | None:
    """Why nobody has to believe *head*; None if one of *keys* has signed it."""
    key = keys.get(head.key)
    if key is None:
        return f"it is signed with the key {head.key}, which is not known: give its public half with --key"
    try:
        key.verify(base64.b64decode(head.signature, validate=True), _signed(head))
    except (InvalidSignature, ValueError):  # of its base64, too
        return "its signature is wrong"
    return None if head.v == VERSION and 1 <= head.first <= head.seq else "it makes no sense"


def _signed(head: Head) -> bytes:
    said = msgspec.to_builtins(head)
    del said["signature"]
    return _SIGNED + canonical(said)


# ---- one entry


def entry_of(text: bytes) -> dict[str, Any]:
    """What the entry *text* says. Raises ValueError if it is no entry."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("it is no JSON") from error
    if not isinstance(found, dict) or type(found.get("seq")) is not int:
        raise ValueError("it is no entry")
    return found


def columns_of(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What *entry* is found by, in the order of COLUMNS; "" for what it leaves out."""
    get = entry.get
    return tuple([get(name, "") for name in COLUMNS])


def prove(rows: Sequence[Row], before: Hash, index: int, head: Head, key: Ed25519PublicKey) -> Proof:
    """Shows that *head* covers rows[index]; *rows* are all that it covers, *before* is the hash before rows[index]."""
    return Proof(
        v=VERSION,
        entry=entry_of(rows[index].entry),
        before=before.hex(),
        path=tuple(each.hex() for each in inclusion([row.hash for row in rows], index)),
        head=head,
        public_key=public_text(key),
    )


def fault_of_proof(proof: Proof, key: Ed25519PublicKey) -> str | None:
    """Why *proof* proves nothing; None if *key* has signed a head over its entry."""
    if (why := fault_of(proof.head, {key_id(key): key})) is not None:
        return f"the head of entry {proof.head.seq}: {why}"
    try:
        text, before = canonical(proof.entry), bytes.fromhex(proof.before)
        path = [bytes.fromhex(each) for each in proof.path]
        seq = entry_of(text)["seq"]
    except ValueError as error:
        return f"it is damaged: {error}"
    if len(before) != len(GENESIS):
        return "it is damaged: the hash before the entry is none"  # or a part of the entry could be passed off as it
    size = proof.head.seq - proof.head.first + 1
    root = root_by_path(link(before, text), seq - proof.head.first, size, path)
    if root is None or root.hex() != proof.head.root:
        return "the entry is not among those that were signed: it, or the path to the head, was changed"
    return None


# ---- the whole chain


def verify(
    rows: Iterable[Row], stored: Sequence[Head], anchored: Sequence[Head], keys: Keys, since: Head | None = None
) -> Verdict:
    """What is wrong first with *rows*, by ascending number, and the heads in the database and in the anchor.

    *since* a head that is to be believed, or from the very first entry. *anchored* must have been read before *rows*,
    or what was written in between looks as if it were missing.
    """
    start = since.seq if since else 0
    in_database = {head.seq for head in stored}
    heads = sorted(
        {written(head): head for head in (*stored, *anchored) if head.seq > start}.values(),
        key=lambda head: (head.seq, head.first),
    )
    believed, problems, strange = [], [], False
    for head in heads:
        if (why := fault_of(head, keys)) is not None:
            strange |= head.key not in keys
            problems.append(Problem(head.seq, "wrong head", f"the head of entry {head.seq}: {why}"))
        else:
            believed.append(head)
            if head.seq not in in_database:
                message = f"the head of entry {head.seq} is in the anchor and not in the database"
                problems.append(Problem(head.seq, "cut off", message))
    walk = _Walk(start, bytes.fromhex(since.hash) if since else GENESIS, believed)
    for row, ahead in _with_two_ahead(rows):
        if (found := walk.step(row, ahead)) is not None:
            problems.append(found)
            break
    else:
        problems += walk.end()
    if strange:  # what it covers looks uncovered; that is no news
        problems = [each for each in problems if each.fault != "wrong head" or "not known" in each.message]
    problem = min(problems, key=lambda each: each.seq, default=None)
    return Verdict(
        problem=problem,
        entries=walk.seq - start,
        last=walk.seq,
        heads=walk.heads,
        signed_to=walk.signed_to,
        notes=tuple(walk.notes(problem)),
    )


class _Walk:
    """How far a look along the chain has come."""

    def __init__(self, seq: int, hash: Hash, heads: Sequence[Head]) -> None:
        self.seq = seq  # of the last good entry
        self.heads = 0
        self.signed_to = seq
        self._hash = hash  # of the last good entry
        self._older: Hash | None = None  # of the one before it
        self._awaited = deque(heads)
        self._first = seq + 1  # the number of the entry that has _hashes[0]
        self._hashes: list[Hash] = []  # since the last head
        self._unsigned_us: int | None = None  # the time of the first entry that no head covers, and of the last
        self._last_us = 0

    def step(self, row: Row, ahead: Sequence[Row]) -> Problem | None:
        """Go on to *row*, unless something is wrong with it; *ahead* are up to two that follow it."""
        if (found := self._fault(row, ahead)) is not None:
            return found
        self.seq, self._older, self._hash = row.seq, self._hash, row.hash
        self._hashes.append(row.hash)
        self._last_us = row.columns[0]
        if self._unsigned_us is None:
            self._unsigned_us = self._last_us
        while self._awaited and self._awaited[0].seq <= row.seq:
            if (found := self._fault_of_head(self._awaited.popleft())) is not None:
                put_in = (
                    self._fault(ahead[0], ahead[1:]) if ahead else None
                )  # just here, in the place of the signed one?
                return put_in if put_in is not None and put_in.seq == row.seq else found
        return None

    def end(self) -> Iterator[Problem]:
        """What is wrong when nothing follows."""
        if self._awaited:
            head = self._awaited[-1]
            what = f"the chain ends at entry {self.seq}, and a head of entry {head.seq} was signed"
            yield Problem(self.seq + 1, "cut off", what)
        many = self.seq - self.signed_to > MOST_UNSIGNED
        if many or (self._unsigned_us is not None and self._last_us - self._unsigned_us > MOST_UNSIGNED_US):
            first = self.signed_to + 1
            what = (
                f"no head covers entries {first} to {self.seq}, which would have had one long ago: heads were removed"
            )
            yield Problem(first, "wrong head", what)

    def notes(self, problem: Problem | None) -> Iterator[str]:
        if problem is None and self.seq > self.signed_to:
            yield f"entries {self.signed_to + 1} to {self.seq} are not signed yet: whoever can write the database" \
                  " could still change them"  # fmt: skip

    def _fault(self, row: Row, ahead: Sequence[Row]) -> Problem | None:
        wanted = self.seq + 1
        if row.seq != wanted:
            return Problem(wanted, "removed", f"entries {wanted} to {row.seq - 1} are gone")
        says = _number(row)
        if says != row.seq or link(self._hash, row.entry) != row.hash:
            return self._named(row, says, ahead)
        if columns_of(entry_of(row.entry)) != row.columns:
            return Problem(row.seq, "changed", "what the entry is found by is not what it says")
        return None

    def _named(self, row: Row, says: int | None, ahead: Sequence[Row]) -> Problem:
        """What was done to an entry that does not fit, as far as it can be told from what stands beside it."""
        seq = row.seq
        shifts = [(_number(each) or 0) - each.seq for each in ahead]
        if says == seq - 1 and row.hash != self._hash and self._older and link(self._older, row.entry) == row.hash:
            return Problem(seq - 1, "inserted", "the entry was put in later: the next one has its number, and fits")
        if says is not None and says > seq and all(shift == says - seq for shift in shifts):
            return Problem(seq, "removed", f"entries {seq} to {says - 1} are gone, and the rest was renumbered")
        if (says is None or says <= seq) and (shifts and all(shift == -1 for shift in shifts)):
            return Problem(seq, "inserted", "the entry was put in later: the next one has its number")
        if says is not None and says < seq and not ahead:
            return Problem(
                seq, "inserted", f"the entry was put in later: it is a copy of entry {says}, or none of ours"
            )
        if says is not None and says != seq:
            return Problem(seq, "reordered", f"the entry in this place says that it is entry {says}")
        return Problem(seq, "changed", "its hash is not that of the entry")

    def _fault_of_head(self, head: Head) -> Problem | None:
        if head.first < self._first:
            self.heads += 1  # it looks further back than we do; what it says of the end is looked at alone
            return None if head.hash == self._hash.hex() else _not_signed(head)
        hashes = self._hashes[head.first - self._first :]
        if head.seq != self.seq or head.hash != self._hash.hex() or head.root != merkle_root(hashes).hex():
            return _not_signed(head)
        if head.first > self.signed_to + 1:
            what = f"no head covers entries {self.signed_to + 1} to {head.first - 1}: one was removed"
            return Problem(self.signed_to + 1, "wrong head", what)
        self.heads += 1
        self.signed_to, self._unsigned_us = head.seq, None
        if not self._awaited or self._awaited[0].first > head.seq:
            self._first, self._hashes = head.seq + 1, []
        return None


def _not_signed(head: Head) -> Problem:
    message = f"entries {head.first} to {head.seq} are not those that were signed: one of them was changed, and" \
              " all hashes after it computed anew"  # fmt: skip
    return Problem(head.first, "changed", message)


def _number(row: Row) -> int | None:
    try:
        return int(entry_of(row.entry)["seq"])
    except ValueError:
        return None


def _with_two_ahead(rows: Iterable[Row]) -> Iterator[tuple[Row, Sequence[Row]]]:
    """Each row, and up to two that follow it."""
    window: deque[Row] = deque()
    for row in rows:
        window.append(row)
        if len(window) > 2:
            first = window.popleft()
            yield first, tuple(window)
    while window:
        first = window.popleft()
        yield first, tuple(window)

"""The chain shows what was done to it, wherever that was; a proof convinces of one entry, and of no other."""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bascule.store import chain
from bascule.store.chain import GENESIS, Head, Row
from bascule.wire.canonical import canonical

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
KEYS = {chain.key_id(KEY.public_key()): KEY.public_key()}
Tamper: TypeAlias = Callable[[list[Row], int], list[Row]]

hashes = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)
lengths = st.integers(5, 40)


def entry(seq: int, **said: Any) -> bytes:
    return canonical({"v": 1, "seq": seq, "kind": "call", "at_us": seq * 1000, "caller": f"agent {seq % 3}", **said})


def row(before: bytes, text: bytes, seq: int) -> Row:
    return Row(seq, chain.link(before, text), text, chain.columns_of(chain.entry_of(text)))


def chained(texts: list[bytes], first: int = 1, before: bytes = GENESIS) -> list[Row]:
    rows = []
    for seq, text in enumerate(texts, first):
        rows.append(row(before, text, seq))
        before = rows[-1].hash
    return rows


def whole(length: int) -> list[Row]:
    return chained([entry(seq) for seq in range(1, length + 1)])


def signed(rows: list[Row], every: int = 4, key: Ed25519PrivateKey = KEY) -> list[Head]:
    parts = [rows[place : place + every] for place in range(0, len(rows) - every + 1, every)]
    return [chain.sign(key, part[0].seq, [each.hash for each in part], 7) for part in parts]


# ---- the tree


@given(hashes, st.data())
def test_the_path_of_every_leaf_leads_to_the_root(leaves: list[bytes], more: st.DataObject) -> None:
    index = more.draw(st.integers(0, len(leaves) - 1))
    path = chain.inclusion(leaves, index)
    assert chain.root_by_path(leaves[index], index, len(leaves), path) == chain.merkle_root(leaves)
    assert len(path) <= len(leaves).bit_length()


@given(hashes, st.data())
def test_no_other_leaf_place_size_or_path_leads_there(leaves: list[bytes], more: st.DataObject) -> None:
    index = more.draw(st.integers(0, len(leaves) - 1))
    path, root, size = chain.inclusion(leaves, index), chain.merkle_root(leaves), len(leaves)
    assert chain.root_by_path(bytes(32 * [9]), index, size, path) != root
    assert chain.root_by_path(leaves[index], index, size, [*path, bytes(32)]) is None
    assert chain.root_by_path(leaves[index], index, size, path[1:]) != root or not path
    assert chain.root_by_path(leaves[index], -1, size, path) is None
    assert chain.root_by_path(leaves[index], size, size, path) is None


def test_the_tree_is_that_of_rfc_6962() -> None:
    """MTH(D[n]) = H(MTH(D[0:k]) ‖ MTH(D[k:n])), k the largest power of two below n (2.1), with our own prefixes."""

    def by_definition(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return chain._leaf(leaves[0])
        k = 1 << (len(leaves) - 1).bit_length() - 1
        return chain._joined(by_definition(leaves[:k]), by_definition(leaves[k:]))

    for size in range(1, 34):
        leaves = [bytes([number]) * 32 for number in range(size)]
        assert chain.merkle_root(leaves) == by_definition(leaves)


def test_an_entry_a_leaf_and_a_node_are_never_the_same() -> None:
    one, two = bytes(32), bytes([1]) * 32
    assert len({chain.link(one, two), chain._joined(one, two), chain._leaf(one + two)}) == 3


# ---- a whole chain


@given(lengths, st.integers(1, 7))
def test_a_whole_chain_is_whole(length: int, every: int) -> None:
    rows = whole(length)
    heads = signed(rows, every)
    verdict = chain.verify(iter(rows), heads, heads, KEYS)
    assert verdict.problem is None
    assert (verdict.entries, verdict.last, verdict.heads) == (length, length, len(heads))
    assert verdict.signed_to == length // every * every
    assert bool(verdict.notes) == (verdict.signed_to < length)


@given(lengths, st.data())
def test_it_can_be_looked_at_from_any_head_on(length: int, more: st.DataObject) -> None:
    rows = whole(length)
    heads = signed(rows)
    since = more.draw(st.sampled_from(heads))
    verdict = chain.verify(rows[since.seq :], heads, [], KEYS, since)
    assert (verdict.problem, verdict.entries) == (None, length - since.seq)


def test_nothing_is_whole() -> None:
    verdict = chain.verify([], [], [], KEYS)
    assert (verdict.problem, verdict.entries, verdict.notes) == (None, 0, ())


# ---- what is done to it, and where it is seen


def changed(rows: list[Row], at: int) -> list[Row]:
    text = rows[at].entry.replace(b"agent", b"Agent")
    return [*rows[:at], rows[at]._replace(entry=text, columns=chain.columns_of(chain.entry_of(text))), *rows[at + 1 :]]


def changed_hash(rows: list[Row], at: int) -> list[Row]:
    return [*rows[:at], rows[at]._replace(hash=bytes(32)), *rows[at + 1 :]]


def changed_column(rows: list[Row], at: int) -> list[Row]:
    return [*rows[:at], rows[at]._replace(columns=(*rows[at].columns[:-1], "refused")), *rows[at + 1 :]]


def unreadable(rows: list[Row], at: int) -> list[Row]:
    return [*rows[:at], rows[at]._replace(entry=b"\xff{"), *rows[at + 1 :]]


def changed_with_its_hash(rows: list[Row], at: int) -> list[Row]:
    return [*rows[:at], row(rows[at - 1].hash if at else GENESIS, entry(at + 1, note="x"), at + 1), *rows[at + 1 :]]


def removed(rows: list[Row], at: int) -> list[Row]:
    return [*rows[:at], *rows[at + 1 :]]


def removed_and_renumbered(rows: list[Row], at: int) -> list[Row]:
    return [*rows[:at], *(each._replace(seq=each.seq - 1) for each in rows[at + 1 :])]


def swapped(rows: list[Row], at: int) -> list[Row]:
    one, two = rows[at], rows[at + 1]
    return [*rows[:at], two._replace(seq=one.seq), one._replace(seq=two.seq), *rows[at + 2 :]]


def _put_in(rows: list[Row], at: int, new: Row) -> list[Row]:
    return [*rows[:at], new, *(each._replace(seq=each.seq + 1) for each in rows[at:])]


def put_in_a_copy(rows: list[Row], at: int) -> list[Row]:
    return _put_in(rows, at, rows[0]._replace(seq=at + 1))


def put_in_one_that_fits(rows: list[Row], at: int) -> list[Row]:
    return _put_in(rows, at, row(rows[at - 1].hash if at else GENESIS, entry(at + 1, note="x"), at + 1))


@pytest.mark.parametrize(
    ("tamper", "fault"),
    [
        (changed, "changed"),
        (changed_hash, "changed"),
        (changed_column, "changed"),
        (unreadable, "changed"),
        (removed, "removed"),
        (removed_and_renumbered, "removed"),
        (swapped, "reordered"),
        (put_in_a_copy, "inserted"),
        (put_in_one_that_fits, "inserted"),
    ],
    ids=lambda each: each.__name__ if callable(each) else each,
)
@given(length=lengths, more=st.data())
def test_the_first_bad_entry_is_named_and_what_was_done_to_it(
    tamper: Tamper, fault: str, length: int, more: st.DataObject
) -> None:
    at = more.draw(st.integers(1, length - 3))
    rows = whole(length)
    verdict = chain.verify(tamper(rows, at), signed(rows), [], KEYS)
    assert verdict.problem is not None
    assert (verdict.problem.seq, verdict.problem.fault) == (at + 1, fault)
    assert verdict.last == (at + 1 if tamper is put_in_one_that_fits else at)


@pytest.mark.parametrize("tamper", [changed, changed_hash, changed_column, unreadable, put_in_a_copy])
def test_the_last_entry_is_no_exception(tamper: Tamper) -> None:
    verdict = chain.verify(tamper(whole(9), 8), [], [], KEYS)
    assert verdict.problem is not None
    assert verdict.problem.seq == 9


@pytest.mark.parametrize("tamper", [changed, changed_hash, removed, removed_and_renumbered, swapped, unreadable])
def test_nor_is_the_first(tamper: Tamper) -> None:
    verdict = chain.verify(tamper(whole(9), 0), [], [], KEYS)
    assert verdict.problem is not None
    assert verdict.problem.seq == 1


@given(lengths, st.data())
def test_an_entry_that_was_changed_with_its_hash_breaks_the_next_one(length: int, more: st.DataObject) -> None:
    at = more.draw(st.integers(0, length - 2))
    verdict = chain.verify(changed_with_its_hash(whole(length), at), [], [], KEYS)
    assert verdict.problem is not None
    assert verdict.problem.seq == at + 2


@given(lengths, st.data())
def test_all_hashes_computed_anew_do_not_fit_the_heads(length: int, more: st.DataObject) -> None:
    rows = whole(length)
    heads = signed(rows)
    at = more.draw(st.integers(0, heads[-1].seq - 1))
    texts = [each.entry for each in rows]
    texts[at] = entry(at + 1, note="x")
    verdict = chain.verify(chained(texts), heads, heads, KEYS)
    assert verdict.problem is not None
    assert verdict.problem.fault == "changed"
    assert verdict.problem.seq <= at + 1 <= verdict.problem.seq + 3
    assert "computed anew" in verdict.problem.message


@given(lengths, st.data())
def test_an_end_that_was_cut_off_is_missed_by_a_head(length: int, more: st.DataObject) -> None:
    rows = whole(length)
    heads = signed(rows)
    left = more.draw(st.integers(0, heads[-1].seq - 1))
    still_there = [head for head in heads if head.seq <= left]
    for stored, anchored in ((heads, []), (heads, heads)):
        verdict = chain.verify(rows[:left], stored, anchored, KEYS)
        assert verdict.problem is not None
        assert (verdict.problem.seq, verdict.problem.fault) == (left + 1, "cut off")
    verdict = chain.verify(rows[:left], still_there, heads, KEYS)
    assert verdict.problem is not None
    assert (verdict.problem.seq, verdict.problem.fault) == (left + 1, "cut off")


# ---- heads


def test_a_head_that_somebody_else_signed_is_wrong() -> None:
    rows = whole(9)
    heads = signed(rows)
    for bad in (
        signed(rows, key=OTHER)[1],
        msgspec.structs.replace(heads[1], signature=heads[0].signature),
        msgspec.structs.replace(heads[1], signature="no base64!"),
        msgspec.structs.replace(heads[1], at_us=8),
    ):
        verdict = chain.verify(rows, [heads[0], bad], [], KEYS)
        assert verdict.problem is not None
        assert (verdict.problem.seq, verdict.problem.fault) == (8, "wrong head")


def test_a_head_that_is_gone_is_missed_by_the_one_after_it() -> None:
    rows = whole(12)
    heads = signed(rows)
    verdict = chain.verify(rows, [heads[0], heads[2]], [], KEYS)
    assert verdict.problem is not None
    assert (verdict.problem.seq, verdict.problem.fault) == (5, "wrong head")
    verdict = chain.verify(rows, [heads[0], heads[2]], heads, KEYS)
    assert verdict.problem is not None
    assert "in the anchor and not in the database" in verdict.problem.message


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"v":1}', b'{"v":1,"more":2}'])
def test_what_is_no_head_is_none(text: bytes) -> None:
    assert chain.head_of(text) is None


def test_a_head_is_read_as_it_was_written() -> None:
    (head,) = signed(whole(4))
    assert chain.head_of(chain.written(head)) == head
    assert b"\n" not in chain.written(head)


# ---- proofs


@given(lengths, st.data())
def test_a_proof_convinces_whoever_has_the_key(length: int, more: st.DataObject) -> None:
    rows = whole(length)
    head = more.draw(st.sampled_from(signed(rows, 5)))
    index = more.draw(st.integers(0, 4))
    part = rows[head.first - 1 : head.seq]
    before = rows[head.first + index - 2].hash if head.first + index > 1 else GENESIS
    proof = chain.prove(part, before, index, head, KEY.public_key())
    sent = msgspec.json.decode(msgspec.json.encode(proof), type=chain.Proof)
    assert sent.entry["seq"] == head.first + index
    assert chain.fault_of_proof(sent, KEY.public_key()) is None
    assert chain.fault_of_proof(sent, OTHER.public_key()) is not None
    for forged in (
        msgspec.structs.replace(sent, entry={**sent.entry, "caller": "somebody else"}),
        msgspec.structs.replace(sent, entry={**sent.entry, "seq": sent.entry["seq"] + 1}),
        msgspec.structs.replace(sent, entry={"seq": "1"}),
        msgspec.structs.replace(sent, before=bytes(31 * [0] + [1]).hex()),
        msgspec.structs.replace(sent, before="no hex"),
        msgspec.structs.replace(sent, path=sent.path[:-1]),
        msgspec.structs.replace(sent, head=msgspec.structs.replace(head, root="00" * 32)),
        msgspec.structs.replace(sent, head=msgspec.structs.replace(head, seq=head.seq + 10**12)),
    ):
        assert chain.fault_of_proof(forged, KEY.public_key()) is not None


def test_a_public_key_is_read_as_it_was_printed() -> None:
    text = chain.public_text(KEY.public_key())
    assert chain.key_id(chain.public_key(f" {text}\n")) == chain.key_id(KEY.public_key())
    for wrong in ("", "AAAA", "no base64!", text[:-4]):
        with pytest.raises(ValueError, match="bascule audit key"):
            chain.public_key(wrong)


def test_a_signature_that_is_no_base64_is_wrong_and_nothing_worse() -> None:
    head = signed(whole(4))[0]
    for signature in ("é", "", "=", "A" * 5):
        assert chain.fault_of(msgspec.structs.replace(head, signature=signature), KEYS) == "its signature is wrong"


def test_the_border_between_an_entry_and_the_hash_before_it_cannot_be_moved() -> None:
    rows = whole(4)
    proof = chain.prove(rows, rows[1].hash, 2, signed(rows)[0], KEY.public_key())
    longer = msgspec.structs.replace(proof, before=proof.before + "00")
    assert "the hash before" in (chain.fault_of_proof(longer, KEY.public_key()) or "")


@pytest.mark.parametrize(("count", "apart_us"), [(chain.MOST_UNSIGNED + 1, 1), (3, chain.MOST_UNSIGNED_US)])
def test_heads_that_were_all_removed_are_missed(count: int, apart_us: int) -> None:
    rows, hash = [], chain.GENESIS
    for seq in range(1, count + 1):
        text = canonical({"v": 1, "seq": seq, "kind": "call", "at_us": seq * apart_us})
        hash = chain.link(hash, text)
        rows.append(Row(seq, hash, text, chain.columns_of(chain.entry_of(text))))
    found = chain.verify(rows, [], [], {})
    assert found.problem is not None
    assert (found.problem.seq, found.problem.fault) == (1, "wrong head")
    assert chain.verify(rows[:2], [], [], {}).problem is None  # they may be too young to have one

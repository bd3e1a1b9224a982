"""A book of keys finds whose key a token is, or says why not; and takes as long either way (security.md I31)."""

import gc
import os
import statistics
import time
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.edge.auth.keys import Found, KeyBook, Reason, Rejected
from bascule.policy.keys import RANDOM_BYTES, KeyParts, KeyRecord, KeySnapshot, digest, new_key, parse

PEPPER: Final = bytes(range(32))
NOW_S: Final = 1_000.0
HOME: Final = "192.0.2.7"
STATIC: Final = "a static key, of 32 characters or more".replace(" ", "-")
SAMPLES: Final = 10_000
BATCH: Final = 50


def made(environment: str = "live", **rights: Any) -> tuple[KeyRecord, str]:
    parts, text = new_key(environment, os.urandom(RANDOM_BYTES))
    given = {"caller": "ci", "environment": environment, **rights}
    return KeyRecord(id=parts.id, digest=digest(PEPPER, parts.secret), pepper_id="", **given), text


def book(*records: KeyRecord, **static: list[str]) -> KeyBook:
    return KeyBook(KeySnapshot(PEPPER, records), "live", static)


def with_secret_of(text: str, other: str) -> str:
    """The key *text* with the secret of the key *other*, well formed."""
    mine, theirs = parse(text), parse(other)
    assert mine
    assert theirs
    return well_formed(mine._replace(secret=theirs.secret))


def well_formed(parts: KeyParts) -> str:
    from bascule.policy import keys

    body = f"gw_{parts.environment}_{parts.id}_{parts.secret}"
    return f"{body}_{keys._checksum(body)}"


def reason(found: Found | Rejected) -> Reason | None:
    return found.reason if isinstance(found, Rejected) else None


# ---- found


def test_a_key_is_found_with_its_caller_its_rights_and_its_end() -> None:
    record, text = made(caller="agent", scopes=frozenset({"crm:read"}), expires_at_s=NOW_S + 1)
    others = [made()[0] for _ in range(20)]
    assert book(*others, record).find(text, HOME, NOW_S) == Found(
        "agent", record.id, frozenset({"crm:read"}), NOW_S + 1
    )


@pytest.mark.parametrize(
    ("networks", "ip"),
    [
        ((), HOME),
        ((), ""),
        (("192.0.2.0/24",), HOME),
        (("192.0.2.0/24",), f"::ffff:{HOME}"),
        (("10.0.0.0/8", "2001:db8::/32"), "2001:db8::1"),
        ((HOME,), HOME),
    ],
)
def test_a_key_works_from_the_addresses_of_its_list(networks: tuple[str, ...], ip: str) -> None:
    record, text = made(networks=networks)
    assert isinstance(book(record).find(text, ip, NOW_S), Found)


def test_a_key_of_the_configuration_is_found_with_all_the_rights_of_its_caller() -> None:
    keys = book(ci=["x" * 40, STATIC], agent=["y" * 40])
    assert keys.find(STATIC, HOME, NOW_S) == Found("ci")
    assert keys.find("y" * 40, HOME, NOW_S) == Found("agent")
    assert len(keys) == 3


def test_a_key_that_was_made_may_stand_in_the_configuration() -> None:
    _, text = made()
    assert book(ci=[text]).find(text, HOME, NOW_S) == Found("ci")


# ---- not found


def test_the_secret_of_another_key_is_wrong() -> None:
    (mine, text), (other, its_text) = made(caller="small"), made(caller="great")
    keys = book(mine, other)
    assert keys.find(with_secret_of(its_text, text), HOME, NOW_S) == Rejected(Reason.WRONG_SECRET, other.id)
    assert keys.find(with_secret_of(text, its_text), HOME, NOW_S) == Rejected(Reason.WRONG_SECRET, mine.id)


def test_an_unknown_id_is_told_from_a_wrong_secret_in_our_log_alone() -> None:
    record, _ = made()
    stranger, text = made()
    assert book(record).find(text, HOME, NOW_S) == Rejected(Reason.UNKNOWN, stranger.id)
    assert reason(book().find(text, HOME, NOW_S)) is Reason.UNKNOWN


def test_a_key_of_another_environment_is_refused() -> None:
    record, text = made("test")
    assert reason(book(record).find(text, HOME, NOW_S)) is Reason.OTHER_ENVIRONMENT


def test_a_key_of_another_environment_is_refused_when_its_text_is_made_to_say_ours() -> None:
    record, text = made("test")
    parts = parse(text)
    assert parts
    forged = well_formed(parts._replace(environment="live"))
    assert reason(book(record).find(forged, HOME, NOW_S)) is Reason.OTHER_ENVIRONMENT


@pytest.mark.parametrize("expires_at_s", [NOW_S, NOW_S - 1, 0.0])
def test_an_expired_key_is_refused(expires_at_s: float) -> None:
    record, text = made(expires_at_s=expires_at_s)
    assert reason(book(record).find(text, HOME, NOW_S)) is Reason.EXPIRED


@pytest.mark.parametrize("revoked_at_s", [NOW_S - 1, NOW_S + 1, 0.0])
def test_a_revoked_key_is_refused_whatever_the_clock_says(revoked_at_s: float) -> None:
    record, text = made(revoked_at_s=revoked_at_s)
    assert reason(book(record).find(text, HOME, NOW_S)) is Reason.REVOKED


@pytest.mark.parametrize(
    ("networks", "ip"),
    [
        (("192.0.2.0/24",), "192.0.3.7"),
        (("192.0.2.0/24",), "2001:db8::1"),
        (("192.0.2.0/24",), ""),
        (("192.0.2.0/24",), "/run/bascule.sock"),
        (("::/0",), HOME),
        (("not a network",), HOME),
        (("192.0.2.0/24", "not a network"), HOME),
    ],
)
def test_a_key_is_refused_from_everywhere_that_is_not_in_its_list(networks: tuple[str, ...], ip: str) -> None:
    record, text = made(networks=networks)
    assert reason(book(record).find(text, ip, NOW_S)) is Reason.WRONG_ADDRESS


def test_a_wrong_secret_learns_nothing_of_the_key() -> None:
    for rights in ({"revoked_at_s": 1.0}, {"expires_at_s": 1.0}, {"networks": ("10.0.0.0/8",)}):
        (record, text), (_, other) = made(**rights), made()
        assert reason(book(record).find(with_secret_of(text, other), HOME, NOW_S)) is Reason.WRONG_SECRET


def test_a_mistyped_key_is_told_from_a_token_of_another_sort() -> None:
    record, text = made()
    assert reason(book(record).find(text[:-1], HOME, NOW_S)) is Reason.MISTYPED
    assert reason(book(record).find("eyJhbGciOiJSUzI1NiJ9.e30.c2ln", HOME, NOW_S)) is Reason.NOT_A_KEY


@pytest.mark.parametrize("token", ["", STATIC[:-1], STATIC + "x", STATIC.upper(), f"{STATIC}\u0000", "\udcff" * 38])
def test_a_key_of_the_configuration_has_to_be_exact(token: str) -> None:
    assert reason(book(ci=[STATIC]).find(token, HOME, NOW_S)) is Reason.NOT_A_KEY


def test_a_key_under_another_pepper_is_refused() -> None:
    record, text = made()
    assert reason(KeyBook(KeySnapshot(bytes(32), (record,)), "live").find(text, HOME, NOW_S)) is Reason.WRONG_SECRET


@given(st.text(), st.text())
def test_every_token_from_everywhere_has_an_answer(token: str, ip: str) -> None:
    record, _ = made(networks=("10.0.0.0/8",))
    assert isinstance(book(record, ci=[STATIC]).find(token, ip, NOW_S), Rejected)


def test_a_token_of_a_megabyte_costs_no_more_than_a_glance() -> None:
    keys, token = book(made()[0], ci=[STATIC]), "gw_" + "a" * 1_000_000
    started_s = time.process_time()
    for _ in range(1000):
        keys.find(token, HOME, NOW_S)
    assert time.process_time() - started_s < 0.1


# ---- in the same time (I31)


def measured(keys: KeyBook, one: list[str], other: list[str]) -> tuple[float, float]:
    """Mean nanoseconds of `find` for the tokens of each list: the median of the means of batches.

    The batches take turns, and turns at being first, so that whatever else the machine does meets both alike.
    It is the processor time of this thread, which leaves out what other processes get; the median leaves out
    what they did to its caches. Every token is used once, so that no cache can know it.
    """
    means: tuple[list[float], list[float]] = ([], [])
    for turn, at in enumerate(range(0, len(one), BATCH)):
        for which in (0, 1) if turn % 2 else (1, 0):
            batch = (one, other)[which][at : at + BATCH]
            began_ns = time.thread_time_ns()
            for token in batch:
                keys.find(token, HOME, NOW_S)
            means[which].append((time.thread_time_ns() - began_ns) / len(batch))
    return statistics.median(means[0]), statistics.median(means[1])


def test_an_unknown_id_and_a_wrong_secret_take_the_same_time() -> None:
    known = [made() for _ in range(SAMPLES)]
    strangers = [made()[1] for _ in range(SAMPLES)]
    wrong = [with_secret_of(text, other) for (_, text), other in zip(known, strangers, strict=True)]
    keys = book(*(record for record, _ in known))
    gc.disable()
    try:
        differences: list[float] = []
        while len(differences) < 5 and min(differences, default=1.0) >= 0.05:
            # One quiet moment in five is enough: a leak would show in all of them.
            with_id, without = measured(keys, wrong, strangers)
            differences.append(abs(with_id - without) / min(with_id, without))
    finally:
        gc.enable()
    assert min(differences) < 0.05, differences

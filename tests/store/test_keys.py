"""Keys are made, rotated and revoked, and a gateway that runs hears of it, whoever did it."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from bascule.edge.auth.keys import Found, KeyBook, Reason, Rejected
from bascule.errors import ConfigInvalid, Overloaded
from bascule.policy.keys import KeyRecord, parse, state_of
from bascule.store import database
from bascule.store.keys import KeyStore

PROGRAMS: Final = Path(__file__).with_name("programs.py")
WITHIN_S: Final = 30.0


class Clock:
    """Seconds since 1970, as far as a test lets them pass."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "bascule"


@pytest.fixture
def store(folder: Path, clock: Clock) -> Iterator[KeyStore]:
    with KeyStore(folder, clock) as opened:
        yield opened


@pytest.fixture
def other(folder: Path, clock: Clock) -> Iterator[KeyStore]:
    """As another process has it: of the first it shares the files alone."""
    with KeyStore(folder, clock) as opened:
        yield opened


def found(store: KeyStore, key: str, now_s: float) -> Found | Rejected:
    return KeyBook(store.snapshot(), "live").find(key, "192.0.2.7", now_s)


@contextlib.contextmanager
def running(program: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, str(PROGRAMS), program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WITHIN_S)


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


# ---- create


def test_a_new_key_works_and_has_the_rights_that_were_asked_for(store: KeyStore, clock: Clock) -> None:
    record, key = store.create(
        "agent",
        "live",
        scopes=frozenset({"crm:read", "crm:*:lead"}),
        expires_at_s=clock.now_s + 60,
        networks=["192.0.2.0/24", " ::1 "],
        note="for the nightly réport",
    )
    assert store.list() == (record,)
    assert store.get(record.id) == record
    assert (record.networks, record.note) == (("192.0.2.0/24", "::1/128"), "for the nightly réport")
    assert record.created_at_s == clock.now_s
    assert found(store, key, clock.now_s) == Found("agent", record.id, record.scopes, record.expires_at_s)


def test_a_key_outlives_the_process_that_made_it(folder: Path, clock: Clock) -> None:
    with KeyStore(folder, clock) as store:
        record, key = store.create("ci", "live")
    with KeyStore(folder, clock) as store:
        assert found(store, key, clock.now_s) == Found("ci", record.id)


def test_no_secret_is_in_any_file_of_the_folder(store: KeyStore, folder: Path) -> None:
    keys = [store.create("ci", "live")[1] for _ in range(3)]
    kept = b"".join(path.read_bytes() for path in folder.iterdir())
    for key in keys:
        parts = parse(key)
        assert parts
        assert parts.id.encode() in kept
        assert parts.secret.encode() not in kept


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        ({"scopes": frozenset({"crm:"})}, "'crm:' is not a scope"),
        ({"scopes": frozenset({"a b"})}, "'a b' is not a scope"),
        ({"networks": ["10.0.0.1/8"]}, "write 10.0.0.0/8 for all of it, or 10.0.0.1"),
        ({"networks": ["home"]}, "'home' is not a network"),
        ({"expires_at_s": 1.0}, "expired already"),
        ({"expires_at_s": float("nan")}, "expired already"),
        ({"expires_at_s": float("inf")}, "expired already"),
        ({"note": "two\nlines"}, "one line"),
        ({"note": "x" * 201}, "at most 200"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(store: KeyStore, wish: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigInvalid, match=complaint):
        store.create("ci", "live", **wish)
    assert store.list() == ()


# ---- revoke and rotate


def test_a_revoked_key_is_refused_and_stays_in_the_list(store: KeyStore, clock: Clock) -> None:
    (record, key), (_, kept) = store.create("ci", "live"), store.create("ci", "live")
    store.revoke(record.id)
    assert found(store, key, clock.now_s) == Rejected(Reason.REVOKED, record.id)
    assert isinstance(found(store, kept, clock.now_s), Found)
    assert [state_of(each, clock.now_s) for each in store.list()].count("revoked") == 1


def test_to_revoke_twice_changes_nothing(store: KeyStore, clock: Clock) -> None:
    record, _ = store.create("ci", "live")
    first = store.revoke(record.id)
    clock.now_s += 60
    assert store.revoke(record.id) == first


@pytest.mark.parametrize("id", ["nobody", "", "' OR 1=1 --"])
def test_a_key_that_there_is_not_is_named(store: KeyStore, id: str) -> None:
    for act in (store.get, store.revoke, lambda id: store.rotate(id, 60)):
        with pytest.raises(ConfigInvalid, match="there is no key"):
            act(id)
    record, _ = store.create("ci", "live")
    with pytest.raises(ConfigInvalid, match="there is no key"):
        store.revoke(id)
    assert store.get(record.id).revoked_at_s is None


def test_a_rotated_key_works_beside_the_new_one_until_the_overlap_ends(store: KeyStore, clock: Clock) -> None:
    old, its_key = store.create("ci", "live", scopes=frozenset({"a:b"}), networks=["192.0.2.0/24"], note="n")
    clock.now_s += 10
    new, key = store.rotate(old.id, 60)
    rights = [(each.caller, each.environment, each.scopes, each.networks, each.note) for each in (old, new)]
    assert rights[0] == rights[1]
    assert new.created_at_s == clock.now_s
    assert isinstance(found(store, its_key, clock.now_s + 59), Found)
    assert found(store, its_key, clock.now_s + 60) == Rejected(Reason.EXPIRED, old.id)
    assert found(store, key, clock.now_s + 1e6) == Found("ci", new.id, new.scopes)
    assert store.get(old.id).replaced_by == new.id


def test_rotation_prolongs_no_key(store: KeyStore, clock: Clock) -> None:
    old, _ = store.create("ci", "live", expires_at_s=clock.now_s + 30)
    new, _ = store.rotate(old.id, 60)
    assert store.get(old.id).expires_at_s == new.expires_at_s == clock.now_s + 30


def test_without_an_overlap_the_old_key_ends_at_once(store: KeyStore, clock: Clock) -> None:
    old, key = store.create("ci", "live")
    store.rotate(old.id, 0)
    assert found(store, key, clock.now_s) == Rejected(Reason.EXPIRED, old.id)


def test_a_key_of_no_more_use_is_not_rotated(store: KeyStore, clock: Clock) -> None:
    revoked, rotated = store.create("ci", "live")[0], store.create("ci", "live")[0]
    expired = store.create("ci", "live", expires_at_s=clock.now_s + 1)[0]
    store.revoke(revoked.id)
    new, _ = store.rotate(rotated.id, 60)
    clock.now_s += 1
    for id, complaint in ((revoked.id, "is revoked"), (expired.id, "is expired"), (rotated.id, f"to {new.id} already")):
        with pytest.raises(ConfigInvalid, match=complaint):
            store.rotate(id, 60)
    assert len(store.list()) == 4


def test_a_key_that_is_revoked_while_it_is_rotated_stays_revoked(
    store: KeyStore, other: KeyStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, key = store.create("ci", "live")
    read = store.get

    def read_and_wait(id: str) -> KeyRecord:
        seen = read(id)
        other.revoke(id)
        return seen

    monkeypatch.setattr(store, "get", read_and_wait)  # the moment between looking and writing, made to last
    with pytest.raises(ConfigInvalid, match="by somebody else just now"):
        store.rotate(record.id, 60)
    assert found(store, key, clock.now_s) == Rejected(Reason.REVOKED, record.id)
    assert len(store.list()) == 1


# ---- changes that a running gateway has to hear of


def test_what_one_store_does_another_one_sees(store: KeyStore, other: KeyStore, clock: Clock) -> None:
    assert not other.changed()
    record, key = store.create("ci", "live")
    assert other.changed()
    assert isinstance(found(other, key, clock.now_s), Found)
    assert not other.changed()
    store.revoke(record.id)
    assert other.changed()
    assert found(other, key, clock.now_s) == Rejected(Reason.REVOKED, record.id)
    assert not other.changed()


@pytest.mark.parametrize("change", [lambda s, id: s.create("ci", "live"), lambda s, id: s.rotate(id, 1)])
def test_every_change_is_one(store: KeyStore, other: KeyStore, change: Callable[[KeyStore, str], object]) -> None:
    record, _ = store.create("ci", "live")
    other.snapshot()
    assert not other.changed()
    change(store, record.id)
    assert other.changed()


def test_a_store_sees_its_own_changes(store: KeyStore) -> None:
    record, _ = store.create("ci", "live")
    assert store.changed()
    store.snapshot()
    store.revoke(record.id)
    assert store.changed()


def test_a_change_is_told_until_it_is_taken_up(store: KeyStore, other: KeyStore) -> None:
    store.create("ci", "live")
    assert other.changed()
    store.touch([store.list()[0].id], 1.0)
    assert other.changed()


def test_whoever_names_the_snapshot_in_use_misses_no_change(store: KeyStore, other: KeyStore) -> None:
    record, _ = store.create("ci", "live")
    in_use = KeyBook(other.snapshot(), "live")
    store.revoke(record.id)
    newer = other.snapshot()  # taken by somebody else, and not taken up
    assert not other.changed()
    assert other.changed(in_use.generation)
    assert not other.changed(newer.generation)


def test_a_snapshot_that_failed_was_not_taken(store: KeyStore, other: KeyStore, folder: Path) -> None:
    record, _ = store.create("ci", "live")
    other.snapshot()
    store.revoke(record.id)
    (folder / "pepper").chmod(0o644)
    with pytest.raises(ConfigInvalid, match="chmod 600"):
        other.snapshot()
    assert other.changed()


def test_the_use_of_keys_is_no_change_of_them(store: KeyStore, other: KeyStore, clock: Clock) -> None:
    one, two = store.create("ci", "live")[0], store.create("ci", "live")[0]
    other.snapshot()
    store.touch([one.id, one.id, "nobody"], clock.now_s + 5)
    assert not other.changed()
    assert store.get(one.id).last_used_at_s == clock.now_s + 5
    assert store.get(two.id).last_used_at_s is None


def test_an_older_use_does_not_hide_a_later_one(store: KeyStore, other: KeyStore) -> None:
    record, _ = store.create("ci", "live")
    store.touch([record.id], 200.0)
    other.touch([record.id], 100.0)
    other.touch([], 300.0)
    assert store.get(record.id).last_used_at_s == 200.0


def test_a_revocation_in_another_process_is_seen_within_five_seconds(store: KeyStore, folder: Path) -> None:
    record, key = store.create("ci", "live")
    book = KeyBook(store.snapshot(), "live")
    assert isinstance(book.find(key, "", time.time()), Found)
    subprocess.run([sys.executable, str(PROGRAMS), "revoke", str(folder)], check=True, timeout=WITHIN_S)
    revoked_s = time.perf_counter()
    assert store.changed()
    book = KeyBook(store.snapshot(), "live")
    assert book.find(key, "", time.time()) == Rejected(Reason.REVOKED, record.id)
    assert time.perf_counter() - revoked_s < 5.0


def test_to_look_for_changes_reads_no_table(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("ci", "live")
    store.snapshot()
    assert not store.changed()
    monkeypatch.delattr(database.Database, "reading")
    assert not any(store.changed() for _ in range(1000))


# ---- nothing costs anything before there is a key


def test_a_store_without_keys_creates_nothing_and_imports_nothing(folder: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from bascule.store.keys import KeyStore\n"
        "with KeyStore(pathlib.Path(sys.argv[1])) as store:\n"
        "    assert not store.changed() and store.list() == () == store.snapshot().records\n"
        "    store.touch(['a'], 1.0)\n"
        "assert not {'sqlalchemy', 'alembic', 'sqlite3'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, timeout=WITHIN_S)
    assert not folder.exists()


def test_without_a_database_static_keys_still_have_a_pepper_of_their_own(store: KeyStore, other: KeyStore) -> None:
    peppers = {store.snapshot().pepper, store.snapshot().pepper, other.snapshot().pepper}
    assert [len(pepper) for pepper in peppers] == [32, 32]


def test_the_first_key_of_all_reaches_a_gateway_that_started_without(other: KeyStore, store: KeyStore) -> None:
    assert not other.changed()
    store.create("ci", "live")
    assert other.changed()
    assert len(other.snapshot().records) == 1


# ---- several processes, and their deaths


def test_two_processes_that_create_the_database_at_once_both_succeed(folder: Path) -> None:
    with running("create", folder) as one, running("create", folder) as two, running("create", folder) as three:
        processes = (one, two, three)
        assert [line_of(process) for process in processes] == ["ready"] * 3
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        ids = {line_of(process) for process in processes}
    with KeyStore(folder) as store:
        records = store.list()
    assert {record.id for record in records} == ids
    assert len(ids) == 3
    assert len({record.pepper_id for record in records}) == 1


@pytest.mark.parametrize("count", [1, 5])
def test_a_process_that_is_killed_while_it_makes_keys_loses_none_that_it_told_of(folder: Path, count: int) -> None:
    with running("create_for_ever", folder) as process:
        told = [line_of(process) for _ in range(count)]
        killed(process)
    check_usable(folder, told)


@pytest.mark.parametrize("file", ["bascule.lock", "bascule.db", "bascule.db-wal", "pepper"])
def test_a_process_that_is_killed_while_it_makes_the_database_leaves_a_usable_one(folder: Path, file: str) -> None:
    with running("create_for_ever", folder) as process:
        deadline_s = time.monotonic() + WITHIN_S
        while not (folder / file).exists():  # without a rest: the moment after is the one that matters
            assert time.monotonic() < deadline_s
        killed(process)
    check_usable(folder, [])


def killed(process: "subprocess.Popen[str]") -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait(WITHIN_S)


def check_usable(folder: Path, told: list[str]) -> None:
    with KeyStore(folder) as store:
        record, key = store.create("ci", "live")
        assert {record.id, *told} <= {each.id for each in store.list()}
        assert isinstance(KeyBook(store.snapshot(), "live").find(key, "", time.time()), Found)
    with contextlib.closing(sqlite3.connect(folder / "bascule.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_who_finds_the_database_held_is_told_and_who_reads_is_not_disturbed(
    store: KeyStore, folder: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    record, key = store.create("ci", "live")
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    with running("hold", folder) as process, KeyStore(folder, clock) as hasty:
        assert line_of(process) == "held"
        assert isinstance(found(hasty, key, clock.now_s), Found)
        with pytest.raises(Overloaded, match="another process has held it"):
            hasty.revoke(record.id)
    store.revoke(record.id)


def test_a_row_that_was_damaged_by_hand_is_refused_and_spoils_no_other(
    store: KeyStore, folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (one, key), (two, other) = store.create("ci", "live", scopes=frozenset({"a"})), store.create("ci", "live")
    with contextlib.closing(sqlite3.connect(folder / "bascule.db")) as connection:
        connection.execute("UPDATE api_keys SET scopes = 'a, b' WHERE id = ?", [one.id])
        connection.commit()
    assert found(store, key, clock.now_s) == Rejected(Reason.UNKNOWN, one.id)
    assert found(store, other, clock.now_s) == Found("ci", two.id)
    assert f"API key {one.id} cannot be read" in caplog.text


def test_a_database_that_was_put_in_place_of_another_is_the_one_that_counts(store: KeyStore, folder: Path) -> None:
    record, key = store.create("ci", "live")
    assert isinstance(KeyBook(store.snapshot(), "live").find(key, "::1", store._clock()), Found)
    backup = folder / "backup"
    with sqlite3.connect(folder / "bascule.db") as old, sqlite3.connect(backup) as new:
        old.backup(new)
    old.close()
    new.close()
    backup.replace(folder / "bascule.db")
    with KeyStore(folder, store._clock) as operator:
        operator.revoke(record.id)
    assert store.changed()
    assert isinstance(KeyBook(store.snapshot(), "live").find(key, "::1", store._clock()), Rejected)


def test_a_database_that_is_gone_is_an_error_and_no_empty_store(store: KeyStore, folder: Path) -> None:
    store.create("ci", "live")
    store.snapshot()
    for file in folder.glob("bascule.db*"):
        file.unlink()
    with pytest.raises(ConfigInvalid, match="gone"):
        store.changed()


def test_a_state_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigInvalid, match="no folder"):
        KeyStore(tmp_path / "file").snapshot()

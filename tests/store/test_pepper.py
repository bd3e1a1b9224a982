"""The pepper is made once, kept from others, and never made anew behind the back of keys."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bascule.edge.auth.keys import Found, KeyBook, Reason, Rejected
from bascule.errors import ConfigInvalid
from bascule.store import pepper
from bascule.store.keys import KeyStore


def test_it_is_32_bytes_that_only_their_owner_can_read(tmp_path: Path) -> None:
    made = pepper.create(tmp_path)
    assert len(made) == 32
    assert stat.S_IMODE((tmp_path / "pepper").stat().st_mode) == 0o600
    assert pepper.read(tmp_path) == made


def test_it_is_made_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(pepper.create, [tmp_path] * 8))) == 1


def test_one_that_was_half_written_by_a_process_that_died_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "pepper.new").write_bytes(b"half")
    assert pepper.read(tmp_path) is None
    assert len(pepper.create(tmp_path)) == 32
    assert not (tmp_path / "pepper.new").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644])
def test_one_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    pepper.create(tmp_path)
    (tmp_path / "pepper").chmod(mode)
    for use in (pepper.read, pepper.create):
        with pytest.raises(ConfigInvalid, match=f"chmod 600 {tmp_path}/pepper"):
            use(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_one_of_another_length_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigInvalid, match=f"this has {len(content)}"):
        pepper.read(tmp_path)


def test_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "pepper").mkdir(mode=0o700)
    with pytest.raises(ConfigInvalid, match="pepper: cannot be used"):
        pepper.read(tmp_path)


def test_one_that_was_lost_is_not_made_anew_while_keys_need_it(tmp_path: Path) -> None:
    with KeyStore(tmp_path) as store:
        record, key = store.create("ci", "live")
        lost = (tmp_path / "pepper").rename(tmp_path / "lost")
        with pytest.raises(ConfigInvalid, match="pepper: it is gone"):
            store.create("ci", "live")
        with pytest.raises(ConfigInvalid, match="pepper: it is gone"):
            store.rotate(record.id, 1)
        assert not (tmp_path / "pepper").exists()
        assert KeyBook(store.snapshot(), "live").find(key, "", 0.0) == Rejected(Reason.WRONG_SECRET, record.id)
        lost.rename(tmp_path / "pepper")
        assert isinstance(KeyBook(store.snapshot(), "live").find(key, "", 0.0), Found)


def test_when_it_is_lost_for_good_keys_can_be_revoked_and_made_anew(tmp_path: Path) -> None:
    with KeyStore(tmp_path) as store:
        record, _ = store.create("ci", "live")
        (tmp_path / "pepper").unlink()
        store.revoke(record.id)
        _, key = store.create("ci", "live")
        assert isinstance(KeyBook(store.snapshot(), "live").find(key, "", 0.0), Found)


def test_keys_under_another_pepper_are_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with KeyStore(tmp_path) as store:
        record, _ = store.create("ci", "live")
        store.snapshot()
        assert caplog.text == ""
        (tmp_path / "pepper").unlink()
        pepper.create(tmp_path)
        store.snapshot()
    assert f"1 API keys are refused: {tmp_path}/pepper is not the pepper" in caplog.text
    assert record.id in caplog.text

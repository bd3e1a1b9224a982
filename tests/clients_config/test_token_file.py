"""The key of a bridge in a file: only one that is its user's alone, and read again when it was refused."""

import os
from pathlib import Path

import pytest

from bascule.cli.bridge import Wish, plain
from bascule.cli.token_file import NEWS_S, TokenFile
from bascule.errors import ConfigInvalid

URL = "http://127.0.0.1:1/mcp"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("first-token\n")
    path.chmod(0o600)
    return path


def test_a_token_is_read_and_read_again(file: Path) -> None:
    token = TokenFile(str(file), URL)
    assert token.token == "first-token"
    assert not token.renewed()
    file.write_text("second-token")
    assert token.renewed()
    assert token.token == "second-token"
    file.chmod(0o644)
    file.write_text("third-token")
    assert not token.renewed()
    assert token.token == "second-token"


def test_a_gateway_hears_of_a_new_token_within_seconds(file: Path) -> None:
    token, at_s = TokenFile(str(file), URL), file.stat().st_mtime
    assert [token.news_in_s(at_s + each) for each in (0, NEWS_S, -5)] == [NEWS_S, 0, 0]
    assert 0 < token.news_in_s(at_s + 1) < NEWS_S
    file.unlink()
    assert token.news_in_s(at_s) == 0


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_read_or_write_is_refused(mode: int, file: Path) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigInvalid, match="chmod 600") as refused:
        TokenFile(str(file), URL)
    assert "first-token" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"two\nlines", b"tok\x00en", b"\xff\xfe", b"x" * 5000, b"two words"])
def test_what_is_no_token_is_refused_and_not_repeated(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigInvalid, match="holds no token") as refused:
        TokenFile(str(file), URL)
    assert "lines" not in str(refused.value)


def test_only_a_file_is_one(tmp_path: Path, file: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path, why in ((tmp_path, "no file"), (fifo, "no file"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(ConfigInvalid, match=why):
            TokenFile(str(path), URL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    os.chown(file, 65534, -1)
    with pytest.raises(ConfigInvalid, match="somebody else"):
        TokenFile(str(file), URL)


def test_a_token_never_crosses_a_network_in_the_clear(file: Path) -> None:
    with pytest.raises(ConfigInvalid, match="unencrypted"):
        TokenFile(str(file), "http://gateway.example:8777/mcp")
    assert TokenFile(str(file), "https://gateway.example/mcp").token


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        ([URL, "--token-file", "/k"], Wish(URL, [], token_file="/k")),
        (["--token-file=/a=b", URL, "--header-env=A=B"], Wish(URL, ["A=B"], token_file="/a=b")),
        ([URL, "--token-file"], None),
        ([URL, "--token-file", "/a", "--token-file", "/b"], None),
        (["http://h/?a=b"], Wish("http://h/?a=b", [])),
    ],
)
def test_the_quick_start_of_a_bridge_understands_it(words: list[str], wish: Wish | None) -> None:
    assert plain(words) == wish

"""`bascule up`: from an empty home to a governed, recorded call, and on from there."""

import json
import os
import queue
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from command import Done, bascule

from bascule.admin import beginning
from bascule.admin.beginning import Home

WITHIN_S: Final = 60.0
MODERN: Final = "2026-07-28"


class Up:
    """A `bascule up` that runs; its lines as they come, whichever stream they are on."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def until(self, pattern: str) -> "re.Match[str]":
        """The next line that holds *pattern*. Fails, showing all that was said, when there is none in time."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            line = self._lines.get(timeout=max(0.1, deadline - time.monotonic()))
            assert line is not None, "\n".join(self.said)
            self.said.append(line)
            if found := re.search(pattern, line):
                return found


def variables(home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "BASCULE_"))}
    return {**kept, "HOME": str(home)}


@contextmanager
def up(home: Path, *options: str) -> Iterator[Up]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bascule", "up", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables(home),
        cwd=home,
        text=True,
        start_new_session=True,
    )
    try:
        yield Up(process)
    finally:
        with process:  # which closes its output
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise


def ask(home: Path, *words: str) -> Done:
    return bascule(*words, cwd=home, env={"HOME": str(home), "XDG_STATE_HOME": "", "XDG_CONFIG_HOME": ""})


def post(url: str, message: Mapping[str, Any], token: str | None) -> dict[str, Any]:
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": message["method"],
        **({"mcp-name": message["params"]["name"]} if "name" in message["params"] else {}),
        **({} if token is None else {"authorization": f"Bearer {token}"}),
    }
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(message).encode(), headers)) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def status_of(url: str, message: Mapping[str, Any]) -> int:
    """How the gateway answers somebody without a key."""
    try:
        post(url, message, None)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    prefix = "io.modelcontextprotocol/"
    meta = {f"{prefix}protocolVersion": MODERN, f"{prefix}clientCapabilities": {}}
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": arguments, "_meta": meta},
    }


def test_an_empty_home_becomes_an_office_whose_first_call_is_on_record(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0") as office:
        url = office.until(r"^(http://127\.0\.0\.1:\d+/mcp)  ready$")[1]
        trace = office.until(r"first call: document/summarize_text 1\.\d+\.\d+ answered .*--trace (\w{32})$")[1]
        office.until(r"/console/open#\S+  signs you in, once")
        office.until(r'"command": ".*bascule"')
        office.until(r"--token-file")
        office.until("bascule console open")
        records = json.loads(ask(tmp_path, "audit", "search", "--trace", trace, "--json").out)
        token = (tmp_path / ".local/state/bascule/clients/me.key").read_text().strip()
        answer = post(
            url, call("document/summarize_text", text="One thing is said. It is said here.", max_points=1), token
        )
        assert status_of(url, call("document/summarize_text", text="x")) == 401
    (record,) = [each["entry"] for each in records]
    assert (record["caller"], record["thing"], record["outcome"]) == ("me", "document/summarize_text", "answered")
    assert answer["result"]["isError"] is False
    assert len(answer["result"]["structuredContent"]["summary_points"]) == 1
    assert ask(tmp_path, "audit", "verify").code == 0


def test_what_it_makes_is_for_nobody_else(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0") as office:
        office.until("bascule console open")
    state = tmp_path / ".local/state/bascule"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    files = [path for path in state.rglob("*") if path.is_file()]
    assert {"seal.key", "journal.key", "pepper", "audit.key", "bascule.db", "me.key"} <= {path.name for path in files}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / ".config/bascule/bascule.yaml").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "Bascule").stat().st_mode) == 0o700
    assert "gw_" not in "\n".join(office.said), "no key is printed"


def test_the_second_time_it_goes_on_with_what_is_there(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0") as office:
        office.until("bascule console open")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".key", ".yaml", ".md")}
    (tmp_path / "Bascule/welcome.md").unlink()
    with up(tmp_path, "--port", "0") as office:
        office.until("first call: ")
        office.until("bascule console open")
    assert not [line for line in office.said if line.startswith("bascule: made")]
    del before[tmp_path / "Bascule/welcome.md"]
    assert {path: path.read_bytes() for path in before} == before
    assert not (tmp_path / "Bascule/welcome.md").exists(), "what was taken away stays away"


def test_a_key_that_was_revoked_is_followed_by_another(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0") as office:
        office.until("first call: ")
    file = tmp_path / ".local/state/bascule/clients/me.key"
    revoked = file.read_text()
    (key,) = json.loads(ask(tmp_path, "keys", "list", "--json").out)
    assert ask(tmp_path, "keys", "revoke", key["id"]).code == 0
    with up(tmp_path, "--port", "0") as office:
        office.until("first call: .* answered")
    assert file.read_text() != revoked


def test_a_taken_port_is_left_to_whoever_has_it_and_the_other_one_is_kept(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        home = Home(
            config=tmp_path / "bascule.yaml",
            state=tmp_path / "state",
            documents=tmp_path / "documents",
            port=taken.getsockname()[1],
            default_port=8777,
            default_state=tmp_path / "other",
        )
        list(beginning.begin(home, []))
        done = ask(tmp_path, "up", "-c", str(home.config))
    assert done.code == 2
    assert f"cannot listen on 127.0.0.1:{home.port}" in done.err
    assert "bascule status" in done.err


def test_the_first_configuration_can_be_read_whatever_folders_are_called(tmp_path: Path) -> None:
    odd = tmp_path / "a: 'b' #c {d" / "Tài liệu"
    home = Home(
        config=tmp_path / "bascule.yaml",
        state=odd / "state",
        documents=odd / "documents",
        port=9000,
        default_port=8777,
        default_state=tmp_path / "other",
    )
    assert [made.path for made in beginning.begin(home, [])][-1] == home.config
    assert list(beginning.begin(home, [])) == []
    said = yaml.safe_load(home.config.read_text())
    assert said["servers"]["office"]["settings"]["root"] == str(home.documents)
    assert said["http"] == {"port": 9000}
    done = ask(tmp_path, "validate", str(home.config))
    assert done.code == 0, done.err


def test_a_folder_that_cannot_be_made_is_said_and_leaves_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = ask(tmp_path, "up", "--documents", str(tmp_path / "file" / "inside"))
    assert done.code == 2
    assert str(tmp_path / "file") in done.err
    assert not (tmp_path / ".config/bascule/bascule.yaml").exists()

"""`bascule list | call | inspect | ping | read | prompt` against real servers, in every way to name them."""

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import BASCULE, bascule
from gateway import unlabelled
from msgspec import Raw

from bascule.cli import show
from processes import BRIDGE, running_bascule, server

PLAIN = server("plain")
MODERN = server("modern")


@pytest.fixture(scope="module")
def bridge() -> Iterator[str]:
    """The URL of a Bascule in front of one legacy server."""
    with running_bascule(*BRIDGE, *PLAIN) as url:
        yield url


def entry(command: list[str]) -> dict[str, Any]:
    return {"command": command[0], "args": command[1:]}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with a server of each era."""
    file = tmp_path_factory.mktemp("mixed") / "bascule.json"
    file.write_text(json.dumps({"servers": {"old": entry(PLAIN), "new": entry(MODERN)}}))
    return file


@pytest.fixture(scope="module")
def mixed_url(mixed: Path) -> Iterator[str]:
    with running_bascule("serve", "-c", str(mixed), "--port", "0") as url:
        yield url


# ---- every way to say where


@pytest.mark.parametrize("command", [PLAIN, MODERN], ids=["legacy", "modern"])
def test_lists_the_tools_of_a_command(command: list[str]) -> None:
    done = bascule("list", "--", *command)
    assert done.code == 0
    assert done.lines[0] == "echo\ttext: string\tReturns the text."
    assert done.err == ""


def test_lists_the_tools_behind_a_url(bridge: str) -> None:
    assert "add\ta: number, b: number\tAdds two numbers." in bascule("list", bridge).lines


def test_lists_servers_of_both_eras_of_a_configuration_and_behind_its_url(mixed: Path, mixed_url: str) -> None:
    for where in (["-c", str(mixed)], [mixed_url]):
        names = [line.split("\t")[0] for line in bascule("list", *where).lines]
        assert {"old__echo", "new__echo"} <= set(names)
        assert len(names) == len(set(names))


def test_lists_the_servers_of_a_clients_file(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"one": entry(PLAIN)}}))
    assert bascule("list", "--servers", str(file)).lines[0].startswith("one__echo\t")


def test_takes_the_configuration_of_the_folder_when_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "bascule.yaml").write_text(json.dumps({"servers": {"here": entry(PLAIN)}}))
    assert bascule("call", "here/echo", "-a", "text=yes", cwd=tmp_path).out == "yes\n"


def test_asks_where_when_nothing_says_it(tmp_path: Path) -> None:
    done = bascule("list", cwd=tmp_path)
    assert done.code == 2
    assert "give a url first, or -c file" in done.err.lower()


def test_two_places_are_one_too_many(mixed: Path) -> None:
    done = bascule("list", "-c", str(mixed), "--", *PLAIN)
    assert (done.code, done.err) == (2, "bascule: -c and -- are two places to look; give one\n")


def test_a_server_that_is_down_is_left_out_of_the_list_by_name(tmp_path: Path) -> None:
    file = tmp_path / "bascule.json"
    file.write_text(json.dumps({"servers": {"up": entry(PLAIN), "gone": {"command": "no-such-command"}}}))
    done = bascule("list", "-c", str(file))
    assert done.code == 0
    assert done.lines[0].startswith("up__echo\t")
    assert done.err == "bascule: gone is left out: command 'no-such-command' is not on PATH\n"


# ---- list


def test_lists_everything_under_headings() -> None:
    lines = bascule("list", "--all", "--", *PLAIN).lines
    assert [line for line in lines if line.startswith("#")] == ["# tools", "# prompts", "# resources", "# templates"]
    assert "greet\tname, style?\tGreets somebody." in lines
    assert "test://notes/{number}\t\tnote" in lines


def test_prints_the_list_raw_whether_it_came_in_one_page_or_in_many() -> None:
    whole = bascule("list", "--json", "--", *PLAIN)
    paged = bascule("list", "--json", "--", *PLAIN, "--page-size", "3")
    assert len(whole.lines) == 1
    assert whole.out == paged.out
    assert "nextCursor" not in json.loads(paged.out)


def test_what_a_server_does_not_have_is_an_empty_list() -> None:
    done = bascule("list", "--prompts", "--json", "--", *server("hostile", "--mode", "banner"))
    assert (done.code, done.out) == (0, '{"prompts":[]}\n')


# ---- call


@pytest.mark.parametrize("name", ["old__echo", "old/echo", "new__echo", "new/echo"])
def test_calls_by_wire_name_and_by_logical_name_in_both_eras(mixed: Path, mixed_url: str, name: str) -> None:
    assert bascule("call", "-c", str(mixed), name, '{"text":"one"}').out == "one\n"
    assert bascule("call", mixed_url, name, "-a", "text=two").out == "two\n"


def test_the_raw_result_is_the_servers_own_bytes(bridge: str) -> None:
    result = '{"content":[],"big":123456789012345678901234567890,"float":1.0,"nothing":null,"text":"é\\u0000"}'
    given = f'{{"result":{result}}}'
    for where, command in (([bridge], []), ([], ["--", *PLAIN])):
        done = bascule("call", *where, "raw", given, "--json", "--era", "legacy", *command)
        assert done.code == 0
        assert (unlabelled(done.out) if where else done.out) == result + "\n"


@pytest.mark.parametrize("source", ["words", "file", "stdin", "single", "single file"])
def test_arguments_come_from_words_files_and_stdin(source: str, tmp_path: Path) -> None:
    file = tmp_path / "given"
    file.write_text("hé" if source == "single file" else '{"text": "hé"}')
    words = {
        "words": ['{"text": "hé"}'],
        "file": [f"@{file}"],
        "stdin": ["-"],
        "single": ["-a", "text=hé"],
        "single file": ["-a", f"text=@{file}"],
    }[source]
    done = bascule("call", "echo", *words, "--", *PLAIN, stdin='{"text": "hé"}')
    assert (done.code, done.out) == (0, "hé\n")


def test_single_arguments_are_json_when_they_can_be_and_win() -> None:
    done = bascule("call", "add", '{"a": 1, "b": 1}', "-a", "b=41", "--json", "--", *PLAIN)
    assert json.loads(done.out)["structuredContent"] == {"sum": 42}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "TOOL missing; usage: bascule call [URL] TOOL [ARGUMENTS]"),
        (["echo", "{bad"], "ARGUMENTS is not JSON"),
        (["echo", "[1]"], "ARGUMENTS is a JSON object"),
        (["echo", "@/no/such/file"], "@/no/such/file cannot be read"),
        (["echo", "-a", "text"], "-a 'text' is not KEY=VALUE"),
        (["echo", "{}", "more"], "'more' is one word too many"),
        (["echo", "--bearer", "x"], "--header and --bearer are for a URL"),
    ],
)
def test_bad_usage_is_said_and_exits_2(words: list[str], complaint: str) -> None:
    done = bascule("call", *words, "--", *PLAIN)
    assert (done.code, done.out) == (2, "")
    assert complaint in done.err


def test_a_tool_that_fails_exits_1_with_its_words_on_stdout(bridge: str) -> None:
    done = bascule("call", bridge, "fail", "-a", "reason=no more paper")
    assert (done.code, done.out) == (1, "no more paper\n")
    assert re.fullmatch(r"bascule: fail: the tool says that it failed \[trace [0-9a-f]{32}\]\n", done.err)


def test_an_unknown_tool_exits_1_and_says_how_to_find_the_names(mixed: Path) -> None:
    done = bascule("call", "-c", str(mixed), "old/nope")
    assert (done.code, done.out) == (1, "")
    assert done.err == "bascule: no tool 'old/nope'\n        `bascule list` shows the names\n"


def test_a_refusal_is_printed_as_json_on_stderr_for_programs(bridge: str) -> None:
    done = bascule("read", bridge, "test://nowhere", "--json")
    assert (done.code, done.out) == (1, "")
    said, raw = done.err.splitlines()
    assert said.endswith("refused: Resource not found (-32602)")
    assert json.loads(raw)["data"] == {"uri": "test://nowhere"}


@pytest.mark.parametrize("command", [PLAIN, MODERN], ids=["legacy", "modern"])
def test_progress_and_logs_of_a_call_are_talk(command: list[str]) -> None:
    done = bascule("call", "progress", "-a", "steps=2", "--", *command)
    assert (done.out, done.err) == ("2 steps done\n", "bascule: 1/2 step 1\nbascule: 2/2 step 2\n")
    done = bascule("call", "log", '{"level":"warning","message":"\\u001b[31mred"}', "--", *command)
    assert (done.out, done.err) == ("logged\n", "bascule: [warning] test: \N{REPLACEMENT CHARACTER}[31mred\n")


def test_a_question_is_declined_with_a_note_when_nobody_is_there(bridge: str) -> None:
    done = bascule("call", bridge, "ask", "-a", "question=Why?")
    assert (done.code, done.out) == (0, '{"answers": [{"action": "decline"}]}\n')
    assert "the server asks: Why?" in done.err
    assert "declined" in done.err


@pytest.mark.parametrize("server", [PLAIN, MODERN], ids=["legacy", "modern"])
def test_a_question_is_asked_at_the_terminal(server: list[str]) -> None:
    ours, theirs = pty.openpty()
    command = [*BASCULE, "call", "ask", "-a", "question=Why?", "--", *server]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        os.write(ours, b"because\n")  # a terminal keeps it until it is asked for
        out, err = process.communicate(timeout=30)
        os.close(ours)
    assert b"the server asks: Why?" in err
    assert b"answer (string): " in err
    assert json.loads(out) == {"answers": [{"action": "accept", "content": {"answer": "because"}}]}


# ---- inspect, ping, read, prompt


def test_inspect_shows_what_a_server_says_about_itself(bridge: str) -> None:
    done = bascule("inspect", bridge)
    for line in ("server\tplain 1.0.0", "era\tmodern", "protocol\t2026-07-28", "A server for tests."):
        assert line in done.lines
    found = json.loads(bascule("inspect", bridge, "--json").out)
    assert found["server"]["name"] == "plain"
    assert found["resourceTemplates"][0]["uriTemplate"] == "test://notes/{number}"


def test_inspect_shows_one_tool_in_full(bridge: str) -> None:
    done = bascule("inspect", bridge, "add")
    assert "a\tnumber\trequired\t" in done.lines
    definition = json.loads(bascule("inspect", bridge, "add", "--json").out)
    assert definition["outputSchema"] == {"type": "object"}
    assert bascule("inspect", bridge, "nope").code == 1


def test_ping_measures_each_server_and_fails_when_one_is_out_of_reach(mixed: Path, tmp_path: Path) -> None:
    done = bascule("ping", "-c", str(mixed), "--count", "2", "--json")
    old, new = json.loads(done.out)["servers"]
    assert (old["era"], old["versions"], len(old["took_ms"])) == ("legacy", ["2025-11-25"], 2)
    assert (new["era"], new["versions"], new["server"]["name"]) == ("modern", ["2026-07-28"], "modern")
    down = bascule("ping", "http://127.0.0.1:1/mcp")
    assert (down.code, down.out) == (1, "")
    assert down.err.endswith("is it running, and is that its address?\n")


def test_reads_a_resource_and_gets_a_prompt(bridge: str, mixed: Path) -> None:
    assert bascule("read", bridge, "test://notes/2").out == "test://notes/2, revision 1 ✓\n"
    assert bascule("read", bridge, "test://pixel").out == "[test://pixel image/gif, 14 bytes; --json has it]\n"
    assert bascule("prompt", bridge, "greet", "-a", "name=7").out == "user: Greet 7 in a formal way.\n"
    assert bascule("prompt", "-c", str(mixed), "new/greet", "-a", "name=Al").code == 0


# ---- what can go wrong around it


def test_the_token_comes_from_the_environment_or_the_option(tmp_path: Path) -> None:
    file, token = tmp_path / "bascule.json", "a-long-enough-token"
    config = {"http": {"bearer": "${env:GATE}"}, "servers": {"old": entry(PLAIN)}}
    file.write_text(json.dumps(config))
    with running_bascule("serve", "-c", str(file), "--port", "0", env={"GATE": token}) as url:
        refused = bascule("list", url)
        assert refused.code == 1
        assert "export BASCULE_TOKEN" in refused.err
        assert bascule("list", url, env={"BASCULE_TOKEN": token}).code == 0
        assert bascule("list", url, "--bearer", token).code == 0
        assert bascule("list", url, "-H", f"Authorization: Bearer {token}").code == 0


def test_a_timeout_says_what_to_do() -> None:
    done = bascule("call", "echo", "-a", "text=x", "--timeout", "1", "--", *server("hostile", "--mode", "silent"))
    assert done.code == 1
    assert done.err == "bascule: hostile: no answer within 1 s\n        give it longer with --timeout SECONDS\n"


def test_a_server_that_dies_is_quoted() -> None:
    done = bascule("list", "--", *server("hostile", "--mode", "dies-at-start"))
    assert done.code == 1
    assert "| cannot start: no such database" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_server_with_the_command(number: signal.Signals) -> None:
    command = [*BASCULE, "call", "sleep", "-a", "seconds=60", "--", *PLAIN]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a test run in the background ignores some
    ) as process:
        assert process.stderr
        assert b"asleep" in process.stderr.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(number)
        assert process.wait(timeout=20) != 0
        assert process.stderr.read().count(b"Traceback") == 0
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_terminal_gets_a_table_and_no_color_that_it_does_not_want() -> None:
    shown = _on_a_terminal({"NO_COLOR": "1"})
    assert "description" in shown
    assert not re.search("\x1b\\[[0-9;]*[349][0-7]", shown)
    assert "\x1b" not in bascule("list", "--", *PLAIN).out


def _on_a_terminal(env: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    everything = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **env}
    process = subprocess.Popen([*BASCULE, "list", "--", *PLAIN], stdout=theirs, env=everything)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # how Linux says that the other end of a terminal is closed
    os.close(ours)
    assert process.wait(timeout=30) == 0
    return shown.decode()


# ---- what rules say


@pytest.fixture
def ruled(tmp_path: Path) -> Path:
    """A configuration whose rules warn of, and refuse, some sums."""
    rules = [
        {"warn": "args.b > 10", "message": "{args.b} is\nlarge."},
        {"deny": "args.b > 20", "message": "{caller.name} may not add {args.b}."},
    ]
    policy = {"rules": [{"match": "old/add", "guardrails": rules}]}
    file = tmp_path / "ruled.json"
    file.write_text(json.dumps({"servers": {"old": entry(PLAIN)}, "policy": policy}))
    return file


def test_what_a_rule_warns_of_is_told_beside_the_result(ruled: Path) -> None:
    done = bascule("call", "-c", str(ruled), "old/add", '{"a": 1, "b": 15}')
    assert (done.code, json.loads(done.out)) == (0, {"sum": 16})
    assert done.err == "bascule: warning: 15 is large.\n"
    assert bascule("call", "-c", str(ruled), "old/add", '{"a": 1, "b": 5}').err == ""


def test_a_refused_call_is_told_with_its_trace_for_the_operator(ruled: Path) -> None:
    with running_bascule("serve", "-c", str(ruled), "--port", "0") as url:
        done = bascule("call", url, "old__add", '{"a": 1, "b": 25}')
        raw = bascule("call", url, "old__add", '{"a": 1, "b": 25}', "--json")
    assert done.code == 1
    assert '"anonymous" may not add 25.' in done.out
    assert re.search(r"old__add: refused by Bascule, or on the way to its server \[trace [0-9a-f]{32}\]\n", done.err)
    assert json.loads(raw.out)["_meta"]["dev.bascule/error"]["trace_id"] in raw.err


def test_a_trace_is_nothing_but_a_trace() -> None:
    assert show.trace(Raw(b'{"data":{"trace_id":"\\u001b[31mred"}}')) == ""
    assert (
        show.trace(Raw(b'{"code":-1,"message":"no","data":{"trace_id":"%b"}}' % (b"0a" * 16)))
        == f" [trace {'0a' * 16}]"
    )
    assert show.trace(Raw(b"[]")) == show.trace(Raw(b'{"data":3,"_meta":[]}')) == ""

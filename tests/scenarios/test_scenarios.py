"""Every scenario of examples/ goes as it is told: one command, a real gateway, real clients, nothing left behind."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import environments
import pytest

from processes import ROOT

SCENARIOS: Final = ROOT / "examples" / "scenarios"
PLAY: Final = SCENARIOS / "play.py"
NAMES: Final = sorted(path.parent.name for path in SCENARIOS.glob("*/story.py"))
# With the client of their own: each pack, each kind of server, each way to be confirmed.
QUICK: Final = (
    *("travel", "retry", "duplicate_order", "versions", "sales", "secure_server", "follow_up", "project_alpha"),
    *("logo", "papers", "analysis", "sales_table"),
)
PAGE: Final = ROOT / "docs" / "scenarios.md"
WITHIN_S: Final = 180.0

# What stops a call, or has a person stop it; each scenario shows at least one of them.
STOPS: Final = {"REFUSED", "CONFIRM GATE"}
# No way out but loopback: a scenario that wanted one would fail here.
OFFLINE: Final = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


def played(name: str, tmp_path: Path, python: str, *options: str) -> str:
    """What a person sees who plays *name*; it has to end well, with nothing of it left."""
    mark = uuid.uuid4().hex
    bascule = str(Path(sys.executable).with_name("bascule"))
    done = subprocess.run(
        [python, "-W", "error", str(PLAY), name, "--bascule", bascule, *options],
        env={**os.environ, **OFFLINE, "TMPDIR": str(tmp_path), "SCENARIO_MARK": mark},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert list(left_of(mark)) == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("scenario-")]
    return done.stdout


def left_of(mark: str) -> Iterator[str]:
    """The commands of processes that still have *mark* in their environment."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended, or is somebody else's


def told(shown: str) -> list[tuple[str, str]]:
    """(label, text) of what was shown; lines that go on have the label of the one before."""
    found: list[tuple[str, str]] = []
    for line in shown.splitlines():
        label = line[:16].strip() or found[-1][0]
        found.append((label, line[17:]))
    return found


def judged(name: str, shown: str) -> None:
    lines = told(shown)
    labels = {label for label, _ in lines}
    assert {"SCENARIO", "MODEL REASONING", "TOOL TRUTH", "TRACE", "AUDIT"} <= labels
    assert labels & STOPS, f"{name} shows nothing that is refused, and no gate"
    # One trace: that of every answer is that of the story, by which its audit is found.
    (trace,) = (text for label, text in lines if label == "TRACE")
    said = set(re.findall(r"trace ([0-9a-f]{32})", "\n".join(text for label, text in lines if label == "TOOL TRUTH")))
    assert said == {trace}
    audit = [text for label, text in lines if label == "AUDIT"]
    assert re.fullmatch(r"ok: \d+ entries, \d+ signed heads, signed up to entry \d+", audit[-1])
    assert any(" answered" in text for text in audit)
    if "CONFIRM GATE" in labels:
        assert any(" asked " in text for text in audit)


def test_there_are_twenty_four() -> None:
    assert len(NAMES) == 24


@pytest.mark.parametrize("name", QUICK)
def test_a_scenario_goes_as_it_is_told(name: str, tmp_path: Path) -> None:
    judged(name, played(name, tmp_path, sys.executable))


@pytest.mark.clients
@pytest.mark.parametrize("name", NAMES)
def test_with_the_official_client_it_goes_just_the_same(name: str, tmp_path: Path) -> None:
    judged(name, played(name, tmp_path, environments.python("sdk2"), "--client", "sdk"))


def test_a_story_that_does_not_go_as_it_is_told_fails(tmp_path: Path) -> None:
    """With a story that expects what does not happen the exit code is 1, and it says what."""
    script = (
        "import asyncio, runpy, sys, types;"
        "sys.argv = ['play.py'];"
        f"play = runpy.run_path({str(PLAY)!r});"
        "import client;"
        "story = play['story_of']('travel');"
        "story.story = lambda agent: agent.refused('hotel/search_by_rating', {'city': 'X', 'stars': 4}, 'gone');"
        "play['play'].__globals__['story_of'] = lambda name: story;"
        "asyncio.run(play['play']('travel', client, play['command_of'](None)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 1
    assert "hotel/search_by_rating was not refused" in done.stderr


def test_the_page_and_the_list_have_all_of_them() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([a-z0-9_]+)` \|", page, re.MULTILINE)) == NAMES
    shown = subprocess.run(
        [sys.executable, str(PLAY), "--list"], capture_output=True, text=True, timeout=WITHIN_S, check=True
    ).stdout
    assert [line.split()[0] for line in shown.splitlines()] == NAMES


def test_their_contracts_pass_the_linter() -> None:
    folders = [str(path) for path in sorted(SCENARIOS.glob("*/contracts"))]
    bascule = str(Path(sys.executable).with_name("bascule"))
    done = subprocess.run(
        [bascule, "contract", "lint", "--strict", *folders],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout

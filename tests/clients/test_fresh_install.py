"""What `pip install bascule` brings, and that it is enough for the first minute: nothing else is installed here."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import Final

import environments
import pytest

from processes import ROOT

pytestmark = pytest.mark.clients

MOST_BYTES: Final = 120_000_000
FIRST_MINUTE_S: Final = 60.0
# What installs, and is not what is installed.
INSTALLERS: Final = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new environment with Bascule and what the lock file names for it, without any extra."""
    folder = tmp_path_factory.mktemp("fresh")
    wheels = folder / "wheels"
    uv = shutil.which("uv")
    assert uv is not None, "uv is a dependency of the tests"
    building = ("--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(wheels))
    environments.run(uv, "build", "-q", *building, str(ROOT))
    environments.run(uv, "venv", "-q", "--python", sys.executable, str(folder / "venv"))
    target = [uv, "pip", "install", "-q", "--python", str(folder / "venv/bin/python")]
    try:
        environments.run(*target, "--require-hashes", "-r", str(ROOT / "requirements.lock"))
    except environments.Unreachable as error:
        pytest.skip(str(error))
    (wheel,) = wheels.glob("*.whl")
    environments.run(*target, "--no-deps", str(wheel))
    yield folder / "venv"
    shutil.rmtree(folder)


def packages(venv: Path) -> Path:
    (found,) = (venv / "lib").glob("python3*/site-packages")
    return found


def test_it_takes_less_than_120_mb(fresh: Path) -> None:
    sizes: dict[str, int] = {}
    for file in packages(fresh).rglob("*"):
        part = file.relative_to(packages(fresh)).parts[0]
        if file.is_file() and not file.is_symlink() and "__pycache__" not in file.parts and part not in INSTALLERS:
            sizes[part] = sizes.get(part, 0) + file.stat().st_size
    largest = sorted(sizes.items(), key=lambda each: -each[1])[:8]
    assert sum(sizes.values()) < MOST_BYTES, largest
    assert sizes["bascule"] > 1_000_000, "it is measured at all"


def test_nothing_that_comes_along_is_under_the_agpl(fresh: Path) -> None:
    found = {}
    for path in packages(fresh).glob("*.dist-info/METADATA"):
        head = HeaderParser().parsestr(path.read_text(encoding="utf-8"))
        said = [head.get("License-Expression", ""), *head.get_all("Classifier", [])]
        found[head["Name"]] = " ".join(said) + (head.get("License") or "")[:200]
    assert len(found) > 30
    assert not {name: said for name, said in found.items() if re.search(r"\bA?GPL|Affero", said)}


def test_the_first_call_is_answered_and_recorded_within_a_minute(fresh: Path, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "PATH": f"{fresh / 'bin'}:/usr/bin:/bin", "NO_PROXY": "*"}
    since = time.monotonic()
    process = subprocess.Popen(
        [str(fresh / "bin/bascule"), "up", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=tmp_path,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "first call:" in line:
                break
        took_s = time.monotonic() - since
        assert "first call: document/summarize_text" in said[-1], said
        assert took_s < FIRST_MINUTE_S
    finally:
        process.terminate()
        process.wait(40)
        if process.stdout is not None:
            process.stdout.close()
    listed = subprocess.run(
        [str(fresh / "bin/bascule"), "audit", "search", "--json"],
        capture_output=True,
        env=env,
        cwd=tmp_path,
        check=True,
    )
    assert any(each["entry"].get("thing") == "document/summarize_text" for each in json.loads(listed.stdout))

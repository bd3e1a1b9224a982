"""The benchmark of policy runs, and what it calls governed is governed. No figure is judged here."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"


def test_governed_calls_are_governed_and_each_load_is_measured_without_an_error() -> None:
    command = [sys.executable, str(BENCH / "governance.py"), "--check"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    cells = [line.split("|")[1:-1] for line in ran.stdout.splitlines() if line.startswith("| Bascule, governed |")]
    assert len(cells) == 3, "calls per second, CPU, and the slowest"
    assert all(cell.strip() != "\N{EN DASH}" for row in cells for cell in row), "no point was left out"

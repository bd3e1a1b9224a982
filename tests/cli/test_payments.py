"""examples/payments does what its README says, as processes of its own, with a gateway that is killed in the middle."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import bascule

from processes import ROOT, running

WITHIN_S = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "examples" / "payments", tmp_path / "payments"))


@contextlib.contextmanager
def gateway(folder: Path) -> Iterator[str]:
    """`bascule serve` in *folder*, killed at the end; its URL."""
    start = 'cd "$0" && exec "$1" -m bascule serve --port 0'
    with running(["sh", "-c", start, str(folder), sys.executable], end=signal.SIGKILL) as first_line:
        yield first_line.split()[0]


def payment(url: str, to: str, amount: int, key: str = "", **more: int) -> list[str]:
    """The words of the README, after `bascule`."""
    arguments = {"to": to, "amount": amount, **more}
    said = [word for name, value in arguments.items() for word in ("-a", f"{name}={value}")]
    return ["call", url, "bank__pay", *said, *(["-H", f"Idempotency-Key: {key}"] if key else [])]


def payments(folder: Path) -> list[str]:
    ledger = folder / "payments.txt"
    return ledger.read_text().splitlines() if ledger.exists() else []


def rows(folder: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(bascule("journal", "list", "--json", cwd=folder).out)
    return found


def test_a_payment_is_made_once_for_each_key_and_never_without_one(folder: Path) -> None:
    with gateway(folder) as url:
        without = bascule(*payment(url, "ann", 10), cwd=folder)
        first, again = (bascule(*payment(url, "ann", 10, "invoice-2026-001207"), cwd=folder) for _ in range(2))
        other = bascule(*payment(url, "ann", 11, "invoice-2026-001207"), cwd=folder)
    assert (without.code, "Idempotency-Key" in without.err) == (1, True)
    assert (first.code, again.code, first.out, again.out) == (0, 0, "paid 10 to ann\n", "paid 10 to ann\n")
    assert (other.code, "another call" in other.err) == (1, True)
    assert payments(folder) == ["10 ann"]


def test_a_large_payment_is_made_once_somebody_has_said_yes(folder: Path) -> None:
    with gateway(folder) as url:
        refused = bascule(*payment(url, "bob", 4000, "invoice-2026-001208"), cwd=folder)
        assert (refused.code, payments(folder)) == (1, [])
        (token,) = (line.split("\t")[0] for line in bascule("approvals", cwd=folder).lines)
        assert bascule("approvals", "approve", token, "--note", "invoice 1208", cwd=folder).code == 0
        first, again = (paid_by_curl(folder, url, "invoice-2026-001208", "bob", "4000", token) for _ in range(2))
    assert "paid 4000 to bob" in first
    assert "idempotent-replayed: true" in again
    assert payments(folder) == ["4000 bob"]


def paid_by_curl(folder: Path, url: str, *words: str) -> str:
    return subprocess.run(
        [folder / "pay.sh", *words],
        env={"BASCULE_URL": url},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    ).stdout


def test_after_a_crash_nothing_is_paid_until_a_person_says_what_came_of_it(folder: Path) -> None:
    with gateway(folder) as url:
        paying = subprocess.Popen(
            [sys.executable, "-m", "bascule", *payment(url, "cid", 7, "invoice-2026-001209", takes_s=20)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + WITHIN_S
        while [row["state"] for row in rows(folder)] != ["DISPATCHED"]:
            assert time.monotonic() < until, rows(folder)
    paying.kill()
    paying.wait()
    answer = folder / "answer.json"
    answer.write_text('{"content": [{"type": "text", "text": "paid 7 to cid"}]}')
    with gateway(folder) as url:
        refused = bascule(*payment(url, "cid", 7, "invoice-2026-001209", takes_s=20), cwd=folder)
        assert (refused.code, "nobody knows what became of it" in refused.err) == (1, True)
        (row,) = rows(folder)
        assert row["state"] == "UNKNOWN"
        said = bascule("journal", "resolve", row["id"], "--result", str(answer), "--note", "on paper", cwd=folder)
        assert said.code == 0
        resolved = bascule(*payment(url, "cid", 7, "invoice-2026-001209", takes_s=20), cwd=folder)
        assert (resolved.code, resolved.out) == (0, "paid 7 to cid\n")
        recorded = bascule("audit", "search", "--trace", row["trace_id"], "--all", "--json", cwd=folder).out
        verified = bascule("audit", "verify", cwd=folder)
    kinds = [entry.get("entry", entry)["kind"] for entry in json.loads(recorded)]
    assert kinds == ["intent", "outcome_recovered", "journal"]
    assert (verified.code, verified.out[:3]) == (0, "ok:")
    assert payments(folder) == []

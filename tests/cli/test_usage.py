"""`bascule usage`: how much tools are used, by whom, at what cost; and whether the sums are what the audit says."""

import csv
import io
import json
import time
from pathlib import Path
from typing import Any, Final

import pytest
from command import Done, bascule

from auditing import call, hands
from bascule.store.audit import Audit
from bascule.store.options import AuditOptions
from bascule.store.record import Record
from bascule.store.usage import Usage
from bascule.store.writer import Writer

CONFIG: Final = """
state_dir: state
contracts:
  - {tool: crm/create_lead, version: 1.2.0, owner_team: sales}
servers:
  crm: {url: "http://127.0.0.1:9/mcp", headers: {authorization: "Bearer ${env:CRM_TOKEN}"}}
"""
NASTY: Final = "evil\x1b]0;owned\x07\u202egnp\x9b31m"


class Place:
    """A folder with a configuration, in which somebody types `bascule usage …`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        (folder / "bascule.yaml").write_text(CONFIG)

    def usage(self, *words: str, **env: str) -> Done:
        return bascule("usage", *words, cwd=self.folder, env=env)

    def json(self, *words: str) -> Any:
        done = self.usage(*words, "--json", CRM_TOKEN="a-secret")
        assert done.code in (0, 1), done.err
        return json.loads(done.out)


async def filled(state: Path, *records: Record) -> None:
    writer = Writer(state)
    usage = Usage(writer.path)
    audit = Audit(writer, state, AuditOptions(), sums=usage)
    writer.start(audit)
    for record in records:
        audit.post(record)
    audit.stop()
    writer.close()
    usage.close()


def made(ago_s: int, **fields: Any) -> Record:
    at_us = int((time.time() - ago_s) * 1_000_000)
    return call(1, **{"at_us": at_us, "version": "1.2.0", "took_us": 1000, **fields})


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    await filled(
        place.state,
        *(made(600, cost_nano_usd=2_000_000) for _ in range(3)),
        made(600, outcome="failed", took_us=50_000, caller="ci"),
        made(600, thing="crm/find_lead", version="2.0.0", caller=NASTY),
        made(3 * 86_400, caller="ci", thing="crm/create_lead"),
    )
    return place


def rows(done: Done) -> list[list[str]]:
    assert (done.code, done.err) == (0, "")
    return [line.split("\t") for line in done.lines]


def test_there_is_one_line_for_each_tool_of_the_last_day(place: Place) -> None:
    assert rows(place.usage()) == [
        ["crm/create_lead", "4", "1", "25.0%", "$0.006", "0.9 ms", "55 ms", "55 ms"],
        ["crm/find_lead", "1", "0", "0.0%", "-", "0.9 ms", "0.9 ms", "0.9 ms"],
    ]
    assert rows(place.usage("--since", "7d"))[0][1] == "5"
    assert rows(place.usage("--since", "5m")) == []
    assert rows(place.usage("--since", "7d", "--until", "1d")) == [
        ["crm/create_lead", "1", "0", "0.0%", "-", "0.9 ms", "0.9 ms", "0.9 ms"]
    ]


def test_it_can_be_by_caller_version_or_team(place: Place) -> None:
    assert [row[:2] for row in rows(place.usage("--by", "version"))] == [
        ["crm/create_lead", "1.2.0"],
        ["crm/find_lead", "2.0.0"],
    ]
    callers = [row[:2] for row in rows(place.usage("--by", "caller"))]
    assert callers[0] == ["agent", "3"]
    assert {row["caller"]: row["calls"] for row in place.json("--by", "caller")["rows"]} == {
        "agent": 3,
        "ci": 1,
        NASTY: 1,
    }
    done = place.usage("--by", "team", CRM_TOKEN="a-secret")
    assert [row[:2] for row in rows(done)] == [["sales", "4"], ["-", "1"]]


def test_no_secret_of_a_server_is_needed(place: Place) -> None:
    for words in ((), ("--by", "team"), ("charge-back", "--month", time.strftime("%Y-%m"))):
        assert place.usage(*words).code == 0


def test_what_a_client_has_made_up_reaches_no_terminal(place: Place) -> None:
    for words in ((), ("--by", "caller"), ("--by", "caller", "--json")):
        out = place.usage(*words).out
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(out)


def test_a_charge_back_is_csv_with_every_digit(place: Place) -> None:
    month = time.strftime("%Y-%m", time.gmtime(time.time() - 600))
    done = place.usage("charge-back", "--month", month, "--csv", CRM_TOKEN="a-secret")
    assert (done.code, done.err) == (0, "")
    head, *lines = csv.reader(io.StringIO(done.out, newline=""))
    assert head == ["caller", "team", "tool", "version", "calls", "cost_usd"]
    assert ["agent", "sales", "crm/create_lead", "1.2.0", "3", "0.006"] in lines
    assert not {"\x1b", "\u202e"} & set(done.out)
    found = place.json("charge-back", "--month", month)
    assert [row["cost_nano_usd"] for row in found["rows"] if row["caller"] == "agent"] == [6_000_000]
    table = place.usage("charge-back", "--month", month, CRM_TOKEN="a-secret")
    assert "agent\tsales\tcrm/create_lead\t1.2.0\t3\t$0.006" in table.lines


@pytest.mark.parametrize(
    "words",
    [("--since", "soon"), ("--since", "1h", "--until", "2h"), ("--by", "colour"), ("recount", "--since", "?"),
     ("charge-back", "--month", "november"), ("charge-back",)],
)  # fmt: skip
def test_what_makes_no_sense_is_said(place: Place, words: tuple[str, ...]) -> None:
    done = place.usage(*words, CRM_TOKEN="a-secret")
    assert (done.code, done.out) == (2, "")
    assert done.err


def test_without_records_there_is_nothing_to_show(tmp_path: Path) -> None:
    (tmp_path / "bascule.yaml").write_text("state_dir: state\n")
    done = bascule("usage", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "bascule.db" in done.err


# ---- recounting ----------------------------------------------------------------------------------


def test_sums_that_are_what_the_audit_says_are_ok(place: Place) -> None:
    done = place.usage("recount")
    assert (done.code, done.out, done.err) == (0, "ok: the sums are what the audit says\n", "")
    assert place.json("recount") == {"agrees": True, "differences": []}


def test_sums_that_somebody_has_changed_are_found_and_summed_anew(place: Place) -> None:
    hands(place.state, "UPDATE usage SET calls = 7 WHERE caller = 'agent'")
    done = place.usage("recount")
    assert done.code == 1
    assert [line.split("\t")[1:] for line in done.lines] == [
        ["calls", "crm/create_lead 1.2.0 agent ok", "3", "7"],
    ]
    assert "bascule usage rebuild" in done.err
    (difference,) = place.json("recount")["differences"]
    assert (difference["what"], difference["audited"], difference["summed"]) == ("calls", 3, 7)
    assert place.usage("rebuild").out == "6\n"
    assert place.usage("recount").code == 0


def test_entries_that_nobody_has_counted_yet_are_no_difference(place: Place) -> None:
    hands(place.state, "DELETE FROM usage", "DELETE FROM latencies", "DELETE FROM generations WHERE kind = 'usage'")
    done = place.usage("recount")
    assert done.code == 0
    assert "6 entries of the audit are not counted yet" in done.err
    assert place.usage("rebuild").out == "6\n"
    assert place.usage("recount").err == ""
    assert rows(place.usage("--since", "7d"))[0][1] == "5"

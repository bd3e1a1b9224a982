"""`bascule pack`: what comes along, what it may do, and one of them by itself."""

import json
from pathlib import Path

import pytest
from command import bascule

from processes import running_bascule

SHORT_NAMES = ("document/compare", "email/send", "image/inspect", "image/process")  # a verb says it all
PACKS = ("office", "files", "database", "crm", "finance", "media", "research", "communication")


def test_the_packs_are_listed_with_what_each_is_for() -> None:
    listed = json.loads(bascule("pack", "list", "--json").out)
    assert tuple(each["pack"] for each in listed) == PACKS
    assert all(each["about"] and each["tools"] for each in listed)
    assert all(name in bascule("pack", "list").out for name in PACKS)


@pytest.mark.parametrize("name", PACKS)
def test_a_pack_is_shown_with_its_tools_and_settings(name: str) -> None:
    done = bascule("pack", "show", name, "--json")
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    assert all({"version", "description", "side_effect", "security_scope"} <= set(each) for each in shown["tools"])
    assert {"name", "type", "default"} == set(shown["settings"][0])


@pytest.mark.parametrize("name", PACKS)
def test_its_contracts_have_nothing_that_lint_would_call_wrong(name: str) -> None:
    from bascule.packs import catalog

    done = bascule("contract", "lint", "--json", str(catalog.contracts_of(name)))
    assert done.code == 0, done.out + done.err
    found = json.loads(done.out)
    found = found if isinstance(found, list) else found["findings"]
    # Nobody but those who run it can review it.
    found = [each for each in found if each["rule"] != "review-missing"]
    assert [each for each in found if each["rule"] != "name-style" or each["id"] not in SHORT_NAMES] == []


@pytest.mark.parametrize("walls", ["auto", "off"])
def test_a_pack_runs_by_itself_on_standard_input_and_output(walls: str, tmp_path: Path) -> None:
    command = ("bascule", "pack", "run", "office", "--set", f"root={tmp_path}", "--sandbox", walls)
    asked = json.dumps({"text": "The bridge opens at nine, and closes when the tide is low. Yes.", "max_points": 1})
    done = bascule("call", "document__summarize_text", asked, "--json", "--", *command)
    assert done.code == 0, done.err
    assert "The bridge opens" in done.out


def test_a_pack_runs_over_http_governed(tmp_path: Path) -> None:
    with running_bascule("pack", "run", "crm", "--set", f"folder={tmp_path}/new", "--http", "--port", "0") as url:
        done = bascule("call", url, "crm/search_contacts", "-a", "query=a", "--json")
        refused = bascule("call", url, "crm/search_contacts", "-a", "query=a", "-a", "limit=100000")
    assert done.code == 0, done.err
    assert json.loads(done.out)["_meta"]["dev.bascule/call"]["version"]
    assert refused.code == 1
    assert "/limit: must be at most" in refused.out


def test_settings_come_from_a_file_and_from_words_and_words_go_before(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"root: {tmp_path}/none\nmax_recipients: 3\n")
    command = ("bascule", "pack", "run", "office", "--settings", str(file), "--set", f"root={tmp_path}")
    assert "document__compare" in bascule("list", "--", *command).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("none",), "there is no pack 'none'; there are office,"),
        (("office",), "root"),
        (("office", "--set", "root"), "write NAME=VALUE"),
        (("office", "--set", "root=/tmp", "--set", "rot=1"), "rot"),
        (("office", "--set", "root=/tmp", "--set", "root.x=1"), "root"),
        (("office", "--set", "root=/tmp", "--port", "1"), "--http"),
        (("office", "--set", "root=/tmp", "--sandbox", "perhaps"), "sandbox"),
    ],
)
def test_what_makes_no_pack_is_said_and_nothing_is_served(words: tuple[str, ...], said: str) -> None:
    done = bascule("pack", "run", *words)
    assert done.code == 2
    assert said in done.err

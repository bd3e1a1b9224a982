"""`bascule keys`: the key on stdout, once; everything else for the person."""

import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from command import BASCULE, Done, bascule

from bascule.policy.keys import parse

CONFIG: Final = """
state_dir: {state}
roles:
  reader: [crm:read]
callers:
  ci: {{roles: [reader], scopes: ["crm:write:lead"]}}
  idle: {{}}
"""
DAY: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


class Place:
    """A folder with a configuration, in which somebody types `bascule keys …`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        (folder / "bascule.yaml").write_text(CONFIG.format(state=self.state))

    def keys(self, *words: str) -> Done:
        return bascule("keys", *words, cwd=self.folder)

    def created(self, *words: str) -> dict[str, Any]:
        done = self.keys("create", *words, "--json")
        assert done.code == 0, done.err
        found: dict[str, Any] = json.loads(done.out)
        return found

    def listed(self) -> dict[str, dict[str, Any]]:
        return {each["id"]: each for each in json.loads(self.keys("list", "--json").out)}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_key_is_all_of_stdout_and_the_rest_is_talk(place: Place) -> None:
    done = place.keys("create", "ci")
    assert (done.code, len(done.lines)) == (0, 1)
    parts = parse(done.lines[0])
    assert parts
    assert parts.environment == "live"
    assert parts.secret not in done.err
    for said in (parts.id, "not be shown again", "crm:read, crm:write:lead", "Authorization: Bearer"):
        assert said in done.err


def test_a_key_with_bounds_says_what_it_is_good_for(place: Place) -> None:
    words = ("--scope", "crm", "--scope", "hr:read", "--ip", "192.0.2.0/24", "--expires", "90d", "--note", "report")
    done = place.keys("create", "ci", *words)
    assert done.code == 0
    assert "it may do crm:read, crm:write:lead\n" in done.err
    assert "warning: ci itself has no hr:read" in done.err
    assert re.search(f"expires at {DAY}", done.err)
    assert "it works from 192.0.2.0/24 alone" in done.err
    (listed,) = place.listed().values()
    shown = {name: listed[name] for name in ("caller", "scopes", "networks", "note", "state")}
    assert shown == {
        "caller": "ci",
        "scopes": ["crm", "hr:read"],
        "networks": ["192.0.2.0/24"],
        "note": "report",
        "state": "active",
    }
    assert re.fullmatch(DAY, listed["expires"])


def test_a_scope_that_only_overlaps_with_the_callers_is_good_for_what_both_cover(place: Place) -> None:
    done = place.keys("create", "ci", "--scope", "*:write")
    assert "it may do crm:write:lead\n" in done.err
    assert "warning" not in done.err


def test_a_caller_that_may_do_nothing_is_told_of(place: Place) -> None:
    assert "it may do nothing: give its caller scopes or roles" in place.keys("create", "idle").err


def test_json_holds_the_key_and_its_record(place: Place) -> None:
    created = place.created("ci")
    parts = parse(created["key"])
    assert parts
    assert (created["id"], created["caller"], created["state"]) == (parts.id, "ci", "active")
    assert created["expires"] is created["scopes"] is None


def test_the_list_shows_no_secret_and_is_made_for_programs_too(place: Place) -> None:
    assert place.keys("list").out == ""
    assert place.listed() == {}
    assert not place.state.exists()
    created = place.created("ci", "--note", "one cell")
    parts = parse(created["key"])
    assert parts
    done = place.keys("list")
    assert done.lines == [f"{parts.id}\tci\tactive\tall of its caller\tnever\tnever\tany\tone cell"]
    assert parts.secret not in done.out + place.keys("list", "--json").out


def test_a_rotated_key_says_until_when_it_works(place: Place) -> None:
    old = place.created("ci", "--scope", "crm:read")
    done = place.keys("rotate", old["id"], "--overlap", "2h")
    assert (done.code, len(done.lines)) == (0, 1)
    parts = parse(done.lines[0])
    assert parts
    assert re.search(f"the old key {old['id']} works until {DAY}", done.err)
    listed = place.listed()
    assert listed[old["id"]]["replaced_by"] == parts.id
    assert listed[parts.id]["scopes"] == ["crm:read"]
    assert place.keys("rotate", old["id"]).code == 2


def test_a_revoked_key_is_revoked(place: Place) -> None:
    created = place.created("ci")
    done = place.keys("revoke", created["id"])
    assert (done.code, done.out) == (0, "")
    assert re.search(f"key {created['id']} of ci is revoked since {DAY}", done.err)
    assert place.listed()[created["id"]]["state"] == "revoked"
    assert place.keys("revoke", created["id"]).code == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["create", "nobody"], "there is no caller 'nobody'; there are ci, idle"),
        (["create", "ci", "--scope", "a b"], "'a b' is not a scope"),
        (["create", "ci", "--ip", "10.0.0.1/8"], "write 10.0.0.0/8 for all of it, or 10.0.0.1"),
        (["create", "ci", "--expires", "90"], "--expires '90': write a number and s, m, h, d or w"),
        (["create", "ci", "--expires", "0d"], "--expires '0d'"),
        (["create", "ci", "--expires", "99999d"], "at most 3650d"),
        (["create", "ci", "--expires", "-1d"], "--expires '-1d'"),
        (["rotate", "nobody"], "there is no key 'nobody'; `bascule keys list` shows them"),
        (["rotate", "nobody", "--overlap", "soon"], "--overlap 'soon'"),
        (["revoke", "nobody"], "there is no key 'nobody'"),
        (["list", "-c", "absent.yaml"], "absent.yaml: no such file"),
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_is_made(place: Place, words: list[str], complaint: str) -> None:
    done = place.keys(*words)
    assert (done.code, done.out) == (2, "")
    assert complaint in done.err
    assert "Traceback" not in done.err
    assert place.listed() == {}


def test_a_caller_that_is_gone_gets_no_new_key(place: Place) -> None:
    old = place.created("ci")
    (place.folder / "bascule.yaml").write_text(f"state_dir: {place.state}\n")
    done = place.keys("rotate", old["id"])
    assert (done.code, done.out) == (2, "")
    assert "there is no caller 'ci'; the configuration names none" in done.err
    assert place.keys("revoke", old["id"]).code == 0


def test_a_pepper_that_others_can_read_is_refused_with_what_to_do(place: Place) -> None:
    place.created("ci")
    (place.state / "pepper").chmod(0o644)
    done = place.keys("create", "ci")
    assert (done.code, done.out) == (2, "")
    assert f"chmod 600 {place.state}/pepper" in done.err


def test_the_environment_of_the_configuration_stands_in_the_key(place: Place) -> None:
    with (place.folder / "bascule.yaml").open("a") as file:
        file.write("auth: {key_environment: staging}\n")
    assert place.created("ci")["key"].startswith("gw_staging_")


def test_help_names_the_commands(place: Place) -> None:
    shown = place.keys("--help").out
    assert all(name in shown for name in ("create", "list", "rotate", "revoke"))


def test_the_headings_are_for_the_person_and_the_rows_for_the_program(place: Place) -> None:
    place.created("ci")
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*BASCULE, "keys", "list"], stdout=subprocess.PIPE, stderr=theirs, cwd=place.folder, check=True
    )
    os.close(theirs)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert said.split("\r\n")[0].split("\t")[-3:] == ["last used", "addresses", "note"]
    assert len(done.stdout.splitlines()) == 1
    assert place.keys("list").err == ""


def test_a_scope_that_the_caller_lacks_is_said_once(place: Place) -> None:
    done = place.keys("create", "ci", "--scope", "shop:write")
    assert "bascule: it may do nothing\n" in done.err
    assert "ci itself has no shop:write" in done.err

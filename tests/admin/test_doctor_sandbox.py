"""What the doctor says of the walls around local servers, on machines that have them and on those that do not."""

import time
from pathlib import Path
from typing import Any

import pytest
from doctoring import ENVIRON, NOW_S, Json, good, write

from bascule.admin.doctor import sandbox, setup
from bascule.admin.doctor.finding import RULES
from bascule.upstream.sandbox import Machine

WELL = Machine(landlock=7, bubblewrap="/usr/bin/bwrap", private_network=True, filters=True)
BARE = Machine(why_not="bubblewrap is not installed")


def looked_at(folder: Path, **spare: Any) -> setup.Setup:
    config: Json = good(folder)
    config["servers"]["spare"] |= spare
    return setup.read(write(folder, config), ENVIRON, NOW_S)


@pytest.mark.parametrize(
    ("walls", "machine", "rule", "said"),
    [
        ("off", WELL, "sandbox-off", "here it could have bubblewrap + Landlock 7 + limits"),
        ("off", BARE, None, ""),
        ("auto", WELL, None, ""),
        ("auto", BARE, "sandbox-none", "bubblewrap is not installed"),
        ("required", WELL, None, ""),
        ("required", BARE, "sandbox-missing", "spare requires a sandbox"),
        ({"mode": "required", "network": [443]}, Machine(bubblewrap="bwrap"), "sandbox-missing", "TCP ports"),
    ],
)
def test_a_server_with_fewer_walls_than_it_could_have_or_asks_for_is_found(
    walls: Any, machine: Machine, rule: str | None, said: str, tmp_path: Path
) -> None:
    found = list(sandbox.findings(looked_at(tmp_path, sandbox=walls), machine))
    assert [each.rule for each in found] == [rule] * bool(rule)
    for each in found:
        assert said in each.what
        assert each.severity == RULES[each.rule]
        assert each.fix


@pytest.mark.parametrize(
    ("what", "said"), [("~", "~"), ("~/.ssh", ".ssh"), ("/no/such/folder", "there is no /no/such")]
)
def test_what_cannot_be_declared_is_found_before_the_server_fails_to_start(
    what: str, said: str, tmp_path: Path
) -> None:
    walls = {"mode": "required", "read": [what]}
    (found,) = sandbox.findings(looked_at(tmp_path, sandbox=walls), WELL)
    assert (found.rule, found.severity) == ("sandbox-missing", "error")
    assert said in found.what


def test_the_layers_of_each_local_server_are_told_without_a_gateway(tmp_path: Path) -> None:
    for walls, said in (("off", "limits"), ("auto", "bubblewrap + Landlock 7 + limits")):
        assert sandbox.layers(looked_at(tmp_path, sandbox=walls), WELL) == {"spare": said}
    contained = looked_at(tmp_path, sandbox="auto", runtime="docker", image="example/server:1")
    assert sandbox.layers(contained, BARE) == {"spare": "docker"}


def test_a_container_without_docker_is_found(tmp_path: Path) -> None:
    contained = looked_at(tmp_path, runtime="docker", image="example/server:1")
    found = list(sandbox.findings(setup.read(contained.path, {**ENVIRON, "PATH": "/nowhere"}, time.time()), WELL))
    assert [each.rule for each in found] == ["sandbox-missing"]
    assert "not on PATH" in found[0].what

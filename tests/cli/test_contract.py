"""`bascule contract new | lint | diff | show`, as a person and as a program would use them."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import bascule

from processes import server

PLAIN = server("plain")
LEAD = """\
tool: crm/create_lead
version: 1.2.0
description: Creates a lead and gives back its id. SIDE EFFECT. Fails if the email is already a lead.
input_schema:
  type: object
  properties:
    email: {type: string, description: The lead's address}
    source: {type: string, enum: [web, fair], description: Where it comes from}
  required: [email]
output_schema:
  type: object
  properties: {id: {type: string}}
  required: [id]
side_effect: true
require_key: true
security_scope: crm:write:lead
max_timeout_seconds: 30
latency_budget_ms: 800
cost_model: {price_usd: 0}
rate_limit: 100/minute
owner_team: sales
owner_email: sales@company.test
security_level: MEDIUM
last_security_review: 2999-01-01
"""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a server, a contract for one of its tools, and a rule for all of them."""
    contract = "tool: plain/echo\nversion: 3.1.4\nside_effect: false\nrate_limit: 5/second\n"
    written(tmp_path, "contracts/echo.yaml", contract)
    settings = {
        "servers": {"plain": {"command": PLAIN[0], "args": PLAIN[1:]}},
        "contracts": ["contracts"],
        "policy": {"rules": [{"match": "plain/*", "max_concurrent": 4}]},
    }
    return written(tmp_path, "bascule.json", json.dumps(settings))


# ---- new


@pytest.mark.parametrize(
    ("kind", "id"), [("tool", "crm/create_lead"), ("prompt", "crm/greet"), ("resource", "crm/file:///a")]
)
def test_new_writes_a_contract_of_which_lint_names_each_placeholder(kind: str, id: str, tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    made = bascule("contract", "new", id, "--kind", kind, "-o", str(file))
    assert (made.code, made.out) == (0, "")
    assert f"wrote {file}" in made.err
    linted = bascule("contract", "lint", str(file), "--json")
    found = json.loads(linted.out)
    lines = [number for number, line in enumerate(file.read_text().splitlines(), 1) if "TODO" in line]
    assert linted.code == 1
    assert sorted(each["place"] for each in found["findings"]) == sorted(f"{file}:{line}" for line in lines)


def test_new_overwrites_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, "mine.yaml", "precious")
    done = bascule("contract", "new", "crm/create_lead", "-o", str(file))
    assert (done.code, file.read_text()) == (2, "precious")
    assert done.err == f"bascule: {file}: cannot be written: File exists\n"


def test_new_takes_from_a_running_server_what_it_says(config: Path) -> None:
    for where in (["-c", str(config)], ["--", *PLAIN]):
        done = bascule("contract", "new", "plain/add", "--from-server", *where)
        assert done.code == 0
        assert "description: Adds two numbers.\n" in done.out
        assert "properties: {a: {type: number}, b: {type: number}}" in done.out
    prompt = bascule("contract", "new", "plain/greet", "--kind", "prompt", "--from-server", "--", *PLAIN)
    assert "name: {type: string" in prompt.out


def test_new_says_what_is_wrong_with_a_name(config: Path) -> None:
    assert bascule("contract", "new", "lead").err.startswith("bascule: 'lead' is not namespace/name")
    absent = bascule("contract", "new", "plain/nope", "--from-server", "--", *PLAIN)
    assert (absent.code, absent.out) == (1, "")
    assert "plain: no tool 'nope'" in absent.err
    assert bascule("contract", "new", "nobody/x_y", "--from-server", "-c", str(config)).code == 2
    assert bascule("contract", "new", "crm/x_y", "-c", str(config)).code == 2


# ---- lint


def test_lint_has_nothing_to_say_of_a_good_contract(tmp_path: Path) -> None:
    done = bascule("contract", "lint", str(written(tmp_path, "lead.yaml", LEAD)), "--strict")
    assert (done.code, done.out, done.err) == (0, "", "bascule: nothing to mend\n")


def test_lint_names_place_level_and_rule_and_how_to_mend_it(tmp_path: Path) -> None:
    file = written(tmp_path, "lead.yaml", LEAD.replace("crm:write:lead", "'*'").replace("latency_budget_ms: 800\n", ""))
    done = bascule("contract", "lint", str(file))
    assert done.code == 1
    assert done.lines == [
        f"{file}:16: error: crm/create_lead: * is the scope of everything [scope-everything]",
        "    name what it needs, such as crm:write:lead",
        f"{file}:1: hint: crm/create_lead: nothing is said of how long it takes [latency-missing]",
        "    add latency_budget_ms: planners choose by it",
    ]
    assert done.err == "bascule: 1 error, 0 warnings, 1 hint\n"


def test_lint_is_content_with_hints_unless_it_is_strict(tmp_path: Path) -> None:
    file = str(written(tmp_path, "lead.yaml", LEAD.replace("latency_budget_ms: 800\n", "")))
    assert bascule("contract", "lint", file).code == 0
    assert bascule("contract", "lint", file, "--strict").code == 1


def test_lint_looks_at_running_servers(config: Path) -> None:
    bare = json.loads(bascule("contract", "lint", "--json", "--", *PLAIN).out)["findings"]
    first = next(each for each in bare if each["rule"] == "blind-result")
    assert (first["id"], first["place"], first["level"]) == ("plain/echo", "server plain", "warning")
    assert not any(each["rule"] == "owner-missing" for each in bare)
    governed = json.loads(bascule("contract", "lint", "--json", "--server", "plain", "-c", str(config)).out)["findings"]
    assert [each["id"] for each in governed if each["rule"] == "owner-missing"] == ["plain/echo"]


def test_lint_finds_contracts_for_what_the_server_has_not(config: Path) -> None:
    file = written(config.parent, "contracts/gone.yaml", "tool: plain/eco\n")
    done = bascule("contract", "lint", "-c", str(config))
    assert f"{file}:1: warning: plain/eco: the server lists no such tool [contract-orphan]" in done.lines


def test_lint_fails_when_a_server_cannot_be_asked() -> None:
    done = bascule("contract", "lint", "--", *server("hostile", "--mode", "dies-at-start"))
    assert done.code == 1
    assert "cannot start: no such database" in done.err


@pytest.mark.parametrize("words", [[], ["a.yaml", "-c", "b.yaml"], ["--server", "x"], ["none.yaml"], ["--"]])
def test_lint_says_what_it_wants(words: list[str], tmp_path: Path) -> None:
    done = bascule("contract", "lint", *words, cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("bascule: ")


# ---- diff


def test_diff_fails_when_the_version_lies(tmp_path: Path) -> None:
    old = written(tmp_path, "old.yaml", LEAD)
    changed = LEAD.replace("required: [email]", "required: [email, source]").replace("1.2.0", "1.2.1")
    new = written(tmp_path, "new.yaml", changed)
    done = bascule("contract", "diff", str(old), str(new))
    assert done.code == 1
    assert done.lines == ["crm/create_lead 1.2.0 → 1.2.1: MAJOR", "    MAJOR  input_schema: `source` became required"]
    assert done.err == (
        "bascule: crm/create_lead: 1.2.1 says PATCH, but `source` became required: that is MAJOR, so 2.0.0\n"
    )
    new.write_text(changed.replace("1.2.1", "2.0.0"))
    assert bascule("contract", "diff", str(old), str(new)).code == 0


def test_diff_compares_folders_and_prints_json(tmp_path: Path) -> None:
    written(tmp_path, "old/a.yaml", LEAD)
    written(tmp_path, "old/b.yaml", "tool: crm/find_lead\nversion: 1.0.0\n")
    written(tmp_path, "new/all.yaml", LEAD + "---\ntool: crm/get_lead\nversion: 1.0.0\n")
    done = bascule("contract", "diff", str(tmp_path / "old"), str(tmp_path / "new"), "--json")
    assert (done.code, done.err) == (0, "")
    found = {each["id"]: each["step"] for each in json.loads(done.out)["contracts"]}
    assert found == {"crm/create_lead": None, "crm/find_lead": "MAJOR", "crm/get_lead": "MINOR"}


def test_diff_names_the_file_that_is_no_contract(tmp_path: Path) -> None:
    good, bad = written(tmp_path, "good.yaml", LEAD), written(tmp_path, "bad.yaml", "tool: a/b\nslo: 3\n")
    done = bascule("contract", "diff", str(good), str(bad))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"bascule: {bad}:2: slo: ")


# ---- show


def test_show_says_what_holds_and_who_says_so(config: Path) -> None:
    done = bascule("contract", "show", "plain/echo", "-c", str(config))
    assert done.code == 0
    assert "the server was not asked" in done.err
    rows = {field: (value, source) for field, value, source in (line.split("\t") for line in done.lines)}
    place = f"{config.parent}/contracts/echo.yaml:1"
    assert rows["version"] == ('"3.1.4"', place)
    assert rows["rate_limit"] == ('{"calls": 5, "per_s": 1.0}', place)
    assert rows["max_concurrent"] == ("4", "policy.rules.0")
    assert rows["security_scope"] == ('["plain:read:echo"]', "derived")
    assert rows["description"] == ('""', "default")


def test_show_asks_the_server_if_it_may(config: Path) -> None:
    (config.parent / "bascule.yaml").write_text(config.read_text())  # where it is looked for
    done = bascule("contract", "show", "plain/echo", "--connect", "--json", cwd=config.parent)
    fields = json.loads(done.out)["fields"]
    assert fields["description"] == {"value": "Returns the text.", "source": "server"}
    assert fields["side_effect"]["value"] is False


def test_show_says_what_there_is_not(config: Path) -> None:
    assert "no server 'nobody'" in bascule("contract", "show", "nobody/x", "-c", str(config)).err
    absent = bascule("contract", "show", "plain/nope", "--connect", "-c", str(config))
    assert absent.code == 1
    assert "no tool 'nope'" in absent.err


def test_show_prints_each_guardrail_as_it_was_written(config: Path) -> None:
    rules: list[dict[str, Any]] = [{"warn": "size(args.text) > 9", "message": "Long."}, {"max_per_session": 5}]
    contract = {"tool": "plain/echo", "guardrails": rules}
    written(config.parent, "contracts/echo.yaml", json.dumps(contract))
    done = bascule("contract", "show", "plain/echo", "-c", str(config))
    rows = {line.split("\t")[0]: json.loads(line.split("\t")[1]) for line in done.lines}
    assert rows["guardrails.0"] == rules[0]
    assert rows["guardrails.1"] == {**rules[1], "effect": "deny"}
    assert "guardrails" not in rows
    found = json.loads(bascule("contract", "show", "plain/echo", "--json", "-c", str(config)).out)["fields"]
    assert found["guardrails"]["value"] == [rules[0], {**rules[1], "effect": "deny"}]


def test_the_first_contract_is_written_into_the_empty_folder_and_changes_nothing_that_works(config: Path) -> None:
    file = config.parent / "contracts/echo.yaml"
    file.unlink()
    made = bascule("contract", "new", "plain/echo", "--from-server", "-c", str(config), "-o", str(file))
    assert made.code == 0, made.err
    assert "# output_schema:" in file.read_text()
    called = bascule("call", "-c", str(config), "plain/echo", "-a", "text=still there")
    assert (called.code, called.out) == (0, "still there\n"), called.err

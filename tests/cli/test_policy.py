"""`bascule policy explain` and `test`: decisions with their reasons on stdout, exit codes that say which."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from command import Done, bascule

from processes import ROOT, server

EXAMPLE: Final = ROOT / "examples" / "policy"
CONFIG: Final = """
servers:
  crm: {url: "http://127.0.0.1:9/mcp"}
roles:
  reader: [crm:read]
callers:
  ci: {roles: [reader], scopes: ["crm:write:echo"]}
contracts:
  - tool: crm/echo
    guardrails:
      - {deny: 'args.text == "no"', message: Not that.}
      - {warn: 'args.text == "hm"', message: Careful.}
      - {deny: 'args.text == "never"'}
    confirm_gate: {when: 'args.text == "big"', message: "Say {args.text}?"}
policy:
  rules:
    - {match: "crm/other*", rate_limit: 5/minute}
"""
ONE: Final = "- {name: one, as: ci, call: crm/echo, args: {text: yes}, expect: allow}\n"


class Place:
    """A folder with a configuration, in which somebody types `bascule policy …`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bascule.yaml").write_text(CONFIG)

    def explain(self, *words: str, stdin: str = "") -> Done:
        return bascule("policy", "explain", *words, cwd=self.folder, stdin=stdin)

    def test(self, cases: str, *words: str, name: str = "cases.yaml") -> Done:
        (self.folder / name).write_text(cases)
        return bascule("policy", "test", name, *words, cwd=self.folder)

    def tested(self, cases: str, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.test(cases, "--json", *words).out)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ---- explain


def test_a_call_that_is_allowed_ends_with_zero(place: Place) -> None:
    done = place.explain("--as", "ci", "crm/echo", '{"text": "hm"}')
    assert done.code == 0, done.err
    assert done.lines[-1] == "allowed"
    assert "warning to the client: Careful." in done.lines
    assert "crm:write:echo: covered by crm:write:echo" in done.out


def test_a_call_that_is_refused_ends_with_one_and_says_why(place: Place) -> None:
    done = place.explain("--as", "ci", "crm/echo", '{"text": "no"}')
    assert done.code == 1
    assert done.lines[-1] == "refused: Not that. (guardrail_denied, code 40303, JSON-RPC -30004)"
    assert 'guardrails.0: deny args.text == "no" → deny: Not that.' in done.out
    assert 'guardrails.1: warn args.text == "hm" → does not apply' in done.out


def test_a_question_is_told_as_a_person_would_read_it(place: Place) -> None:
    done = place.explain("--as", "ci", "crm/echo", '{"text": "big"}')
    assert (done.code, 'Say "big"?' in done.lines[-1]) == (1, True)
    assert done.lines[-1].startswith("asked: ")


def test_what_is_hidden_is_told_to_the_operator(place: Place) -> None:
    done = place.explain("--as", "ci", "crm/delete")
    assert done.code == 1
    assert "crm:write:delete: none of the caller's scopes covers it" in done.out
    assert "no tool 'crm/delete'" in done.lines[-1]


def test_without_the_server_it_says_what_it_does_not_know(place: Place) -> None:
    done = place.explain("--as", "ci", "crm/echo")
    assert "not known: whether crm lists this tool at all (--connect asks the server)" in done.lines


def test_programs_get_the_same_as_json(place: Place) -> None:
    done = place.explain("--as", "ci", "crm/echo", '{"text": "no"}', "--json", "--now", "2026-11-20T15:00:00Z")
    found = json.loads(done.out)
    assert done.code == 1
    assert (found["decision"], found["error"]["code"], found["now"]) == ("deny", 40303, "2026-11-20T15:00:00+00:00")
    assert found["written"] == "bascule.yaml: contracts.0 guardrails.0"
    assert [each["stage"] for each in found["stages"]][:3] == ["identify", "label", "authorize"]
    assert len(found["rules"]) == 4


def test_arguments_can_come_from_standard_input(place: Place) -> None:
    assert place.explain("--as", "ci", "crm/echo", "-", stdin='{"text": "no"}').code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--as", "who", "crm/echo"), "there is no caller 'who'"),
        (("--as", "ci", "hr/echo"), "there is no server 'hr'"),
        (("--as", "ci", "echo"), "is not namespace/name"),
        (("--as", "ci", "crm/echo", "[1]"), "JSON object"),
        (("--as", "ci", "crm/echo", "{"), "cannot be the arguments"),
        (("--as", "ci", "crm/echo", '{"a": 1, "a": 2}'), "cannot be the arguments"),
        (("--as", "ci", "crm/echo", '{"a": NaN}'), "cannot be the arguments"),
        (("--as", "ci", "crm/echo", "{}}, {}"), "cannot be the arguments"),
        (("--as", "ci", "--now", "soon", "crm/echo"), "is not a time"),
        (("--as", "ci", "--token-claims", "x", "crm/echo"), "--token-claims is a JSON object"),
        (("--as", "ci", "-c", "missing.yaml", "crm/echo"), "no such file"),
    ],
)
def test_what_cannot_be_asked_ends_with_two(place: Place, words: tuple[str, ...], said: str) -> None:
    done = place.explain(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_the_server_is_asked_when_somebody_says_so(place: Place) -> None:
    started = json.dumps(dict(zip(("command", "args"), _split(server("modern")), strict=True)))
    (place.folder / "bascule.yaml").write_text(
        CONFIG.replace('{url: "http://127.0.0.1:9/mcp"}', started)
        # Another one that could not even be started: it is left alone.
        .replace("roles:", "  broken: {command: no-such-command}\nroles:", 1)
    )
    missing = place.explain("--as", "ci", "--connect", "crm/echo", '{"text": 1}', "--json")
    found = json.loads(missing.out)
    assert (missing.code, found["decision"], found["not_known"]) == (1, "invalid", [])
    assert json.loads(place.explain("--as", "ci", "--connect", "crm/nothing", "--json").out)["decision"] == "hidden"
    case = "- {name: typed, as: ci, call: crm/echo, args: {text: 1}, expect: invalid}\n"
    assert place.test(case, "--connect").code == 0


def _split(command: list[str]) -> tuple[str, list[str]]:
    return command[0], command[1:]


# ---- test


def test_the_example_is_as_its_cases_say(tmp_path: Path) -> None:
    done = bascule("policy", "test", "cases.yaml", "--coverage", "100", cwd=EXAMPLE)
    assert done.code == 0, done.out
    assert all(line.startswith("ok ") for line in done.lines)


@pytest.mark.parametrize("rule", ["guardrails:", "confirm_gate:"])
def test_the_cases_of_the_example_notice_when_a_rule_is_gone(tmp_path: Path, rule: str) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "policy")
    contract = tmp_path / "policy" / "contracts" / "create_lead.yaml"
    lines = contract.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(rule))
    end = at + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    contract.write_text("\n".join([*lines[:at], *lines[end:]]))
    assert bascule("policy", "test", "cases.yaml", cwd=tmp_path / "policy").code == 1


def test_a_case_that_is_wrong_says_what_and_where(place: Place) -> None:
    done = place.test(ONE + "- name: two\n  as: ci\n  call: crm/echo\n  args: {text: no}\n  expect: allow\n")
    assert done.code == 1
    assert done.lines[:6] == [
        "ok      one: allow",
        "FAILED  two: deny",
        "        expected allow, got deny",
        '        by guardrails.0: deny args.text == "no" [bascule.yaml: contracts.0 guardrails.0]',
        "        refused: Not that. (guardrail_denied, code 40303, JSON-RPC -30004)",
        "        at cases.yaml:2",
    ]
    assert "2 cases, 1 not as expected" in done.err


@pytest.mark.parametrize(
    ("rest", "passes"),
    [
        ("args: {text: no}, expect: deny, rule: guardrails.0", True),
        ("args: {text: no}, expect: deny, rule: Not that", True),
        ('args: {text: no}, expect: deny, rule: "bascule.yaml: contracts.0 guardrails.0"', True),
        ("args: {text: no}, expect: deny, rule: guardrails.1", False),
        ("args: {text: no}, expect: deny, rule: guardrails", True),
        ("args: {text: big}, expect: ask, rule: confirm_gate", True),
        ("args: {text: hm}, expect: allow, warnings: [Careful]", True),
        ("args: {text: hm}, expect: allow, warnings: []", False),
        ("args: {text: hm}, expect: allow, warnings: [Slowly]", False),
        ("args: {text: yes}, expect: allow, rule: guardrails.0", False),
        ("args: {text: yes}, expect: allow, key_scopes: [crm:read]", False),
    ],
)
def test_a_case_expects_a_decision_a_rule_and_warnings(place: Place, rest: str, passes: bool) -> None:
    done = place.test(f"- {{name: one, as: ci, call: crm/echo, {rest}}}\n")
    assert done.code == (0 if passes else 1), done.out + done.err


def test_words_of_yaml_1_1_are_text(place: Place) -> None:
    (case,) = place.tested("- {name: on, as: ci, call: crm/echo, args: {text: no}, expect: deny}\n")["cases"]
    assert (case["name"], case["got" if "got" in case else "decision"], case["passed"]) == ("on", "deny", True)


def test_rules_that_no_case_has_heard_are_named(place: Place) -> None:
    cases = ONE + "- {name: two, as: ci, call: crm/echo, args: {text: no}, expect: deny}\n"
    found = place.tested(cases)
    assert found["coverage"]["heard"] == 1
    assert found["coverage"]["percent"] == 20.0
    assert [each["written"] for each in found["coverage"]["silent"]] == [
        "bascule.yaml: contracts.0 guardrails.1",
        "bascule.yaml: contracts.0 guardrails.2",
        "bascule.yaml: contracts.0 confirm_gate",
        "policy.rules.0",
    ]
    assert 'silent  bascule.yaml: contracts.0 guardrails.2: deny args.text == "never"' in place.test(cases).lines


def test_coverage_can_be_asked_for(place: Place) -> None:
    assert place.test(ONE).code == 0
    done = place.test(ONE, "--coverage", "10")
    assert done.code == 1
    assert "less than the 10 % asked for" in done.err


def test_a_case_has_its_own_time_and_others_that_of_the_test(place: Place) -> None:
    (place.folder / "bascule.yaml").write_text(
        CONFIG.replace("guardrails:\n", "guardrails:\n      - {deny: 'now.getFullYear() == 2031'}\n", 1)
    )
    case = "- {{name: one, as: ci, call: crm/echo, args: {{text: a}}, expect: deny{}}}\n"
    assert place.test(case.format(", now: 2031-02-03T10:00:00Z")).code == 0
    assert place.test(case.format(""), "--now", "2031-02-03").code == 0
    assert place.test(case.format("")).code == 1


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ("", "expected a list of cases"),
        ("cases: []\n", "expected a list of cases"),
        (ONE + "- {name: two, as: ci, call: crm/echo, expects: deny}\n", "cases.yaml:2: 1.expects"),
        (ONE + "- {name: two, as: ci, call: crm/echo, expect: maybe}\n", "cases.yaml:2: 1.expect"),
        (ONE + "- {name: two, as: ci, expect: deny}\n", "cases.yaml:2"),
        (ONE + "- {name: two, as: {role: x}, call: crm/echo, expect: deny}\n", "cases.yaml:2: 1.as.role"),
        (ONE + "- {name: two, as: ci, call: crm/echo, expect: deny, session: {calls: -1}}\n", "1.session.calls"),
        (ONE + "- {name: two, as: ci, call: crm/echo, expect: deny, expect: allow}\n", "'expect' stands twice"),
        (ONE + "- {name: two, as: who, call: crm/echo, expect: deny}\n", "cases.yaml:2: "),
        (ONE + "- {name: two, as: ci, call: hr/echo, expect: deny}\n", "cases.yaml:2: there is no server 'hr'"),
        (ONE + "- {name: two, as: ci, call: crm/echo, expect: deny, now: soon}\n", "cases.yaml:2: 'soon'"),
        (ONE + ONE, "'one' is there already, in cases.yaml:1"),
        ("- [", "not YAML"),
    ],
)
def test_a_table_that_cannot_be_used_ends_with_two(place: Place, cases: str, said: str) -> None:
    done = place.test(cases)
    assert (done.code, done.out) == (2, ""), done.err
    assert said in done.err


def test_a_table_can_be_json(place: Place) -> None:
    case = {"name": "one", "as": "ci", "call": "crm/echo", "args": {"text": "a"}, "expect": "allow"}
    assert place.test(json.dumps([case]), name="cases.json").code == 0

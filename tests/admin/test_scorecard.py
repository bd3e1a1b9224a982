"""Thirty-seven criteria on real files: each is met by what it asks for, and by nothing that was not seen."""

import os
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest
from doctoring import ENVIRON, NOW_S, Json, certificate, change, good, write

from bascule.admin.doctor.examine import Running
from bascule.admin.doctor.setup import read
from bascule.admin.scorecard.model import Criterion, Scene, State, Verdict
from bascule.admin.scorecard.page import page
from bascule.admin.scorecard.rating import GROUPS, Rated, RatedGroup, Scorecard, rate, report
from bascule.admin.scorecard.surroundings import Surroundings, files_beside
from bascule.store.files import make

# What the document that the criteria come from calls critical; TLS is a part of its proxy.
CRITICAL: Final = {
    *("health-checks", "resource-limits", "non-root", "reverse-proxy", "tls", "certificates", "authentication"),
    *("rate-limiting", "structured-logs", "metrics"),
}
NICE: Final = {"dashboards", "circuit-breaker", "zero-downtime", "auto-scaling"}

DEPLOYED: Final = {
    "Dockerfile": "FROM python:3.13-slim AS builder\nRUN pip wheel .\nFROM python:3.13-slim\nUSER 1001\n"
    "HEALTHCHECK CMD curl -f http://localhost:8777/health/ready\n",
    "compose.yaml": "services:\n  bascule:\n    image: example.com/bascule:1.2.0\n    restart: unless-stopped\n"
    "    stop_grace_period: 40s\n    deploy:\n      resources:\n        limits: {cpus: '2.0', memory: 2G}\n"
    "      update_config: {order: start-first}\n",
    "nginx.conf": "upstream bascule {\n  server one:8777;\n}\nserver {\n  listen 443 ssl;\n  ssl_certificate a.pem;\n"
    '  add_header Strict-Transport-Security "max-age=63072000";\n  proxy_pass http://bascule;\n}\n',
    "prometheus.yml": "scrape_configs:\n  - job_name: bascule\nalerting: {alertmanagers: []}\n",
    "alerts.yml": "groups:\n  - rules:\n      - alert: Burning\n        expr: bascule_calls_total > 0\n",
    "alertmanager.yml": "receivers:\n  - name: on-call\n",
    "grafana/bascule.json": '{"panels": [], "schemaVersion": 41}',
    "hpa.yaml": "kind: HorizontalPodAutoscaler\n",
    ".github/workflows/ci.yml": "jobs:\n  check:\n    steps:\n      - run: bascule doctor --strict --elsewhere\n"
    "      - run: bascule policy test cases.yaml\n      - run: curl -f https://mcp.example.com/health/ready\n",
    "cases.yaml": "- call: crm/create_lead\n",
    "k6-load.js": "import http from 'k6/http';\n",
    "scripts/backup.sh": 'sqlite3 bascule.db ".backup copy.db"\ncertbot renew\n',
    "scripts/rollback.sh": "docker compose up -d\n",
}


def laid(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def scene(folder: Path, config: Json, *, gateway: Running | None = None) -> Scene:
    return Scene(setup=read(write(folder, config), ENVIRON, NOW_S), gateway=gateway, files=files_beside(folder))


def rated(folder: Path, config: Json, **more: Any) -> dict[str, Rated]:
    card = rate(scene(folder, config, **more))
    return {each.criterion.id: each for group in card.groups for each in group.rated}


@pytest.fixture
def config(tmp_path: Path) -> Json:
    return good(tmp_path)


# ---- the list


def test_there_are_37_criteria_in_six_groups() -> None:
    assert {group.name: len(group.criteria) for group in GROUPS} == {
        "Security": 8,
        "Monitoring": 6,
        "Performance": 6,
        "Reliability": 6,
        "Deployment": 8,
        "Testing": 3,
    }
    assert len({each.id for group in GROUPS for each in group.criteria}) == 37


def test_weights_are_those_of_the_document() -> None:
    weights = {each.id: each.weight for group in GROUPS for each in group.criteria}
    assert {id for id, weight in weights.items() if weight == "critical"} == CRITICAL
    assert {id for id, weight in weights.items() if weight == "nice"} == NICE


# ---- a whole setup


def test_a_setup_with_everything_beside_it_gets_nearly_all_points(tmp_path: Path, config: Json) -> None:
    laid(tmp_path, DEPLOYED)
    make(tmp_path / "state")
    os.chown(tmp_path / "state" / "bascule.db", 1001, -1) if os.geteuid() == 0 else None
    config |= {"replicas": 1, "logs": {"format": "json"}, "policy": {"validate_arguments": "block"}}
    change("servers.crm.headers", {"Authorization": "Bearer ${file:/dev/null}"})(config)
    card = rate(scene(tmp_path, config))
    left = {each.criterion.id: each.state for group in card.groups for each in group.rated if each.state != "met"}
    # Limits are counted in this process, so there is one of it; every tool with a contract has side effects.
    assert left == {"load-balancing": "partly", "caching": "not applicable"}
    assert (card.points, card.most, card.grade) == (35.5, 36, "A")
    assert card.critical_left == []


def test_what_is_not_seen_scores_nothing_and_says_what_would_show_it(tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    found = rated(folder, {"servers": {}, "state_dir": "state", "auth": {"anonymous": True}})
    of_files = {
        *("dashboards", "structured-logs", "error-tracking", "auto-scaling", "load-balancing", "backups", "non-root"),
        *("multi-stage-image", "ci-cd", "rollback", "zero-downtime", "declared"),
        *("integration-tests", "load-tests", "health-tests", "authentication", "rate-limiting", "input-validation"),
    }
    assert {id for id, each in found.items() if each.state == "not met"} >= of_files
    for each in found.values():
        assert bool(each.gain) == (each.state in ("partly", "not met")), each.criterion.id
        assert each.evidence, each.criterion.id


def test_what_is_commented_out_is_not_there(tmp_path: Path, config: Json) -> None:
    laid(
        tmp_path,
        {
            "compose.yaml": "services:\n  a:\n    image: x:1\n    # healthcheck:\n    # restart: always\n",
        },
    )
    found = rated(tmp_path, config)
    assert found["health-checks"].state == "partly"
    assert found["restart-policy"].state == "partly"


# ---- one by one


def _nobody(config: Json) -> None:
    del config["callers"], config["http"]["tls"], config["http"]["public_url"]


def _bearer(config: Json) -> None:
    del config["callers"]
    config["http"]["bearer"] = "${env:CRM_TOKEN}"


def _contract(**fields: Any) -> Callable[[Json], None]:
    return lambda config: config["contracts"][0].update(fields)


def _replicas(config: Json) -> None:
    """Limits are counted by each process for itself, so that there can be none."""
    config["replicas"] = 2
    del config["limits"], config["contracts"][0]["rate_limit"]


def _same(config: Json) -> None:
    pass


Changing = Callable[[Json], None]
A: Final[State] = "met"
HALF: Final[State] = "partly"
NO: Final[State] = "not met"
IDLE: Final[State] = "not applicable"
_UNIT: Final = {"bascule.service": "[Service]\nUser=bascule\nRestart=always\nMemoryMax=2G\nTimeoutStopSec=60\n"}
_NO_GATE: Final = {"require_key": False, "idempotent": False}

CASES: Final[Sequence[tuple[str, State, Changing, dict[str, str], str]]] = [
    ("authentication", A, _same, {}, "1 caller"),
    ("authentication", HALF, _bearer, {}, "one token"),
    ("authentication", NO, _nobody, {}, "nobody is named"),
    ("authentication", NO, change("auth.anonymous", True), {}, "anybody"),
    ("rate-limiting", A, _same, {}, "600/minute"),
    ("rate-limiting", A, change("limits", None), {}, ""),
    ("rate-limiting", NO, change("limits", None), {}, "nobody's"),
    ("input-validation", A, change("policy.validate_arguments", "block"), {}, "every tool"),
    ("input-validation", HALF, change("policy.validate_arguments", "warn"), {}, "goes through"),
    ("input-validation", HALF, _same, {}, "crm/create_lead"),
    ("input-validation", NO, change("contracts", None), {}, "as they come"),
    ("security-headers", HALF, _same, {}, "HSTS is not seen"),
    ("security-headers", A, _same, {"nginx.conf": "add_header Strict-Transport-Security x;"}, "nginx.conf"),
    ("security-headers", A, _nobody, {}, "only this machine"),
    ("non-root", NO, _same, {}, "is not seen"),
    ("non-root", A, _same, _UNIT, "bascule.service"),
    ("non-root", A, _same, {"Dockerfile": "FROM a:1\nUSER 1001\n"}, "Dockerfile"),
    ("non-root", NO, _same, {"Dockerfile": "FROM a:1\nUSER root\n"}, "is not seen"),
    ("secrets-management", HALF, _same, {}, "environment"),
    ("secrets-management", A, change("seal.keys", ["${env:SEAL_KEY}"]), {}, ""),
    ("secrets-management", NO, change("servers.spare.env", {"API_KEY": "abcdefgh12345678"}), {}, "spare.env.API_KEY"),
    ("tls", A, _same, {}, "good until 2027"),
    ("tls", HALF, change("http.tls", None), {}, "is not seen"),
    ("tls", A, change("http.tls", None), {"nginx.conf": "listen 443 ssl;\nssl_certificate a;\n"}, "nginx.conf"),
    ("tls", NO, change("http.tls.cert", "/nowhere.pem"), {}, "cannot be read"),
    ("tls", IDLE, _nobody, {}, "only this machine"),
    ("no-way-around", A, _same, {}, "asks us for a credential"),
    ("no-way-around", HALF, change("servers.crm.headers", None), {}, "crm"),
    ("no-way-around", IDLE, change("servers", {}), {}, "no servers"),
    ("health-checks", HALF, _same, {}, "/health/ready speaks for crm"),
    ("health-checks", A, _same, {"compose.yaml": "services:\n  a:\n    healthcheck:\n      test: x\n"}, "compose.yaml"),
    ("health-checks", HALF, change("servers.crm.required", False), {"p.sh": "curl /health/ready"}, "no server counts"),
    ("health-checks", NO, change("servers.crm.required", False), {}, "nothing is seen"),
    ("metrics", HALF, _same, {}, "nothing is seen that reads it"),
    ("metrics", A, _same, {"prometheus.yml": "scrape_configs: []\n"}, "prometheus.yml"),
    ("metrics", NO, change("metrics.enabled", False), {}, "enabled: false"),
    ("dashboards", NO, _same, {}, "no dashboard"),
    ("dashboards", A, _same, {"grafana/a.json": '{"panels": []}'}, "grafana/a.json"),
    ("structured-logs", NO, _same, {}, "text"),
    ("structured-logs", A, change("logs.format", "json"), {}, "json"),
    ("error-tracking", HALF, _same, {}, "objectives are set for crm/create_lead"),
    ("error-tracking", HALF, _same, {"a.yml": "- alert: Down\n"}, "a.yml is half"),
    ("error-tracking", A, _same, {"a.yml": "- alert: Down\n", "b.yml": "receivers:\n- name: x\n"}, "b.yml"),
    ("error-tracking", NO, change("contracts", None), {}, "wakes anybody"),
    ("request-log", A, _same, {}, "batched"),
    ("request-log", NO, change("audit", "off"), {}, "off"),
    ("resource-limits", HALF, _same, {}, "80 % of memory"),
    ("resource-limits", A, _same, _UNIT, "bascule.service"),
    ("caching", IDLE, _same, {}, "side effects"),
    ("caching", NO, _contract(side_effect=False, **_NO_GATE), {}, "goes to its server"),
    ("caching", A, _contract(side_effect=False, cache_policy={"ttl_seconds": 60}, **_NO_GATE), {}, "crm/create_lead"),
    ("caching", NO, change("contracts", None), {}, "goes to its server"),
    ("connection-pooling", A, _same, {}, "256 connections"),
    ("connection-pooling", HALF, change("servers.spare.sharing", "per_session"), {}, "spare"),
    ("auto-scaling", NO, _same, {}, "adds replicas"),
    ("auto-scaling", A, _same, {"hpa.yaml": "kind: HorizontalPodAutoscaler\n"}, "hpa.yaml"),
    ("load-balancing", NO, _same, {}, "one process"),
    ("load-balancing", A, _replicas, {"nginx.conf": "upstream a {\n}\n"}, "2 replicas"),
    ("load-balancing", HALF, _same, {"nginx.conf": "upstream a {\n}\n"}, "one replica"),
    ("async-processing", A, _same, {}, "10000 at once"),
    ("graceful-shutdown", A, _same, {}, "25 s to end"),
    ("graceful-shutdown", HALF, _same, {"compose.yaml": "services:\n  a:\n    stop_grace_period: 10s\n"}, "after 10 s"),
    ("graceful-shutdown", HALF, change("drain.delay_s", 0), {}, "balancers"),
    ("graceful-shutdown", NO, change("drain.calls_s", 0), {}, "cut off"),
    ("retries", A, _same, {}, "crm/create_lead"),
    ("retries", NO, _contract(**_NO_GATE), {}, "of no tool"),
    ("circuit-breaker", A, _same, {}, "another takes over for crm"),
    ("circuit-breaker", IDLE, change("servers", {}), {}, "no servers"),
    ("error-handling", A, _same, {}, "trace id"),
    ("backups", HALF, _same, {}, "kept elsewhere"),
    ("backups", NO, change("audit", "batched"), {}, "no copies"),
    ("backups", A, _same, {"scripts/backup.sh": "cp a b\n"}, "scripts/backup.sh"),
    ("restart-policy", HALF, _same, {}, "is not seen"),
    ("restart-policy", A, _same, _UNIT, "bascule.service"),
    ("multi-stage-image", NO, _same, {}, "no Dockerfile"),
    ("multi-stage-image", HALF, _same, {"Dockerfile": "FROM a:1\n"}, "one stage"),
    ("multi-stage-image", A, _same, {"docker/Dockerfile.production": "FROM a:1\nFROM b:1\n"}, "2 stages"),
    ("reverse-proxy", HALF, _same, {}, "is not seen"),
    ("reverse-proxy", HALF, _same, {"nginx.conf": "proxy_pass http://a;\n"}, "without TLS"),
    ("reverse-proxy", A, _same, {"Caddyfile": "https://mcp.example.com {\n  reverse_proxy a:1\n}\n"}, "Caddyfile"),
    ("reverse-proxy", IDLE, _nobody, {}, "only this machine"),
    ("certificates", HALF, _same, {}, "365 days"),
    ("certificates", A, _same, {"renew.sh": "certbot renew\n"}, "renew.sh"),
    ("certificates", NO, change("http.tls", None), {}, "no certificate"),
    ("certificates", IDLE, _nobody, {}, "only this machine"),
    ("ci-cd", NO, _same, {}, "no pipeline"),
    ("ci-cd", HALF, _same, {".github/workflows/a.yml": "jobs: {}\n"}, "does not look"),
    ("ci-cd", A, _same, {".gitlab-ci.yml": "a:\n  script: bascule validate\n"}, ".gitlab-ci.yml"),
    ("version-tags", A, _same, {}, "has a version"),
    ("version-tags", HALF, _same, {"compose.yaml": "services:\n  a:\n    image: nginx:latest\n"}, "nginx:latest"),
    ("version-tags", NO, change("servers", {}), {"a.yaml": "image: nginx:latest\n"}, "nginx"),
    ("rollback", NO, _same, {}, "is not seen"),
    ("rollback", HALF, _same, {".git/config": "[core]\n"}, "version control"),
    ("rollback", A, _same, {"deploy.sh": "helm rollback bascule\n"}, "deploy.sh"),
    ("zero-downtime", NO, _same, {}, "nobody"),
    ("zero-downtime", A, _same, {"d.yaml": "strategy: {type: RollingUpdate}\n"}, "d.yaml"),
    ("declared", NO, _same, {}, "no Compose file"),
    ("declared", A, _same, _UNIT, "bascule.service"),
    ("integration-tests", NO, _same, {}, "no tests"),
    ("integration-tests", HALF, _same, {"cases.yaml": "- call: crm/find\n"}, "cases.yaml"),
    ("integration-tests", A, _same, {"tests/test_mcp.py": "url = '/mcp'\n"}, "tests/test_mcp.py"),
    ("load-tests", NO, _same, {}, "not seen"),
    ("load-tests", A, _same, {"load.js": "import { check } from 'k6';\n"}, "load.js"),
    ("health-tests", NO, _same, {}, "nothing is seen"),
    ("health-tests", HALF, _same, {"compose.yaml": "test: curl /health/ready\n"}, "no test does before"),
    ("health-tests", A, _same, {"smoke.sh": "curl -f http://a/health/ready\n"}, "smoke.sh"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("id", "state", "changed", "files", "evidence"),
    CASES,
    ids=[f"{id}-{state}-{number}".replace(" ", "-") for number, (id, state, *_) in enumerate(CASES)],
)
def test_a_criterion_goes_by_what_is_there(
    id: str, state: State, changed: Changing, files: dict[str, str], evidence: str, tmp_path: Path, config: Json
) -> None:
    if (id, evidence) == ("rate-limiting", ""):
        config["callers"]["ci"]["limits"] = {"rate": "10/minute"}
    elif id == "rate-limiting" and state == NO:
        del config["contracts"][0]["rate_limit"]
    elif (id, evidence) == ("secrets-management", ""):
        (tmp_path / "token").write_text("x" * 32)
        config["servers"]["crm"]["headers"] = {"Authorization": f"Bearer ${{file:{tmp_path}/token}}"}
    changed(config)
    laid(tmp_path, files)
    found = rated(tmp_path, config)[id]
    assert (found.state, evidence in found.evidence) == (state, True), found.evidence


def test_every_criterion_is_met_by_something_and_almost_every_one_can_be_missed() -> None:
    ids = {each.id for group in GROUPS for each in group.criteria}
    assert {id for id, state, *_ in CASES if state == A} == ids
    # Of these there is always something: a process at least, one event loop, breakers and errors that are built in.
    built_in = {"async-processing", "error-handling", "circuit-breaker", "connection-pooling"}
    halves = {"resource-limits", "restart-policy", "security-headers", "reverse-proxy", "no-way-around"}
    assert ids - {id for id, state, *_ in CASES if state == NO} == built_in | halves


def test_who_owns_the_records_is_who_runs_it(tmp_path: Path, config: Json) -> None:
    make(tmp_path / "state")
    owner = (tmp_path / "state" / "bascule.db").stat().st_uid
    assert rated(tmp_path, config)["non-root"].state == ("not met" if owner == 0 else "met")
    if owner == 0:
        os.chown(tmp_path / "state" / "bascule.db", 1001, -1)
        assert rated(tmp_path, config)["non-root"].state == "met"


def test_a_certificate_that_has_ended_counts_for_nothing(tmp_path: Path, config: Json) -> None:
    certificate(tmp_path, days=-1)
    found = rated(tmp_path, config)
    assert (found["tls"].state, found["certificates"].state) == ("not met", "not met")


def test_faults_of_a_running_gateway_are_seen(tmp_path: Path, config: Json) -> None:
    gateway = Running("http://x", {"calls": {"by_outcome": {"answered": 9, "internal": 2}}})
    assert rated(tmp_path, config, gateway=gateway)["error-handling"].state == "partly"


# ---- points


def card(*states: tuple[State, str]) -> Scorecard:
    criteria = [
        Rated(Criterion(str(n), f"title {n}", weight, lambda _: Verdict("met", "")), state, "seen", "")  # type: ignore[arg-type]  # of the test's own words
        for n, (state, weight) in enumerate(states)
    ]
    return Scorecard("x.yaml", NOW_S, [RatedGroup("Security", criteria)])


@pytest.mark.parametrize(
    ("states", "percent", "grade"),
    [
        ([(A, "important")] * 9 + [(NO, "nice")], 90, "A"),
        ([(A, "important")] * 9 + [(NO, "critical")], 90, "C"),
        ([(A, "important")] * 9 + [(HALF, "critical")], 95, "A"),
        ([(A, "important"), (HALF, "important")], 75, "B"),
        ([(A, "important"), (NO, "important")], 50, "C"),
        ([(A, "important"), (NO, "important"), (IDLE, "critical")], 50, "C"),
        ([(HALF, "important"), (NO, "important")], 25, "D"),
        ([(NO, "critical")], 0, "E"),
        ([(IDLE, "critical")], 0, "E"),
    ],
)
def test_points_become_a_grade_which_one_critical_thing_spoils(
    states: list[tuple[State, str]], percent: float, grade: str
) -> None:
    assert (card(*states).percent, card(*states).grade) == (percent, grade)


def test_the_report_adds_up(tmp_path: Path, config: Json) -> None:
    found = report(rate(scene(tmp_path, config)))
    assert found["points"] == sum(each["points"] for group in found["groups"] for each in group["criteria"])
    applicable = [e for group in found["groups"] for e in group["criteria"] if e["state"] != "not applicable"]
    assert found["most"] == len(applicable)
    assert found["percent"] == round(100 * found["points"] / found["most"], 1)


# ---- files beside


def test_only_what_may_be_about_it_is_read(tmp_path: Path) -> None:
    laid(tmp_path, {
        "compose.yaml": "services:\n", "photo.png": "x", ".git/x.yml": "x", "node_modules/a/x.yml": "x",
        "a/b/c/d/e/deep.yml": "x", "large.yml": "x" * 300_000, "Dockerfile": "FROM a\n",
    })  # fmt: skip
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "gone.yml").symlink_to("nowhere")
    assert {*files_beside(tmp_path).texts} == {"compose.yaml", "Dockerfile"}


def test_a_pattern_with_a_slash_is_for_the_whole_path() -> None:
    files = Surroundings("x", {".github/workflows/ci.yml": "a", "ci.yml": "a"})
    assert files.named(".github/workflows/*.yml") == [".github/workflows/ci.yml"]
    assert files.named("CI.yml".lower()) == [".github/workflows/ci.yml", "ci.yml"]


# ---- the page


class Tags(HTMLParser):
    """What a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def seen(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def test_the_page_has_every_criterion_and_loads_nothing(tmp_path: Path, config: Json) -> None:
    html = page(rate(scene(tmp_path, config)))
    tags = seen(html)
    assert {attrs["id"] for tag, attrs in tags.tags if tag == "tr"} == {
        e.id for group in GROUPS for e in group.criteria
    }
    assert {tag for tag, _ in tags.tags} & {"script", "link", "img", "iframe", "object", "form"} == set()
    assert not [attrs for _, attrs in tags.tags if {"src", "href", "style", "onclick", "onload"} & attrs.keys()]
    assert not re.search(r"url\(|@import", html)
    assert [a["content"] for _, a in tags.tags if a.get("http-equiv")] == [
        "default-src 'none'; style-src 'unsafe-inline'"
    ]
    assert len(html) < 60_000


def test_what_comes_from_files_cannot_become_a_tag() -> None:
    evil = "<script>alert(1)</script>\"'&"
    criterion = Criterion("x", evil, "critical", lambda _: Verdict("met", ""))
    hostile = Scorecard(evil, NOW_S, [RatedGroup(evil, [Rated(criterion, "not met", evil, evil)])])
    tags = seen(page(hostile))
    assert "script" not in {tag for tag, _ in tags.tags}
    assert tags.text.count("alert(1)") == 8


def test_a_group_of_which_nothing_is_applicable_is_shown() -> None:
    html = page(card((IDLE, "nice")))
    assert "0 of 0" in seen(html).text

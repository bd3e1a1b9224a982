"""Testing: three criteria."""

from typing import Final

from bascule.admin.scorecard.model import Criterion, Group, Scene, Verdict, met, missing, partly

_TESTS: Final = ("test_*.py", "*_test.py", "*.test.ts", "*.test.js", "tests/*", "*/tests/*")


def _integration_tests(scene: Scene) -> Verdict:
    gain = "cases for `bascule policy test`, and a step of the pipeline that runs it"
    cases = scene.files.holding(r"^\s*-?\s*(call|tool):\s*\S+", "*cases*.y*ml")
    ran = scene.files.holding(r"\bbascule policy test\b")
    if cases and ran:
        return met(f"{ran[0]} tries {cases[0]}")
    ours = scene.files.holding(r"bascule|tools/call|/mcp\b", *_TESTS)
    if ours:
        return met(f"{ours[0]} calls tools")
    if cases or ran:
        return partly(f"{[*cases, *ran][0]} says what is allowed; what runs it is not seen", gain)
    return missing("no tests are seen", gain)


def _load_tests(scene: Scene) -> Verdict:
    seen = scene.files.named("locustfile*.py", "*k6*.js", "*k6*.ts", "*.jmx")
    seen = seen or scene.files.holding(
        r"from ['\"]k6|from locust import|\bbascule bench\b|\b(wrk|vegeta|oha|hey) .*https?://"
    )
    if seen:
        return met(f"{seen[0]} tries it under load")
    return missing("how much it bears is not seen", "a k6 or Locust script, with 50 callers at once or more")


def _health_tests(scene: Scene) -> Verdict:
    seen = scene.files.holding(
        r"/health/(ready|live)", *_TESTS, "*.sh", "*.github/workflows/*.y*ml", ".gitlab-ci.yml", "jenkinsfile"
    )
    if seen:
        return met(f"{seen[0]} looks whether it is ready")
    probes = scene.files.holding(r"/health/(ready|live)")
    if probes:
        return partly(
            f"{probes[0]} asks while it runs; no test does before", "curl -f …/health/ready after each deployment"
        )
    return missing("nothing is seen that looks", "curl -f …/health/ready after each deployment")


GROUP: Final = Group(
    "Testing",
    [
        Criterion("integration-tests", "Calls are tried before it is deployed", "important", _integration_tests),
        Criterion("load-tests", "It was tried under load", "important", _load_tests),
        Criterion("health-tests", "Its health checks are tried", "important", _health_tests),
    ],
)

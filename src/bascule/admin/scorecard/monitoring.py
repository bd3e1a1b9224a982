"""Monitoring and logging: six criteria."""

from typing import Final

from bascule.admin.doctor.finding import names
from bascule.admin.scorecard.model import Criterion, Group, Scene, Verdict, met, missing, partly
from bascule.config import audit_of

_PROBE: Final = r"^\s*HEALTHCHECK\s+(?!NONE)|^\s*healthcheck:|livenessProbe:|readinessProbe:|/health/(ready|live)"


def _health_checks(scene: Scene) -> Verdict:
    required = [name for name, each in scene.setup.config.servers.items() if each.required]
    seen = scene.files.holding(_PROBE)
    if required and seen:
        return met(f"{seen[0]} asks for its health, which is that of {names(required)}")
    if required:
        return partly(
            f"/health/ready speaks for {names(required)}; nothing is seen that asks",
            "a probe of /health/ready, every 30 s",
        )
    if seen:
        return partly(f"{seen[0]} asks for its health, which no server counts for", "servers.NAME.required: true")
    return missing(
        "no server is required, and nothing is seen that asks",
        "servers.NAME.required: true, and a probe of /health/ready",
    )


def _metrics(scene: Scene) -> Verdict:
    if not scene.setup.config.metrics.enabled:
        return missing("metrics.enabled: false", "metrics: {enabled: true}")
    seen = scene.files.holding(r"scrape_configs:|kind:\s*(ServiceMonitor|PodMonitor)|prometheus\.io/scrape")
    if seen:
        return met(f"/metrics is served, and {seen[0]} reads it")
    return partly("/metrics is served; nothing is seen that reads it", "scrape_configs with /metrics in prometheus.yml")


def _dashboards(scene: Scene) -> Verdict:
    seen = scene.files.holding(r"\"(schemaVersion|panels)\"\s*:", "*.json")
    if seen:
        return met(f"{seen[0]} is a dashboard")
    return missing("no dashboard is seen", "Bascule's Grafana dashboard, kept beside the configuration")


def _structured_logs(scene: Scene) -> Verdict:
    if scene.setup.config.logs.format == "json":
        return met("logs.format: json")
    return missing("logs are text for people", "logs: {format: json, calls: errors}")


def _error_tracking(scene: Scene) -> Verdict:
    rules = scene.files.holding(r"^\s*-?\s*alert:\s*\S")
    receivers = scene.files.holding(r"^\s*receivers:|pagerduty|opsgenie|hooks\.slack\.com|sentry|alertmanagers:")
    if rules and receivers:
        return met(f"{rules[0]} says when, {receivers[0]} says to whom")
    gain = "alert rules over bascule_calls_total and the objectives of contracts, and a receiver"
    promised = [each.id for _, each in scene.setup.contracts() if each.slo is not None]
    if rules or receivers:
        return partly(f"{[*rules, *receivers][0]} is half of it", gain)
    if promised:
        return partly(f"objectives are set for {names(promised)}; nothing is seen that wakes anybody", gain)
    return missing("nothing is seen that wakes anybody", gain)


def _request_log(scene: Scene) -> Verdict:
    audit = audit_of(scene.setup.config)
    if audit.mode == "off":
        return missing("audit: off", "audit: batched")
    return met(f"audit: {audit.mode}: each call is recorded, refused ones too")


GROUP: Final = Group(
    "Monitoring",
    [
        Criterion("health-checks", "Its health is asked for", "critical", _health_checks),
        Criterion("metrics", "Metrics are served and read", "critical", _metrics),
        Criterion("dashboards", "Dashboards", "nice", _dashboards),
        Criterion("structured-logs", "Logs are JSON", "critical", _structured_logs),
        Criterion("error-tracking", "Errors reach somebody", "important", _error_tracking),
        Criterion("request-log", "Each call is recorded", "important", _request_log),
    ],
)

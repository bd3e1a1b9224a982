"""Deployment: eight criteria, most of them read from the files beside the configuration."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Final

from bascule.admin.doctor.certificates import SOON, expiry
from bascule.admin.doctor.finding import names
from bascule.admin.doctor.servers import unpinned
from bascule.admin.scorecard.model import Criterion, Group, Scene, Verdict, idle, met, missing, partly
from bascule.upstream.stdio import StdioOptions

_IMAGES: Final = ("dockerfile*", "containerfile*", "*.dockerfile")
_PROXY: Final = (
    r"proxy_pass\s|reverse_proxy\s|kind:\s*(Ingress|HTTPRoute)\b|traefik\.http\.routers"
    r"|^\s*server\s+\S+\s+\S+:\d+.*\bcheck\b"
)
_ENDS_TLS: Final = (
    r"ssl_certificate\b|listen\s+[^;]*\bssl\b|^\s*tls:|cert-manager\.io|certresolver|^\s*https?://|\bbind\b.*\bssl\b"
)
_PIPELINES: Final = (
    ".github/workflows/*.y*ml",
    "*/.github/workflows/*.y*ml",
    ".gitlab-ci.yml",
    "jenkinsfile",
    "azure-pipelines.yml",
    ".circleci/config.yml",
)
_IMAGE_LINE: Final = re.compile(r"^\s*-?\s*(?:image:|FROM)\s+[\"']?(\S+?)[\"']?(?:\s|$)", re.MULTILINE)


def _multi_stage(scene: Scene) -> Verdict:
    images = scene.files.named(*_IMAGES)
    if not images:
        return missing("no Dockerfile is seen", "a Dockerfile in two stages: one builds, the other only runs")
    stages = {
        path: len(re.findall(r"^\s*FROM\s", scene.files.texts[path], re.MULTILINE | re.IGNORECASE)) for path in images
    }
    best = max(images, key=lambda path: stages[path])
    if stages[best] > 1:
        return met(f"{best} has {stages[best]} stages")
    return partly(f"{best} has one stage, so what builds it is in it", "FROM … AS builder, and COPY --from=builder")


def _reverse_proxy(scene: Scene) -> Verdict:
    http = scene.setup.config.http
    seen = scene.files.holding(_PROXY)
    secured = [path for path in seen if re.search(_ENDS_TLS, scene.files.texts[path], re.MULTILINE | re.IGNORECASE)]
    if secured:
        return met(f"{secured[0]} ends TLS before it")
    if seen:
        return partly(f"{seen[0]} is a proxy without TLS", "listen 443 ssl, with ssl_certificate")
    if not scene.setup.exposed:
        return idle("only this machine can call")
    if http.tls is not None or (http.public_url or "").startswith("https://"):
        return partly("there is TLS; a proxy before it is not seen", "--files FOLDER of the proxy's configuration")
    return missing("it stands in the open", "nginx or Caddy before it, with TLS")


def _certificates(scene: Scene) -> Verdict:
    setup, tls = scene.setup, scene.setup.config.http.tls
    if not setup.exposed:
        return idle("only this machine can call")
    renewed = scene.files.holding(
        r"certbot|cert-manager\.io|acme|letsencrypt|certresolver|step ca renew"
    ) or scene.files.named("caddyfile")
    if tls is not None:
        try:
            left = timedelta(seconds=expiry(Path(tls.cert)).timestamp() - setup.now_s)
        except (OSError, ValueError):
            return missing(f"http.tls.cert: {tls.cert} cannot be read", "put a certificate there, as PEM")
        if left < SOON and not renewed:
            return missing(
                f"http.tls.cert ends in {max(left.days, 0)} days", "renew it, best by a program: certbot, cert-manager"
            )
        if renewed:
            return met(f"{renewed[0]} renews certificates")
        return partly(
            f"http.tls.cert is good for {left.days} days; nothing is seen that renews it", "certbot or cert-manager"
        )
    if renewed:
        return met(f"{renewed[0]} renews certificates")
    if scene.files.holding(r"ssl_certificate\b|^\s*tls:"):
        return partly("the proxy has a certificate; nothing is seen that renews it", "certbot, cert-manager, or Caddy")
    return missing("no certificate is seen", "certbot, cert-manager, or Caddy")


def _pipeline(scene: Scene) -> Verdict:
    gain = "bascule validate, bascule contract lint and bascule doctor --strict --elsewhere in the pipeline"
    seen = scene.files.named(*_PIPELINES)
    checked = scene.files.holding(r"\bbascule (validate|doctor|contract|policy)\b", *_PIPELINES)
    if checked:
        return met(f"{checked[0]} checks this configuration")
    if seen:
        return partly(f"{seen[0]} does not look at this configuration", gain)
    return missing("no pipeline is seen", gain)


def _version_tags(scene: Scene) -> Verdict:
    images = [image for text in scene.files.texts.values() for image in _IMAGE_LINE.findall(text) if _is_image(image)]
    loose = [image for image in images if _is_loose(image)]
    servers = scene.setup.config.servers
    packages = [
        each for options in servers.values() if isinstance(options, StdioOptions) and (each := unpinned(options))
    ]
    if loose or packages:
        rest = len(images) - len(loose) + len(servers) - len(packages)
        state = partly if rest else missing
        return state(
            f"without a version: {names([*packages, *loose])}",
            "a version or a digest for each: NAME@1.2.3, IMAGE:1.2.3",
        )
    if not images and not servers:
        return idle("there is nothing with a version")
    return met("each package and image has a version")


def _is_image(name: str) -> bool:
    return not name.startswith(("scratch", "$")) and bool(
        re.search(r"[/:.@]", name) or name in ("python", "nginx", "redis")
    )


def _is_loose(image: str) -> bool:
    tag = image.rpartition("/")[2].partition(":")[2]
    return "@sha256:" not in image and tag in ("", "latest")


def _rollback(scene: Scene) -> Verdict:
    gain = "a script that brings the last version back, and `bascule rollback TOOL` for contracts"
    seen = scene.files.holding(r"rollout undo|helm rollback|bascule rollback|\brollback\b") or scene.files.named(
        "*rollback*"
    )
    if seen:
        return met(f"{seen[0]} goes back")
    folder = Path(scene.files.folder).absolute()
    if any((each / ".git").exists() for each in (folder, *folder.parents)):
        return partly("the configuration is under version control; how to go back is not seen", gain)
    return missing("how to go back is not seen", gain)


def _zero_downtime(scene: Scene) -> Verdict:
    seen = scene.files.holding(r"RollingUpdate|order:\s*start-first|kind:\s*Rollout\b|blue-?green|argo-rollouts")
    if seen:
        return met(f"{seen[0]} starts the new one before the old one ends")
    if scene.setup.config.replicas > 1:
        return partly(
            f"{scene.setup.config.replicas} replicas can be started again one after the other", "order: start-first"
        )
    return missing("between two versions there is nobody", "a second instance, and a proxy that knows /health/ready")


def _declared(scene: Scene) -> Verdict:
    seen = scene.files.holding(r"^services:", "*compose*.y*ml", "docker-*.y*ml") or scene.files.named(
        "chart.yaml", "*.service"
    )
    seen = seen or scene.files.holding(r"^kind:\s*(Deployment|StatefulSet)\b")
    if seen:
        return met(f"{seen[0]} says how it is deployed")
    return missing("no Compose file, chart or unit is seen", "a compose.yaml, kept beside the configuration")


GROUP: Final = Group(
    "Deployment",
    [
        Criterion("multi-stage-image", "The image holds only what runs", "important", _multi_stage),
        Criterion("reverse-proxy", "A proxy with TLS stands before it", "critical", _reverse_proxy),
        Criterion("certificates", "Certificates are good and renewed", "critical", _certificates),
        Criterion("ci-cd", "A pipeline checks each change", "important", _pipeline),
        Criterion("version-tags", "Everything that runs has a version", "important", _version_tags),
        Criterion("rollback", "There is a way back", "important", _rollback),
        Criterion("zero-downtime", "A new version starts before the old one ends", "nice", _zero_downtime),
        Criterion("declared", "How it is deployed is written down", "important", _declared),
    ],
)

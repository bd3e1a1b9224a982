"""A setup that lacks nothing, as files; what is left out of it, the doctor misses."""

import base64
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from command import WITHIN_S, Done
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Json = dict[str, Any]

NOW: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NOW_S: Final = NOW.timestamp()
HOST: Final = "mcp.example.com"
SEAL: Final = base64.b64encode(b"s" * 32).decode()
ENVIRON: Final = {"SEAL_KEY": SEAL, "CRM_TOKEN": "t" * 32, "PATH": "/usr/bin:/bin"}

CONTRACT: Final[Json] = {
    "tool": "crm/create_lead",
    "version": "1.0.0",
    "description": "Creates a lead and gives back its id. SIDE EFFECT. Fails if the email is already a lead.",
    "input_schema": {
        "type": "object",
        "properties": {"email": {"type": "string", "description": "Of the lead, such as ann@example.com"}},
        "required": ["email"],
    },
    "output_schema": {"type": "object", "properties": {"id": {"type": "string", "description": "Of the lead"}}},
    "side_effect": True,
    "idempotent": False,
    "require_key": True,
    "security_scope": "crm:write:lead",
    "max_timeout_seconds": 30,
    "latency_budget_ms": 800,
    "rate_limit": "100/minute",
    "cost_model": {"unit": "call", "price_usd": 0.002},
    "owner_team": "sales-platform",
    "owner_email": "sales-platform@example.com",
    "security_level": "MEDIUM",
    "compliance_status": ["GDPR_COMPLIANT"],
    "last_security_review": "2026-10-01",
    "status": "active",
    "slo": {"success": 99.9, "latency_ms": 800},
}


def certificate(
    folder: Path, name: str = "cert", *, days: float = 365, host: str = HOST, at: datetime = NOW
) -> tuple[str, str]:
    """(certificate, key) as files. With *days* below zero it has ended."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name.from_rfc4514_string(f"CN={host}")
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(at - timedelta(days=400)).not_valid_after(at + timedelta(days=days))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    cert_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    cert_path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    key_path.write_bytes(key.private_bytes(pem, *form))
    key_path.chmod(0o600)
    return str(cert_path), str(key_path)


def good(folder: Path, *, at: datetime = NOW) -> Json:
    """The configuration, and what it needs beside it."""
    cert, key = certificate(folder, at=at)
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    return {
        "http": {
            "host": "127.0.0.1",
            "port": 0,
            "public_url": f"https://{HOST}",
            "tls": {"cert": cert, "key": key},
            "allowed_origins": ["https://console.example.com"],
        },
        "seal": {"keys": ["${env:SEAL_KEY}"]},
        "servers": {
            "crm": {"url": "https://crm.example.com/mcp", "headers": {"Authorization": "Bearer ${env:CRM_TOKEN}"},
                    "required": True, "fallback": "spare"},
            "spare": {"command": sys.executable, "args": ["-c", "pass"], "sandbox": "auto"},
        },
        "callers": {"ci": {"scopes": ["crm:write"]}},
        "limits": {"caller": {"rate": "600/minute", "budget": {"usd": 20, "per": "day"}}},
        "audit": {"mode": "batched", "anchor": "/dev/shm/bascule-tests/audit.heads"},
        "contracts": [copy.deepcopy(CONTRACT)],
        "state_dir": "state",
    }  # fmt: skip


def write(folder: Path, config: Json, name: str = "bascule.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(config, indent=2))
    return path


def change(dotted: str, value: Any) -> Callable[[Json], None]:
    """What sets *dotted* in a configuration; None takes it out."""
    *path, last = dotted.split(".")

    def changed(config: Json) -> None:
        place: Any = config
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value

    return changed


# As `bascule` itself, whether or not these commands are among its own yet.
_PROGRAM: Final = (
    "from bascule.cli import commands, doctor, status;"
    "doctor.register(commands.app); status.register(commands.app); commands.app()"
)


def arguments(*words: str) -> list[str]:
    return [sys.executable, "-c", _PROGRAM, *words]


def doctored(*words: str, cwd: Path, env: dict[str, str] | None = None) -> Done:
    """The command, run to its end without a terminal, and without what our own shell has set."""
    ours = {key: value for key, value in os.environ.items() if key not in ("BASCULE_TOKEN", "COLUMNS", "NO_COLOR")}
    isolated = {"HOME": str(cwd), "XDG_STATE_HOME": str(cwd / "home-state")}
    done = subprocess.run(
        arguments(*words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=cwd,
        env={**ours, **isolated, **(env or {})},
        timeout=WITHIN_S,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

"""The security policy of a company: $WORK/policy.json, one version after another."""

import json
import os
from pathlib import Path
from typing import Any

from tiny import Failed, Server

server = Server("policy")
FILE = Path(os.environ["WORK"]) / "policy.json"


@server.tool
def update_security_policy(version: str, text: str) -> dict[str, Any]:
    """Puts a new version of the security policy into force. SIDE EFFECT."""
    old = json.loads(FILE.read_text(encoding="utf-8"))["version"] if FILE.exists() else "0.0.0"
    if numbers(version) <= numbers(old):
        raise Failed(f"{version} is not newer than {old}, which is in force. Take a higher version.")
    FILE.write_text(json.dumps({"version": version, "text": text}), encoding="utf-8")
    return {"policy_id": f"security-{version}", "replaces": old}


def numbers(version: str) -> list[int]:
    return [int(each) for each in version.split(".")]


server.run()

"""The description of the REST API, and what a fuzzer that has read it finds."""

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from gateway import Json, gateway, local

from bascule.admin.actions import Operation, Takes
from bascule.admin.api.openapi import document
from processes import running_bascule

KEY: Final = "a-key-of-the-boss-that-nobody-guesses"
# Everything of Bascule's own, by name: so that requests come as far as they can.
SCOPES: Final = [
    *("bascule.status", "bascule.approvals", "bascule.audit", "bascule.registry", "bascule.reviews"),
    *("bascule.servers", "bascule.cache", "bascule.journal", "bascule.keys", "files"),
]


async def _nothing(*_: Any) -> Any:
    return {}


def test_a_description_says_of_each_operation_what_it_takes_and_needs() -> None:
    found = document(
        [
            Operation(
                name="things.change",
                method="POST",
                path="/api/things/{id}/change",
                about="Changes it.",
                run=_nothing,
                scopes=("bascule.things:write",),
                takes={"note": Takes(about="why", needed=True), "how": Takes(choices=("so", "thus"))},
                named=True,
            ),
            Operation(
                name="things.list",
                method="GET",
                path="/api/things",
                about="All.",
                run=_nothing,
                takes={"most": Takes("integer")},
            ),
        ]
    )
    change, list_ = found["paths"]["/api/things/{id}/change"]["post"], found["paths"]["/api/things"]["get"]
    body = change["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["how"]["enum"] == ["so", "thus"]
    assert (body["required"], body["additionalProperties"]) == (["note"], False)
    assert change["description"] == "Needs bascule.things:write, by that name."
    assert [each["name"] for each in change["parameters"]] == ["id"]
    assert list_["parameters"][0] | {"description": ""} == {
        "name": "most",
        "in": "query",
        "required": False,
        "description": "",
        "schema": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    }


async def test_all_that_can_be_asked_for_is_described_under_api_with_a_name_and_a_sentence() -> None:
    async with gateway({}) as bascule:
        assert bascule.gateway is not None
        operations = bascule.gateway.actions.operations
        _, found = await bascule.get("/api/openapi.json")
    described = [(path, method) for path, methods in found["paths"].items() for method in methods]
    assert len(described) == len(operations) == len({each.name for each in operations})
    for each in operations:
        assert each.path.startswith("/api/")
        assert re.fullmatch(r"[A-Z].*\.", each.about), each.name
        assert each.method == "GET" or each.scopes or each.name.startswith(("approvals.", "reviews.")), each.name


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[str]:
    """A gateway in a process of its own, whose boss may do everything."""
    said: Json = {
        "servers": {"files": local("plain")},
        "callers": {"boss": {"keys": ["${env:BOSS}"], "scopes": SCOPES}},
        "state_dir": str(tmp_path / "state"),
    }
    (tmp_path / "bascule.json").write_text(json.dumps(said))
    with running_bascule("serve", "-c", str(tmp_path / "bascule.json"), "--port", "0", env={"BOSS": KEY}) as url:
        yield url.removesuffix("/mcp")


def test_a_fuzzer_gets_no_answer_that_is_a_fault_of_ours(governed: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [
            # One worker: Python 3.11 miscounts the depth of what two threads parse at once (a SystemError of `ast`).
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{governed}/api/openapi.json"),
            *("-H", f"Authorization: Bearer {KEY}", "--seed", "1", "--max-examples", "25", "--workers", "1"),
            *("--checks", "not_a_server_error,content_type_conformance,response_schema_conformance"),
            *("--exclude-operation-id", "servers.restart", "--continue-on-failure", "--request-timeout", "20"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, f"{run.stdout[-6000:]}\n{run.stderr[-2000:]}"
    head = urllib.request.Request(f"{governed}/status", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(head, timeout=20) as answer:
        assert json.loads(answer.read())["calls"]["by_outcome"].get("internal", 0) == 0

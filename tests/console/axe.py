"""axe-core in a page: what a person who does not see it, or has no mouse, would stumble over."""

import os
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import Page

_SERIOUS: Final = ("serious", "critical")
_BESIDE: Final = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"


def script() -> Path:
    """axe.min.js, where `make` has put it; skips the test where there is none."""
    path = Path(os.environ.get("BASCULE_AXE") or _BESIDE)
    if not path.exists():
        pytest.skip("there is no axe-core: say where axe.min.js is with BASCULE_AXE")
    return path


async def faults(page: Page) -> list[str]:
    """One line for each serious fault of *page*. Its context needs `bypass_csp=True`: axe is no script of ours."""
    await page.add_script_tag(path=script())
    report: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{found['id']} ({found['impact']}): {node['target']}: {node['failureSummary']}"
        for found in report["violations"]
        if found["impact"] in _SERIOUS
        for node in found["nodes"]
    ]

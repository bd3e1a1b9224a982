"""The environments that the benchmark compares with, each apart from ours and from the others.

    python bench/peers.py [FOLDER]      create what is missing (default: .venv-bench, ignored by git)

Peers run as their users get them: the published packages with the dependencies that these ask for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / ".venv-bench"
# mcp-proxy has no upper bound of its own that holds: 0.13 works with the SDK before 2.0 only.
PYTHON_PEERS: Final = {"mcp-proxy": ("mcp-proxy==0.13.*", "mcp<2"), "fastmcp": ("fastmcp>=4.1,<5",)}
NODE_PEER: Final = "supergateway"
NPM_INSTALL: Final = ("npm", "install", "--no-fund", "--no-audit", "--loglevel=error", "--prefix")


def create_environment(folder: Path, requirements: Iterable[str]) -> None:
    """A virtual environment with *requirements* and nothing else, not even pip; needs uv."""
    run("uv", "venv", "--quiet", "--clear", "--python", sys.executable, folder)
    run("uv", "pip", "install", "--quiet", "--python", folder / "bin/python", *requirements)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def create(folder: Path = FOLDER) -> None:
    """Create the peers that *folder* does not have yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    for name, requirements in PYTHON_PEERS.items():
        if not python(folder, name).exists():
            create_environment(folder / name, requirements)
    if not supergateway(folder).exists():
        run(*NPM_INSTALL, folder / "node", f"{NODE_PEER}@4")


def python(folder: Path, name: str) -> Path:
    return folder / name / "bin/python"


def supergateway(folder: Path) -> Path:
    return folder / "node/node_modules/.bin" / NODE_PEER


def versions(folder: Path) -> dict[str, str]:
    """What is installed, by the peer's name."""
    found = {}
    for name in PYTHON_PEERS:
        for metadata in (folder / name).glob(f"lib/*/site-packages/{name.replace('-', '_')}-*.dist-info"):
            found[name] = metadata.stem.partition("-")[2]
    package = folder / "node/node_modules" / NODE_PEER / "package.json"
    if package.exists():
        found[NODE_PEER] = json.loads(package.read_text())["version"]
    return found


if __name__ == "__main__":
    where = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else FOLDER
    create(where)
    print(versions(where))

"""What Bascule weighs before any call: size on disk, time of `--version`, time until `serve` listens."""

from __future__ import annotations

import math
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import peers
from targets import StartError, free_port, spawn, stop

READY_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Footprint:
    """NaN where it could not be found out; `notes` say why."""

    install_mb: float = math.nan
    version_s: float = math.nan
    ready_s: float = math.nan
    notes: tuple[str, ...] = ()


def footprint(bascule: Sequence[str], repeats: int) -> Footprint:
    """Medians over *repeats*. A part that fails leaves a note and does not stop the others."""
    notes: list[str] = []

    def median(name: str, times: int, look: Callable[[], float]) -> float:
        try:
            return statistics.median([look() for _ in range(times)])
        except (OSError, subprocess.SubprocessError, StartError) as error:
            notes.append(f"{name}: {error}")
            return math.nan

    return Footprint(
        install_mb=median("install size", 1, install_mb),
        version_s=median("--version", repeats, lambda: version_s(bascule)),
        ready_s=median("serve", repeats, lambda: ready_s(bascule)),
        notes=tuple(notes),
    )


def install_mb() -> float:
    """Size of site-packages in a fresh environment that holds only this project, before any bytecode."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder, "environment")
        peers.create_environment(environment, [str(peers.ROOT)])
        (packages,) = environment.glob("lib/python*/site-packages")
        return sum(file.lstat().st_size for file in packages.rglob("*") if file.is_file()) / 1e6


def version_s(bascule: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run([*bascule, "--version"], check=True, capture_output=True, timeout=READY_TIMEOUT_S)
    return time.perf_counter() - began


def ready_s(bascule: Sequence[str]) -> float:
    """Seconds from the start of `serve` without upstreams to its first HTTP answer. Raises StartError."""
    with tempfile.TemporaryDirectory() as folder:
        servers, log, port = Path(folder, "servers.json"), Path(folder, "serve.log"), free_port()
        servers.write_text('{"mcpServers": {}}')
        began = time.perf_counter()
        child = spawn([*bascule, "serve", "--servers", str(servers), "--port", str(port)], log)
        try:
            while not answers(port):
                if child.poll() is not None or time.perf_counter() - began > READY_TIMEOUT_S:
                    raise StartError(log.read_text(errors="replace").strip()[-300:])
                time.sleep(0.002)
            return time.perf_counter() - began
        finally:
            stop(child)


def answers(port: int) -> bool:
    """Whether an HTTP server on *port* answers, whatever it says."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=READY_TIMEOUT_S) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False

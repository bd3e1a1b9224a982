"""The machine: the state folder and who can look into it, the disk, the address. Looks, and changes nothing."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bascule.admin.doctor.finding import Finding, Repair, finding
from bascule.admin.doctor.setup import Setup
from bascule.config import audit_of
from bascule.store import anchor, folder, pepper, signing, vault
from bascule.store.files import FILE, is_newest

FULL_BYTES: Final = 100 * 1024 * 1024
LOW_BYTES: Final = 1024 * 1024 * 1024
LOW_SHARE: Final = 0.05
_FOR_OTHERS: Final = 0o007
_PRIVATE: Final = (FILE, f"{FILE}-wal", f"{FILE}-shm", vault.FILE, signing.FILE, pepper.FILE, anchor.FILE)
_IS_POSIX: Final = os.name == "posix"


def findings(setup: Setup, *, serving: bool) -> Iterator[Finding]:
    """*serving*: whether a gateway runs, whose port is its own."""
    yield from _folder(setup)
    yield from _disk(setup)
    yield from _audit(setup)
    if not serving:
        yield from _port(setup)


def _folder(setup: Setup) -> Iterator[Finding]:
    state = setup.state
    if not state.is_dir():
        what = "the state folder is not there yet; the first start makes it"
        repair = Repair("mkdir", str(state), folder.PRIVATE_FOLDER)
        yield finding("state-folder-missing", str(state), what, f"mkdir -p -m 700 {state}", repair=repair)
        return
    if not setup.can_look_inside:
        what = "you may not look into the state folder, so that nothing is said of keys and records"
        fix = f"sudo -u '#{state.stat().st_uid}' bascule doctor -c {setup.path}"
        yield finding("records-closed", str(state), what, fix)
        return
    mode = stat.S_IMODE(state.stat().st_mode)
    if _IS_POSIX and mode & _FOR_OTHERS:
        # What the group may do is the operator's choice: volumes of containers belong to one.
        better = mode & ~_FOR_OTHERS
        what = "every user of this machine can look into the state folder, where keys and records are"
        repair = Repair("chmod", str(state), better)
        yield finding("state-folder-open", str(state), what, f"chmod {better:o} {state}", repair=repair)
    for path in (state / name for name in _PRIVATE):
        if path.is_file() and not folder.is_private(path):
            what = "others than its owner can read or write it"
            repair = Repair("chmod", str(path), folder.PRIVATE_FILE)
            yield finding("state-file-open", str(path), what, f"chmod 600 {path}", repair=repair)
    if (state / FILE).is_file() and folder.is_private(state / FILE) and not is_newest(state / FILE):
        what = "the database is of an older Bascule, or damaged; the next start brings it up to date, or says more"
        yield finding("database-old", str(state / FILE), what, f"bascule serve -c {setup.path}")


def _disk(setup: Setup) -> Iterator[Finding]:
    room, at = setup.room(setup.state), str(setup.state)
    what = f"{room.free_bytes / 1024**2:,.0f} MiB are left on the disk of the records"
    fix = f"du -sh {setup.state}   # and state_dir: a larger disk"
    if room.free_bytes < FULL_BYTES:
        yield finding("disk-full", at, f"{what}: calls with keys are refused when there are none", fix)
    elif room.free_bytes < min(LOW_BYTES, LOW_SHARE * room.total_bytes):
        yield finding("disk-low", at, what, fix)


def _audit(setup: Setup) -> Iterator[Finding]:
    audit, severity = audit_of(setup.config), None if setup.shared else "note"
    if audit.mode == "off":
        what = "audit: off: what was called by whom, nobody will know"
        yield finding("audit-off", setup.at("audit"), what, "audit: batched")
    elif setup.can_look_inside and _same_disk(anchor.path_of(audit, setup.state), setup.state):
        what = "the audit's second file is on the disk of the first: whoever has one can cut the end off both"
        fix = "audit: {anchor: /mnt/other-machine/audit.heads}"
        at = setup.at("audit.anchor")
        yield finding("anchor-same-disk", at, what, fix, severity="note" if severity else None)


def _same_disk(one: Path, other: Path) -> bool:
    return _device(one) == _device(other)


def _device(path: Path) -> int:
    """The disk that *path* is on, or would be."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    return there.stat().st_dev


def _port(setup: Setup) -> Iterator[Finding]:
    host, port = setup.config.http.host, setup.config.http.port
    if port and (reason := _refused(host, port)):
        what = f"http.port: {host}:{port} cannot be listened on: {reason}, and no Bascule answers there"
        fix = f"ss -ltnp 'sport = :{port}'   # says who has it; or http: {{port: {port + 1}}}"
        yield finding("port-taken", setup.at("http.port"), what, fix)


def _refused(host: str, port: int) -> str:
    """Why nobody could listen there now; "" if one could."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as ours:
            if _IS_POSIX:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            ours.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""

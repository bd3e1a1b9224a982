"""What of the file system a command cannot do without: its program, what that links to, and what runs it.

Reads links and first lines, and starts nothing. Knows how programs are installed, not what walls are.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import bascule

SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
# Of /etc: what finds programs and libraries, names of hosts and users, the time, and whom TLS trusts.
ETC: Final = tuple(
    f"/etc/{name}"
    for name in (
        *("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "os-release", "mime.types", "magic"),
        *("gitconfig", "fonts"),
        *("hosts", "resolv.conf", "nsswitch.conf", "host.conf", "gai.conf", "services", "protocols"),
        *("passwd", "group", "localtime", "timezone", "locale.alias"),
        *("ssl/certs", "ssl/cert.pem", "ssl/openssl.cnf", "ca-certificates", "ca-certificates.conf"),
        *("pki/tls/certs", "pki/tls/cert.pem", "pki/ca-trust/extracted", "crypto-policies"),
    )
)
_INTERPRETER: Final = re.compile(r"(python|pypy|node|nodejs|bun|deno|tsx|ruby|perl|php|java|bash|dash|zsh|sh)[\d.]*")
_BESIDE_BIN: Final = ("lib", "lib64", "lib32", "libexec")
_LONGEST_CHAIN: Final = 16  # of links and interpreters
_LONGEST_FIRST_LINE: Final = 256


def script_of(command: str, args: Sequence[str]) -> int | None:
    """Which of *args* is the program that the interpreter *command* runs, if it is one; it is a file that is there.

    >>> script_of("cat", ["/etc/passwd"]) is None
    True
    """
    if not _INTERPRETER.fullmatch(Path(command).name):
        return None
    return next((at for at, arg in enumerate(args) if not arg.startswith("-") and os.path.isfile(arg)), None)


def of_command(command: str, args: Sequence[str], path: str | None) -> list[str]:
    """Files that *command*, an absolute path, is made of, and their folders. *path*: where it looks for programs."""
    found: dict[str, None] = {}  # in order, once each
    waiting = [command]
    if (script := script_of(command, args)) is not None:
        waiting.append(os.path.abspath(args[script]))
    for _ in range(_LONGEST_CHAIN):
        if not waiting:
            break
        program = waiting.pop()
        for link in _links(program):
            found |= dict.fromkeys((link, *_home_of(link)))
        waiting += _interpreters(program, path)
    return [each for each in found if not _is_system(each)]


def of_python() -> list[str]:
    """What runs our own launcher, and packs."""
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    above, package = above_package(), str(Path(bascule.__file__).parent)
    # Python lists the folder that it imports from; in a working copy that has nothing else in it.
    alone = all(re.fullmatch(r"bascule|__pycache__|.+\.(egg|dist)-info", name) for name in os.listdir(above))
    return sorted({above if alone else package, *(each for each in prefixes if not _is_system(each))})


def above_package() -> str:
    """The folder that our package is imported from."""
    return str(Path(bascule.__file__).parent.parent)


def _is_system(path: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in SYSTEM)


def _links(program: str) -> Iterator[str]:
    """*program*, and each file that it links to, to the last."""
    yield program
    for _ in range(_LONGEST_CHAIN):
        if not os.path.islink(program):
            break
        program = os.path.normpath(os.path.join(os.path.dirname(program), os.readlink(program)))
        yield program
    yield os.path.realpath(program)


def _home_of(program: str) -> Iterator[str]:
    """Where the rest of *program* lies."""
    path = Path(program)
    if "node_modules" in path.parts:
        yield str(Path(*path.parts[: path.parts.index("node_modules") + 1]))
        return
    folder = path.parent
    yield str(folder)
    if folder.name not in ("bin", "sbin", "libexec"):
        return
    if (folder.parent / "pyvenv.cfg").is_file():
        yield str(folder.parent)
    else:
        # Not all of what they stand in: that may be ~/.local, with everybody's secrets beside the programs.
        yield from (str(beside) for name in _BESIDE_BIN if (beside := folder.parent / name).is_dir())


def _interpreters(program: str, path: str | None) -> list[str]:
    """Who runs the script *program*, by its first line."""
    try:
        with open(program, "rb") as file:
            line = file.readline(_LONGEST_FIRST_LINE)
    except OSError:
        return []
    if not line.startswith(b"#!"):
        return []
    words = [word for word in line[2:].decode(errors="replace").split() if word != "-S"]
    if words and Path(words[0]).name == "env":
        words = words[1:]
    found = shutil.which(words[0], path=path) if words else None
    return [found] if found else []

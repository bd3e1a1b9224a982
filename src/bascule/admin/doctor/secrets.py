"""Secrets where anybody who sees the file sees them, or where anybody on the way does."""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from bascule.admin.doctor.finding import Finding, finding
from bascule.admin.doctor.setup import Setup, strings
from bascule.config import is_loopback
from bascule.upstream.http import HttpOptions

_NAME: Final = re.compile(
    r"token|secret|passw(or)?d|passphrase|api[-_]?key|credential|private[-_]?key|^authorization$|^cookie$|access[-_]?key",
    re.IGNORECASE,
)
_NO_SECRET: Final = re.compile(r"(_file|_path|_url|_id|_name|_dir|_type|_ttl\w*|_expiry|_endpoint)$", re.IGNORECASE)
# How well-known ones begin, or look.
_SHAPE: Final = re.compile(
    r"\b(gh[opsur]_\w{20}|github_pat_\w{20}|glpat-[\w-]{16}|sk-[\w-]{16}|sk_live_\w{16}|xox[abprs]-[\w-]{10}|AKIA[A-Z0-9]{16}"
    r"|AIza[\w-]{30}|gw_[a-z0-9]{1,16}_[a-z0-9]+_\w{16}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.)|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|^(Bearer|Basic) \S{8}"
)
_REFERENCE: Final = re.compile(r"\$\{[^}]*\}")
_DEFAULT: Final = re.compile(r"\$\{[^}]*?:-([^}]+)\}")
_LEAST: Final = 8  # characters; what is shorter is `true`, `none`, a number
_OPTION: Final = re.compile(r"--?([A-Za-z][\w-]*)(?:=(.+))?", re.DOTALL)


def findings(setup: Setup) -> Iterator[Finding]:
    for field, variable in literals(setup.raw):
        what = f"{field}: a secret stands in the file, for everybody who sees it, its copies and its history"
        yield finding(
            "secret-in-file", setup.at(field), what, f"{field}: ${{env:{variable}}}   # and make a new secret"
        )
    for name, options in setup.config.servers.items():
        if isinstance(options, HttpOptions) and _is_plain(options.url):
            carried = [each for each in options.headers if _NAME.search(each)]
            field, host = f"servers.{name}.url", urlsplit(options.url).hostname
            what = f"{field}: what is said to {host} goes over the network without TLS"
            what += f", {carried[0]} too" if carried else ""
            fix = f"{field}: https://{host}/…"
            yield finding("secret-sent-plain", setup.at(field), what, fix, severity=None if carried else "warning")


def literals(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, a name for a variable) of each secret that stands in a configuration itself."""
    servers = raw.get("servers")
    for name, server in servers.items() if isinstance(servers, dict) else ():
        for field, text in strings(server, f"servers.{name}"):
            part, last = field.split(".")[2], field.rpartition(".")[2]
            if (part in ("env", "headers") and _is_secret(last, text)) or _holds(part, text):
                variable = last if part == "env" else f"{name}_{'TOKEN' if last.isdigit() or part == 'url' else last}"
                yield field, re.sub(r"\W", "_", variable).upper()
        yield from _of_options(f"servers.{name}.args", name, server.get("args") if isinstance(server, dict) else None)


def _of_options(field: str, server: str, args: Any) -> Iterator[tuple[str, str]]:
    """`--token VALUE`, and `--token=VALUE`."""
    words = [word for word in args if isinstance(word, str)] if isinstance(args, list) else []
    for number, (word, following) in enumerate(pairwise([*words, ""])):
        option = _OPTION.fullmatch(word)
        if option is None or _SHAPE.search(word):
            continue  # the latter was found by its looks
        own, at = (option[2], number) if option[2] else (following, number + 1)
        if not own.startswith("-") and _is_secret(option[1].replace("-", "_"), own) and not _SHAPE.search(own):
            yield f"{field}.{at}", re.sub(r"\W", "_", f"{server}_{option[1]}").upper()


def _is_secret(name: str, text: str) -> bool:
    """Whether *text*, by the *name* that it has, is a secret and no reference to one."""
    if not _NAME.search(name) or _NO_SECRET.search(name):
        return False
    default = _DEFAULT.search(text)
    own = default[1] if default else _REFERENCE.sub("", text)
    return len(own.removeprefix("Bearer ").strip()) >= _LEAST


def _holds(part: str, text: str) -> bool:
    """Whether *text* looks like a secret, or is an address with one in it."""
    if _SHAPE.search(_REFERENCE.sub("", text)):
        return True
    if part != "url":
        return False
    try:
        parts = urlsplit(text)
        said = [("password", parts.password or ""), *parse_qsl(parts.query)]
    except ValueError:
        return False
    return any(_is_secret(name, value) for name, value in said)


def _is_plain(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme.lower() == "http" and not is_loopback(parts.hostname or "")

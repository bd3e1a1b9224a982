"""Secrets for a URL: from the environment, never in the clear over a network unless somebody asked for it."""

import os
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from bascule.cli.talk import note
from bascule.errors import ConfigInvalid

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]+")


def token_of_environment(url: str) -> str | None:
    """BASCULE_TOKEN, unless *url* would carry it over a network unencrypted."""
    # Files and templates that secrets come from like to end with a newline.
    token, parts = os.environ.get("BASCULE_TOKEN", "").strip(), urlsplit(url)
    if token and not _VALUE.fullmatch(token):
        raise ConfigInvalid("BASCULE_TOKEN holds what an HTTP header cannot carry")
    if token and parts.scheme.lower() == "http" and parts.hostname not in _LOCAL:
        # Nobody asked for it to be sent in the clear; naming the header does.
        note(f"BASCULE_TOKEN is not sent to {url}: the connection is not encrypted")
        return None
    return token or None


def check_header(name: str, value: str, option: str) -> None:
    """Raise ConfigInvalid, which does not repeat the value, unless HTTP can carry it."""
    if not _HEADER.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ConfigInvalid(f"{option} {name!r}: its name or its value is what an HTTP header cannot carry")


def headers_of_environment(url: str, assignments: Sequence[str]) -> dict[str, str]:
    """The headers for *url*: those that *assignments* (`NAME=VARIABLE`) name, and the bearer of BASCULE_TOKEN.

    Raises ConfigInvalid, which never repeats what may be a secret.
    """
    found = dict(_header(each) for each in assignments)
    if not any(name.lower() == "authorization" for name in found) and (token := token_of_environment(url)):
        found["authorization"] = f"Bearer {token}"
    return found


def _header(assignment: str) -> tuple[str, str]:
    name, _, variable = assignment.partition("=")
    if not _HEADER.fullmatch(name):
        raise ConfigInvalid("--header-env is NAME=VARIABLE: the name of a header, and of an environment variable")
    if not _VARIABLE.fullmatch(variable):
        raise ConfigInvalid(
            f"--header-env {name}=…: after the = stands the name of an environment variable, not the value itself,"
            " which every process of this machine could read"
        )
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigInvalid(f"--header-env {name}={variable}: that variable is not set")
    if not _VALUE.fullmatch(value):
        raise ConfigInvalid(f"--header-env {name}={variable}: its value holds what an HTTP header cannot carry")
    return name, value


def check_url(url: str) -> str:
    """*url*, if it is one that can be called and carries no secret. Raises ConfigInvalid."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigInvalid("that is not a URL; for example: http://127.0.0.1:8777/mcp") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigInvalid(
            "the URL holds a user or a password, which every process of this machine could read:"
            " export BASCULE_TOKEN, or name a variable with --header-env Authorization=VARIABLE"
        )
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or not port_is_good:
        raise ConfigInvalid(f"{url!r} is not an http or https URL; for example: http://127.0.0.1:8777/mcp")
    return url

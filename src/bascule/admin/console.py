"""Who may look at the console: links that sign in, and sessions, for the command line and whatever else offers them."""

import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from bascule.admin.keys import date_of
from bascule.config import Config
from bascule.errors import ConfigInvalid
from bascule.policy.roles import ROLES
from bascule.store.console import ConsoleSessions, SignedIn
from bascule.store.record import Record
from bascule.store.records import Records

_MAX_NAME: Final = 256  # characters
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def checked(roles: Sequence[str], name: str) -> tuple[Sequence[str], str]:
    """*roles* and *name*, if there can be somebody like that. Raises ConfigInvalid."""
    unknown = next((role for role in roles if role not in ROLES), None)
    if unknown is not None:
        raise ConfigInvalid(f"there is no role {unknown!r}; there are {', '.join(ROLES)}")
    if not name.strip() or not name.isprintable() or len(name) > _MAX_NAME:
        raise ConfigInvalid(f"{name[:40]!r} is no name: write plain text on one line")
    return tuple(dict.fromkeys(roles)), name


def address_of(config: Config, said: str | None = None) -> str:
    """Where browsers find the gateway, without a slash at the end. Raises ConfigInvalid for what is no address."""
    listen = config.http
    if said is None and listen.public_url is None:
        host = _ANYWHERE.get(listen.host, listen.host)
        scheme = "http" if listen.tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listen.port}"
    parts = urlsplit(said or listen.public_url or "")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigInvalid(f"--url {said!r}: write it as http://127.0.0.1:8777")
    return f"{parts.scheme}://{parts.netloc}"


async def link(records: Records, sessions: ConsoleSessions, name: str, roles: Sequence[str], *, by: str) -> str:
    """The secret of a link that signs *name* in once. That it was made is on record."""
    secret = await sessions.link(name, roles)
    _record(records, "console.link", by, f"for {name}, as {', '.join(roles)}")
    return secret


async def end(
    records: Records, sessions: ConsoleSessions, *, id: str | None = None, name: str | None = None, by: str
) -> int:
    """End the session *id*, or all of *name*, or all there are; how many there were."""
    count = int(await sessions.end(id)) if id is not None else await sessions.end_all(name)
    if count:
        _record(records, "console.end", by, f"{id or name or 'all'}: {count}")
    return count


def report(session: SignedIn) -> dict[str, Any]:
    """What may be known of a session, in JSON. Times are RFC 3339, in UTC."""
    return {
        "id": session.id,
        "name": session.name,
        "roles": list(session.roles),
        "how": session.how,
        "since": date_of(session.made_at_s),
        "seen": date_of(session.seen_at_s),
        "ends": date_of(session.expires_at_s),
    }


def _record(records: Records, what: str, by: str, note: str) -> None:
    if records.audit is not None:
        at_us = time.time_ns() // 1000
        records.audit.post(
            Record(kind="action", at_us=at_us, caller=by, method=what, decision="allow", outcome="done", note=note)
        )

"""Who is signed in at the console: links that are good once, and the sessions that come of them.

A secret is kept as its SHA-256 alone: with 256 random bits there is nothing to guess, and who reads the database
cannot use it. Each look asks the database, so what another process ends is over at once.
"""

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias

import msgspec

from bascule.store.writer import Writer

LINK_TTL_S: Final = 60.0
_SEEN_EVERY_S: Final = 30.0  # how often it is written down that a session is in use
_MOST: Final = 1000  # sessions of all people together; the one that was idle longest makes room
_MOST_EACH: Final = 20  # of one person, who makes room with their own first

How: TypeAlias = Literal["link", "oidc"]

_COLUMNS: Final = "digest, state, name, roles, how, made_at_s, seen_at_s, expires_at_s"
_SELECT: Final = f"SELECT {_COLUMNS} FROM console_sessions"
_INSERT: Final = f"INSERT INTO console_sessions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """One browser of one person. Times are Unix time."""

    digest: bytes  # of its secret
    name: str
    roles: tuple[str, ...]
    how: str
    made_at_s: float
    seen_at_s: float
    expires_at_s: float

    @property
    def id(self) -> str:
        """By which it can be spoken of; it opens nothing."""
        return self.digest.hex()[:16]


class ConsoleSessions:
    """The sessions of a state folder. Writing raises Unavailable when the disk refuses, reading too."""

    def __init__(self, writer: Writer, clock: Callable[[], float] = time.time) -> None:
        self._writer = writer
        self._clock = clock

    # ---- signing in

    async def link(self, name: str, roles: Sequence[str], ttl_s: float = LINK_TTL_S) -> str:
        """The secret of a new link, which signs *name* in once."""
        secret, now_s = secrets.token_urlsafe(32), self._clock()
        row = _row(secret, "link", name, roles, "link", now_s, now_s + ttl_s)
        await self._writer.write(lambda connection: _insert(connection, row, now_s), durable=True)
        return secret

    async def redeem(self, link: str, max_s: float) -> tuple[str, SignedIn] | None:
        """(secret, session) for a *link* that is good; from now on it is not. None for any other text."""
        secret, now_s = secrets.token_urlsafe(32), self._clock()

        def redeemed(connection: sqlite3.Connection) -> SignedIn | None:
            found = connection.execute(
                "SELECT name, roles FROM console_sessions WHERE digest = ? AND state = 'link' AND expires_at_s > ?",
                (_digest(link), now_s),
            ).fetchone()
            if found is None:
                return None
            connection.execute("DELETE FROM console_sessions WHERE digest = ?", (_digest(link),))
            row = _row(secret, "session", found[0], _roles(found[1]), "link", now_s, now_s + max_s)
            _insert(connection, row, now_s)
            return _signed_in(row)

        session = await self._writer.write(redeemed, durable=True)
        return None if session is None else (secret, session)

    async def begin(self, name: str, roles: Sequence[str], how: How, max_s: float) -> tuple[str, SignedIn]:
        """(secret, session) of somebody who has proved who they are."""
        secret, now_s = secrets.token_urlsafe(32), self._clock()
        row = _row(secret, "session", name, roles, how, now_s, now_s + max_s)
        await self._writer.write(lambda connection: _insert(connection, row, now_s), durable=True)
        return secret, _signed_in(row)

    # ---- sessions

    async def find(self, secret: str, idle_s: float) -> SignedIn | None:
        """The session of *secret*, if it is not over; that it is in use is noted now and then."""
        session, now_s = self.look(secret, idle_s), self._clock()
        if session is not None and now_s - session.seen_at_s >= _SEEN_EVERY_S:
            await self._writer.write(
                lambda connection: connection.execute(
                    "UPDATE console_sessions SET seen_at_s = ? WHERE digest = ?", (now_s, session.digest)
                ),
                durable=False,
            )
        return session

    def look(self, secret: str, idle_s: float) -> SignedIn | None:
        """As `find`, for what watches by itself: it keeps no session alive."""
        now_s = self._clock()
        rows = self._writer.read(
            f"{_SELECT} WHERE digest = ? AND state = 'session' AND expires_at_s > ? AND seen_at_s > ?",
            (_digest(secret), now_s, now_s - idle_s),
        )
        return _signed_in(rows[0]) if rows else None

    def list_(self, idle_s: float) -> Sequence[SignedIn]:
        """All that are not over, the latest first."""
        now_s = self._clock()
        rows = self._writer.read(
            f"{_SELECT} WHERE state = 'session' AND expires_at_s > ? AND seen_at_s > ? ORDER BY made_at_s DESC",
            (now_s, now_s - idle_s),
        )
        return [_signed_in(row) for row in rows]

    async def end(self, id: str) -> bool:
        """End the session called *id*; whether there was one."""
        prefix = id.encode()

        def ended(connection: sqlite3.Connection) -> bool:
            rows = connection.execute("SELECT digest FROM console_sessions WHERE state = 'session'").fetchall()
            found = [row for row in rows if row[0].hex()[:16].encode() == prefix]
            connection.executemany("DELETE FROM console_sessions WHERE digest = ?", found)
            return bool(found)

        return await self._writer.write(ended, durable=True)

    async def end_all(self, name: str | None = None) -> int:
        """End every session and link, or those of *name*; how many there were."""
        return await self._writer.write(
            lambda connection: (
                connection.execute("DELETE FROM console_sessions WHERE ?1 IS NULL OR name = ?1", (name,)).rowcount
            ),
            durable=True,
        )


# ---- rows


def _digest(secret: str) -> bytes:
    return sha256(secret.encode(errors="surrogatepass")).digest()


def _row(
    secret: str, state: str, name: str, roles: Sequence[str], how: str, now_s: float, expires_at_s: float
) -> tuple[Any, ...]:
    return _digest(secret), state, name, json.dumps(list(roles)), how, now_s, now_s, expires_at_s


def _insert(connection: sqlite3.Connection, row: tuple[Any, ...], now_s: float) -> None:
    connection.execute("DELETE FROM console_sessions WHERE expires_at_s <= ?", (now_s,))
    for whose, most in ((row[2], _MOST_EACH), (None, _MOST)):
        connection.execute(
            "DELETE FROM console_sessions WHERE digest IN (SELECT digest FROM console_sessions"
            " WHERE ?1 IS NULL OR name = ?1 ORDER BY seen_at_s DESC LIMIT -1 OFFSET ?2)",
            (whose, most - 1),
        )
    connection.execute(_INSERT, row)


def _signed_in(row: tuple[Any, ...]) -> SignedIn:
    digest, _, name, roles, how, made_at_s, seen_at_s, expires_at_s = row
    return SignedIn(
        digest=digest,
        name=name,
        roles=tuple(_roles(roles)),
        how=how,
        made_at_s=made_at_s,
        seen_at_s=seen_at_s,
        expires_at_s=expires_at_s,
    )


def _roles(text: str) -> list[str]:
    """As they were written; none of a row that somebody has damaged."""
    try:
        found = msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return []
    return found

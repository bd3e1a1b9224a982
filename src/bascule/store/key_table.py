"""The rows of API keys. Knows SQL and how a record is written in columns; what is done with keys is in keys.py."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, insert, or_, select, update

from bascule.policy.keys import KeyRecord
from bascule.store.database import Database
from bascule.store.schema import api_keys, generations

_KIND: Final = "api_keys"
_log = logging.getLogger(__name__)


class KeyTable:
    """All keys of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        self._database.close()

    def is_current(self) -> bool:
        return self._database.is_current()

    def version(self) -> int:
        """A number that changes with each write of others, to whatever table."""
        return self._database.version()

    def generation(self) -> int:
        """A number that grows with each change of keys, their last use left aside."""
        with self._database.reading() as connection:
            return _generation(connection)

    def all(self) -> tuple[int, tuple[KeyRecord, ...]]:
        """The generation, and the keys of it, the oldest first. A row that cannot be read is left out: no such key."""
        with self._database.reading() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at_s, api_keys.c.id)).all()
            number = _generation(connection)
        return number, tuple(_records(rows))

    def add(self, record: KeyRecord) -> None:
        with self._database.writing() as connection:
            _insert(connection, record)

    def supersede(self, id: str, ends_at_s: float, by: KeyRecord) -> bool:
        """Store a new key in place of *id*, which ends at *ends_at_s*; neither if it was revoked or replaced by now."""
        is_open = (api_keys.c.id == id) & api_keys.c.revoked_at_s.is_(None) & api_keys.c.replaced_by.is_(None)
        with self._database.writing() as connection:
            if connection.execute(select(api_keys.c.id).where(is_open)).first() is None:
                return False
            _insert(connection, by)
            connection.execute(update(api_keys).where(is_open).values(expires_at_s=ends_at_s, replaced_by=by.id))
            return True

    def revoke(self, id: str, at_s: float) -> None:
        is_open = (api_keys.c.id == id) & api_keys.c.revoked_at_s.is_(None)
        with self._database.writing() as connection:
            connection.execute(update(api_keys).where(is_open).values(revoked_at_s=at_s))
            _count(connection)

    def touch(self, ids: Iterable[str], at_s: float) -> None:
        """Note that the keys were used at *at_s*. No change of theirs."""
        is_earlier = or_(api_keys.c.last_used_at_s.is_(None), api_keys.c.last_used_at_s < at_s)
        with self._database.writing() as connection:
            for id in ids:
                connection.execute(update(api_keys).where(api_keys.c.id == id, is_earlier).values(last_used_at_s=at_s))


def _insert(connection: Connection, record: KeyRecord) -> None:
    connection.execute(insert(api_keys).values(_columns(record)))
    _count(connection)


def _generation(connection: Connection) -> int:
    found = connection.execute(select(func.max(generations.c.number)).where(generations.c.kind == _KIND)).scalar()
    return found or 0


def _count(connection: Connection) -> None:
    """To be called in each transaction that changes keys."""
    grown = update(generations).where(generations.c.kind == _KIND).values(number=generations.c.number + 1)
    if connection.execute(grown).rowcount == 0:
        connection.execute(insert(generations).values(kind=_KIND, number=1))


def _columns(record: KeyRecord) -> dict[str, Any]:
    columns = msgspec.structs.asdict(record)
    scopes = None if record.scopes is None else msgspec.json.encode(sorted(record.scopes)).decode()
    return columns | {"scopes": scopes, "networks": msgspec.json.encode(record.networks).decode()}


def _records(rows: Sequence[Row[Any]]) -> Iterable[KeyRecord]:
    for row in rows:
        columns = {name: row._mapping[name] for name in KeyRecord.__struct_fields__}
        try:
            for name in ("scopes", "networks"):
                columns[name] = None if columns[name] is None else msgspec.json.decode(columns[name])
            yield msgspec.convert(columns, KeyRecord)
        except msgspec.DecodeError as error:
            _log.warning("the row of API key %s cannot be read, so it is refused: %s", columns["id"], error)

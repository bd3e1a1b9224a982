"""What a database is to the tools: it is asked with SQL, it says what it is made of, it takes a record."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from bascule.packs.database.found import Found


class Table(msgspec.Struct, frozen=True):
    name: str
    kind: str  # table | view
    description: str = ""


class Column(msgspec.Struct, frozen=True):
    name: str
    type: str  # as the database declares it
    not_null: bool = False
    default: str | None = None  # as SQL
    primary_key: bool = False
    references: str = ""  # `customers.id`
    description: str = ""


class Inserted(msgspec.Struct, frozen=True):
    """The record that there is now; the same again for the same key."""

    table_name: str
    row_id: int | str | None  # of its one key column; None where it has more of them, or none that can be told
    key: Mapping[str, int | str | float | None]  # the columns of its primary key


class Store(Protocol):
    """Everything raises ToolFailed with what a model can act on."""

    async def query(self, query: str) -> Found:
        """What one statement finds that can do nothing but read."""

    async def tables(self) -> Sequence[Table]:
        """What there is to read, by name."""

    async def columns(self, table: str) -> Sequence[Column]:
        """Of what is in `tables`, in their order."""

    async def insert(self, table: str, record: Mapping[str, object], key: str | None) -> Inserted:
        """Add *record*, and only once for one *key*."""

    async def close(self) -> None: ...

"""The database as a pack: four tools, and its schema as resources."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule.errors import ConfigInvalid
from bascule.packs.database import sample
from bascule.packs.database.found import Found, Limits
from bascule.packs.database.options import DatabaseOptions
from bascule.packs.database.sqlite import SqliteStore
from bascule.packs.database.store import Column, Inserted, Store, Table
from bascule.packs.pack import Asked, Pack, Resource

CONTRACTS: Final = Path(__file__).parent / "contracts"


class QueryDatabase(msgspec.Struct, frozen=True):
    query: str


class GetTableSchema(msgspec.Struct, frozen=True):
    table_name: str


class ListTables(msgspec.Struct, frozen=True):
    pass


class InsertRecord(msgspec.Struct, frozen=True):
    table_name: str
    data: dict[str, Any]


class Tables(msgspec.Struct, frozen=True):
    tables: Sequence[Table]
    accepts_records: Sequence[str]


class TableSchema(msgspec.Struct, frozen=True):
    table_name: str
    description: str
    columns: Sequence[Column]


class DatabaseTools:
    """The tools over one store."""

    def __init__(self, store: Store, inserts: Sequence[str]) -> None:
        self._store = store
        self._inserts = inserts

    async def query_database(self, wanted: QueryDatabase, asked: Asked) -> Found:
        del asked
        return await self._store.query(wanted.query)

    async def list_tables(self, wanted: ListTables, asked: Asked) -> Tables:
        del wanted, asked
        return Tables(await self._store.tables(), self._inserts)

    async def get_table_schema(self, wanted: GetTableSchema, asked: Asked) -> TableSchema:
        del asked
        return await self._schema(wanted.table_name)

    async def insert_record(self, wanted: InsertRecord, asked: Asked) -> Inserted:
        return await self._store.insert(wanted.table_name, wanted.data, asked.key)

    async def read_tables(self, values: Mapping[str, str]) -> str:
        del values
        schemas = [await self._schema(table.name) for table in await self._store.tables()]
        return _text({"tables": schemas})

    async def read_table(self, values: Mapping[str, str]) -> str:
        return _text(await self._schema(values["table"]))

    async def _schema(self, name: str) -> TableSchema:
        columns = await self._store.columns(name)
        described = {table.name: table.description for table in await self._store.tables()}
        return TableSchema(name, described.get(name, ""), columns)


def _text(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def build(options: DatabaseOptions) -> Pack:
    """Nothing is opened before the first call: a database that is down is a sentence of a tool, not a failed start."""
    inserts = options.inserts if options.inserts is not None else sample.INSERTS if options.is_sample else ()
    store = _store(options, inserts)
    tools = DatabaseTools(store, inserts)
    pack = Pack(
        "database",
        title="Database",
        version="1.0.0",
        instructions=(
            "A database to look things up in: list_tables and get_table_schema say what there is, query_database runs "
            "one SELECT, insert_record adds a record to the tables that take one."
        ),
        contracts=CONTRACTS,
    )
    pack.tool("database/query_database", tools.query_database)
    pack.tool("database/list_tables", tools.list_tables)
    pack.tool("database/get_table_schema", tools.get_table_schema)
    pack.tool("database/insert_record", tools.insert_record)
    mime = "application/json"
    whole = "All tables with their columns, and what they mean in this business."
    pack.resource(Resource("schema://tables", "Tables", whole, mime, tools.read_tables))
    one = "One table: its columns, keys, and what they mean."
    pack.resource(Resource("schema://tables/{table}", "Table", one, mime, tools.read_table))
    pack.closing(store.close)
    return pack


def _store(options: DatabaseOptions, inserts: Sequence[str]) -> Store:
    limits = Limits(options.max_rows, options.max_cell_chars, options.max_result_bytes)
    descriptions = {**(sample.DESCRIPTIONS if options.is_sample else {}), **options.descriptions}
    if options.postgres is not None:
        if find_spec("psycopg") is None:
            raise ConfigInvalid("PostgreSQL needs psycopg: pip install 'bascule[postgres]'", field="settings.postgres")
        from bascule.packs.database.postgres import PostgresStore

        return PostgresStore(
            options.postgres, limits=limits, timeout_s=options.timeout_s, inserts=inserts, descriptions=descriptions
        )
    return SqliteStore(
        options.file,
        limits=limits,
        timeout_s=options.timeout_s,
        memory_bytes=options.memory_bytes,
        inserts=inserts,
        descriptions=descriptions,
        before=sample.ensure if options.is_sample else None,
    )

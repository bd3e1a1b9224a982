"""The database is private, migrated once, and says what is wrong with it."""

import contextlib
import os
import sqlite3
import stat
import sys
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from bascule.errors import ConfigInvalid
from bascule.store import files, folder
from bascule.store.database import Database
from bascule.store.files import HEAD
from bascule.store.schema import metadata

MIGRATIONS: Final = "bascule.store:migrations"


def alembic(**options: Any) -> Config:
    config = Config(**options)
    config.set_main_option("script_location", MIGRATIONS)
    config.set_main_option("path_separator", "os")
    return config


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- schema


def test_the_newest_migration_is_the_head_that_the_schema_names() -> None:
    assert ScriptDirectory.from_config(alembic()).get_heads() == [HEAD]


def test_the_migrations_make_the_tables_of_the_schema_and_nothing_else(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_a_new_database_is_what_the_migrations_would_have_made(tmp_path: Path) -> None:
    for name in ("migrated", "made"):
        (tmp_path / name).mkdir(mode=0o700)
    Database(tmp_path / "migrated").close()
    files.make(tmp_path / "made")
    # If this fails after a new migration: store/newest.sql has to be what `looks` gives for the migrated one.
    assert looks(tmp_path / "made") == looks(tmp_path / "migrated")
    assert files.is_newest(tmp_path / "made" / files.FILE)
    files.make(tmp_path / "made")  # of a second process: it finds it made


def looks(folder: Path) -> tuple[list[str], list[tuple[str]]]:
    """The statements that made a database, and the revision that it says it has."""
    with sqlite3.connect(folder / files.FILE) as connection:
        made = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    connection.close()
    return [" ".join(statement.split()) for (statement,) in made], revision


def test_the_tables_can_be_made_on_postgresql() -> None:
    for table in metadata.sorted_tables:
        made = str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
        has_times = any(column.name.endswith("_s") for column in table.columns)
        assert ("DOUBLE PRECISION" in made) == has_times


def test_every_migration_is_a_module_of_the_package() -> None:
    files = {Path(script.path) for script in ScriptDirectory.from_config(alembic()).walk_revisions()}
    assert files == set((Path(folder.__file__).parent / "migrations" / "versions").glob("*.py"))


# ---- opening


def test_what_is_in_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state, with 100% of é"
    before = os.umask(0)
    try:
        database = Database(state)
        with database.writing() as connection:
            connection.execute(text("INSERT INTO generations VALUES ('x', 1)"))
        assert mode_of(state) == 0o700
        assert {path.name: mode_of(path) for path in state.iterdir()} == dict.fromkeys(
            ("bascule.db", "bascule.db-wal", "bascule.db-shm", "bascule.lock"), 0o600
        )
        database.close()
    finally:
        os.umask(before)


def test_a_database_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    Database(tmp_path).close()
    (tmp_path / "bascule.db").chmod(0o644)
    Database(tmp_path).close()
    assert mode_of(tmp_path / "bascule.db") == 0o600


def test_a_folder_that_everybody_may_write_into_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigInvalid, match=f"chmod 700 {tmp_path}"):
        Database(tmp_path)
    tmp_path.chmod(0o770)
    Database(tmp_path).close()


def test_an_open_database_has_what_it_was_promised(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.reading() as connection:
        told = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in _PROMISED}
    database.close()
    assert told == _PROMISED


_PROMISED: Final = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 10_000}


def test_a_database_at_head_is_opened_without_alembic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database(tmp_path).close()
    monkeypatch.setitem(sys.modules, "alembic", None)  # importing it would fail
    Database(tmp_path).close()


def test_a_database_of_a_newer_bascule_is_left_alone(tmp_path: Path) -> None:
    Database(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "bascule.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(ConfigInvalid, match=r"bascule.db: a newer Bascule has written it \(schema 9999"):
        Database(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "bascule.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


@pytest.mark.parametrize("broken", [b"this is not a database, though it has some length" * 40, b"SQLite format 3\x00"])
def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "bascule.db"
    path.write_bytes(broken)
    with pytest.raises(ConfigInvalid, match=r"bascule.db: cannot be used: file is not a database"):
        Database(tmp_path)
    assert path.read_bytes() == broken


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigInvalid, match=r"file/state: cannot be used: Not a directory; is state_dir right"):
        Database(tmp_path / "file" / "state")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "bascule.db").mkdir()
    with pytest.raises(ConfigInvalid, match=r"bascule.db: cannot be used: Is a directory"):
        Database(tmp_path / "other")


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "bascule.db")) as connection:
        connection.execute("CREATE TABLE generations (x)")  # the second table that it makes
    with pytest.raises(ConfigInvalid, match="generations already exists"):
        Database(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "bascule.db")) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names == {"generations"}


# ---- transactions


def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    database = Database(tmp_path)
    insert = text("INSERT INTO generations VALUES ('x', 1)")
    with pytest.raises(ConfigInvalid, match="UNIQUE"), database.writing() as connection:
        assert connection.execute(insert).rowcount == connection.execute(insert).rowcount
    with database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM generations")).scalar() == 0
    database.close()


def test_an_error_does_not_repeat_what_was_to_be_written(tmp_path: Path) -> None:
    database = Database(tmp_path)
    row = {"secret": "a-secret-value"}
    with pytest.raises(ConfigInvalid) as raised, database.writing() as connection:
        connection.execute(text("INSERT INTO generations VALUES (:secret, NULL)"), row)
    assert "a-secret-value" not in str(raised.value) + str(raised.value.__cause__)
    database.close()


def test_one_watches_and_is_told_of_what_others_write(tmp_path: Path) -> None:
    one, other = Database(tmp_path), Database(tmp_path)
    before = one.version()
    assert one.version() == before
    with other.reading() as connection:
        connection.execute(text("SELECT count(*) FROM generations")).scalar()
    assert one.version() == before
    with other.writing() as connection:
        connection.execute(text("INSERT INTO generations VALUES ('x', 1)"))
    assert one.version() != before
    one.close()
    other.close()


def test_foreign_keys_hold(tmp_path: Path) -> None:
    database = Database(tmp_path)
    row = "INSERT INTO api_keys VALUES ('a', 'c', 'e', 'd', 'p', NULL, '[]', '', 0, NULL, NULL, NULL, 'nobody')"
    with pytest.raises(ConfigInvalid, match="FOREIGN KEY"), database.writing() as connection:
        connection.execute(text(row))
    database.close()


def test_the_migrations_can_be_written_down_for_postgresql() -> None:
    told = StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": told})
    with Operations.context(context):
        for revision in reversed(list(ScriptDirectory.from_config(alembic()).walk_revisions())):
            revision.module.upgrade()
    assert "CREATE TABLE api_keys" in told.getvalue()
    assert "digest BYTEA NOT NULL" in told.getvalue()

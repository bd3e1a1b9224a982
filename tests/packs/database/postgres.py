"""A real PostgreSQL on a free port of loopback, in a folder of its own, not as root; ended with its family."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import psycopg
import pytest

OWNER: Final = "owner"  # a superuser
READER: Final = "reader"
WRITER: Final = "writer"
DATABASE: Final = "shop"
PASSWORD: Final = "correct horse"
TABLES: Final = ("customers", "orders", "pairs", "secrets", "bascule_keys")
_ENDS_S: Final = 30.0

SCHEMA: Final = f"""
CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}' NOSUPERUSER NOCREATEDB NOCREATEROLE;
CREATE ROLE {WRITER} LOGIN PASSWORD '{PASSWORD}' NOSUPERUSER NOCREATEDB NOCREATEROLE;
CREATE TABLE customers (
  id serial PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, tier text NOT NULL DEFAULT 'standard'
);
CREATE TABLE orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id integer NOT NULL REFERENCES customers (id),
  amount numeric(10,2) NOT NULL CHECK (amount >= 0), ordered_on date NOT NULL DEFAULT current_date
);
CREATE TABLE pairs (left_id integer, right_id integer, PRIMARY KEY (left_id, right_id));
CREATE TABLE secrets (word text);
CREATE TABLE bascule_keys (key text PRIMARY KEY, fingerprint text NOT NULL, result text);
CREATE SEQUENCE counter;
COMMENT ON TABLE customers IS 'People who have bought something.';
COMMENT ON COLUMN customers.tier IS 'standard or vip';
INSERT INTO customers (name, email, tier) VALUES
  ('Nguyễn Văn An', 'an@example.com', 'vip'), ('Grace Okafor', 'grace@example.com', 'standard');
INSERT INTO orders (customer_id, amount, ordered_on) VALUES (1, 1850, '2026-10-03'), (2, 25.5, '2026-10-04');
GRANT SELECT ON customers, orders, pairs TO {READER};
GRANT USAGE ON SEQUENCE counter TO {READER};
GRANT SELECT, INSERT ON customers, orders, pairs TO {WRITER};
GRANT SELECT, INSERT, UPDATE ON bascule_keys TO {WRITER};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {WRITER};
"""


class Postgres:
    """A server that runs."""

    def __init__(self, port: int) -> None:
        self.port = port

    def settings(self, user: str = READER, **more: Any) -> dict[str, Any]:
        """What the pack is told to read it as *user*."""
        place = {"host": "127.0.0.1", "port": self.port, "database": DATABASE, "tls": "off"}
        return {**place, "user": user, "password": PASSWORD, **more}

    def run(self, sql: str, database: str = DATABASE) -> list[tuple[Any, ...]]:
        """Run *sql* as its owner."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=OWNER, password=PASSWORD, autocommit=True
        ) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def digest(self) -> list[tuple[Any, ...]]:
        """What all tables and sequences hold, which tables, large objects and roles there are."""
        tables = " UNION ALL ".join(f"SELECT '{name}', t::text FROM {name} t" for name in TABLES)
        return self.run(f"""
          {tables} UNION ALL SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
          UNION ALL SELECT 'counter', last_value::text || is_called FROM counter
          UNION ALL SELECT 'large object', oid::text FROM pg_largeobject_metadata
          UNION ALL SELECT rolname, rolsuper::text FROM pg_roles ORDER BY 1, 2
        """)


def _programs() -> Path | None:
    """The folder of `initdb` and `postgres`, if there is one."""
    places = [Path(found).resolve().parent for found in (shutil.which("postgres"),) if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def is_installed() -> bool:
    return _programs() is not None


def _user() -> dict[str, Any]:
    """How to start a program that refuses to be root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    return {}


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with the tables above; the test is skipped where PostgreSQL is not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed here (Debian: apt-get install postgresql)")
    folder = Path(mkdtemp(prefix="pg", dir="/tmp"))  # its user has to reach it, and the socket's path has to be short
    user = _user()
    try:
        if user:
            os.chown(folder, user["user"], user["group"])
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        where = folder / "base"
        _run(programs / "initdb", "-D", where, "-U", OWNER, f"--pwfile={password}", "-A", "scram-sha-256", "-E", "UTF8",
             "--locale=C", "--no-sync", **user)  # fmt: skip
        with _serving(programs / "postgres", where, folder, user) as server:
            server.run(f"CREATE DATABASE {DATABASE}", "postgres")
            server.run(SCHEMA)
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: object, **user: Any) -> None:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, cwd="/", **user)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def _serving(program: Path, where: Path, folder: Path, user: dict[str, Any]) -> Iterator[Postgres]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
    settings = [part for name, value in said.items() for part in ("-c", f"{name}={value}")]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [program, "-D", where, *settings], stdout=log, stderr=log, cwd="/", start_new_session=True, **user
    )
    try:
        _until_it_answers(process, port, folder / "log")
        yield Postgres(port)
    finally:
        process.send_signal(signal.SIGQUIT)  # "immediate shutdown": it ends its family itself
        process.wait(_ENDS_S)
        log.close()


def _until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """A server that is starting says so to who connects; each try waits for its answer."""
    for _ in range(3000):
        assert process.poll() is None, log.read_text()
        try:
            with psycopg.connect(
                host="127.0.0.1", port=port, dbname="postgres", user=OWNER, password=PASSWORD, connect_timeout=5
            ):
                return
        except psycopg.OperationalError:
            time.sleep(0.02)
    raise AssertionError(log.read_text())

"""Whether a role of PostgreSQL is one to read as. Refuses superusers and whoever could write if a wall fell.

A transaction that is READ ONLY keeps tables from being written, and nothing else: files of the server, other
databases and programs are kept by what the role may not do. So the role is looked at, and not only trusted.
"""

from typing import Any, Final

import psycopg

from bascule.packs.pack import ToolFailed

# Roles that come with PostgreSQL and reach further than the tables that were granted.
_POWERS: Final = [
    *("pg_read_server_files", "pg_write_server_files", "pg_execute_server_program", "pg_write_all_data"),
    *("pg_signal_backend", "pg_maintain", "pg_create_subscription"),
]
# Functions that reach out of the database; those of extensions are everybody's once they are installed.
_REACHING: Final = [
    *("dblink", "dblink_connect", "dblink_exec", "dblink_open", "dblink_send_query", "http", "http_get", "http_post"),
    *("lo_export", "lo_import", "pg_file_write", "pg_ls_dir", "pg_read_binary_file", "pg_read_file", "pg_stat_file"),
    *("pg_reload_conf", "pg_switch_wal"),
]
_REASONS: Final = b"""
SELECT 'is a superuser, or can become ' || rolname FROM pg_roles WHERE rolsuper AND pg_has_role(oid, 'MEMBER')
UNION ALL
SELECT 'may replicate, or make roles' FROM pg_roles
  WHERE rolname = current_user AND (rolreplication OR rolcreaterole)
UNION ALL
SELECT 'is a member of ' || rolname FROM pg_roles WHERE rolname = ANY(%(powers)s) AND pg_has_role(oid, 'MEMBER')
UNION ALL
(SELECT 'may write to ' || c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg\\_t%%'
  AND (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') OR pg_has_role(c.relowner, 'MEMBER')) LIMIT 3)
UNION ALL
SELECT 'may call ' || oid::regprocedure::text FROM pg_proc
  WHERE proname = ANY(%(reaching)s) AND has_function_privilege(oid, 'EXECUTE')
LIMIT 5
"""


async def check(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raises ToolFailed if its role could do more than read tables. Raises psycopg.Error."""
    cursor = await connection.execute(_REASONS, {"powers": _POWERS, "reaching": _REACHING})
    if reasons := [reason for (reason,) in await cursor.fetchall()]:
        what = f"The role {connection.info.user!r} is not one to read as: it {', it '.join(reasons)}."
        do = "The operator gives the pack a role that may only SELECT; docs/packs/database.md has the commands."
        raise ToolFailed(what, do)

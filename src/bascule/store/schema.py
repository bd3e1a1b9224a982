"""The tables, for SQLite and PostgreSQL alike. A change here needs a migration beside it, and a new HEAD.

Times are seconds since 1970. Lists are JSON in text, so that one row that was damaged by hand spoils no other.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, LargeBinary, MetaData, String, Table, Text

HEAD: Final = "0001"  # the revision of the newest migration: a database that has it is opened without alembic

# Constraints that have names can be changed later, on both databases.
metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("caller", Text, nullable=False),
    Column("environment", String(16), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("pepper_id", String(16), nullable=False),
    Column("scopes", Text),
    Column("networks", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("expires_at_s", Double),
    Column("revoked_at_s", Double),
    Column("last_used_at_s", Double),
    Column("replaced_by", String(32), ForeignKey("api_keys.id")),
    Index(None, "caller"),
)

# How often the rows of a kind were changed: what a running gateway looks at to learn of changes by others.
generations: Final = Table(
    "generations",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

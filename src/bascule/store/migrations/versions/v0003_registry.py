"""Definitions of servers, contracts of the registry, which version goes, what was used, who is at the console."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _definitions()
    _contracts()
    _usage()
    _console()


def _definitions() -> None:
    op.create_table(
        "definitions",
        sa.Column("server", sa.Text, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("definition", sa.LargeBinary, nullable=False),
        sa.Column("seen_at_s", sa.Double, nullable=False),
        sa.Column("decided_at_s", sa.Double),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("server", "source", "kind", "name", "digest", name="pk_definitions"),
        sa.UniqueConstraint("id", name="uq_definitions_id"),
    )
    op.create_index("ix_definitions_state", "definitions", ["state", "seen_at_s"])
    op.create_table(
        "sign_offs",
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("aspect", sa.String(16), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("signer", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("subject", "aspect", name="pk_sign_offs"),
    )


def _contracts() -> None:
    op.create_table(
        "contracts",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("thing", sa.Text, nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("published_at_s", sa.Double, nullable=False),
        sa.Column("published_by", sa.Text, nullable=False),
        sa.Column("changed_at_s", sa.Double, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("kind", "thing", "version", name="pk_contracts"),
    )
    op.create_table(
        "routes",
        sa.Column("thing", sa.Text, nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("previous", sa.String(32), nullable=False),
        sa.Column("canary", sa.String(32), nullable=False),
        sa.Column("percent", sa.Integer, nullable=False),
        sa.Column("changed_at_s", sa.Double, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("thing", name="pk_routes"),
    )
    op.create_table(
        "switches",
        sa.Column("server", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("switched_by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("server", name="pk_switches"),
    )


def _usage() -> None:
    op.create_table(
        "usage",
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("span", sa.Integer, nullable=False),
        sa.Column("thing", sa.Text, nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("category", sa.String(16), nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("took_us", sa.BigInteger, nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("at", "span", "thing", "version", "caller", "category", name="pk_usage"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_thing", "usage", ["thing", "at"])
    op.create_table(
        "latencies",
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("span", sa.Integer, nullable=False),
        sa.Column("thing", sa.Text, nullable=False),
        sa.Column("bucket", sa.Integer, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("at", "span", "thing", "bucket", name="pk_latencies"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_latencies_thing", "latencies", ["thing", "at"])


def _console() -> None:
    op.create_table(
        "console_sessions",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("how", sa.String(16), nullable=False),
        sa.Column("made_at_s", sa.Double, nullable=False),
        sa.Column("seen_at_s", sa.Double, nullable=False),
        sa.Column("expires_at_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_console_sessions"),
    )
    op.create_index("ix_console_sessions_expires_at_s", "console_sessions", ["expires_at_s"])

"""The journal of calls with a key, approvals, and the audit."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _journal()
    _approvals()
    _audit()


def _journal() -> None:
    op.create_table(
        "journal",
        sa.Column("lookup", sa.LargeBinary(32), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("thing", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("boot", sa.String(32), nullable=False),
        sa.Column("pin", sa.LargeBinary(32), nullable=False),
        sa.Column("trace_id", sa.String(32), nullable=False),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("changed_at_s", sa.Double, nullable=False),
        sa.Column("machine", sa.String(36), nullable=False),
        sa.Column("changed_up_s", sa.Double, nullable=False),
        sa.Column("round", sa.LargeBinary(32)),
        sa.Column("era", sa.String(8)),
        sa.Column("refused", sa.Boolean, nullable=False),
        sa.Column("result", sa.LargeBinary),
        sa.Column("result_hash", sa.LargeBinary(32)),
        sa.Column("result_bytes", sa.BigInteger),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("lookup", name="pk_journal"),
        sa.UniqueConstraint("id", name="uq_journal_id"),
    )
    op.create_index("ix_journal_caller", "journal", ["caller"])
    op.create_index("ix_journal_state", "journal", ["state", "changed_at_s"])


def _approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("thing", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("pin", sa.LargeBinary(32), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("arguments", sa.LargeBinary, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("four_eyes", sa.Boolean, nullable=False),
        sa.Column("channel", sa.String(8), nullable=False),
        sa.Column("trace_id", sa.String(32), nullable=False),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("expires_at_s", sa.Double, nullable=False),
        sa.Column("decided_at_s", sa.Double),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("used_at_s", sa.Double),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
    )
    op.create_index("ix_approvals_state", "approvals", ["state", "created_at_s"])
    op.create_index("ix_approvals_caller", "approvals", ["caller", "fingerprint"])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("trace_id", sa.String(32), nullable=False),
        sa.Column("call", sa.String(32), nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("thing", sa.Text, nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_at_us", "audit", ["at_us"])
    op.create_index("ix_audit_trace_id", "audit", ["trace_id"])
    of_intents, with_intent = sa.text("kind = 'intent'"), sa.text("call <> ''")
    op.create_index("ix_audit_seq", "audit", ["seq"], sqlite_where=of_intents, postgresql_where=of_intents)
    op.create_index("ix_audit_call", "audit", ["call", "kind"], sqlite_where=with_intent, postgresql_where=with_intent)
    op.create_table(
        "audit_heads",
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_heads"),
    )

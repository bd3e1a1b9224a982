"""The tables, for SQLite and PostgreSQL alike. A change here needs a migration beside it, and a new HEAD (files.py).

Times are seconds since 1970. Lists are JSON in text, so that one row that was damaged by hand spoils no other.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

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

# How often the rows of a kind were changed: what a running gateway looks at to learn of changes by others. Of `usage`:
# the last entry of the audit that is in its sums.
generations: Final = Table(
    "generations",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

# Calls with an idempotency key, one row for each key of a caller (store/journal.py).
journal: Final = Table(
    "journal",
    metadata,
    Column("lookup", LargeBinary(32), primary_key=True),
    Column("id", String(32), nullable=False),
    Column("caller", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("thing", Text, nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("boot", String(32), nullable=False),
    Column("pin", LargeBinary(32), nullable=False),
    Column("trace_id", String(32), nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("changed_at_s", Double, nullable=False),
    Column("machine", String(36), nullable=False),
    Column("changed_up_s", Double, nullable=False),
    Column("round", LargeBinary(32)),
    Column("era", String(8)),
    Column("refused", Boolean, nullable=False),
    Column("result", LargeBinary),
    Column("result_hash", LargeBinary(32)),
    Column("result_bytes", BigInteger),
    Column("note", Text, nullable=False),
    UniqueConstraint("id"),
    Index(None, "caller"),
    Index(None, "state", "changed_at_s"),
)

# What people were asked, and what they said (store/approvals.py).
approvals: Final = Table(
    "approvals",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("caller", Text, nullable=False),
    Column("thing", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("pin", LargeBinary(32), nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("arguments", LargeBinary, nullable=False),
    Column("question", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("four_eyes", Boolean, nullable=False),
    Column("channel", String(8), nullable=False),
    Column("trace_id", String(32), nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("expires_at_s", Double, nullable=False),
    Column("decided_at_s", Double),
    Column("decided_by", Text, nullable=False),
    Column("used_at_s", Double),
    Column("note", Text, nullable=False),
    Index(None, "state", "created_at_s"),
    Index(None, "caller", "fingerprint"),
)

# One row for each entry of the chain; `entry` is what is hashed, the rest is for finding it (store/audit.py).
audit: Final = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("kind", String(24), nullable=False),
    Column("trace_id", String(32), nullable=False),
    Column("call", String(32), nullable=False),
    Column("caller", Text, nullable=False),
    Column("thing", Text, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Index(None, "at_us"),
    Index(None, "trace_id"),
    # Small: most calls have no intent, and those that have one are looked for after a crash.
    Index(None, "seq", sqlite_where=text("kind = 'intent'"), postgresql_where=text("kind = 'intent'")),
    Index(None, "call", "kind", sqlite_where=text("call <> ''"), postgresql_where=text("call <> ''")),
)

# Signed heads of the chain.
audit_heads: Final = Table(
    "audit_heads",
    metadata,
    Column("seq", BigInteger, primary_key=True),
    Column("head", LargeBinary, nullable=False),
)

# What servers list, each wording of it once: whether it may be called (store/definitions.py). `source` says by a digest
# of its command or address which server stands under a name.
definitions: Final = Table(
    "definitions",
    metadata,
    Column("server", Text, primary_key=True),
    Column("source", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", String(80), primary_key=True),
    Column("id", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("definition", LargeBinary, nullable=False),
    Column("seen_at_s", Double, nullable=False),
    Column("decided_at_s", Double),
    Column("decided_by", Text, nullable=False),
    Column("note", Text, nullable=False),
    UniqueConstraint("id"),
    Index(None, "state", "seen_at_s"),
)

# What reviewers say of a version of a contract, or of a definition, each for their own aspect of it.
sign_offs: Final = Table(
    "sign_offs",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("aspect", String(16), primary_key=True),
    Column("decision", String(16), nullable=False),
    Column("signer", Text, nullable=False),
    Column("at_s", Double, nullable=False),
    Column("note", Text, nullable=False),
)

# Contracts that were published, one row for each version (store/contracts.py).
contracts: Final = Table(
    "contracts",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("thing", Text, primary_key=True),
    Column("version", String(32), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("published_at_s", Double, nullable=False),
    Column("published_by", Text, nullable=False),
    Column("changed_at_s", Double, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("note", Text, nullable=False),
)

# Which version a call goes to that names none (store/routes.py).
routes: Final = Table(
    "routes",
    metadata,
    Column("thing", Text, primary_key=True),
    Column("version", String(32), nullable=False),
    Column("previous", String(32), nullable=False),
    Column("canary", String(32), nullable=False),
    Column("percent", Integer, nullable=False),
    Column("changed_at_s", Double, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("note", Text, nullable=False),
)

# Servers that an operator has switched off.
switches: Final = Table(
    "switches",
    metadata,
    Column("server", Text, primary_key=True),
    Column("at_s", Double, nullable=False),
    Column("switched_by", Text, nullable=False),
    Column("note", Text, nullable=False),
)

# Sums of calls over spans of time, both in whole seconds, which agree with the audit (store/usage.py).
usage: Final = Table(
    "usage",
    metadata,
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("thing", Text, primary_key=True),
    Column("version", String(32), primary_key=True),
    Column("caller", Text, primary_key=True),
    Column("category", String(16), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("took_us", BigInteger, nullable=False),
    Column("cost_nano_usd", BigInteger, nullable=False),
    Index(None, "thing", "at"),
    sqlite_with_rowid=False,
)

# How many calls took how long: `bucket` is a power of the root of two, in microseconds (store/usage.py).
latencies: Final = Table(
    "latencies",
    metadata,
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("thing", Text, primary_key=True),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("calls", BigInteger, nullable=False),
    Index(None, "thing", "at"),
    sqlite_with_rowid=False,
)

# Links that sign somebody in once, and the sessions that come of them, by digests of their secrets (store/console.py).
console_sessions: Final = Table(
    "console_sessions",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("how", String(16), nullable=False),
    Column("made_at_s", Double, nullable=False),
    Column("seen_at_s", Double, nullable=False),
    Column("expires_at_s", Double, nullable=False),
    Index(None, "expires_at_s"),
)

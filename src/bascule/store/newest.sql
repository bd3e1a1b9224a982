-- What the migrations make of an empty database (tests/store/test_database.py holds it), for a quick first start.
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE api_keys (
	id VARCHAR(32) NOT NULL,
	caller TEXT NOT NULL,
	environment VARCHAR(16) NOT NULL,
	digest BLOB NOT NULL,
	pepper_id VARCHAR(16) NOT NULL,
	scopes TEXT,
	networks TEXT NOT NULL,
	note TEXT NOT NULL,
	created_at_s DOUBLE NOT NULL,
	expires_at_s DOUBLE,
	revoked_at_s DOUBLE,
	last_used_at_s DOUBLE,
	replaced_by VARCHAR(32),
	CONSTRAINT pk_api_keys PRIMARY KEY (id),
	CONSTRAINT fk_api_keys_replaced_by FOREIGN KEY(replaced_by) REFERENCES api_keys (id)
);

CREATE INDEX ix_api_keys_caller ON api_keys (caller);

CREATE TABLE generations (
	kind VARCHAR(32) NOT NULL,
	number BIGINT NOT NULL,
	CONSTRAINT pk_generations PRIMARY KEY (kind)
);

CREATE TABLE journal (
	lookup BLOB NOT NULL,
	id VARCHAR(32) NOT NULL,
	caller TEXT NOT NULL,
	method TEXT NOT NULL,
	thing TEXT NOT NULL,
	fingerprint BLOB NOT NULL,
	state VARCHAR(16) NOT NULL,
	fence BIGINT NOT NULL,
	boot VARCHAR(32) NOT NULL,
	pin BLOB NOT NULL,
	trace_id VARCHAR(32) NOT NULL,
	created_at_s DOUBLE NOT NULL,
	changed_at_s DOUBLE NOT NULL,
	machine VARCHAR(36) NOT NULL,
	changed_up_s DOUBLE NOT NULL,
	round BLOB,
	era VARCHAR(8),
	refused BOOLEAN NOT NULL,
	result BLOB,
	result_hash BLOB,
	result_bytes BIGINT,
	note TEXT NOT NULL,
	CONSTRAINT pk_journal PRIMARY KEY (lookup),
	CONSTRAINT uq_journal_id UNIQUE (id)
);

CREATE INDEX ix_journal_caller ON journal (caller);

CREATE INDEX ix_journal_state ON journal (state, changed_at_s);

CREATE TABLE approvals (
	id VARCHAR(32) NOT NULL,
	state VARCHAR(16) NOT NULL,
	caller TEXT NOT NULL,
	thing TEXT NOT NULL,
	version TEXT NOT NULL,
	pin BLOB NOT NULL,
	fingerprint BLOB NOT NULL,
	arguments BLOB NOT NULL,
	question TEXT NOT NULL,
	rule TEXT NOT NULL,
	four_eyes BOOLEAN NOT NULL,
	channel VARCHAR(8) NOT NULL,
	trace_id VARCHAR(32) NOT NULL,
	created_at_s DOUBLE NOT NULL,
	expires_at_s DOUBLE NOT NULL,
	decided_at_s DOUBLE,
	decided_by TEXT NOT NULL,
	used_at_s DOUBLE,
	note TEXT NOT NULL,
	CONSTRAINT pk_approvals PRIMARY KEY (id)
);

CREATE INDEX ix_approvals_state ON approvals (state, created_at_s);

CREATE INDEX ix_approvals_caller ON approvals (caller, fingerprint);

CREATE TABLE audit (
	seq INTEGER NOT NULL,
	at_us BIGINT NOT NULL,
	kind VARCHAR(24) NOT NULL,
	trace_id VARCHAR(32) NOT NULL,
	call VARCHAR(32) NOT NULL,
	caller TEXT NOT NULL,
	thing TEXT NOT NULL,
	outcome VARCHAR(32) NOT NULL,
	entry BLOB NOT NULL,
	hash BLOB NOT NULL,
	CONSTRAINT pk_audit PRIMARY KEY (seq)
);

CREATE INDEX ix_audit_at_us ON audit (at_us);

CREATE INDEX ix_audit_trace_id ON audit (trace_id);

CREATE INDEX ix_audit_seq ON audit (seq) WHERE kind = 'intent';

CREATE INDEX ix_audit_call ON audit (call, kind) WHERE call <> '';

CREATE TABLE audit_heads (
	seq BIGINT NOT NULL,
	head BLOB NOT NULL,
	CONSTRAINT pk_audit_heads PRIMARY KEY (seq)
);

CREATE TABLE definitions (
	server TEXT NOT NULL,
	source VARCHAR(64) NOT NULL,
	kind VARCHAR(16) NOT NULL,
	name TEXT NOT NULL,
	digest VARCHAR(80) NOT NULL,
	id VARCHAR(32) NOT NULL,
	state VARCHAR(16) NOT NULL,
	definition BLOB NOT NULL,
	seen_at_s DOUBLE NOT NULL,
	decided_at_s DOUBLE,
	decided_by TEXT NOT NULL,
	note TEXT NOT NULL,
	CONSTRAINT pk_definitions PRIMARY KEY (server, source, kind, name, digest),
	CONSTRAINT uq_definitions_id UNIQUE (id)
);

CREATE INDEX ix_definitions_state ON definitions (state, seen_at_s);

CREATE TABLE sign_offs (
	subject TEXT NOT NULL,
	aspect VARCHAR(16) NOT NULL,
	decision VARCHAR(16) NOT NULL,
	signer TEXT NOT NULL,
	at_s DOUBLE NOT NULL,
	note TEXT NOT NULL,
	CONSTRAINT pk_sign_offs PRIMARY KEY (subject, aspect)
);

CREATE TABLE contracts (
	kind VARCHAR(16) NOT NULL,
	thing TEXT NOT NULL,
	version VARCHAR(32) NOT NULL,
	status VARCHAR(16) NOT NULL,
	document BLOB NOT NULL,
	digest VARCHAR(64) NOT NULL,
	published_at_s DOUBLE NOT NULL,
	published_by TEXT NOT NULL,
	changed_at_s DOUBLE NOT NULL,
	changed_by TEXT NOT NULL,
	note TEXT NOT NULL,
	CONSTRAINT pk_contracts PRIMARY KEY (kind, thing, version)
);

CREATE TABLE routes (
	thing TEXT NOT NULL,
	version VARCHAR(32) NOT NULL,
	previous VARCHAR(32) NOT NULL,
	canary VARCHAR(32) NOT NULL,
	percent INTEGER NOT NULL,
	changed_at_s DOUBLE NOT NULL,
	changed_by TEXT NOT NULL,
	note TEXT NOT NULL,
	CONSTRAINT pk_routes PRIMARY KEY (thing)
);

CREATE TABLE switches (
	server TEXT NOT NULL,
	at_s DOUBLE NOT NULL,
	switched_by TEXT NOT NULL,
	note TEXT NOT NULL,
	CONSTRAINT pk_switches PRIMARY KEY (server)
);

CREATE TABLE usage (
	at BIGINT NOT NULL,
	span INTEGER NOT NULL,
	thing TEXT NOT NULL,
	version VARCHAR(32) NOT NULL,
	caller TEXT NOT NULL,
	category VARCHAR(16) NOT NULL,
	calls BIGINT NOT NULL,
	took_us BIGINT NOT NULL,
	cost_nano_usd BIGINT NOT NULL,
	CONSTRAINT pk_usage PRIMARY KEY (at, span, thing, version, caller, category)
) WITHOUT ROWID;

CREATE INDEX ix_usage_thing ON usage (thing, at);

CREATE TABLE latencies (
	at BIGINT NOT NULL,
	span INTEGER NOT NULL,
	thing TEXT NOT NULL,
	bucket INTEGER NOT NULL,
	calls BIGINT NOT NULL,
	CONSTRAINT pk_latencies PRIMARY KEY (at, span, thing, bucket)
) WITHOUT ROWID;

CREATE INDEX ix_latencies_thing ON latencies (thing, at);

CREATE TABLE console_sessions (
	digest BLOB NOT NULL,
	state VARCHAR(16) NOT NULL,
	name TEXT NOT NULL,
	roles TEXT NOT NULL,
	how VARCHAR(16) NOT NULL,
	made_at_s DOUBLE NOT NULL,
	seen_at_s DOUBLE NOT NULL,
	expires_at_s DOUBLE NOT NULL,
	CONSTRAINT pk_console_sessions PRIMARY KEY (digest)
);

CREATE INDEX ix_console_sessions_expires_at_s ON console_sessions (expires_at_s);

INSERT INTO alembic_version (version_num) VALUES ('0003');

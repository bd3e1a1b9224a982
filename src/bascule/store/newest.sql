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

INSERT INTO alembic_version (version_num) VALUES ('0002');

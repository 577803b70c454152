-- Who changed what, written in the transaction of the change. Append-only: nobody edits history.
-- No reference to other tables: the log outlives what it tells of.
CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at BIGINT NOT NULL,
    account_id BIGINT NOT NULL,
    user_id BIGINT,
    user_email TEXT NOT NULL,
    key_id BIGINT,
    ip TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    resource_name TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX audit_log_account ON audit_log (account_id, id);
CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- Public keys for instances. `fingerprint` is that of `ssh-keygen -l`: SHA256:<base64>.
CREATE TABLE ssh_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    user_id BIGINT,
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    public_key TEXT NOT NULL CHECK (length(public_key) BETWEEN 1 AND 16384),
    fingerprint TEXT NOT NULL,
    created_at BIGINT NOT NULL CHECK (created_at > 0),
    UNIQUE (account_id, fingerprint)
);

-- Open invitations to a team; a row goes when it is accepted or cancelled. Of the token only the SHA-256 is kept.
CREATE TABLE invitations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    email TEXT NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    role BIGINT NOT NULL CHECK (role BETWEEN 1 AND 2),
    permissions BIGINT NOT NULL CHECK (permissions >= 0),
    token_hash TEXT NOT NULL UNIQUE CHECK (length(token_hash) = 64),
    invited_by BIGINT,
    created_at BIGINT NOT NULL CHECK (created_at > 0),
    expires_at BIGINT NOT NULL CHECK (expires_at > created_at),
    UNIQUE (account_id, email)
);
CREATE INDEX invitations_email ON invitations (email);

-- A deleted team stays as a row: bills and the ledger refer to it.
ALTER TABLE accounts ADD COLUMN deleted_at BIGINT;

-- Who may call. Ids are 63-bit numbers made by the program, times are microseconds since 1970 (UTC).
CREATE TABLE accounts (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    name TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 100),
    created_at BIGINT NOT NULL CHECK (created_at > 0)
);

CREATE TABLE users (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    email TEXT NOT NULL UNIQUE CHECK (length(email) BETWEEN 3 AND 254),
    password_hash TEXT NOT NULL CHECK (length(password_hash) > 0),
    role TEXT NOT NULL CHECK (role IN ('customer', 'operator')),
    created_at BIGINT NOT NULL CHECK (created_at > 0)
);

-- key_hash is the SHA-256 of the key in hexadecimal; the key itself is nowhere. rpm and tpm: 0 = no limit of its own.
CREATE TABLE api_keys (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    hint TEXT NOT NULL,
    key_hash TEXT NOT NULL UNIQUE CHECK (length(key_hash) = 64),
    rpm BIGINT NOT NULL CHECK (rpm >= 0),
    tpm BIGINT NOT NULL CHECK (tpm >= 0),
    created_at BIGINT NOT NULL CHECK (created_at > 0),
    revoked_at BIGINT CHECK (revoked_at > 0)
);
CREATE INDEX api_keys_account ON api_keys (account_id, id);

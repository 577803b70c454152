-- People: what they sign in with, where they are signed in, and which accounts they act for. Accounts from before are
-- teams without a person; users from before are active and get their personal account when they first sign in.
ALTER TABLE accounts ADD COLUMN kind TEXT NOT NULL DEFAULT 'team' CHECK (kind = 'team' OR kind = 'personal');
ALTER TABLE accounts ADD COLUMN owner_id BIGINT REFERENCES users (id);
ALTER TABLE accounts ADD COLUMN display_name TEXT NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN description TEXT NOT NULL DEFAULT '';

-- account_id is the personal account. totp_last_step: the newest 30-second step that was accepted, never accepted again.
-- disabled_at: locked by the operator, so no link in a mail makes the user active again.
-- activation_pending: what happens once at activation (gift, plan) is still to be done; claimed_at: somebody is at it.
ALTER TABLE users ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN is_active BIGINT NOT NULL DEFAULT 1 CHECK (is_active = 0 OR is_active = 1);
ALTER TABLE users ADD COLUMN email_verified_at BIGINT;
ALTER TABLE users ADD COLUMN account_id BIGINT REFERENCES accounts (id);
ALTER TABLE users ADD COLUMN totp_secret TEXT;
ALTER TABLE users ADD COLUMN totp_pending TEXT;
ALTER TABLE users ADD COLUMN totp_last_step BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN password_changed_at BIGINT;
ALTER TABLE users ADD COLUMN activation_pending BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN activation_claimed_at BIGINT;
ALTER TABLE users ADD COLUMN disabled_at BIGINT;
CREATE UNIQUE INDEX users_account ON users (account_id);

-- Of the personal account the owner has no row: owning it is enough. role: 0 owner, 1 member, 2 admin.
CREATE TABLE members (
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    user_id BIGINT NOT NULL REFERENCES users (id),
    role BIGINT NOT NULL CHECK (role BETWEEN 0 AND 2),
    permissions BIGINT NOT NULL CHECK (permissions >= 0),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, user_id)
);
CREATE INDEX members_user ON members (user_id);

-- A cookie's or a JWT's session. token_hash: SHA-256 of the cookie's value in hexadecimal; a JWT names its session by id.
CREATE TABLE sessions (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    user_id BIGINT NOT NULL REFERENCES users (id),
    kind TEXT NOT NULL CHECK (kind = 'cookie' OR kind = 'token'),
    token_hash TEXT UNIQUE CHECK (length(token_hash) = 64),
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ip TEXT NOT NULL,
    user_agent TEXT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- Links in mails and states of sign-ins under way: good once, until expires_at. Only the SHA-256 is here.
CREATE TABLE one_time_tokens (
    token_hash TEXT NOT NULL PRIMARY KEY CHECK (length(token_hash) = 64),
    purpose TEXT NOT NULL CHECK (purpose IN ('verify', 'reset', 'invite', 'team', 'oidc')),
    user_id BIGINT REFERENCES users (id),
    email TEXT NOT NULL,
    data TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE INDEX one_time_tokens_user ON one_time_tokens (user_id, purpose);
CREATE INDEX one_time_tokens_email ON one_time_tokens (email, purpose, created_at);
CREATE INDEX one_time_tokens_expiry ON one_time_tokens (expires_at);

-- Failed sign-ins by the SHA-256 of the address, whether somebody has that address or not: a lock must not tell.
CREATE TABLE sign_in_failures (
    email_hash TEXT NOT NULL PRIMARY KEY CHECK (length(email_hash) = 64),
    failures BIGINT NOT NULL,
    locked_until BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);
CREATE INDEX sign_in_failures_last ON sign_in_failures (last_at);

CREATE TABLE recovery_codes (
    user_id BIGINT NOT NULL REFERENCES users (id),
    code_hash TEXT NOT NULL CHECK (length(code_hash) = 64),
    used_at BIGINT,
    PRIMARY KEY (user_id, code_hash)
);

-- Who a person is at an OpenID Connect provider.
CREATE TABLE user_identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX user_identities_user ON user_identities (user_id);

-- Keys of this installation that every node must share, such as the one that signs JWTs.
CREATE TABLE server_secrets (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

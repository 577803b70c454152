-- Customers' own keys for providers. sealed: hex of nonce and cipher text, openable with the key file only; label: what may
-- be shown. models: JSON list, empty for all. Of several for one provider the lowest sort_order is used.
CREATE TABLE provider_keys (
    id BIGINT PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    provider TEXT NOT NULL,
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    sealed TEXT NOT NULL,
    is_disabled BIGINT NOT NULL DEFAULT 0,
    models TEXT NOT NULL DEFAULT '[]',
    sort_order BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);
CREATE INDEX provider_keys_account ON provider_keys (account_id, id);

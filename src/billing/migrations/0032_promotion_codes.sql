-- Codes that give bonus credits: at most uses_max times in all, once per account.
CREATE TABLE promotion_codes (
    code TEXT NOT NULL PRIMARY KEY CHECK (length(code) BETWEEN 3 AND 64),
    amount BIGINT NOT NULL CHECK (amount > 0),
    uses BIGINT NOT NULL DEFAULT 0,
    uses_max BIGINT NOT NULL CHECK (uses_max > 0),
    expires_at BIGINT NULL,
    bonus_days BIGINT NOT NULL CHECK (bonus_days >= 0),
    note TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    CHECK (uses BETWEEN 0 AND uses_max)
);
CREATE TABLE promotion_redemptions (
    code TEXT NOT NULL REFERENCES promotion_codes (code),
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    user_id BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (code, account_id)
);

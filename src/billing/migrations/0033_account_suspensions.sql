-- Accounts that an operator has stopped: none of their requests is admitted as long as the row is there.
CREATE TABLE account_suspensions (
    account_id BIGINT NOT NULL PRIMARY KEY REFERENCES accounts (id),
    reason TEXT NOT NULL,
    since BIGINT NOT NULL
);

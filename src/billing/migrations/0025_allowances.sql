-- What was used of budgets of keys (nano-dollars) and of quotas of plans (tokens), by period. owner: key or account.
-- period_start: microseconds, 0 for a budget without period. sliced: leased to nodes that share the database.
CREATE TABLE allowances (
    owner BIGINT NOT NULL,
    kind TEXT NOT NULL,
    period_start BIGINT NOT NULL,
    used BIGINT NOT NULL DEFAULT 0 CHECK (used >= 0),
    sliced BIGINT NOT NULL DEFAULT 0 CHECK (sliced >= 0),
    PRIMARY KEY (owner, kind, period_start)
);

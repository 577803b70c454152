-- What each node has leased of an account's credits, a key's budget or a plan's quota. The slices of an account's credits
-- add up to ledger_chains.sliced, the others to allowances.sliced. change: the last that the node itself made to the row.
CREATE TABLE slices (
    node_id BIGINT NOT NULL,
    owner BIGINT NOT NULL,
    kind TEXT NOT NULL,
    period_start BIGINT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    change BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (owner, kind, period_start, node_id)
);
CREATE INDEX slices_node ON slices (node_id);

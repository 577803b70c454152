-- What each node may admit of a limit within its sliding minute; the sum over nodes never exceeds the limit.
-- unit: 0 requests, 1 tokens, 2 images. demand: what the node was asked for lately, per minute. free_at: 0 while
-- its node lives; then the time (microseconds, the database's clock) at which the share is free again, because
-- what the node admitted with it has left the window.
CREATE TABLE rate_shares (
    subject_kind BIGINT NOT NULL,
    subject_id BIGINT NOT NULL,
    unit BIGINT NOT NULL,
    node_id BIGINT NOT NULL,
    share BIGINT NOT NULL CHECK (share >= 0),
    demand BIGINT NOT NULL CHECK (demand >= 0),
    free_at BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (subject_kind, subject_id, unit, node_id)
);
CREATE INDEX rate_shares_node ON rate_shares (node_id);
CREATE INDEX rate_shares_free ON rate_shares (free_at);

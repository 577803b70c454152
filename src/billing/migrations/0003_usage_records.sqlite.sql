-- One row per metered request. No further index and no foreign key: this is the hot table, and `nebula ledger verify`
-- checks what they would. charge + written_off is the price; posting_id is the posting that moved the charge.
CREATE TABLE usage_records (
    account_id INTEGER NOT NULL,
    id INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    price_input_per_m INTEGER NOT NULL,
    price_output_per_m INTEGER NOT NULL,
    price_cached_input_per_m INTEGER NOT NULL,
    is_estimated INTEGER NOT NULL CHECK (is_estimated IN (0, 1)),
    is_streamed INTEGER NOT NULL CHECK (is_streamed IN (0, 1)),
    -- Not IN: for more than two words SQLite fills a temporary b-tree with them, for each row.
    outcome TEXT NOT NULL CHECK (outcome = 'completed' OR outcome = 'client_left' OR outcome = 'upstream_failed'
        OR outcome = 'cancelled'),
    status INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    latency_us INTEGER NOT NULL,
    first_token_us INTEGER NOT NULL,
    charge INTEGER NOT NULL CHECK (charge >= 0),
    written_off INTEGER NOT NULL CHECK (written_off >= 0),
    posting_id INTEGER NULL,
    PRIMARY KEY (account_id, id),
    CHECK ((charge = 0) = (posting_id IS NULL))
) WITHOUT ROWID;

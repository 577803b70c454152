-- One row per metered request. No further index and no foreign key: this is the hot table, and `nebula ledger verify`
-- checks what they would. charge + written_off is the price; posting_id is the posting that moved the charge.
CREATE TABLE usage_records (
    account_id BIGINT NOT NULL,
    id BIGINT NOT NULL,
    key_id BIGINT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    price_input_per_m BIGINT NOT NULL,
    price_output_per_m BIGINT NOT NULL,
    price_cached_input_per_m BIGINT NOT NULL,
    is_estimated BIGINT NOT NULL CHECK (is_estimated IN (0, 1)),
    is_streamed BIGINT NOT NULL CHECK (is_streamed IN (0, 1)),
    outcome TEXT NOT NULL CHECK (outcome IN ('completed', 'client_left', 'upstream_failed', 'cancelled')),
    status BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    latency_us BIGINT NOT NULL,
    first_token_us BIGINT NOT NULL,
    charge BIGINT NOT NULL CHECK (charge >= 0),
    written_off BIGINT NOT NULL CHECK (written_off >= 0),
    posting_id BIGINT NULL,
    PRIMARY KEY (account_id, id),
    CHECK ((charge = 0) = (posting_id IS NULL))
);

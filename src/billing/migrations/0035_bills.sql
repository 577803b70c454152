-- Prices over time, for re-rating and bills. Append-only: of several for the same time the last one counts.
CREATE TABLE price_versions (
    id BIGINT PRIMARY KEY,
    model TEXT NOT NULL,
    effective_from BIGINT NOT NULL,
    input_per_m BIGINT NOT NULL CHECK (input_per_m >= 0),
    output_per_m BIGINT NOT NULL CHECK (output_per_m >= 0),
    cached_input_per_m BIGINT NOT NULL CHECK (cached_input_per_m >= 0),
    request BIGINT NOT NULL CHECK (request >= 0),
    created_at BIGINT NOT NULL
);
CREATE INDEX price_versions_model ON price_versions (model, effective_from, id);

-- What usage records were re-rated to, beside what they were charged; only those that differ or did once.
CREATE TABLE usage_corrections (
    account_id BIGINT NOT NULL,
    usage_id BIGINT NOT NULL,
    due BIGINT NOT NULL CHECK (due >= 0),
    movement_key TEXT NOT NULL,
    PRIMARY KEY (account_id, usage_id)
);

-- Numbers have no gaps: the counter's row is locked from taking a number until the invoice is committed.
CREATE TABLE invoice_counter (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    last_number BIGINT NOT NULL
);
INSERT INTO invoice_counter (id, last_number) VALUES (1, 0);

-- lines: JSON, see bills/invoice.cpp. movement_id: the payment's; a statement has a period ("2026-10") instead.
CREATE TABLE invoices (
    number BIGINT PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    user_id BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind = 'Reload' OR kind = 'Statement'),
    period TEXT NOT NULL DEFAULT '',
    net BIGINT NOT NULL,
    tax BIGINT NOT NULL CHECK (tax >= 0),
    total BIGINT NOT NULL,
    paid BIGINT NOT NULL,
    tax_name TEXT NOT NULL DEFAULT '',
    tax_percent TEXT NOT NULL DEFAULT '',
    movement_id BIGINT NULL UNIQUE,
    reference TEXT NOT NULL DEFAULT '',
    customer TEXT NOT NULL DEFAULT '',
    lines TEXT NOT NULL DEFAULT '[]',
    created_at BIGINT NOT NULL,
    CHECK (total = net + tax)
);
CREATE INDEX invoices_account ON invoices (account_id, number);
CREATE UNIQUE INDEX invoices_period ON invoices (account_id, period) WHERE kind = 'Statement';

-- Closed months. usage: charges of metered requests; late: of earlier, closed months, found since; charges: other
-- products, out of credits; fees: of plans; corrections: given back (positive) or charged (negative) by re-rating.
CREATE TABLE bills (
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    month TEXT NOT NULL,
    user_id BIGINT NOT NULL,
    usage BIGINT NOT NULL,
    late BIGINT NOT NULL,
    charges BIGINT NOT NULL,
    fees BIGINT NOT NULL,
    corrections BIGINT NOT NULL,
    total BIGINT NOT NULL,
    written_off BIGINT NOT NULL,
    paid_in BIGINT NOT NULL,
    invoice_number BIGINT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, month)
);
CREATE INDEX bills_month ON bills (month);

-- Months that were closed for every account, so that nobody looks again every minute.
CREATE TABLE closed_months (
    month TEXT PRIMARY KEY,
    closed_at BIGINT NOT NULL
);

-- Pages of transactions and bills of products other than metered requests.
CREATE INDEX movements_account_time ON movements (account_id, created_at, id);

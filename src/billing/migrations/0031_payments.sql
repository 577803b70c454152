-- Card payments. What the provider says is kept as facts (is_paid, refunded_cents, disputes), in whatever order it is
-- heard; has_work = 1 until the ledger agrees with them. cents is what the card pays: net and tax. facts counts the news.
CREATE TABLE payments (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    user_id BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind = 'checkout' OR kind = 'intent' OR kind = 'auto_pay'),
    status TEXT NOT NULL CHECK (status = 'pending' OR status = 'success' OR status = 'failed' OR status = 'expired'
        OR status = 'refunded' OR status = 'disputed'),
    net BIGINT NOT NULL CHECK (net > 0),
    bonus BIGINT NOT NULL CHECK (bonus >= 0),
    tax BIGINT NOT NULL CHECK (tax >= 0),
    tax_name TEXT NOT NULL,
    tax_percent TEXT NOT NULL,
    cents BIGINT NOT NULL CHECK (cents > 0),
    currency TEXT NOT NULL,
    stripe_intent TEXT NULL UNIQUE,
    stripe_session TEXT NULL UNIQUE,
    stripe_method TEXT NOT NULL DEFAULT '',
    is_paid BIGINT NOT NULL DEFAULT 0 CHECK (is_paid = 0 OR is_paid = 1),
    posting_id BIGINT NULL UNIQUE,
    bonus_posting_id BIGINT NULL UNIQUE,
    refunded_cents BIGINT NOT NULL DEFAULT 0 CHECK (refunded_cents >= 0),
    refund_posted_cents BIGINT NOT NULL DEFAULT 0 CHECK (refund_posted_cents >= 0),
    bonus_taken BIGINT NOT NULL DEFAULT 0 CHECK (bonus_taken >= 0 AND bonus_taken <= bonus),
    failure TEXT NOT NULL DEFAULT '',
    facts BIGINT NOT NULL DEFAULT 0,
    has_work BIGINT NOT NULL DEFAULT 0 CHECK (has_work = 0 OR has_work = 1),
    check_at BIGINT NULL,
    created_at BIGINT NOT NULL,
    completed_at BIGINT NULL,
    CHECK (refund_posted_cents <= refunded_cents)
);
CREATE INDEX payments_account ON payments (account_id, id);
CREATE INDEX payments_work ON payments (id) WHERE has_work = 1;
CREATE INDEX payments_check ON payments (check_at) WHERE check_at IS NOT NULL;

CREATE TABLE payment_disputes (
    id TEXT NOT NULL PRIMARY KEY,
    payment_id BIGINT NOT NULL REFERENCES payments (id),
    cents BIGINT NOT NULL CHECK (cents > 0),
    is_withdrawn BIGINT NOT NULL DEFAULT 0,
    is_returned BIGINT NOT NULL DEFAULT 0,
    is_lost BIGINT NOT NULL DEFAULT 0,
    withdrawn_posting_id BIGINT NULL,
    returned_posting_id BIGINT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX payment_disputes_payment ON payment_disputes (payment_id);

-- Cards at the provider: what is shown of them, never their numbers. A detached one stays, so that a late "attached"
-- does not bring it back. refused: the card belongs to another account.
CREATE TABLE payment_methods (
    id TEXT NOT NULL PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL,
    brand TEXT NOT NULL DEFAULT '',
    last4 TEXT NOT NULL DEFAULT '',
    exp_month BIGINT NOT NULL DEFAULT 0,
    exp_year BIGINT NOT NULL DEFAULT 0,
    fingerprint TEXT NOT NULL DEFAULT '',
    is_default BIGINT NOT NULL DEFAULT 0 CHECK (is_default = 0 OR is_default = 1),
    status TEXT NOT NULL CHECK (status = 'attached' OR status = 'detached' OR status = 'refused'),
    created_at BIGINT NOT NULL
);
CREATE INDEX payment_methods_account ON payment_methods (account_id, created_at);
-- One card cannot serve two accounts, and an account has one default.
CREATE UNIQUE INDEX payment_methods_card ON payment_methods (fingerprint)
    WHERE status = 'attached' AND fingerprint <> '';
CREATE UNIQUE INDEX payment_methods_default ON payment_methods (account_id) WHERE is_default = 1;

-- Events that were taken in. outcome: applied, ignored, unknown, mismatch. An unknown one about a payment intent
-- (subject) keeps its body: it is taken in anew when a payment turns out to be about that.
CREATE TABLE stripe_events (
    id TEXT NOT NULL PRIMARY KEY,
    type TEXT NOT NULL,
    outcome TEXT NOT NULL,
    subject TEXT NOT NULL DEFAULT '',
    body TEXT NOT NULL DEFAULT '',
    received_at BIGINT NOT NULL
);
CREATE INDEX stripe_events_received ON stripe_events (received_at);
CREATE INDEX stripe_events_subject ON stripe_events (subject) WHERE outcome = 'unknown' AND subject <> '';

-- Who is billed, how the card pays, what has been noticed. country: "CA", "US-CA" …, empty = unknown. Amounts are
-- nano-dollars, times microseconds since 1970 (UTC). auto_*: auto-pay, one attempt per hour.
CREATE TABLE billing_profiles (
    account_id BIGINT NOT NULL PRIMARY KEY REFERENCES accounts (id),
    name TEXT NOT NULL DEFAULT '',
    address TEXT NOT NULL DEFAULT '',
    tax_number TEXT NOT NULL DEFAULT '',
    country TEXT NOT NULL DEFAULT '',
    stripe_customer TEXT NULL UNIQUE,
    auto_enabled BIGINT NOT NULL DEFAULT 0 CHECK (auto_enabled = 0 OR auto_enabled = 1),
    auto_threshold BIGINT NOT NULL DEFAULT 0 CHECK (auto_threshold >= 0),
    auto_amount BIGINT NOT NULL DEFAULT 0 CHECK (auto_amount >= 0),
    auto_method TEXT NOT NULL DEFAULT '',
    auto_attempt_at BIGINT NOT NULL DEFAULT 0,
    auto_failures BIGINT NOT NULL DEFAULT 0,
    low_notified BIGINT NOT NULL DEFAULT 0 CHECK (low_notified = 0 OR low_notified = 1)
);
CREATE INDEX billing_profiles_auto ON billing_profiles (auto_attempt_at) WHERE auto_enabled = 1;
CREATE INDEX billing_profiles_low ON billing_profiles (account_id) WHERE low_notified = 1;

-- One per account. The fee's period runs from the day of subscribing (anchor_at); version counts changes, so that of two
-- changes at once one is refused. price, bonus: of the
-- period in full. bonus_due: bonus credits of the period that are still to be posted.
CREATE TABLE subscriptions (
    account_id BIGINT NOT NULL PRIMARY KEY REFERENCES accounts (id),
    plan TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status = 'active' OR status = 'ended'),
    anchor_at BIGINT NOT NULL,
    period_start BIGINT NOT NULL,
    period_end BIGINT NOT NULL CHECK (period_end > period_start),
    next_plan TEXT NOT NULL DEFAULT '',
    cancel_at_period_end BIGINT NOT NULL DEFAULT 0 CHECK (cancel_at_period_end = 0 OR cancel_at_period_end = 1),
    price BIGINT NOT NULL CHECK (price >= 0),
    bonus BIGINT NOT NULL CHECK (bonus >= 0),
    bonus_due BIGINT NOT NULL CHECK (bonus_due >= 0),
    version BIGINT NOT NULL
);
CREATE INDEX subscriptions_due ON subscriptions (period_end) WHERE status = 'active';
CREATE INDEX subscriptions_bonus ON subscriptions (account_id) WHERE bonus_due > 0;

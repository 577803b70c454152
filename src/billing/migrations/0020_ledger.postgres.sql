-- The ledger for real: a full chart of accounts per customer, movements, postings in a hash chain, bonus lots, hourly sums.
-- Rows from before stay as they are, outside the chain.

-- balance = credits - debits. A sign is checked where it is certain.
ALTER TABLE ledger_accounts DROP CONSTRAINT ledger_accounts_kind_check;
ALTER TABLE ledger_accounts DROP CONSTRAINT ledger_accounts_check;
ALTER TABLE ledger_accounts ADD CONSTRAINT ledger_accounts_kind_check CHECK (kind IN
    ('customer_credits', 'customer_bonus', 'customer_debt', 'revenue', 'revenue_compute', 'revenue_storage',
     'revenue_plans', 'tax', 'payments', 'grants', 'promotions', 'refunds', 'write_off'));
ALTER TABLE ledger_accounts ADD CONSTRAINT ledger_accounts_sign_check CHECK
    (CASE kind WHEN 'customer_credits' THEN balance >= 0 WHEN 'customer_bonus' THEN balance >= 0
        WHEN 'customer_debt' THEN balance <= 0 WHEN 'payments' THEN balance <= 0
        WHEN 'promotions' THEN balance <= 0 ELSE TRUE END);

-- One row per movement of money other than metered use; its postings have movement_id = id, the first has its id.
CREATE TABLE movements (
    id BIGINT PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL CHECK (kind IN ('grant', 'payment', 'bonus', 'promotion', 'plan_fee', 'charge', 'refund',
        'dispute', 'dispute_won', 'correction', 'expiry')),
    idempotency_key TEXT NULL UNIQUE,
    amount BIGINT NOT NULL CHECK (amount <> 0),      -- as asked for; negative takes
    tax BIGINT NOT NULL DEFAULT 0 CHECK (tax >= 0),
    credited BIGINT NOT NULL,                        -- what credits and bonus changed by
    owed BIGINT NOT NULL,                            -- what the debt changed by
    note TEXT NOT NULL DEFAULT '',
    reference TEXT NOT NULL DEFAULT '',
    product TEXT NOT NULL DEFAULT '',
    expires_at BIGINT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX movements_account ON movements (account_id, id);
INSERT INTO movements (id, account_id, kind, idempotency_key, amount, credited, owed, note, created_at)
    SELECT p.id, d.account_id, p.kind, p.idempotency_key,
        CASE d.kind WHEN 'customer_credits' THEN -p.amount ELSE p.amount END,
        CASE d.kind WHEN 'customer_credits' THEN -p.amount ELSE p.amount END, 0, p.note, p.created_at
    FROM postings p JOIN ledger_accounts d ON d.id = p.debit_account
    WHERE p.kind <> 'usage' AND d.account_id IS NOT NULL;

-- account_id, seq, hash: the chain of the account's postings. hash = SHA-256 of the hash before, the posting's fields and
-- records_digest. records_digest = SHA-256 of the digests of what the posting stands for: the usage records that it
-- charges, in order of their ids, or the movement. record_digests: those digests where there are several.
-- movement_id of usage: id of the first of the postings that charge these records.
DROP TRIGGER postings_append_only ON postings;
DROP INDEX postings_idempotency_key;
ALTER TABLE postings DROP CONSTRAINT postings_kind_check;
ALTER TABLE postings ADD CONSTRAINT postings_kind_check CHECK (kind IN ('usage', 'grant', 'payment', 'bonus',
    'promotion', 'plan_fee', 'charge', 'refund', 'dispute', 'dispute_won', 'correction', 'expiry'));
ALTER TABLE postings DROP COLUMN idempotency_key;
ALTER TABLE postings DROP COLUMN note;
ALTER TABLE postings ADD COLUMN account_id BIGINT NULL;
ALTER TABLE postings ADD COLUMN seq BIGINT NULL;
ALTER TABLE postings ADD COLUMN movement_id BIGINT NULL;
ALTER TABLE postings ADD COLUMN records_digest BYTEA NULL;
ALTER TABLE postings ADD COLUMN record_digests BYTEA NULL;
ALTER TABLE postings ADD COLUMN hash BYTEA NULL;
UPDATE postings p SET account_id = d.account_id,
    movement_id = CASE WHEN p.kind = 'usage' OR d.account_id IS NOT NULL THEN p.id END
    FROM ledger_accounts d WHERE d.id = p.debit_account;
ALTER TABLE postings ADD CONSTRAINT postings_chain_check CHECK ((seq IS NULL) = (hash IS NULL));
CREATE UNIQUE INDEX postings_chain ON postings (account_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX postings_unchained ON postings (id) WHERE seq IS NULL;
CREATE TRIGGER postings_append_only BEFORE UPDATE OR DELETE ON postings
    FOR EACH ROW EXECUTE FUNCTION postings_append_only();

-- The end of each account's chain; the row that whoever moves an account's money locks. sliced: leased to nodes.
CREATE TABLE ledger_chains (
    account_id BIGINT PRIMARY KEY REFERENCES accounts (id),
    length BIGINT NOT NULL DEFAULT 0 CHECK (length >= 0),
    hash BYTEA NOT NULL,
    sliced BIGINT NOT NULL DEFAULT 0 CHECK (sliced >= 0)
) WITH (fillfactor = 70);
INSERT INTO ledger_chains (account_id, hash)
    SELECT account_id, decode(repeat('00', 32), 'hex') FROM ledger_accounts
    WHERE kind = 'customer_credits' AND account_id IS NOT NULL;

-- Bonus credits by expiry. remaining is exact whenever a lot was added; since then the earliest to expire were spent first.
CREATE TABLE credit_lots (
    id BIGINT PRIMARY KEY,  -- of the movement
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    amount BIGINT NOT NULL CHECK (amount > 0),
    remaining BIGINT NOT NULL CHECK (remaining >= 0 AND remaining <= amount),
    expires_at BIGINT NULL
);
CREATE INDEX credit_lots_account ON credit_lots (account_id) WHERE remaining > 0;
CREATE INDEX credit_lots_expiry ON credit_lots (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;

ALTER TABLE usage_records ADD COLUMN quota_input BIGINT NOT NULL DEFAULT 0 CHECK (quota_input >= 0);
ALTER TABLE usage_records ADD COLUMN quota_output BIGINT NOT NULL DEFAULT 0 CHECK (quota_output >= 0);
ALTER TABLE usage_records ADD COLUMN price_request BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_records ADD COLUMN product TEXT NOT NULL DEFAULT 'llm';

-- Sums of usage_records, kept in the transaction that inserts them. hour: start of the hour (UTC, microseconds) in which
-- the request started.
CREATE TABLE usage_hours (
    account_id BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    key_id BIGINT NOT NULL,
    model TEXT NOT NULL,
    product TEXT NOT NULL,
    requests BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    quota_input BIGINT NOT NULL,
    quota_output BIGINT NOT NULL,
    charge BIGINT NOT NULL CHECK (charge >= 0),
    written_off BIGINT NOT NULL CHECK (written_off >= 0),
    PRIMARY KEY (account_id, hour, key_id, model, product)
) WITH (fillfactor = 70);
INSERT INTO usage_hours
    SELECT account_id, started_at - started_at % 3600000000, key_id, model, product, COUNT(*),
        CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(cached_tokens) AS BIGINT), CAST(SUM(output_tokens) AS BIGINT), 0, 0,
        CAST(SUM(charge) AS BIGINT), CAST(SUM(written_off) AS BIGINT)
    FROM usage_records GROUP BY 1, 2, 3, 4, 5;

-- Key pairs of this installation, made at first start; receipts are signed with 'receipts'. Hex.
CREATE TABLE server_keys (
    name TEXT PRIMARY KEY,
    public_key TEXT NOT NULL,
    secret_key TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- The ledger for real: a full chart of accounts per customer, movements, postings in a hash chain, bonus lots, hourly sums.
-- Tables whose CHECKs change are rebuilt: SQLite cannot alter them. Rows from before stay as they are, outside the chain.
DROP TRIGGER ledger_accounts_start_empty;
DROP TRIGGER postings_move_money;
DROP TRIGGER postings_no_update;
DROP TRIGGER postings_no_delete;

-- balance = credits - debits, kept by the trigger below. A sign is checked where it is certain.
CREATE TABLE ledger_accounts_new (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NULL REFERENCES accounts (id),
    kind TEXT NOT NULL CHECK (kind IN
        ('customer_credits', 'customer_bonus', 'customer_debt', 'revenue', 'revenue_compute', 'revenue_storage',
         'revenue_plans', 'tax', 'payments', 'grants', 'promotions', 'refunds', 'write_off')),
    balance INTEGER NOT NULL DEFAULT 0 CHECK (typeof(balance) = 'integer'),
    CHECK (CASE kind WHEN 'customer_credits' THEN balance >= 0 WHEN 'customer_bonus' THEN balance >= 0
        WHEN 'customer_debt' THEN balance <= 0 WHEN 'payments' THEN balance <= 0
        WHEN 'promotions' THEN balance <= 0 ELSE 1 END),
    UNIQUE (account_id, kind)
);
INSERT INTO ledger_accounts_new (id, account_id, kind, balance)
    SELECT id, account_id, kind, balance FROM ledger_accounts;

-- One row per movement of money other than metered use; its postings have movement_id = id, the first has its id.
CREATE TABLE movements (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL CHECK (kind IN ('grant', 'payment', 'bonus', 'promotion', 'plan_fee', 'charge', 'refund',
        'dispute', 'dispute_won', 'correction', 'expiry')),
    idempotency_key TEXT NULL UNIQUE,
    amount INTEGER NOT NULL CHECK (amount <> 0),     -- as asked for; negative takes
    tax INTEGER NOT NULL DEFAULT 0 CHECK (tax >= 0),
    credited INTEGER NOT NULL,                       -- what credits and bonus changed by
    owed INTEGER NOT NULL,                           -- what the debt changed by
    note TEXT NOT NULL DEFAULT '',
    reference TEXT NOT NULL DEFAULT '',
    product TEXT NOT NULL DEFAULT '',
    expires_at INTEGER NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX movements_account ON movements (account_id, id);

-- account_id, seq, hash: the chain of the account's postings. hash = SHA-256 of the hash before, the posting's fields and
-- records_digest. records_digest = SHA-256 of the digests of what the posting stands for: the usage records that it
-- charges, in order of their ids, or the movement. record_digests: those digests where there are several.
-- movement_id of usage: id of the first of the postings that charge these records.
CREATE TABLE postings_new (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NULL,
    seq INTEGER NULL,
    debit_account INTEGER NOT NULL REFERENCES ledger_accounts_new (id),
    credit_account INTEGER NOT NULL REFERENCES ledger_accounts_new (id),
    amount INTEGER NOT NULL CHECK (typeof(amount) = 'integer' AND amount > 0),
    -- Not IN: for more than two words SQLite fills a temporary b-tree with them, for each row.
    kind TEXT NOT NULL CHECK (kind = 'usage' OR kind = 'grant' OR kind = 'payment' OR kind = 'bonus'
        OR kind = 'promotion' OR kind = 'plan_fee' OR kind = 'charge' OR kind = 'refund' OR kind = 'dispute'
        OR kind = 'dispute_won' OR kind = 'correction' OR kind = 'expiry'),
    movement_id INTEGER NULL,
    records_digest BLOB NULL,
    record_digests BLOB NULL,
    hash BLOB NULL,
    created_at INTEGER NOT NULL,
    CHECK (debit_account <> credit_account),
    CHECK ((seq IS NULL) = (hash IS NULL))
);
INSERT INTO movements (id, account_id, kind, idempotency_key, amount, credited, owed, note, created_at)
    SELECT p.id, d.account_id, p.kind, p.idempotency_key,
        CASE d.kind WHEN 'customer_credits' THEN -p.amount ELSE p.amount END,
        CASE d.kind WHEN 'customer_credits' THEN -p.amount ELSE p.amount END, 0, p.note, p.created_at
    FROM postings p JOIN ledger_accounts d ON d.id = p.debit_account
    WHERE p.kind <> 'usage' AND d.account_id IS NOT NULL;
INSERT INTO postings_new (id, account_id, debit_account, credit_account, amount, kind, movement_id, created_at)
    SELECT p.id, d.account_id, p.debit_account, p.credit_account, p.amount, p.kind,
        CASE WHEN p.kind = 'usage' OR d.account_id IS NOT NULL THEN p.id END, p.created_at
    FROM postings p JOIN ledger_accounts d ON d.id = p.debit_account;

DROP TABLE postings;
DROP TABLE ledger_accounts;
ALTER TABLE ledger_accounts_new RENAME TO ledger_accounts;
ALTER TABLE postings_new RENAME TO postings;
CREATE UNIQUE INDEX postings_chain ON postings (account_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX postings_unchained ON postings (id) WHERE seq IS NULL;

CREATE TRIGGER ledger_accounts_start_empty BEFORE INSERT ON ledger_accounts WHEN NEW.balance <> 0
BEGIN
    SELECT RAISE(ABORT, 'a ledger account starts empty: money moves by postings');
END;
CREATE TRIGGER postings_move_money AFTER INSERT ON postings
BEGIN
    UPDATE ledger_accounts SET balance = balance - NEW.amount WHERE id = NEW.debit_account;
    UPDATE ledger_accounts SET balance = balance + NEW.amount WHERE id = NEW.credit_account;
END;
CREATE TRIGGER postings_no_update BEFORE UPDATE ON postings
BEGIN
    SELECT RAISE(ABORT, 'postings are append-only: correct with a new one');
END;
CREATE TRIGGER postings_no_delete BEFORE DELETE ON postings
BEGIN
    SELECT RAISE(ABORT, 'postings are append-only: correct with a new one');
END;

-- The end of each account's chain; the row that whoever moves an account's money locks. sliced: leased to nodes.
CREATE TABLE ledger_chains (
    account_id INTEGER PRIMARY KEY REFERENCES accounts (id),
    length INTEGER NOT NULL DEFAULT 0 CHECK (length >= 0),
    hash BLOB NOT NULL,
    sliced INTEGER NOT NULL DEFAULT 0 CHECK (sliced >= 0)
);
INSERT INTO ledger_chains (account_id, hash)
    SELECT account_id, zeroblob(32) FROM ledger_accounts WHERE kind = 'customer_credits' AND account_id IS NOT NULL;

-- Bonus credits by expiry. remaining is exact whenever a lot was added; since then the earliest to expire were spent first.
CREATE TABLE credit_lots (
    id INTEGER PRIMARY KEY,  -- of the movement
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    amount INTEGER NOT NULL CHECK (amount > 0),
    remaining INTEGER NOT NULL CHECK (remaining >= 0 AND remaining <= amount),
    expires_at INTEGER NULL
);
CREATE INDEX credit_lots_account ON credit_lots (account_id) WHERE remaining > 0;
CREATE INDEX credit_lots_expiry ON credit_lots (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;

ALTER TABLE usage_records ADD COLUMN quota_input INTEGER NOT NULL DEFAULT 0 CHECK (quota_input >= 0);
ALTER TABLE usage_records ADD COLUMN quota_output INTEGER NOT NULL DEFAULT 0 CHECK (quota_output >= 0);
ALTER TABLE usage_records ADD COLUMN price_request INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage_records ADD COLUMN product TEXT NOT NULL DEFAULT 'llm';

-- Sums of usage_records, kept in the transaction that inserts them. hour: start of the hour (UTC, microseconds) in which
-- the request started.
CREATE TABLE usage_hours (
    account_id INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    model TEXT NOT NULL,
    product TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    quota_input INTEGER NOT NULL,
    quota_output INTEGER NOT NULL,
    charge INTEGER NOT NULL CHECK (charge >= 0),
    written_off INTEGER NOT NULL CHECK (written_off >= 0),
    PRIMARY KEY (account_id, hour, key_id, model, product)
) WITHOUT ROWID;
INSERT INTO usage_hours
    SELECT account_id, started_at - started_at % 3600000000, key_id, model, product, COUNT(*), SUM(input_tokens),
        SUM(cached_tokens), SUM(output_tokens), 0, 0, SUM(charge), SUM(written_off)
    FROM usage_records GROUP BY 1, 2, 3, 4, 5;

-- Key pairs of this installation, made at first start; receipts are signed with 'receipts'. Hex.
CREATE TABLE server_keys (
    name TEXT PRIMARY KEY,
    public_key TEXT NOT NULL,
    secret_key TEXT NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

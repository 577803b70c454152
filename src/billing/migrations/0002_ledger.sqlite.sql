-- Chart of accounts. Each customer has a set of its own (credits, and where they come from and go to), so that no row is
-- shared by everybody and each customer's books balance by themselves. account_id is NULL for the operator's accounts.
-- balance = credits - debits, kept by the trigger below.
CREATE TABLE ledger_accounts (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NULL REFERENCES accounts (id),
    kind TEXT NOT NULL CHECK (kind IN
        ('customer_credits', 'revenue', 'grants', 'payments', 'promotions', 'write_off')),
    balance INTEGER NOT NULL DEFAULT 0 CHECK (typeof(balance) = 'integer'),
    CHECK (kind <> 'customer_credits' OR balance >= 0),
    UNIQUE (account_id, kind)
);
CREATE TRIGGER ledger_accounts_start_empty BEFORE INSERT ON ledger_accounts WHEN NEW.balance <> 0
BEGIN
    SELECT RAISE(ABORT, 'a ledger account starts empty: money moves by postings');
END;
CREATE TABLE postings (
    id INTEGER PRIMARY KEY,
    debit_account INTEGER NOT NULL REFERENCES ledger_accounts (id),
    credit_account INTEGER NOT NULL REFERENCES ledger_accounts (id),
    amount INTEGER NOT NULL CHECK (typeof(amount) = 'integer' AND amount > 0),
    -- Not IN: for more than two words SQLite fills a temporary b-tree with them, for each row.
    kind TEXT NOT NULL CHECK (kind = 'usage' OR kind = 'grant' OR kind = 'payment' OR kind = 'promotion'
        OR kind = 'correction'),
    idempotency_key TEXT NULL,
    note TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    CHECK (debit_account <> credit_account)
);
CREATE UNIQUE INDEX postings_idempotency_key ON postings (idempotency_key) WHERE idempotency_key IS NOT NULL;
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

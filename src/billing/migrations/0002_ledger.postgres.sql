-- Chart of accounts. Each customer has a set of its own (credits, and where they come from and go to), so that no row is
-- shared by everybody and each customer's books balance by themselves. account_id is NULL for the operator's accounts.
-- balance = credits - debits, kept by the trigger below.
CREATE TABLE ledger_accounts (
    id BIGINT PRIMARY KEY,
    account_id BIGINT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL CHECK (kind IN
        ('customer_credits', 'revenue', 'grants', 'payments', 'promotions', 'write_off')),
    balance BIGINT NOT NULL DEFAULT 0,
    CHECK (kind <> 'customer_credits' OR balance >= 0),
    UNIQUE (account_id, kind)
) WITH (fillfactor = 70);
CREATE FUNCTION ledger_accounts_start_empty() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.balance <> 0 THEN
        RAISE EXCEPTION 'a ledger account starts empty: money moves by postings';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ledger_accounts_start_empty BEFORE INSERT ON ledger_accounts
    FOR EACH ROW EXECUTE FUNCTION ledger_accounts_start_empty();
CREATE TABLE postings (
    id BIGINT PRIMARY KEY,
    debit_account BIGINT NOT NULL REFERENCES ledger_accounts (id),
    credit_account BIGINT NOT NULL REFERENCES ledger_accounts (id),
    amount BIGINT NOT NULL CHECK (amount > 0),
    kind TEXT NOT NULL CHECK (kind IN ('usage', 'grant', 'payment', 'promotion', 'correction')),
    idempotency_key TEXT NULL,
    note TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    CHECK (debit_account <> credit_account)
);
CREATE UNIQUE INDEX postings_idempotency_key ON postings (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE FUNCTION postings_move_money() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ledger_accounts SET balance = balance - NEW.amount WHERE id = NEW.debit_account;
    UPDATE ledger_accounts SET balance = balance + NEW.amount WHERE id = NEW.credit_account;
    RETURN NULL;
END $$;
CREATE TRIGGER postings_move_money AFTER INSERT ON postings
    FOR EACH ROW EXECUTE FUNCTION postings_move_money();
CREATE FUNCTION postings_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'postings are append-only: correct with a new one';
END $$;
CREATE TRIGGER postings_append_only BEFORE UPDATE OR DELETE ON postings
    FOR EACH ROW EXECUTE FUNCTION postings_append_only();
CREATE TRIGGER postings_no_truncate BEFORE TRUNCATE ON postings
    FOR EACH STATEMENT EXECUTE FUNCTION postings_append_only();

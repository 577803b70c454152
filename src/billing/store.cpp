#include "billing/store.hpp"

#include <array>

#include "base/check.hpp"

namespace nebula::billing {
namespace {

using store::Param;
using store::Row;
using store::Sql;
using store::Tx;

constexpr Sql sql_load{"billing.load_account",
                       "SELECT c.id, r.id, g.id, c.balance FROM accounts a"
                       " LEFT JOIN ledger_accounts c ON c.account_id = a.id AND c.kind = 'customer_credits'"
                       " LEFT JOIN ledger_accounts r ON r.account_id = a.id AND r.kind = 'revenue'"
                       " LEFT JOIN ledger_accounts g ON g.account_id = a.id AND g.kind = 'grants'"
                       " WHERE a.id = $1"};
constexpr Sql sql_add_ledger{"billing.add_ledger",
                             "INSERT INTO ledger_accounts (id, account_id, kind) VALUES ($1, $2, $3)"
                             " ON CONFLICT (account_id, kind) DO NOTHING"};
constexpr Sql sql_lock_credits{"billing.lock_credits", "SELECT balance FROM ledger_accounts WHERE id = $1",
                               "SELECT balance FROM ledger_accounts WHERE id = $1 FOR UPDATE"};

constexpr Sql sql_by_key{"billing.posting_by_key",
                         "SELECT p.amount, p.kind, p.note, d.account_id, d.kind FROM postings p"
                         " JOIN ledger_accounts d ON d.id = p.debit_account"
                         " WHERE p.idempotency_key = $1"};
constexpr Sql sql_posting_exists{"billing.posting_exists", "SELECT 1 FROM postings WHERE id = $1"};
constexpr Sql sql_insert_posting{"billing.insert_posting",
                                 "INSERT INTO postings (id, debit_account, credit_account, amount, kind, "
                                 "idempotency_key, note, created_at)"
                                 " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"};
constexpr Sql sql_insert_usage_posting{
    "billing.insert_usage_posting",
    "INSERT INTO postings (id, debit_account, credit_account, amount, kind, created_at)"
    " VALUES ($1, $2, $3, $4, 'usage', $5)"};

constexpr Sql sql_insert_usage{
    "billing.insert_usage",
    "INSERT INTO usage_records (account_id, id, key_id, model, provider, input_tokens, cached_tokens,"
    " output_tokens, price_input_per_m, price_output_per_m, price_cached_input_per_m, is_estimated, "
    "is_streamed,"
    " outcome, status, started_at, latency_us, first_token_us, charge, written_off, posting_id)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
    " ON CONFLICT (account_id, id) DO NOTHING"};
constexpr std::size_t usage_columns = 21;
constexpr Sql sql_recorded{"billing.recorded_usage",
                           "SELECT posting_id, charge, written_off FROM usage_records"
                           " WHERE account_id = $1 AND id = $2"};
constexpr Sql sql_list_usage{
    "billing.list_usage",
    "SELECT id, key_id, model, provider, input_tokens, cached_tokens, output_tokens, price_input_per_m,"
    " price_output_per_m, price_cached_input_per_m, is_estimated, is_streamed, outcome, status, started_at,"
    " latency_us, first_token_us FROM usage_records WHERE account_id = $1 ORDER BY id DESC LIMIT $2"};

constexpr std::array outcomes = {Outcome::completed, Outcome::client_left, Outcome::upstream_failed,
                                 Outcome::cancelled};

Outcome parse_outcome(std::string_view text) {
    for (Outcome outcome : outcomes)
        if (text == outcome_name(outcome)) return outcome;
    throw store::DbError("usage_records.outcome has an unknown value");
}

Param text(std::string_view value) { return value; }

}  // namespace

const char* outcome_name(Outcome outcome) {
    switch (outcome) {
        case Outcome::completed:
            return "completed";
        case Outcome::client_left:
            return "client_left";
        case Outcome::upstream_failed:
            return "upstream_failed";
        case Outcome::cancelled:
            return "cancelled";
    }
    return "completed";
}

std::optional<LedgerIds> load_account(Tx& tx, AccountId account) {
    std::optional<LedgerIds> found;
    tx.query(sql_load, {account.db()}, [&](const Row& row) {
        auto id = [&row](int column) { return row.is_null(column) ? 0 : row.i64(column); };
        found = LedgerIds{id(0), id(1), id(2), Nanos{id(3)}};
    });
    return found;
}

LedgerIds ensure_ledger(Tx& tx, AccountId account, const Clock& clock) {
    auto found = load_account(tx, account);
    if (found && (found->credits == 0 || found->revenue == 0 || found->grants == 0)) {
        for (const char* kind : {"customer_credits", "revenue", "grants"})
            tx.exec(sql_add_ledger, {PostingId::next(clock).db(), account.db(), text(kind)});
        found = load_account(tx, account);
    }
    if (!found) throw store::DbError("the account disappeared");
    tx.one(sql_lock_credits, {found->credits}, [&](const Row& row) { found->balance = Nanos{row.i64(0)}; });
    return *found;
}

Earlier earlier_grant(Tx& tx, const Grant& grant) {
    if (grant.key.empty()) return Earlier::none;
    Earlier earlier = Earlier::none;
    tx.query(sql_by_key, {text(grant.key)}, [&](const Row& row) {
        bool is_back = row.text(4) == "customer_credits";  // debited: taken back
        Nanos amount{is_back ? -row.i64(0) : row.i64(0)};
        bool is_same = row.text(1) == "grant" && row.text(2) == grant.note && !row.is_null(3) &&
                       row.i64(3) == grant.account.db() && amount == grant.amount;
        earlier = is_same ? Earlier::same : Earlier::other;
    });
    return earlier;
}

void insert_grant(Tx& tx, const LedgerIds& ledger, const Grant& grant, Time now) {
    bool is_back = grant.amount < Nanos{};
    Param key = grant.key.empty() ? Param(nullptr) : text(grant.key);
    tx.exec(sql_insert_posting,
            {grant.posting.db(), is_back ? ledger.credits : ledger.grants,
             is_back ? ledger.grants : ledger.credits, is_back ? -grant.amount.value : grant.amount.value,
             text("grant"), key, text(grant.note), to_micros(now)});
}

bool posting_exists(Tx& tx, PostingId posting) {
    return tx.one(sql_posting_exists, {posting.db()}, [](const Row&) {});
}

bool insert_batch(Tx& tx, std::span<Entry* const> entries, BatchBuffer& buffer, Time now) {
    std::vector<Param>& values = buffer.values;
    values.clear();
    for (const UsagePosting& posting : buffer.postings) {
        CHECK(posting.state->credits_ledger != 0, "only granted money is ever charged");
        values.insert(values.end(), {posting.id.db(), posting.state->credits_ledger,
                                     posting.state->revenue_ledger, posting.amount.value, to_micros(now)});
    }
    if (!buffer.postings.empty()) tx.exec_many(sql_insert_usage_posting, 5, values);

    values.clear();
    values.reserve(entries.size() * usage_columns);
    for (const Entry* entry : entries) {
        const UsageRecord& r = entry->record;
        values.emplace_back(r.account.db());
        values.emplace_back(r.id.db());
        values.emplace_back(r.key.db());
        values.emplace_back(text(r.model));
        values.emplace_back(text(r.provider));
        values.emplace_back(r.usage.input);
        values.emplace_back(r.usage.cached);
        values.emplace_back(r.usage.output);
        values.emplace_back(r.prices.input_per_m.value);
        values.emplace_back(r.prices.output_per_m.value);
        values.emplace_back(r.prices.cached_input_per_m.value);
        values.emplace_back(std::int64_t{r.is_estimated});
        values.emplace_back(std::int64_t{r.is_streamed});
        values.emplace_back(text(outcome_name(r.outcome)));
        values.emplace_back(std::int64_t{r.status});
        values.emplace_back(to_micros(r.started_at));
        values.emplace_back(r.latency_us);
        values.emplace_back(r.first_token_us);
        values.emplace_back(entry->settled.charge.value);
        values.emplace_back(entry->settled.written_off.value);
        values.emplace_back(entry->posting ? Param(entry->posting.db()) : Param(nullptr));
    }
    std::int64_t inserted = tx.exec_many(sql_insert_usage, usage_columns, values);
    return inserted == static_cast<std::int64_t>(entries.size());
}

std::optional<Recorded> recorded_usage(Tx& tx, AccountId account, RequestId id) {
    std::optional<Recorded> found;
    tx.query(sql_recorded, {account.db(), id.db()}, [&](const Row& row) {
        PostingId posting = row.is_null(0) ? PostingId{} : PostingId::from_db(row.i64(0));
        found = Recorded{posting, {Nanos{row.i64(1)}, Nanos{row.i64(2)}}};
    });
    return found;
}

std::vector<UsageRecord> list_usage(Tx& tx, AccountId account, std::int64_t limit) {
    std::vector<UsageRecord> records;
    tx.query(sql_list_usage, {account.db(), limit}, [&](const Row& row) {
        UsageRecord& r = records.emplace_back();
        r.id = RequestId::from_db(row.i64(0));
        r.account = account;
        r.key = KeyId::from_db(row.i64(1));
        r.model = row.text(2);
        r.provider = row.text(3);
        r.usage = {row.i64(4), row.i64(5), row.i64(6)};
        r.prices = {Nanos{row.i64(7)}, Nanos{row.i64(8)}, Nanos{row.i64(9)}};
        r.is_estimated = row.i64(10) != 0;
        r.is_streamed = row.i64(11) != 0;
        r.outcome = parse_outcome(row.text(12));
        r.status = static_cast<int>(row.i64(13));
        r.started_at = from_micros(row.i64(14));
        r.latency_us = row.i64(15);
        r.first_token_us = row.i64(16);
    });
    return records;
}

}  // namespace nebula::billing

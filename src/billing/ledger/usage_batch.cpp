// A batch of charged usage records: the hot path of the ledger. On PostgreSQL a constant number of round
// trips, whatever the batch.

#include <algorithm>
#include <tuple>

#include "billing/ledger/receipt.hpp"
#include "billing/store.hpp"

namespace nebula::billing {
namespace {

using ledger::Posting;
using store::Param;
using store::Row;
using store::Sql;
using store::Tx;

// SQLite: who writes is alone, so nothing is locked, and all there is to know of an account is one row. It is
// read once: every change of a balance moves the chain, so an account whose chain still ends where the last
// batch left it stands as it did then. The update that moves the chain on checks just that.
constexpr Sql sql_charged{
    "billing.charged_account",
    "SELECT c.length, c.hash, p.id, p.balance, b.id, b.balance, r.id FROM ledger_chains c"
    " JOIN ledger_accounts p ON p.account_id = c.account_id AND p.kind = 'customer_credits'"
    " JOIN ledger_accounts r ON r.account_id = c.account_id AND r.kind = 'revenue'"
    " LEFT JOIN ledger_accounts b ON b.account_id = c.account_id AND b.kind = 'customer_bonus'"
    " WHERE c.account_id = $1"};
// PostgreSQL.
constexpr Sql sql_lock{"billing.lock_chains",
                       "SELECT account_id, length, hash FROM ledger_chains"
                       " WHERE account_id = ANY(CAST(CAST($1 AS TEXT) AS BIGINT[])) ORDER BY account_id"
                       " FOR UPDATE"};
// A statement of its own: it sees what those committed for whom the lock was waiting.
constexpr Sql sql_ledger{"billing.batch_ledger",
                         "SELECT account_id, kind, id, balance FROM ledger_accounts"
                         " WHERE account_id = ANY(CAST(CAST($1 AS TEXT) AS BIGINT[])) AND"
                         " (kind = 'customer_credits' OR kind = 'customer_bonus' OR kind = 'revenue')"
                         " ORDER BY account_id"};
constexpr Sql sql_move_chain{"billing.move_chain",
                             "UPDATE ledger_chains SET length = $2, hash = $3, sliced = sliced - $4"
                             " WHERE account_id = $1 AND length = $5 AND hash = $6"};
constexpr std::size_t remembered_max = 4096;  // accounts
constexpr Sql sql_update_chains{"billing.update_chains",
                                "UPDATE ledger_chains SET length = $2, hash = $3, sliced = sliced - $4"
                                " WHERE account_id = $1"};
// Most batches have tokens, plain and cached, and nothing else: those leave the further columns alone.
#define INSERT_USAGE                                                                                   \
    "INSERT INTO usage_records (account_id, id, key_id, model, provider, input_tokens, cached_tokens," \
    " output_tokens, price_input_per_m, price_output_per_m, price_cached_input_per_m, is_estimated,"   \
    " is_streamed, outcome, status, started_at, latency_us, first_token_us, charge, written_off,"      \
    " posting_id, quota_input, quota_output, price_request, product"
#define INSERT_USAGE_VALUES                                                                           \
    "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21," \
    " $22, $23, $24, $25"
constexpr Sql sql_insert_usage{"billing.insert_usage", INSERT_USAGE
                               ") VALUES (" INSERT_USAGE_VALUES ") ON CONFLICT (account_id, id) DO NOTHING"};
constexpr Sql sql_insert_all{"billing.insert_usage_apart",
                             INSERT_USAGE "," USAGE_APART ") VALUES (" INSERT_USAGE_VALUES
                                          ", $26, $27, $28, $29, $30, $31, $32, $33)"
                                          " ON CONFLICT (account_id, id) DO NOTHING"};
#undef INSERT_USAGE
#undef INSERT_USAGE_VALUES
constexpr std::size_t usage_columns = 25, all_usage_columns = 33;
#define ADD_HOURS_INTO                                                                           \
    "INSERT INTO usage_hours (account_id, hour, key_id, model, product, requests, input_tokens," \
    " cached_tokens, output_tokens, quota_input, quota_output, charge, written_off"
#define ADD_HOURS_UPDATE                                                    \
    " ON CONFLICT (account_id, hour, key_id, model, product) DO UPDATE SET" \
    " requests = usage_hours.requests + excluded.requests,"                 \
    " input_tokens = usage_hours.input_tokens + excluded.input_tokens,"     \
    " cached_tokens = usage_hours.cached_tokens + excluded.cached_tokens,"  \
    " output_tokens = usage_hours.output_tokens + excluded.output_tokens,"  \
    " quota_input = usage_hours.quota_input + excluded.quota_input,"        \
    " quota_output = usage_hours.quota_output + excluded.quota_output,"     \
    " charge = usage_hours.charge + excluded.charge,"                       \
    " written_off = usage_hours.written_off + excluded.written_off"
constexpr Sql sql_add_hours{
    "billing.add_hours",
    ADD_HOURS_INTO ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)" ADD_HOURS_UPDATE};
constexpr Sql sql_add_all_hours{
    "billing.add_hours_apart", ADD_HOURS_INTO
    ", cache_write_tokens, reasoning_tokens, units)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)" ADD_HOURS_UPDATE
    ", cache_write_tokens = usage_hours.cache_write_tokens + excluded.cache_write_tokens,"
    " reasoning_tokens = usage_hours.reasoning_tokens + excluded.reasoning_tokens,"
    " units = usage_hours.units + excluded.units"};
#undef ADD_HOURS_INTO
#undef ADD_HOURS_UPDATE
constexpr std::size_t key_columns = 5;

/// Ids come from the counter of this process whatever the clock says; time only makes them sort.
class FixedClock final : public Clock {
   public:
    explicit FixedClock(Time now) : now_(now) {}
    Time now() const override { return now_; }
    Ticks ticks() const override { return {}; }

   private:
    Time now_;
};

/// The three orders of a batch are mostly the same one: that of the ids of an only account's records.
template <class Key>
void order_by(std::vector<const Entry*>& entries, Key key) {
    if (!std::ranges::is_sorted(entries, {}, key)) std::ranges::sort(entries, {}, key);
}

void check_known(const Charged& one) {
    if (!one.is_known || one.credits == 0 || one.revenue == 0)
        throw store::DbError("only granted money is ever charged");
}

void load_charged(Tx& tx, Charged& one) {
    std::int64_t account = one.account;
    one = {};
    one.account = account;
    tx.query(sql_charged, {one.account}, [&one](const Row& row) {
        one.end = {row.i64(0), ledger::hash_from(row.blob(1))};
        one.is_known = true;
        one.credits = row.i64(2);
        one.paid_left = Nanos{row.i64(3)};
        one.revenue = row.i64(6);
        if (row.is_null(4)) return;
        one.bonus = row.i64(4);
        one.bonus_left = Nanos{row.i64(5)};
    });
    check_known(one);
}

void lock_all(Tx& tx, std::vector<Charged>& charged, std::span<const std::int64_t> ids) {
    std::string list = ledger::id_list(tx.engine(), ids);
    auto of = [&](std::int64_t account) -> Charged& {
        return *std::ranges::lower_bound(charged, account, {}, &Charged::account);
    };
    tx.query(sql_lock, {std::string_view(list)}, [&](const Row& row) {
        Charged& one = of(row.i64(0));
        one.end = {row.i64(1), ledger::hash_from(row.blob(2))};
        one.is_known = true;
    });
    tx.query(sql_ledger, {std::string_view(list)}, [&](const Row& row) {
        Charged& one = of(row.i64(0));
        std::string_view kind = row.text(1);
        if (kind == "revenue") {
            one.revenue = row.i64(2);
        } else {
            bool is_bonus = kind == "customer_bonus";
            (is_bonus ? one.bonus : one.credits) = row.i64(2);
            (is_bonus ? one.bonus_left : one.paid_left) = Nanos{row.i64(3)};
        }
    });
}

std::vector<Charged> lock_charged(Tx& tx, const BatchBuffer& buffer) {
    std::vector<std::int64_t> ids;
    ids.reserve(buffer.postings.size());
    for (const UsagePosting& posting : buffer.postings) ids.push_back(posting.state->id.db());
    std::ranges::sort(ids);
    ids.erase(std::ranges::unique(ids).begin(), ids.end());
    std::vector<Charged> charged(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) charged[i].account = ids[i];
    if (tx.engine() == store::Engine::postgres) {
        lock_all(tx, charged, ids);
        for (const Charged& one : charged) check_known(one);
        return charged;
    }
    for (Charged& one : charged) {
        auto at = buffer.remembered.find(one.account);
        if (at != buffer.remembered.end())
            one = at->second;
        else
            load_charged(tx, one);
    }
    return charged;
}

bool any_apart(const BatchBuffer& buffer) {
    return std::ranges::any_of(buffer.sorted, [](const Entry* entry) { return has_apart(entry->record); });
}

bool insert_records(Tx& tx, BatchBuffer& buffer) {
    std::vector<Param>& values = buffer.values;
    bool is_apart = any_apart(buffer);
    std::size_t columns = is_apart ? all_usage_columns : usage_columns;
    values.clear();
    values.reserve(buffer.sorted.size() * columns);
    for (const Entry* entry : buffer.sorted) {
        const UsageRecord& r = entry->record;
        const Settled& settled = entry->settled;
        values.emplace_back(r.account.db());
        values.emplace_back(r.id.db());
        values.emplace_back(r.key.db());
        values.emplace_back(std::string_view(r.model));
        values.emplace_back(std::string_view(r.provider));
        values.emplace_back(r.usage.input);
        values.emplace_back(r.usage.cached);
        values.emplace_back(r.usage.output);
        values.emplace_back(r.prices.input_per_m.value);
        values.emplace_back(r.prices.output_per_m.value);
        values.emplace_back(r.prices.cached_input_per_m.value);
        values.emplace_back(std::int64_t{r.is_estimated});
        values.emplace_back(std::int64_t{r.is_streamed});
        values.emplace_back(std::string_view(outcome_name(r.outcome)));
        values.emplace_back(std::int64_t{r.status});
        values.emplace_back(to_micros(r.started_at));
        values.emplace_back(r.latency_us);
        values.emplace_back(r.first_token_us);
        values.emplace_back(settled.charge.value);
        values.emplace_back(settled.written_off.value);
        values.emplace_back(entry->posting ? Param(entry->posting.db()) : Param(nullptr));
        values.emplace_back(settled.quota_input);
        values.emplace_back(settled.quota_output);
        values.emplace_back(r.prices.request.value);
        values.emplace_back(std::string_view(r.product));
        if (is_apart)
            values.insert(values.end(), {r.usage.cache_write, r.usage.reasoning, r.usage.units,
                                         std::string_view(r.unit), r.prices.cache_write_per_m.value,
                                         r.prices.reasoning_per_m.value, r.prices.unit.value, r.byok_ppm});
    }
    std::int64_t inserted = tx.exec_many(is_apart ? sql_insert_all : sql_insert_usage, columns, values);
    return inserted == static_cast<std::int64_t>(buffer.sorted.size());
}

/// One or two postings for the charge of one UsagePosting; `digests` are its records' digests. False when the
/// account does not have what was charged.
bool charge(BatchBuffer& buffer, Charged& one, const UsagePosting& usage, std::string_view digests,
            const Clock& clock) {
    Nanos from_bonus = std::min(usage.amount, one.bonus_left);
    Nanos from_paid = usage.amount - from_bonus;
    if (from_paid > one.paid_left) return false;
    one.bonus_left -= from_bonus;
    one.paid_left -= from_paid;
    one.unsliced += usage.unsliced;
    Posting posting;
    posting.id = posting.movement = usage.id;
    posting.account = usage.state->id;
    posting.credit = one.revenue;
    posting.kind = "usage";
    posting.created_at = clock.now();
    posting.records_digest = ledger::digest_of_digests(digests);
    if (digests.size() > sizeof(Sha256::bytes)) posting.record_digests = digests;
    auto add = [&](std::int64_t debit, Nanos amount) {
        if (amount == Nanos{}) return;
        posting.debit = debit;
        posting.amount = amount;
        ledger::seal(one.end, posting);
        buffer.sealed.push_back(posting);
        posting.id = {};
    };
    add(one.bonus, from_bonus);
    if (!posting.id) posting.id = PostingId::next(clock);
    if (from_paid > Nanos{} && from_bonus > Nanos{}) posting.record_digests = {};  // the first has them
    add(one.credits, from_paid);
    return true;
}

/// Digests of the records of each posting, both in the order of accounts and postings.
void digest_records(BatchBuffer& buffer) {
    std::ranges::sort(buffer.postings, {},
                      [](const UsagePosting& p) { return std::pair(p.state->id, p.id); });
    order_by(buffer.sorted,
             [](const Entry* e) { return std::tuple(e->record.account, e->posting, e->record.id); });
    // Digests lie in one piece, in the order of `sorted`: those of a posting are a part of it.
    buffer.digests.clear();
    buffer.digests.reserve(buffer.sorted.size() * sizeof(Sha256::bytes));  // never moves below
    buffer.digests_of.clear();
    auto entry = buffer.sorted.begin();
    for (const UsagePosting& usage : buffer.postings) {
        auto is_before = [&](const Entry* e) {
            return std::pair(e->record.account, e->posting) < std::pair(usage.state->id, usage.id);
        };
        while (entry != buffer.sorted.end() && is_before(*entry)) ++entry;
        std::size_t from = buffer.digests.size();
        for (; entry != buffer.sorted.end() && (*entry)->posting == usage.id; ++entry) {
            Sha256 digest = ledger::record_digest((*entry)->record, (*entry)->settled);
            buffer.digests.insert(buffer.digests.end(), digest.bytes.begin(), digest.bytes.end());
        }
        buffer.digests_of.emplace_back(buffer.digests.data() + from, buffer.digests.size() - from);
    }
}

/// Seals the account's postings, those from `from` to `to`. False when it does not have what was charged.
bool seal_all(BatchBuffer& buffer, Charged& one, std::size_t from, std::size_t to, const Clock& clock) {
    for (std::size_t i = from; i < to; ++i)
        if (!charge(buffer, one, buffer.postings[i], buffer.digests_of[i], clock)) return false;
    return true;
}

/// SQLite. False when the chain does not end at `before`.
bool move_chain(Tx& tx, const ledger::ChainEnd& before, const Charged& after) {
    return tx.exec(sql_move_chain,
                   {after.account, after.end.length, store::Blob{ledger::bytes_of(after.end.hash)},
                    after.unsliced.value, before.length, store::Blob{ledger::bytes_of(before.hash)}}) == 1;
}

void post_charges(Tx& tx, std::vector<Charged>& charged, BatchBuffer& buffer, Time now) {
    digest_records(buffer);
    buffer.sealed.clear();
    FixedClock clock(now);
    bool is_sqlite = tx.engine() == store::Engine::sqlite;
    if (buffer.remembered.size() > remembered_max) buffer.remembered.clear();
    const auto& postings = buffer.postings;
    std::size_t from = 0, to = 0;
    for (Charged& one : charged) {
        for (from = to; to < postings.size() && postings[to].state->id.db() == one.account;) ++to;
        std::size_t sealed = buffer.sealed.size();
        ledger::ChainEnd before = one.end;
        bool is_done = seal_all(buffer, one, from, to, clock) && (!is_sqlite || move_chain(tx, before, one));
        if (!is_done && is_sqlite) {
            // What was remembered is no longer so.
            load_charged(tx, one);
            before = one.end;
            buffer.sealed.resize(sealed);
            is_done = seal_all(buffer, one, from, to, clock) && move_chain(tx, before, one);
        }
        if (!is_done) throw store::DbError("the ledger does not have what was charged");
        if (is_sqlite) {
            Charged& kept = buffer.remembered[one.account] = one;
            kept.unsliced = {};
        }
    }
    ledger::insert_postings(tx, buffer.sealed, buffer.values);
    if (is_sqlite) return;
    std::vector<Param>& values = buffer.values;
    values.clear();
    for (const Charged& one : charged)
        values.insert(values.end(), {one.account, one.end.length, store::Blob{ledger::bytes_of(one.end.hash)},
                                     one.unsliced.value});
    tx.exec_many(sql_update_chains, 4, values);
}

std::int64_t hour_of(Time time) { return to_micros(std::chrono::floor<std::chrono::hours>(time)); }

void add_hours(Tx& tx, BatchBuffer& buffer) {
    auto group = [](const Entry* e) {
        const UsageRecord& r = e->record;
        return std::tuple(r.account.db(), hour_of(r.started_at), r.key.db(), std::string_view(r.model),
                          std::string_view(r.product));
    };
    // In this order on every node, so that two batches never wait for each other.
    order_by(buffer.sorted, group);
    bool is_apart = any_apart(buffer);
    std::size_t columns = is_apart ? HourSums::all : HourSums::usual;
    std::vector<Param>& values = buffer.values;
    values.clear();
    auto& sorted = buffer.sorted;
    for (std::size_t from = 0, to = 0; from < sorted.size(); from = to) {
        auto key = group(sorted[from]);
        HourSums sums;
        for (; to < sorted.size() && group(sorted[to]) == key; ++to)
            sums.add(sorted[to]->record.usage, sorted[to]->settled);
        const auto& [account, hour, key_id, model, product] = key;
        values.insert(values.end(), {account, hour, key_id, model, product});
        for (std::size_t i = 0; i < columns; ++i) values.emplace_back(sums.values[i]);
    }
    tx.exec_many(is_apart ? sql_add_all_hours : sql_add_hours, key_columns + columns, values);
}

}  // namespace

bool insert_batch(Tx& tx, std::span<Entry* const> entries, BatchBuffer& buffer, Time now) {
    if (entries.empty()) return true;
    buffer.sorted.assign(entries.begin(), entries.end());
    order_by(buffer.sorted, [](const Entry* e) { return std::pair(e->record.account, e->record.id); });
    std::vector<Charged> charged;
    if (!buffer.postings.empty()) charged = lock_charged(tx, buffer);
    if (!insert_records(tx, buffer)) return false;
    if (!buffer.postings.empty()) post_charges(tx, charged, buffer, now);
    add_hours(tx, buffer);
    return true;
}

}  // namespace nebula::billing

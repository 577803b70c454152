#include "billing/bills/rerate.hpp"

#include <algorithm>

namespace nebula::billing::bills {

Nanos due_of(Nanos price, Nanos charge, Nanos written_off) {
    Nanos before = charge + written_off;
    return price > before ? charge + (price - before) : std::min(price, charge);
}

std::int64_t first_record_id(Time from) {
    using namespace std::chrono;
    // A record may be written long after its request got its id, never a month.
    constexpr std::int64_t ids_begin_ms = 1'704'067'200'000;  // 2024-01-01
    auto ms = duration_cast<milliseconds>(from.time_since_epoch() - days(31)).count() - ids_begin_ms;
    return ms <= 0 ? 0 : ms << 22;
}

RecordPage rate_page(store::Tx& tx, AccountId account, Window window, const PriceHistory& history,
                     std::int64_t after, std::int64_t limit) {
    static constexpr store::Sql read{
        "bills.rate_page",
        "SELECT r.id, r.model, r.started_at, r.input_tokens, r.cached_tokens, r.output_tokens, r.quota_input,"
        " r.quota_output, r.charge, r.written_off, c.due, r.cache_write_tokens, r.reasoning_tokens, r.units, "
        "r.byok_ppm "
        "FROM usage_records r LEFT JOIN usage_corrections c"
        " ON c.account_id = r.account_id AND c.usage_id = r.id"
        " WHERE r.account_id = $1 AND r.id > $2 ORDER BY r.id LIMIT $3"};
    RecordPage page;
    page.last = after;
    std::int64_t rows = 0;
    tx.query(read, {account.db(), after, limit}, [&](const store::Row& row) {
        ++rows;
        page.last = row.i64(0);
        Time started = from_micros(row.i64(2));
        if (started < window.from || started >= window.to) return;
        auto prices = history.at(row.text(1), started);
        if (!prices) return;
        ++page.rated;
        // Of what the customer's own key paid for, a share of the list price is due.
        if (row.i64(14) >= 0) prices = share_of(*prices, row.i64(14));
        TokenUsage usage{row.i64(3), row.i64(4), row.i64(5), row.i64(11), row.i64(12), row.i64(13)};
        Nanos price = charge_of(*prices, uncovered(usage, row.i64(6), row.i64(7)));
        Nanos charge{row.i64(8)};
        Rerating change{page.last, row.is_null(10) ? charge : Nanos{row.i64(10)},
                        due_of(price, charge, Nanos{row.i64(9)})};
        if (change.was != change.due) page.changes.push_back(change);
    });
    page.is_last = rows < limit;
    return page;
}

Result<void> remember(store::Tx& tx, AccountId account, const std::vector<Rerating>& changes,
                      std::string_view movement_key) {
    // Whoever corrected a record since it was read has left another value behind: then nothing is changed.
    static constexpr store::Sql upsert{
        "bills.remember_correction",
        "INSERT INTO usage_corrections (account_id, usage_id, due, movement_key) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (account_id, usage_id) DO UPDATE SET due = $3, movement_key = $4"
        " WHERE usage_corrections.due = $5"};
    std::vector<store::Param> values;
    values.reserve(changes.size() * 5);
    for (const Rerating& change : changes) {
        values.insert(values.end(), {account.db(), change.id, change.due.value, movement_key});
        values.emplace_back(change.was.value);
    }
    auto written = tx.exec_many(upsert, 5, values);
    if (written != static_cast<std::int64_t>(changes.size()))
        return fail(Code::conflict, "these records are being re-rated by somebody else: run it again");
    return {};
}

}  // namespace nebula::billing::bills

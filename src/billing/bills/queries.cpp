#include "billing/bills/queries.hpp"

#include <algorithm>
#include <array>
#include <map>

#include "base/text.hpp"
#include "billing/admission/allowances.hpp"

namespace nebula::billing::bills {
namespace {

constexpr std::int64_t hour_us = 3'600'000'000;
constexpr std::int64_t day_us = 24 * hour_us;

// SQL cuts hours, days and weeks; months are put together from days here.
struct Cut {
    std::int64_t size;
    std::int64_t offset;
};
Cut cut_of(Cycle cycle) {
    if (cycle == Cycle::hour) return {hour_us, 0};
    if (cycle == Cycle::week) return {7 * day_us, 4 * day_us};  // 1970-01-05 was a Monday
    return {day_us, 0};
}

std::string like_pattern(std::string_view part) {
    std::string out = "%";
    for (char c : to_lower(part)) {
        if (c == '%' || c == '_' || c == '!') out += '!';
        out += c;
    }
    return out + "%";
}

Time clamped(Time time) {
    // Microseconds of years that the database's numbers can be added to.
    return std::clamp(time, from_micros(0), from_micros(4'102'444'800'000'000 * 4));
}
Window clamped(Window window) { return {clamped(window.from), clamped(window.to)}; }
std::int64_t first_hour(Window window) { return to_micros(period_start(Cycle::hour, window.from)); }

constexpr const char* usage_sums =
    " CAST(sum(requests) AS BIGINT), CAST(sum(input_tokens) AS BIGINT), CAST(sum(cached_tokens) AS BIGINT),"
    " CAST(sum(output_tokens) AS BIGINT), CAST(sum(quota_input) AS BIGINT),"
    " CAST(sum(quota_output) AS BIGINT), CAST(sum(charge) AS BIGINT), CAST(sum(written_off) AS BIGINT),"
    " CAST(sum(cache_write_tokens) AS BIGINT), CAST(sum(reasoning_tokens) AS BIGINT),"
    " CAST(sum(units) AS BIGINT)"
    " FROM usage_hours WHERE account_id = $1 AND hour >= $2 AND hour < $3";

UsageSum read_sums(const store::Row& row, int at) {
    UsageSum sum;
    sum.requests = row.i64(at);
    sum.input = row.i64(at + 1);
    sum.cached = row.i64(at + 2);
    sum.output = row.i64(at + 3);
    sum.quota_input = row.i64(at + 4);
    sum.quota_output = row.i64(at + 5);
    sum.charge = Nanos{row.i64(at + 6)};
    sum.written_off = Nanos{row.i64(at + 7)};
    sum.cache_write = row.i64(at + 8);
    sum.reasoning = row.i64(at + 9);
    sum.units = row.i64(at + 10);
    return sum;
}

// One text per grouping and kind of filter, so that each is planned for what it does.
std::string sum_text(bool by_key, bool by_model) {
    return std::string("SELECT (hour - $5) / $4 * $4 + $5 AS start, ") + (by_key ? "key_id" : "0") +
           " AS key, product, " + (by_model ? "model" : "''") + " AS name," + usage_sums +
           " AND ($6 = '' OR product = $6) AND ($7 = '' OR lower(model) LIKE $7 ESCAPE '!')"
           " AND ($8 = '' OR model = $8) AND ($9 = 0 OR key_id = $9)"
           " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4";
}

// SQLite sorts all rows for a GROUP BY; they come in order of hours, so adding them up here takes half the
// time.
class Adder {
   public:
    explicit Adder(Cycle cycle) : cycle_(cycle) {}
    void add(const store::Row& row) {
        Time hour = from_micros(row.i64(0));
        if (hour >= end_) {
            flush();
            start_ = period_start(cycle_, hour);
            end_ = next_period(cycle_, start_);
        }
        std::tuple group{row.i64(1), row.text(2), row.text(3)};
        auto at = groups_.find(group);
        if (at == groups_.end()) {
            UsageSum fresh;
            fresh.start = start_;
            fresh.key = KeyId::from_db(row.i64(1));
            fresh.product = row.text(2);
            fresh.model = row.text(3);
            at = groups_.try_emplace({row.i64(1), fresh.product, fresh.model}, std::move(fresh)).first;
        }
        at->second.add(read_sums(row, 4));
    }
    std::vector<UsageSum> take() {
        flush();
        return std::move(sums_);
    }

   private:
    void flush() {
        for (auto& [group, sum] : groups_) sums_.push_back(std::move(sum));
        groups_.clear();
    }
    Cycle cycle_;
    Time start_ = Time::min();
    Time end_ = Time::min();
    std::map<std::tuple<std::int64_t, std::string, std::string>, UsageSum, std::less<>> groups_;
    std::vector<UsageSum> sums_;
};

std::string row_text(bool by_key, bool by_model) {
    return std::string("SELECT hour, ") + (by_key ? "key_id" : "0") + ", product, " +
           (by_model ? "model" : "''") +
           ", requests, input_tokens, cached_tokens, output_tokens, quota_input, quota_output, charge,"
           " written_off, cache_write_tokens, reasoning_tokens, units FROM usage_hours WHERE account_id = $1 "
           "AND hour >= $2 AND hour < $3"
           " AND ($4 = '' OR product = $4) AND ($5 = '' OR lower(model) LIKE $5 ESCAPE '!')"
           " AND ($6 = '' OR model = $6) AND ($7 = 0 OR key_id = $7) ORDER BY hour";
}

std::vector<UsageSum> by_month(std::vector<UsageSum> days) {
    std::map<std::tuple<Time, std::uint64_t, std::string, std::string>, UsageSum> months;
    for (UsageSum& day : days) {
        day.start = period_start(Cycle::month, day.start);
        auto [at, is_new] = months.try_emplace({day.start, day.key.value, day.product, day.model}, day);
        if (!is_new) at->second.add(day);
    }
    std::vector<UsageSum> sums;
    for (auto& [ignored, sum] : months) sums.push_back(std::move(sum));
    return sums;
}

MovementRow read_movement(const store::Row& row) {
    return {.id = PostingId::from_db(row.i64(0)),
            .kind = std::string(row.text(1)),
            .change = Nanos{row.i64(2)},
            .tax = Nanos{row.i64(3)},
            .note = std::string(row.text(4)),
            .reference = std::string(row.text(5)),
            .product = std::string(row.text(6)),
            .created_at = from_micros(row.i64(7))};
}

// Flows: 1 recharge, 2 refund, 3 consume. credited - owed: what changed in favour of the customer.
constexpr const char* movements_where =
    " FROM movements WHERE account_id = $1 AND created_at >= $2 AND created_at < $3"
    " AND ($4 = 0 OR id = $4) AND ($5 = '' OR kind = $5) AND ($6 = 0"
    "  OR ($6 = 2 AND (kind = 'refund' OR kind = 'dispute'))"
    "  OR ($6 = 1 AND kind <> 'refund' AND kind <> 'dispute' AND credited - owed >= 0)"
    "  OR ($6 = 3 AND kind <> 'refund' AND kind <> 'dispute' AND credited - owed < 0))";

}  // namespace

void UsageSum::add(const UsageSum& other) {
    requests += other.requests;
    input += other.input;
    cached += other.cached;
    output += other.output;
    quota_input += other.quota_input;
    quota_output += other.quota_output;
    charge += other.charge;
    written_off += other.written_off;
    cache_write += other.cache_write;
    reasoning += other.reasoning;
    units += other.units;
}

std::vector<UsageSum> sum_usage(store::Tx& tx, const UsageFilter& filter) {
    static const std::array<std::string, 4> rows{row_text(false, false), row_text(false, true),
                                                 row_text(true, false), row_text(true, true)};
    static const std::array<std::string, 4> groups{sum_text(false, false), sum_text(false, true),
                                                   sum_text(true, false), sum_text(true, true)};
    std::size_t which = (filter.by_key ? 2u : 0u) + (filter.by_model ? 1u : 0u);
    Window window = clamped(filter.window);
    std::string pattern = filter.name.empty() ? "" : like_pattern(filter.name);
    std::string model = filter.model.value_or("");
    std::int64_t key = filter.key ? filter.key->db() : 0;
    if (tx.engine() == store::Engine::sqlite) {
        store::Sql list{"bills.usage_rows", rows[which].c_str()};
        Adder adder(filter.cycle);
        tx.query(list,
                 {filter.account.db(), first_hour(window), to_micros(window.to),
                  std::string_view(filter.product), std::string_view(pattern), std::string_view(model), key},
                 [&](const store::Row& row) { adder.add(row); });
        return adder.take();
    }
    store::Sql sum{"bills.sum_usage", groups[which].c_str()};
    Cut cut = cut_of(filter.cycle);
    std::vector<UsageSum> sums;
    tx.query(sum,
             {filter.account.db(), first_hour(window), to_micros(window.to), cut.size, cut.offset,
              std::string_view(filter.product), std::string_view(pattern), std::string_view(model), key},
             [&](const store::Row& row) {
                 UsageSum read = read_sums(row, 4);
                 read.start = from_micros(row.i64(0));
                 read.key = KeyId::from_db(row.i64(1));
                 read.product = row.text(2);
                 read.model = row.text(3);
                 sums.push_back(std::move(read));
             });
    return filter.cycle == Cycle::month ? by_month(std::move(sums)) : sums;
}

std::vector<ByokSum> byok_sums(store::Tx& tx, AccountId account, Window window) {
    // The condition is that of the index usage_byok.
    static constexpr store::Sql sql{
        "bills.byok_sums",
        "SELECT key_id, model, started_at - started_at % 86400000000 AS day, byok_ppm,"
        " CAST(SUM(charge + written_off) AS BIGINT) FROM usage_records WHERE account_id = $1 AND byok_ppm >= "
        "0"
        " AND started_at >= $2 AND started_at < $3 GROUP BY 1, 2, 3, 4"};
    std::vector<ByokSum> sums;
    window = clamped(window);
    tx.query(sql, {account.db(), to_micros(window.from), to_micros(window.to)}, [&](const store::Row& row) {
        sums.push_back({from_micros(row.i64(2)), KeyId::from_db(row.i64(0)), std::string(row.text(1)),
                        whole_of(row.i64(4), row.i64(3))});
    });
    return sums;
}

UsageSum total_usage(store::Tx& tx, AccountId account, Window window) {
    static const std::string text = std::string("SELECT count(*),") + usage_sums;
    store::Sql sum{"bills.total_usage", text.c_str()};
    window = clamped(window);
    UsageSum total;
    tx.one(sum, {account.db(), first_hour(window), to_micros(window.to)}, [&](const store::Row& row) {
        if (row.i64(0) > 0) total = read_sums(row, 1);
    });
    total.start = window.from;
    return total;
}

HourPage list_hours(store::Tx& tx, AccountId account, std::int64_t limit, std::int64_t offset) {
    // Jumps in the index from each hour to the one before it: an hour costs one look, whatever number of keys
    // and models it has.
    static constexpr store::Sql metered{
        "bills.hours",
        "WITH RECURSIVE hours(hour) AS ("
        "  SELECT max(u.hour) FROM usage_hours u WHERE u.account_id = $1"
        "  UNION ALL SELECT (SELECT max(u.hour) FROM usage_hours u"
        "    WHERE u.account_id = $1 AND u.hour < hours.hour) FROM hours WHERE hours.hour IS NOT NULL)"
        " SELECT hour FROM hours WHERE hour IS NOT NULL"};
    static constexpr store::Sql charged{
        "bills.product_hours",
        "SELECT created_at - created_at % 3600000000 AS hour, CAST(sum(owed - credited) AS BIGINT)"
        " FROM movements WHERE account_id = $1 AND kind = 'charge' GROUP BY 1"};
    std::vector<HourRow> hours;
    tx.query(metered, {account.db()},
             [&](const store::Row& row) { hours.push_back({from_micros(row.i64(0)), {}, {}}); });
    auto metered_count = static_cast<std::ptrdiff_t>(hours.size());
    auto is_newer = [](const HourRow& a, const HourRow& b) { return a.hour > b.hour; };
    tx.query(charged, {account.db()}, [&](const store::Row& row) {
        HourRow hour{from_micros(row.i64(0)), {}, Nanos{row.i64(1)}};
        auto end = hours.begin() + metered_count;
        auto at = std::lower_bound(hours.begin(), end, hour, is_newer);
        if (at != end && at->hour == hour.hour)
            at->compute = hour.compute;
        else
            hours.push_back(hour);
    });
    std::ranges::sort(hours, is_newer);
    HourPage page;
    page.total = static_cast<std::int64_t>(hours.size());
    std::int64_t end = std::min(page.total, offset + limit);
    for (std::int64_t i = offset; i < end; ++i) page.rows.push_back(hours[static_cast<std::size_t>(i)]);
    if (page.rows.empty()) return page;
    Window window{page.rows.back().hour, page.rows.front().hour + std::chrono::hours(1)};
    for (const UsageSum& sum : sum_usage(tx, {.account = account, .window = window, .by_model = false})) {
        auto at = std::lower_bound(page.rows.begin(), page.rows.end(), HourRow{sum.start, {}, {}}, is_newer);
        if (at != page.rows.end() && at->hour == sum.start) at->metered += sum.charge;
    }
    return page;
}

Flow flow_of(const MovementRow& movement) {
    if (movement.kind == "refund" || movement.kind == "dispute") return Flow::refund;
    return movement.change.value >= 0 ? Flow::recharge : Flow::consume;
}

std::vector<MovementRow> list_movements(store::Tx& tx, const MovementFilter& filter, std::int64_t limit,
                                        std::int64_t offset) {
    static const std::string text =
        std::string("SELECT id, kind, credited - owed, tax, note, reference, product, created_at") +
        movements_where + " ORDER BY created_at DESC, id DESC LIMIT $7 OFFSET $8";
    store::Sql list{"bills.list_movements", text.c_str()};
    Window window = clamped(filter.window);
    std::vector<MovementRow> found;
    tx.query(
        list,
        {filter.account.db(), to_micros(window.from), to_micros(window.to), filter.id ? filter.id->db() : 0,
         std::string_view(filter.kind), static_cast<std::int64_t>(filter.flow), limit, offset},
        [&](const store::Row& row) { found.push_back(read_movement(row)); });
    return found;
}

std::int64_t count_movements(store::Tx& tx, const MovementFilter& filter) {
    static const std::string text = std::string("SELECT count(*)") + movements_where;
    store::Sql count{"bills.count_movements", text.c_str()};
    Window window = clamped(filter.window);
    std::int64_t found = 0;
    tx.one(
        count,
        {filter.account.db(), to_micros(window.from), to_micros(window.to), filter.id ? filter.id->db() : 0,
         std::string_view(filter.kind), static_cast<std::int64_t>(filter.flow)},
        [&](const store::Row& row) { found = row.i64(0); });
    return found;
}

std::vector<ProductSum> sum_products(store::Tx& tx, AccountId account, Window window, Cycle cycle) {
    static constexpr store::Sql sum{
        "bills.sum_products",
        "SELECT (created_at - $5) / $4 * $4 + $5 AS start, product, reference,"
        " CAST(sum(owed - credited) AS BIGINT) FROM movements"
        " WHERE account_id = $1 AND created_at >= $2 AND created_at < $3 AND kind = 'charge'"
        " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"};
    window = clamped(window);
    Cut cut = cut_of(cycle);
    std::map<std::tuple<Time, std::string, std::string>, Nanos> sums;
    tx.query(sum, {account.db(), to_micros(window.from), to_micros(window.to), cut.size, cut.offset},
             [&](const store::Row& row) {
                 Time start = from_micros(row.i64(0));
                 if (cycle == Cycle::month) start = period_start(cycle, start);
                 sums[{start, std::string(row.text(1)), std::string(row.text(2))}] += Nanos{row.i64(3)};
             });
    std::vector<ProductSum> found;
    for (const auto& [group, charge] : sums)
        found.push_back({std::get<0>(group), std::get<1>(group), std::get<2>(group), charge});
    return found;
}

std::vector<KindSum> sum_movements(store::Tx& tx, AccountId account, Window window) {
    static constexpr store::Sql sum{
        "bills.sum_movements",
        "SELECT kind, product, CAST(sum(credited - owed) AS BIGINT), CAST(sum(tax) AS BIGINT) FROM movements"
        " WHERE account_id = $1 AND created_at >= $2 AND created_at < $3 GROUP BY 1, 2 ORDER BY 1, 2"};
    window = clamped(window);
    std::vector<KindSum> found;
    tx.query(sum, {account.db(), to_micros(window.from), to_micros(window.to)}, [&](const store::Row& row) {
        found.push_back(
            {std::string(row.text(0)), std::string(row.text(1)), Nanos{row.i64(2)}, Nanos{row.i64(3)}});
    });
    return found;
}

Lifetime read_lifetime(store::Tx& tx, AccountId account) {
    static constexpr store::Sql read{"bills.lifetime",
                                     "SELECT kind, balance FROM ledger_accounts WHERE account_id = $1"};
    Lifetime life;
    Nanos left;
    tx.query(read, {account.db()}, [&](const store::Row& row) {
        std::string_view kind = row.text(0);
        if (kind.starts_with("customer_")) left += Nanos{row.i64(1)};
        if (kind.starts_with("revenue")) life.used += Nanos{row.i64(1)};
    });
    life.credits = left + life.used;
    return life;
}

std::vector<AccountId> active_accounts(store::Tx& tx, AccountId after, Window window, bool with_movements,
                                       std::int64_t limit) {
    // Both jump from account to account in the index.
    static constexpr store::Sql used{
        "bills.active_by_use",
        "WITH RECURSIVE a(id) AS (SELECT min(u.account_id) FROM usage_hours u WHERE u.account_id > $1"
        " UNION ALL SELECT (SELECT min(u.account_id) FROM usage_hours u WHERE u.account_id > a.id) FROM a"
        " WHERE a.id IS NOT NULL)"
        " SELECT id FROM a WHERE id IS NOT NULL AND EXISTS (SELECT 1 FROM usage_hours u"
        " WHERE u.account_id = a.id AND u.hour >= $2 AND u.hour < $3) LIMIT $4"};
    static constexpr store::Sql moved{
        "bills.active_by_movement",
        "WITH RECURSIVE a(id) AS (SELECT min(m.account_id) FROM movements m WHERE m.account_id > $1"
        " UNION ALL SELECT (SELECT min(m.account_id) FROM movements m WHERE m.account_id > a.id) FROM a"
        " WHERE a.id IS NOT NULL)"
        " SELECT id FROM a WHERE id IS NOT NULL AND EXISTS (SELECT 1 FROM movements m"
        " WHERE m.account_id = a.id AND m.created_at >= $2 AND m.created_at < $3) LIMIT $4"};
    window = clamped(window);
    std::vector<AccountId> found;
    auto take = [&](const store::Row& row) { found.push_back(AccountId::from_db(row.i64(0))); };
    tx.query(used, {after.db(), first_hour(window), to_micros(window.to), limit}, take);
    if (with_movements)
        tx.query(moved, {after.db(), to_micros(window.from), to_micros(window.to), limit}, take);
    std::ranges::sort(found);
    auto repeated = std::ranges::unique(found);
    found.erase(repeated.begin(), repeated.end());
    if (static_cast<std::int64_t>(found.size()) > limit) found.resize(static_cast<std::size_t>(limit));
    return found;
}

std::string account_name(store::Tx& tx, AccountId account) {
    static constexpr store::Sql read{"bills.account_name", "SELECT name FROM accounts WHERE id = $1"};
    std::string name;
    tx.one(read, {account.db()}, [&](const store::Row& row) { name = row.text(0); });
    return name;
}

}  // namespace nebula::billing::bills

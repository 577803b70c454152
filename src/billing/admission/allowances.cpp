#include "billing/admission/allowances.hpp"

#include <chrono>

namespace nebula::billing {
namespace {

using store::Param;
using store::Sql;

constexpr Sql sql_used{"billing.allowance_used",
                       "SELECT used FROM allowances WHERE owner = $1 AND kind = $2 AND period_start = $3"};
constexpr Sql sql_begin{"billing.begin_allowance",
                        "INSERT INTO allowances (owner, kind, period_start, used)"
                        " SELECT $1, $2, $3, CAST(COALESCE(SUM(charge), 0) AS BIGINT) FROM usage_hours"
                        " WHERE account_id = $4 AND key_id = $1 AND hour >= $3"
                        " ON CONFLICT (owner, kind, period_start) DO NOTHING"};
#define SUM_SINCE(start) \
    "CAST(COALESCE(SUM(CASE WHEN hour >= " start " THEN charge ELSE 0 END), 0) AS BIGINT)"
constexpr Sql sql_spending{"billing.key_spending",
                           "SELECT CAST(COALESCE(SUM(charge), 0) AS BIGINT), " SUM_SINCE("$3") ", " SUM_SINCE(
                               "$4") ", " SUM_SINCE("$5") " FROM usage_hours"
                           " WHERE account_id = $1 AND key_id = $2"};
#undef SUM_SINCE
// The condition is that of the index usage_byok.
#define SUM_SINCE(start)                               \
    "CAST(COALESCE(SUM(CASE WHEN started_at >= " start \
    " THEN charge + written_off ELSE 0 END), 0) AS "   \
    "BIGINT)"
constexpr Sql sql_byok{"billing.byok_spending",
                       "SELECT byok_ppm, CAST(SUM(charge + written_off) AS BIGINT), " SUM_SINCE(
                           "$3") ", " SUM_SINCE("$4") ", " SUM_SINCE("$5") " FROM usage_records"
                       " WHERE account_id = $1 AND key_id = $2 AND byok_ppm >= 0 GROUP BY byok_ppm"};
#undef SUM_SINCE
constexpr Sql sql_add_used{"billing.add_used",
                           "INSERT INTO allowances (owner, kind, period_start, used, sliced)"
                           " VALUES ($1, $2, $3, $4, 0) ON CONFLICT (owner, kind, period_start)"
                           " DO UPDATE SET used = allowances.used + excluded.used"};
constexpr Sql sql_use_slice{"billing.use_slice",
                            "UPDATE allowances SET used = used + $4, sliced = sliced - $4"
                            " WHERE owner = $1 AND kind = $2 AND period_start = $3"};

}  // namespace

Time day_start(Time now) { return std::chrono::floor<std::chrono::days>(now); }

Time week_start(Time now) {
    auto day = std::chrono::floor<std::chrono::days>(now);
    return day - (std::chrono::weekday(day) - std::chrono::Monday);
}

Time month_start(Time now) {
    std::chrono::year_month_day date(std::chrono::floor<std::chrono::days>(now));
    return std::chrono::sys_days(date.year() / date.month() / 1);
}

std::vector<Allowance> budgets_of(const accounts::Key& key, Time now) {
    using std::chrono::days;
    std::vector<Allowance> found;
    auto add = [&](PurseKind kind, Nanos limit, Time start, Time end) {
        if (limit.value == 0) return;
        std::int64_t version = key.updated_at ? to_micros(*key.updated_at) : 0;
        found.push_back({{kind, key.id.db(), to_micros(start)}, limit.value, version, end, key.account});
    };
    const accounts::KeyBudget& budget = key.budget;
    Time month = month_start(now);
    add(PurseKind::key_total, budget.total, Time{}, Time::max());
    add(PurseKind::key_day, budget.daily, day_start(now), day_start(now) + days(1));
    add(PurseKind::key_week, budget.weekly, week_start(now), week_start(now) + days(7));
    add(PurseKind::key_month, budget.monthly, month, month_start(month + days(31)));
    return found;
}

std::vector<Allowance> quotas_of(AccountId account, const Terms& terms, Time now) {
    if ((terms.quota_input <= 0 && terms.quota_output <= 0) || now >= terms.period_end) return {};
    auto quota = [&](PurseKind kind, std::int64_t tokens) {
        return Allowance{{kind, account.db(), terms.period_start}, tokens, 0, terms.period_end, account};
    };
    return {quota(PurseKind::quota_input, terms.quota_input),
            quota(PurseKind::quota_output, terms.quota_output)};
}

Nanos whole_of(std::int64_t share, std::int64_t ppm) {
    if (ppm == 0) return {};
    return Nanos{static_cast<std::int64_t>(static_cast<__int128>(share) * 1'000'000 / ppm)};
}

Billing::KeySpending spending_of(store::Tx& tx, AccountId account, KeyId key, Time now) {
    Billing::KeySpending spent;
    const std::initializer_list<Param> since{account.db(), key.db(), to_micros(day_start(now)),
                                             to_micros(week_start(now)), to_micros(month_start(now))};
    tx.one(sql_spending, since, [&](const store::Row& row) {
        spent = {Nanos{row.i64(0)}, Nanos{row.i64(1)}, Nanos{row.i64(2)}, Nanos{row.i64(3)}, {}, {}, {}, {}};
    });
    tx.query(sql_byok, since, [&](const store::Row& row) {
        auto list = [&row](int column) { return whole_of(row.i64(column), row.i64(0)); };
        spent.byok_total += list(1);
        spent.byok_daily += list(2);
        spent.byok_weekly += list(3);
        spent.byok_monthly += list(4);
    });
    return spent;
}

std::int64_t load_used(store::Tx& tx, const Allowance& allowance) {
    const PurseId& id = allowance.id;
    if (id.kind != PurseKind::quota_input && id.kind != PurseKind::quota_output)
        tx.exec(sql_begin, {id.owner, std::string_view(purse_kind_name(id.kind)), id.period_start,
                            allowance.account.db()});
    return used_of(tx, id);
}

std::int64_t used_of(store::Tx& tx, const PurseId& id) {
    std::int64_t used = 0;
    tx.query(sql_used, {id.owner, std::string_view(purse_kind_name(id.kind)), id.period_start},
             [&](const store::Row& row) { used = row.i64(0); });
    return used;
}

void add_used(store::Tx& tx, std::span<const PursePart> parts, bool is_shared, std::vector<Param>& values) {
    values.clear();
    for (const PursePart& part : parts) {
        const PurseId& id = part.purse->id;
        values.insert(values.end(), {Param(id.owner), Param(std::string_view(purse_kind_name(id.kind))),
                                     Param(id.period_start), Param(part.amount)});
    }
    if (!values.empty()) tx.exec_many(is_shared ? sql_use_slice : sql_add_used, 4, values);
}

std::shared_ptr<Purse> Allowances::find(const PurseId& id) {
    Shard& in = shard(id);
    std::lock_guard lock(in.mutex);
    auto at = in.purses.find(id);
    return at == in.purses.end() ? nullptr : at->second.purse;
}

std::shared_ptr<Purse> Allowances::find_or_add(const Allowance& allowance, std::int64_t used, Shared& shared,
                                               Time now) {
    Shard& in = shard(allowance.id);
    std::lock_guard lock(in.mutex);
    auto at = in.purses.find(allowance.id);
    if (at != in.purses.end()) return at->second.purse;
    if (in.purses.size() >= in.sweep_at) sweep(in, now);
    auto purse = std::make_shared<Purse>(allowance.id, shared);
    purse->set_limit(allowance.limit, allowance.version);
    if (shared.refiller == nullptr) purse->give_back(-used);
    in.purses.emplace(allowance.id, Known{purse, allowance.ends_at});
    return purse;
}

// Periods that are over and of which nobody has a part, neither a hold nor a charge on its way.
void Allowances::sweep(Shard& shard, Time now) {
    std::erase_if(shard.purses, [now](const auto& known) {
        return known.second.ends_at <= now && known.second.purse.use_count() == 1;
    });
    shard.sweep_at = std::max<std::size_t>(64, shard.purses.size() * 2);
}

std::vector<std::shared_ptr<Purse>> Allowances::all() {
    std::vector<std::shared_ptr<Purse>> all;
    for (Shard& one : shards_) {
        std::lock_guard lock(one.mutex);
        for (auto& [id, known] : one.purses) all.push_back(known.purse);
    }
    return all;
}

}  // namespace nebula::billing

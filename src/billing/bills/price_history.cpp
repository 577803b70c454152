#include "billing/bills/price_history.hpp"

#include <ranges>

namespace nebula::billing::bills {

PriceHistory PriceHistory::read(store::Tx& tx) {
    static constexpr store::Sql sql{"bills.prices",
                                    "SELECT model, effective_from, input_per_m, output_per_m,"
                                    " cached_input_per_m, request, cache_write_per_m, reasoning_per_m, unit"
                                    " FROM price_versions ORDER BY id"};
    PriceHistory history;
    tx.query(sql, {}, [&](const store::Row& row) {
        // Of several for one time the last one counts.
        Nanos input{row.i64(2)}, output{row.i64(3)};
        history.models_[std::string(row.text(0))][from_micros(row.i64(1))] = {
            .input_per_m = input,
            .output_per_m = output,
            .cached_input_per_m = Nanos{row.i64(4)},
            .request = Nanos{row.i64(5)},
            .cache_write_per_m = row.is_null(6) ? input : Nanos{row.i64(6)},
            .reasoning_per_m = row.is_null(7) ? output : Nanos{row.i64(7)},
            .unit = Nanos{row.i64(8)}};
    });
    return history;
}

std::optional<Prices> PriceHistory::at(std::string_view model, Time time) const {
    auto found = models_.find(model);
    if (found == models_.end()) return std::nullopt;
    auto after = found->second.upper_bound(time);
    if (after == found->second.begin()) return std::nullopt;
    return std::prev(after)->second;
}

std::vector<PriceHistory::Version> PriceHistory::versions() const {
    std::vector<Version> all;
    for (const auto& [model, times] : models_)
        for (const auto& [from, prices] : std::views::reverse(times)) all.push_back({model, from, prices});
    return all;
}

void insert_price(store::Tx& tx, std::string_view model, const Prices& prices, Time effective_from,
                  const Clock& clock) {
    static constexpr store::Sql sql{
        "bills.insert_price",
        "INSERT INTO price_versions (id, model, effective_from, input_per_m, output_per_m,"
        " cached_input_per_m, request, created_at, cache_write_per_m, reasoning_per_m, unit)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"};
    tx.exec(sql, {static_cast<std::int64_t>(next_id_value(clock)), model, to_micros(effective_from),
                  prices.input_per_m.value, prices.output_per_m.value, prices.cached_input_per_m.value,
                  prices.request.value, to_micros(clock.now()), prices.cache_write_per_m.value,
                  prices.reasoning_per_m.value, prices.unit.value});
}

}  // namespace nebula::billing::bills

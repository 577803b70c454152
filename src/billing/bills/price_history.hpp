#pragma once
// Prices over time (table price_versions). Private to bills.

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "billing/billing.hpp"
#include "store/store.hpp"

namespace nebula::billing::bills {

class PriceHistory {
   public:
    static PriceHistory read(store::Tx& tx);
    /// The version that holds at `time`; nothing before the first.
    std::optional<Prices> at(std::string_view model, Time time) const;
    bool knows(std::string_view model) const { return models_.contains(model); }
    bool is_empty() const { return models_.empty(); }
    struct Version {
        std::string model;
        Time effective_from;
        Prices prices;
    };
    /// By model, newest first.
    std::vector<Version> versions() const;

   private:
    std::map<std::string, std::map<Time, Prices>, std::less<>> models_;
};

void insert_price(store::Tx& tx, std::string_view model, const Prices& prices, Time effective_from,
                  const Clock& clock);

}  // namespace nebula::billing::bills

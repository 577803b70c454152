#pragma once
// Rating usage records anew. Private to bills.

#include <vector>

#include "billing/bills/price_history.hpp"
#include "billing/bills/queries.hpp"

namespace nebula::billing::bills {

/// A record whose price was another than what was charged and corrected until now.
struct Rerating {
    std::int64_t id = 0;  // of the usage record
    Nanos was;            // charge, or what an earlier correction made of it
    Nanos due;            // by the price versions
};

struct RecordPage {
    std::vector<Rerating> changes;
    std::int64_t rated = 0;  // records of the window that a version holds for
    std::int64_t last = 0;   // id; where the next page begins
    bool is_last = false;
};
/// Records of the account with an id above `after`: at most `limit` of them, those of the window rated.
RecordPage rate_page(store::Tx& tx, AccountId account, Window window, const PriceHistory& history,
                     std::int64_t after, std::int64_t limit);
/// Where the records of a window begin: ids hold the time at which they were made.
std::int64_t first_record_id(Time from);

/// What the customer must have paid in the end: what was forgiven for lack of credits stays forgiven.
Nanos due_of(Nanos price, Nanos charge, Nanos written_off);

/// Remembers the corrections. Conflict when a record was corrected by somebody else since it was read.
Result<void> remember(store::Tx& tx, AccountId account, const std::vector<Rerating>& changes,
                      std::string_view movement_key);

}  // namespace nebula::billing::bills

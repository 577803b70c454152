#pragma once
// A database with a year of use: usage records, their hourly sums, movements, invoices.

#include <cstdint>
#include <vector>

#include "base/ids.hpp"
#include "store/store.hpp"

namespace nebula::bench {

struct Shape {
    std::int64_t records = 10'000'000;
    std::int64_t accounts = 500;
    std::int64_t keys = 4;    // per account
    std::int64_t models = 5;  // per account
};
/// The first account gets a twentieth of the records, the others share the rest. Use of the year before
/// `end`. Everything is made by SQL inside the database, a piece per transaction.
std::vector<AccountId> fill(store::Db& db, const Shape& shape, std::int64_t end_us);

}  // namespace nebula::bench

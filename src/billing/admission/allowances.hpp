#pragma once
// Budgets of keys and quotas of plans: which purse belongs to which period, and the table allowances. Private
// to billing.

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "accounts/accounts.hpp"
#include "billing/admission/purse.hpp"
#include "billing/billing.hpp"
#include "store/store.hpp"

namespace nebula::billing {

/// Budget periods are UTC calendar ones; weeks begin on Monday.
Time day_start(Time now);
Time week_start(Time now);
Time month_start(Time now);

/// A budget or quota as of now.
struct Allowance {
    PurseId id;
    std::int64_t limit = 0;
    std::int64_t version = 0;    // of the limit
    Time ends_at = Time::max();  // of the period
    AccountId account;
};
/// The budgets a key has, in the order in which they are taken.
std::vector<Allowance> budgets_of(const accounts::Key& key, Time now);
/// Input, output; none when the terms have no quota or its period is over.
std::vector<Allowance> quotas_of(AccountId account, const Terms& terms, Time now);

/// What the table says was used, as of the last commit. A budget that is new begins with what the key spent
/// in the period before.
std::int64_t load_used(store::Tx& tx, const Allowance& allowance);
std::int64_t used_of(store::Tx& tx, const PurseId& id);
/// Of what a share of so many millionths is; 0 where the share is none.
Nanos whole_of(std::int64_t share, std::int64_t ppm);
Billing::KeySpending spending_of(store::Tx& tx, AccountId account, KeyId key, Time now);
/// Adds to what was used; `is_shared`: it was leased and is not any more. One statement for all.
void add_used(store::Tx& tx, std::span<const PursePart> parts, bool is_shared,
              std::vector<store::Param>& values);

/// The purses in memory. Thread-safe; a purse stays as long as its period, or as somebody has a part of it.
class Allowances {
   public:
    std::shared_ptr<Purse> find(const PurseId& id);
    /// The purse already there, else a new one from which `used` is gone already.
    std::shared_ptr<Purse> find_or_add(const Allowance& allowance, std::int64_t used, Shared& shared,
                                       Time now);
    std::vector<std::shared_ptr<Purse>> all();

   private:
    struct Known {
        std::shared_ptr<Purse> purse;
        Time ends_at;
    };
    struct Shard {
        std::mutex mutex;
        std::unordered_map<PurseId, Known> purses;
        std::size_t sweep_at = 64;
    };
    Shard& shard(const PurseId& id) { return shards_[std::hash<PurseId>()(id) >> 8 & 15]; }
    static void sweep(Shard& shard, Time now);
    std::array<Shard, 16> shards_;
};

}  // namespace nebula::billing

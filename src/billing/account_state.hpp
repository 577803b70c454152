#pragma once
// What this process knows of one account: its credits, its plan's terms and quota. Private to billing.

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/ids.hpp"
#include "base/nanos.hpp"
#include "billing/admission/purse.hpp"
#include "billing/billing.hpp"

namespace nebula::billing {

struct AccountState {
    AccountState(AccountId account, Shared& counts)
        : id(account), credits({PurseKind::credits, account.db(), 0}, counts) {}
    AccountState(const AccountState&) = delete;
    AccountState& operator=(const AccountState&) = delete;

    /// The terms as they were loaded last; null before.
    std::shared_ptr<const Terms> terms() const;
    /// `seen`: forgotten() before they were read; when it has changed since, they are not kept.
    void set_terms(std::shared_ptr<const Terms> terms, std::uint64_t seen);
    void forget_terms();
    std::uint64_t forgotten() const { return forgotten_.load(std::memory_order_acquire); }
    // Of the terms, so that a request needs no reference to them.
    bool has_terms(Time now) const { return to_micros(now) < terms_until_.load(std::memory_order_acquire); }
    bool is_suspended() const { return is_suspended_.load(std::memory_order_relaxed); }
    bool has_quota() const { return has_quota_.load(std::memory_order_relaxed); }

    const AccountId id;
    Purse credits;

    // The committer's own: which posting of the batch in hand is this account's.
    std::uint64_t batch = 0;
    std::size_t batch_posting = 0;

   private:
    mutable std::mutex mutex_;
    std::shared_ptr<const Terms> terms_;
    std::atomic<std::int64_t> terms_until_{0};
    std::atomic<std::uint64_t> forgotten_{0};
    std::atomic<bool> is_suspended_{false};
    std::atomic<bool> has_quota_{false};
};

/// AccountId → state. Entries are never erased, so finding takes no lock. Bounded.
class StateMap {
   public:
    StateMap();
    AccountState* find(AccountId id) const;
    /// The state already there, else a new one with `balance`. Null when the map is full.
    AccountState* find_or_add(AccountId id, Nanos balance, Shared& shared);
    std::vector<AccountState*> all() const;
    static constexpr std::size_t states_max = 1'000'000;

   private:
    struct Table {
        explicit Table(std::size_t size)
            : mask(size - 1), slots(std::make_unique<std::atomic<AccountState*>[]>(size)) {}
        std::size_t mask;
        std::unique_ptr<std::atomic<AccountState*>[]> slots;
    };
    static void place(Table& table, AccountState* state);

    std::atomic<const Table*> table_;
    mutable std::mutex mutex_;                    // writers
    std::vector<std::unique_ptr<Table>> tables_;  // outgrown ones stay for readers still in them
    std::vector<std::unique_ptr<AccountState>> states_;
};

}  // namespace nebula::billing

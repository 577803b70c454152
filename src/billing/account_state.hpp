#pragma once
// What this process knows of one account: money available and held, and who waits for some. Private to
// billing.

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "async/completion.hpp"
#include "base/ids.hpp"
#include "base/metrics.hpp"
#include "base/nanos.hpp"
#include "base/result.hpp"
#include "billing/billing.hpp"

namespace nebula::billing {

/// Counts shared by all states and read by the scraper, which may outlive Billing.
struct Shared {
    std::atomic<std::int64_t> waiters{0};
    metrics::Counter* holds_taken = nullptr;
    metrics::Counter* holds_ended = nullptr;

    /// Holds of requests in progress.
    std::int64_t holds() const {
        // Ended is read first, so that a hold taken and ended in between does not make it negative.
        std::uint64_t ended = holds_ended->value();
        return static_cast<std::int64_t>(holds_taken->value() - ended);
    }
};

/// One admit() in the queue of its account; lives in the coroutine's frame. Whoever unlinks it under the
/// account's lock decides its fate and calls resolve() once the lock is released.
struct Waiter {
    AccountState& state;
    HoldRequest request;
    Completion<Result<Nanos>> done = {};
    Result<Nanos> answer = Nanos{};
    Waiter* next = nullptr;
    Waiter* previous = nullptr;
    bool is_linked = false;

    void resolve() { done.set(std::move(answer)); }
};

struct AccountState {
    AccountState(AccountId account, Shared& counts) : id(account), shared(counts) {}
    AccountState(const AccountState&) = delete;
    AccountState& operator=(const AccountState&) = delete;

    /// The fast path: takes worst_case when it is there and nobody waits.
    bool try_take(const HoldRequest& request);
    /// Decides at once when it can, else links the waiter. True when decided: `waiter.answer` holds the
    /// outcome.
    bool take_or_wait(Waiter& waiter, std::int64_t waiters_max);
    /// The waiter's time is over: everything available if that is at least `least`.
    void expire(Waiter& waiter);
    /// Everybody who waits gets `error`.
    void fail_waiters(const Error& error);

    void release(Nanos hold);
    /// Replaces a hold by a charge of `price`, as far as there is money; never leaves less than nothing
    /// available.
    Settled settle(Nanos hold, Nanos price);
    /// A charge that is not going to be committed.
    void give_back(Nanos amount);
    /// Takes available money away; false when there is not so much.
    bool take_away(Nanos amount);
    Balance balance() const;
    void set_ledger(std::int64_t credits, std::int64_t revenue);

    const AccountId id;
    Shared& shared;

    // The committer's own: which posting of the batch in hand is this account's.
    std::uint64_t batch = 0;
    std::size_t batch_posting = 0;
    // Ledger accounts, 0 until the first grant. Written once, before there is money to charge.
    std::int64_t credits_ledger = 0;
    std::int64_t revenue_ledger = 0;

   private:
    enum class Verdict { granted, refused, wait };
    Verdict judge(const HoldRequest& request, Nanos& amount) const;
    void link(Waiter& waiter);
    void unlink(Waiter& waiter);
    /// Serves waiters in order as far as the money goes; returns them as a list to resolve without the lock.
    Waiter* serve();
    static void resolve_all(Waiter* list);

    mutable std::mutex mutex_;
    Nanos available_;
    Nanos held_;
    Waiter* first_ = nullptr;
    Waiter* last_ = nullptr;
};

/// AccountId → state. Entries are never erased, so finding takes no lock. Bounded.
class StateMap {
   public:
    StateMap();
    AccountState* find(AccountId id) const;
    /// The state already there, else a new one with `balance`. Null when the map is full.
    AccountState* find_or_add(AccountId id, Nanos balance, std::int64_t credits_ledger,
                              std::int64_t revenue_ledger, Shared& shared);
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

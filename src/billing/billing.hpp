#pragma once
// Prepaid money, exact. One owner in memory per account (this node) admits and settles; a committer thread
// writes batches: usage records and one balanced posting per account and batch, in one transaction. Holds
// live in memory only: after a crash the balance is what the ledger says, and whatever was not settled was
// not delivered whole.
//
// Ledger: a posting moves one positive amount from one ledger account to another, so every posting balances
// by construction and the sum over all ledger accounts is always zero. Balance = credits − debits: what a
// customer can spend is positive, the account that grants come from is negative. Postings are append-only;
// the database enforces it.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "async/async.hpp"
#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/metrics.hpp"
#include "base/nanos.hpp"
#include "base/result.hpp"
#include "base/settings.hpp"
#include "store/store.hpp"

namespace nebula::billing {

std::span<const store::Migration> migrations();

enum class Durability { strict, relaxed };

struct BillingSettings {
    std::string durability = "strict";  // strict | relaxed
    std::int64_t queue_max = 100'000;   // records waiting for the committer, then new requests are refused
    std::int64_t batch_max = 4'096;     // records in one transaction
    std::int64_t admission_waiters_max = 10'000;  // per process, see admit()
    std::chrono::milliseconds admission_wait{30'000};
    std::chrono::milliseconds commit_retry{30'000};  // how long a failing commit is tried again
    void describe(settings::Visitor& v);
};

/// nano-dollars per million tokens.
struct Prices {
    Nanos input_per_m;
    Nanos output_per_m;
    Nanos
        cached_input_per_m;  // of cached prompt tokens; equal to input_per_m unless the model says otherwise
};

struct TokenUsage {
    std::int64_t input = 0;   // prompt tokens, cached ones included
    std::int64_t cached = 0;  // of these
    std::int64_t output = 0;  // completion tokens, reasoning included
};
/// Exact, rounded up once, never negative (negative counts are taken as 0, cached as at most input).
Nanos charge_of(const Prices& prices, const TokenUsage& usage);

enum class Outcome { completed, client_left, upstream_failed, cancelled };
/// "completed", "client_left" …: as stored, and in metrics.
const char* outcome_name(Outcome outcome);

/// One request's metered use; `id` is the idempotency key.
struct UsageRecord {
    RequestId id;
    AccountId account;
    KeyId key;
    std::string model;  // catalog id
    std::string provider;
    TokenUsage usage;
    Prices prices;
    bool is_estimated = false;
    bool is_streamed = false;
    Outcome outcome = Outcome::completed;
    int status = 200;
    Time started_at;
    std::int64_t latency_us = 0;
    std::int64_t first_token_us = 0;
};

struct Balance {
    Nanos available;  // what can be spent now: ledger balance minus holds
    Nanos held;
};

struct AccountState;  // private

/// Money set aside for one request. Move-only; releases what was not settled when destroyed. Any thread. Must
/// not outlive its Billing.
class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept;
    Hold& operator=(Hold&& other) noexcept;
    ~Hold();
    Nanos amount() const { return amount_; }
    AccountId account() const;
    explicit operator bool() const { return state_ != nullptr; }
    void release();

   private:
    friend class Billing;
    AccountState* state_ = nullptr;
    Nanos amount_;
};

struct HoldRequest {
    AccountId account;
    Nanos worst_case;  // hold this if the balance has it
    Nanos least;       // else, with nothing else outstanding, whatever is there if at least this
};

struct Settled {
    Nanos charge;       // what was charged
    Nanos written_off;  // part of the price that the balance did not have (never below zero)
};

struct VerifyReport {
    std::vector<std::string> problems;  // empty = everything balances
    std::int64_t postings = 0;
    std::int64_t usage_records = 0;
    Nanos customer_credits;  // sum of balances
    Nanos revenue;
};

/// Thread-safe. Account states stay in memory for the life of the process (about 200 bytes each, at most
/// 1,000,000; then requests of further accounts are refused as overloaded).
class Billing {
   public:
    Billing(const BillingSettings& settings, store::Db& db, const Clock& clock, metrics::Registry& metrics);
    ~Billing();    // stop()
    void start();  // the committer thread; without it nothing is ever committed
    /// Commits what is queued, joins, and answers those still waiting with cancelled. Settling afterwards is
    /// refused.
    void stop();

    /// Fast path: no suspension, no lock beyond the account's own. Empty when admit() must be awaited
    /// (account not loaded, balance short, or others wait already).
    std::optional<Hold> try_admit(const HoldRequest& request);
    /// Loads the account if needed. When the balance is short while other requests hold some of it, waits in
    /// turn (first come, first served) until they settle, at most admission_wait; so nobody is refused while
    /// the balance could pay. With nothing outstanding: holds everything available if that is at least
    /// `least`, else payment_required. Errors: payment_required, overloaded (too many wait or the committer's
    /// queue is full), not_found (no such account), cancelled (stopping), internal. Who ran out of time gets
    /// everything available if that is at least `least`, else payment_required. Deadlines need an I/O thread;
    /// elsewhere only money ends the wait. The coroutine must not be destroyed while it waits: a client that
    /// left gets its hold later and releases it.
    Async<Result<Hold>> admit(HoldRequest request, Ticks deadline);

    /// Replaces the hold by the charge and queues the record. strict: resumes after the commit that holds it.
    /// relaxed: at once. A charge above the hold takes the rest from the available balance as far as there is
    /// any, the remainder is written off and counted. A record whose id was committed before is not charged
    /// again: the first answer comes back. Only fails with internal when the commit failed for good
    /// (commit_retry) or billing has stopped: then nothing was charged. An empty hold is allowed: everything
    /// comes from the available balance.
    Async<Result<Settled>> settle(Hold hold, UsageRecord record);

    /// Operator gives credits (negative takes them back, not below zero → invalid_request). Idempotent by
    /// `key` when not empty: same content answers again without a second posting, other content → conflict.
    /// Durable when it returns. Not zero and at most 1 billion credits; a balance of at most 4 billion. Key
    /// and note: at most 200 and 500 bytes.
    Async<Result<Balance>> grant(AccountId account, Nanos amount, std::string key, std::string note);
    /// Exact, with holds as they are in this process.
    Async<Result<Balance>> balance(AccountId account);
    Async<Result<std::vector<UsageRecord>>> usage(AccountId account, std::int64_t limit);
    /// Recomputes everything from the postings and usage records. Reads the database only.
    static Result<VerifyReport> verify(store::Db& db);
    Async<Result<VerifyReport>> verify();

    /// Records accepted but not yet committed.
    std::size_t queued() const;

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::billing

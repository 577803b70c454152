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

#include "accounts/accounts.hpp"
#include "async/async.hpp"
#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/metrics.hpp"
#include "base/nanos.hpp"
#include "base/result.hpp"
#include "base/settings.hpp"
#include "store/node.hpp"
#include "store/notices.hpp"
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

/// nano-dollars per million tokens, per request, and per unit of what is not counted in tokens.
struct Prices {
    Nanos input_per_m;
    Nanos output_per_m;
    Nanos cached_input_per_m;      // of cached prompt tokens
    Nanos request = {};            // flat, on top of everything else
    Nanos cache_write_per_m = {};  // of prompt tokens written to the provider's cache
    Nanos reasoning_per_m = {};    // of reasoning tokens
    Nanos unit = {};               // of one image, second, character, document
};
/// The usual: what is cached, written to a cache or thought costs what other tokens cost.
Prices token_prices(Nanos input_per_m, Nanos output_per_m);
/// For the worst case, before it is known what the tokens are: all of them of the dearest kind.
Prices dearest(Prices prices);
/// So many parts per million of each price, rounded up.
Prices share_of(Prices prices, std::int64_t ppm);

struct TokenUsage {
    std::int64_t input = 0;        // prompt tokens, cached and written ones included
    std::int64_t cached = 0;       // of these, read from the provider's cache
    std::int64_t output = 0;       // completion tokens, reasoning included
    std::int64_t cache_write = 0;  // of input, written to the provider's cache; none of them is cached
    std::int64_t reasoning = 0;    // of output
    std::int64_t units = 0;        // beside the tokens: images, seconds …, one kind per record
};
/// Exact, rounded up once, never negative: negative counts are taken as 0, cached as at most input,
/// cache_write as at most what else there is of input, reasoning as at most output, units as at most 10^12.
Nanos charge_of(const Prices& prices, const TokenUsage& usage);
/// What is left to be charged of `usage` when a quota paid for so many tokens. It pays for plain tokens
/// first, then for those written to a cache or thought, for cached ones last; never for units. A record's
/// price is charge_of(prices, uncovered(usage, quota_input, quota_output)).
TokenUsage uncovered(const TokenUsage& usage, std::int64_t quota_input, std::int64_t quota_output);

enum class Outcome { completed, client_left, upstream_failed, cancelled };
/// "completed", "client_left" …: as stored, and in metrics.
const char* outcome_name(Outcome outcome);

/// "image", "second", "character", "document", "request", "tool_call"; also the empty word.
bool is_unit(std::string_view word);

/// One request's metered use; `id` is the idempotency key. Prices of what it has none of (cache writes,
/// reasoning, units) are recorded as zero.
struct UsageRecord {
    static constexpr std::int64_t not_byok = -1;
    bool is_byok() const { return byok_ppm >= 0; }

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
    std::string product = "llm";  // bills group by it: llm, gen_api, gpu, serverless, cloud_storage
    // The customer's own key for the provider paid: prices are this share of the list's, in parts per
    // million.
    std::int64_t byok_ppm = not_byok;
    std::string unit = {};  // what usage.units counts, see is_unit(); empty without units
    // Tokens that the plan's quota paid for; set by settle(), and when read back.
    std::int64_t quota_input = 0;
    std::int64_t quota_output = 0;
    // When read back only.
    Nanos charge = {};
    Nanos written_off = {};
    PostingId posting = {};
};

struct Balance {
    Nanos available;  // what can be spent now: ledger balance minus holds; negative after a refund or dispute
    Nanos held;
    Nanos paid = {};   // of the ledger's balance: bought or granted
    Nanos bonus = {};  // of the ledger's balance: bonus, promotion, gift; spent first
    Nanos debt = {};   // what a refund or dispute took that was spent already; new money pays it first
};

/// What an account's plan and tier give it right now. Loaded by Commerce, kept beside the account's state.
struct Terms {
    std::string plan;               // id of the plan; empty: pay as you go
    std::int64_t period_start = 0;  // microseconds; names the quota's row
    Time period_end;
    std::int64_t quota_input = 0;  // tokens in the period; 0 with quota_output 0: no quota
    std::int64_t quota_output = 0;
    bool may_overrun = true;        // beyond the quota: credits pay; false: 402 until the period ends
    bool restricts_models = false;  // only these classes may be used
    std::vector<std::string> model_classes;  // "basic", "vision", …
    std::string tier;                        // for people: "Engineer 3", "T2"
    // Limits of the account, 0 = none; and per model of the account.
    std::int64_t rpm = 0, tpm = 0, ipm = 0, rpd = 0;
    std::int64_t model_rpm = 0, model_tpm = 0;
    bool is_suspended = false;  // debt, or stopped by the operator: no admission
    Time good_until;            // load again then (at most a minute away)
};
using LoadTerms = std::function<Terms(store::Tx& tx, AccountId account, Time now)>;

enum class MovementKind {
    grant,        // by the operator; negative takes back, not below zero
    payment,      // credits bought; `tax` was paid on top
    bonus,        // of a package or plan
    promotion,    // code or gift
    plan_fee,     // out of the credits
    charge,       // out of the credits, for `product` (instances, storage)
    refund,       // payment given back: takes credits, the missing part becomes debt
    dispute,      // like refund
    dispute_won,  // gives back what the dispute took
    correction,   // re-rating: positive gives back, negative charges (missing part becomes debt)
};
const char* movement_name(MovementKind kind);

/// Money that moves otherwise than by metered use. Idempotent by `key`.
struct Movement {
    AccountId account;
    MovementKind kind = MovementKind::grant;
    Nanos amount;                    // > 0 but for grant and correction
    Nanos tax = {};                  // payment, refund, dispute(_won): the tax on top of it
    std::string key;                 // required but for grant; at most 200 bytes
    std::string note;                // at most 500 bytes
    std::string reference;           // the provider's or invoice's id
    std::string product;             // charge
    std::optional<Time> expires_at;  // bonus, promotion
    PostingId id = {};  // chosen by the caller, so that rows written by `also` can name it; empty: made here
};
struct Moved {
    PostingId id;            // of the movement
    Nanos amount;            // what the customer's credits changed by
    Nanos debt;              // what became (positive) or paid back (negative) debt
    bool is_replay = false;  // the key was used before for the same content: nothing happened now
    Balance balance;         // after
};

struct AccountState;  // private
struct HoldParts;     // private

/// Money set aside for one request. Move-only; releases what was not settled when destroyed. Any thread. Must
/// not outlive its Billing.
class Hold {
   public:
    Hold();
    Hold(Hold&& other) noexcept;
    Hold& operator=(Hold&& other) noexcept;
    ~Hold();
    Nanos amount() const { return amount_; }  // of credits
    /// Tokens of the plan's quota that are held.
    std::int64_t quota_input() const;
    std::int64_t quota_output() const;
    /// The least that credits and every budget of the key have for this request: what the output cap is made
    /// of.
    Nanos spendable() const;
    AccountId account() const;
    explicit operator bool() const { return state_ != nullptr; }
    void release();

   private:
    friend class Billing;
    AccountState* state_ = nullptr;
    Nanos amount_;
    std::unique_ptr<HoldParts> parts_;  // budgets and quota; null for most
};

struct HoldRequest {
    AccountId account;
    Nanos worst_case;  // hold this if the balance has it
    Nanos least;       // else, with nothing else outstanding, whatever is there if at least this

    // Budgets of the key, taken before the credits: when one is short, the error is payment_required with
    // param "key" and says which budget. `key` null or without budget: nothing is looked up.
    const accounts::Key* budget_of = nullptr;
    // The plan's quota, used before the credits: tokens it has pay first, credits hold the price of the rest.
    // Used when uses_quota and the account's Terms have a quota.
    bool uses_quota = false;
    Prices prices = {};      // with uses_quota: worst_case = charge_of(prices, most)
    TokenUsage most = {};    // worst case in tokens
    TokenUsage fewest = {};  // least in tokens
};

struct Settled {
    Nanos charge;                  // what was charged
    Nanos written_off;             // part of the price that the balance did not have (never below zero)
    std::int64_t quota_input = 0;  // tokens the plan's quota paid for
    std::int64_t quota_output = 0;
    Nanos remaining = {};  // available right after
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
    /// Several processes on one database: `node` and `notices` are given and node->is_shared(): balances,
    /// budgets and quotas are then leased in slices (see README). Otherwise this process owns everything.
    Billing(const BillingSettings& settings, store::Db& db, const Clock& clock, metrics::Registry& metrics,
            store::Node* node = nullptr, store::Notices* notices = nullptr);
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
    /// again: the first answer comes back. Fails with overloaded when the commit failed for good
    /// (commit_retry) or billing has stopped: then nothing was charged, and it may be tried again; with
    /// internal when even that is unknown. An empty hold is allowed: everything comes from the available
    /// balance.
    Async<Result<Settled>> settle(Hold hold, UsageRecord record);

    /// Operator gives credits (negative takes them back, not below zero → invalid_request). Idempotent by
    /// `key` when not empty: same content answers again without a second posting, other content → conflict.
    /// Durable when it returns. Not zero and at most 1 billion credits; a balance of at most 4 billion. Key
    /// and note: at most 200 and 500 bytes.
    Async<Result<Balance>> grant(AccountId account, Nanos amount, std::string key, std::string note);
    /// Everything else that moves money; grant() is the short form of one kind. `also` runs first in the same
    /// transaction (an error rolls everything back); it does not run on a replay. Errors: invalid_request,
    /// conflict (key used for other content), payment_required (plan_fee, charge: not enough), not_found.
    /// Durable when it returns; every node spends by the new balance at once (notice).
    Async<Result<Moved>> move(Movement movement, std::function<Result<void>(store::Tx&)> also = {});
    /// Expires bonus credits whose time has come; every minute, on any node. Blocking.
    Result<std::int64_t> expire_bonuses();

    void set_terms_loader(LoadTerms load);
    /// Known to this process and still good, else null: then await load_terms().
    std::shared_ptr<const Terms> terms(AccountId account) const;
    Async<Result<std::shared_ptr<const Terms>>> load_terms(AccountId account);
    /// Plan, tier or suspension changed: forget the terms on every node. In the transaction of the change.
    void terms_changed(store::Tx& tx, AccountId account);

    /// What a key has spent in each of its budget periods, exact as of the last commit.
    struct KeySpending {
        Nanos total, daily, weekly, monthly;
        // Of requests with the customer's own provider keys: their price by our list, as the fee tells it (0
        // where the fee is 0), to within the rounding of each record.
        Nanos byok_total, byok_daily, byok_weekly, byok_monthly;
    };
    Async<Result<KeySpending>> key_spending(AccountId account, KeyId key);
    /// Tokens of the plan's quota used in the current period: {input, output}.
    Async<Result<TokenUsage>> quota_used(AccountId account);

    /// Exact. Available is what the ledger has less what this process holds for requests in progress.
    Async<Result<Balance>> balance(AccountId account);
    /// Signed receipt of one request: JSON text as receipt.hpp describes it. Of that account, else not_found.
    Async<Result<std::string>> receipt(AccountId account, RequestId request);
    /// Ed25519 public key (hex) that receipts are signed with.
    Async<Result<std::string>> receipt_key();
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

#pragma once
// An amount of which parts can be held: the credits of an account, a budget of a key, a quota of a plan.
// Memory only. Private to billing.
//
// One process: available + held is all there is. Several: it is this node's slice less what is charged but
// not yet committed; when the slice is short, the Slicer (Refiller) moves some between it and the pool.

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>

#include "async/completion.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"

namespace nebula::billing {

enum class PurseKind : std::uint8_t {
    credits,  // of an account; nano-dollars
    key_total,
    key_day,
    key_week,
    key_month,  // budgets of a key; nano-dollars
    quota_input,
    quota_output,  // of an account's plan; tokens
};
/// "credits", "key_total" …: as stored.
const char* purse_kind_name(PurseKind kind);

struct PurseId {
    PurseKind kind = PurseKind::credits;
    std::int64_t owner = 0;         // account or key
    std::int64_t period_start = 0;  // microseconds; 0 where there is no period
    /// Credits of accounts in ascending order first: the order in which rows are locked.
    auto operator<=>(const PurseId&) const = default;
};

struct PurseWaiter;
class Purse;

/// What moves amounts between this node's slices and the pool; none where one process owns everything.
class Refiller {
   public:
    virtual ~Refiller() = default;
    /// The purse has waiters, or something free that others want. Any thread; cheap.
    virtual void attend(Purse& purse) = 0;
};

/// Counts shared by all purses and read by the scraper, which may outlive Billing.
struct Shared {
    std::atomic<std::int64_t> waiters{0};
    metrics::Counter* holds_taken = nullptr;
    metrics::Counter* holds_ended = nullptr;
    Refiller* refiller = nullptr;

    /// Holds of requests in progress.
    std::int64_t holds() const {
        // Ended is read first, so that a hold taken and ended in between does not make it negative.
        std::uint64_t ended = holds_ended->value();
        return static_cast<std::int64_t>(holds_taken->value() - ended);
    }
};

/// One that waits in the queue of a purse; lives in a coroutine's frame. Whoever unlinks it under the purse's
/// lock decides its fate and calls resolve() once the lock is released.
struct PurseWaiter {
    Purse& purse;
    std::int64_t most;
    std::int64_t least;  // content with this when nothing is outstanding, or its time is over
    Ticks expires_at = Ticks::max();
    Completion<Result<std::int64_t>> done = {};
    Result<std::int64_t> answer = 0;
    PurseWaiter* next = nullptr;
    PurseWaiter* previous = nullptr;
    bool is_linked = false;
    bool is_late = false;         // its time is over; waits for a last look at the pool
    bool waits_for_holds = true;  // false: content with what nobody here holds

    void resolve() { done.set(std::move(answer)); }
};

/// Thread-safe. Credits live in their account's state; the others are shared by whoever has a part of them.
class Purse : public std::enable_shared_from_this<Purse> {
   public:
    Purse(PurseId which, Shared& counts) : id(which), shared(counts) {}
    Purse(const Purse&) = delete;
    Purse& operator=(const Purse&) = delete;

    /// Takes all of `most` when it is there and nobody waits.
    bool try_take(std::int64_t most);
    /// What is there of `most`, at least 0. Nothing when others wait, unless it `overtakes` them.
    std::int64_t take_up_to(std::int64_t most, bool overtakes);
    /// Decides at once when it can, else links the waiter. True when decided: `waiter.answer` holds the
    /// outcome.
    bool take_or_wait(PurseWaiter& waiter, std::int64_t waiters_max);
    /// The waiter's time is over: everything available if that is at least `least`.
    void expire(PurseWaiter& waiter);
    /// Everybody who waits gets `error`.
    void fail_waiters(const Error& error);

    void release(std::int64_t hold);
    /// Gives back so much of a hold that goes on.
    void shrink(std::int64_t by);
    /// Makes a hold larger, as far as there is something available. Returns the new amount.
    std::int64_t extend(std::int64_t hold, std::int64_t to);
    /// Replaces a hold by a charge of `price`, as far as there is something. Returns the charge.
    std::int64_t settle(std::int64_t hold, std::int64_t price);
    /// Ends a hold and changes what is there by `change`: down below zero when it must.
    void replace(std::int64_t hold, std::int64_t change);
    /// A charge that is not going to be committed, or new money.
    void give_back(std::int64_t amount) { replace(0, amount); }
    /// Budgets and quotas; ignored when one of a later version is known.
    void set_limit(std::int64_t limit, std::int64_t version);
    std::int64_t limit() const;

    std::int64_t available() const;
    std::int64_t held() const;
    bool has_waiters() const;

    // For the Slicer. -----------------------------------------------------------------------------------
    /// What it sees of the purse; the free part is set aside until end().
    struct View {
        std::int64_t parked = 0;  // set aside
        std::int64_t held = 0;
        std::int64_t wanted = 0;  // of all who wait, together
        std::int64_t head_most = 0;
        std::int64_t head_least = 0;
        std::int64_t limit = 0;
        bool has_waiters = false;
        bool is_late = false;  // somebody's time is over
    };
    /// `parks`: even when nobody waits.
    View begin(bool parks);
    /// Puts back what was parked, changed by `change`. `is_all`: nothing is left elsewhere, so who still
    /// cannot be served is content with less or refused.
    void end(std::int64_t parked, std::int64_t change, bool is_all);
    /// Those whose time is over get what is there, or are refused.
    void end_late();
    void mark_late(Ticks now);
    /// What becomes free goes back to the pool while others want it.
    void set_scarce(bool is_scarce);
    bool is_scarce() const;
    /// Counts takings: unchanged for a while = idle.
    std::uint64_t activity() const;
    /// Keeps it alive; credits live as long as Billing anyway.
    std::shared_ptr<Purse> self();

    const PurseId id;
    Shared& shared;
    /// Several processes: what nobody had leased when it was last seen.
    std::atomic<std::int64_t> pool_seen{0};
    // The committer's own: which row of the batch in hand is this purse's.
    std::uint64_t batch = 0;
    std::size_t batch_row = 0;
    std::atomic<bool> is_attended{false};  // in the Slicer's queue

   private:
    enum class Verdict { granted, refused, wait };
    Verdict judge(const PurseWaiter& waiter, bool is_all, std::int64_t& amount) const;
    void take(std::int64_t amount);
    void link(PurseWaiter& waiter);
    void unlink(PurseWaiter& waiter);
    /// Serves waiters in order as far as it goes; returns them as a list to resolve without the lock.
    PurseWaiter* serve(bool is_all = false);
    static void resolve_all(PurseWaiter* list);
    /// Without the lock: those served go on, and the Slicer looks when it has something to do.
    void after(PurseWaiter* served, bool is_to_attend);
    bool needs_refiller() const {
        return shared.refiller != nullptr && (first_ != nullptr || (is_scarce_ && available_ > 0));
    }
    std::unexpected<Error> short_of() const;
    std::unexpected<Error> held_by_others() const;

    mutable std::mutex mutex_;
    std::int64_t available_ = 0;
    std::int64_t held_ = 0;
    std::int64_t parked_ = 0;
    std::int64_t limit_ = 0;
    std::int64_t version_ = 0;
    std::uint64_t activity_ = 0;
    bool is_scarce_ = false;
    PurseWaiter* first_ = nullptr;
    PurseWaiter* last_ = nullptr;
};

/// A part of a purse that a hold or a charge has.
struct PursePart {
    std::shared_ptr<Purse> purse;
    std::int64_t amount = 0;
};

}  // namespace nebula::billing

template <>
struct std::hash<nebula::billing::PurseId> {
    std::size_t operator()(const nebula::billing::PurseId& id) const noexcept {
        auto mix = static_cast<std::uint64_t>(id.owner) * 0x9E3779B97F4A7C15ULL;
        mix ^= static_cast<std::uint64_t>(id.period_start) * 0xC2B2AE3D27D4EB4FULL;
        return static_cast<std::size_t>((mix ^ (mix >> 29)) + static_cast<std::uint64_t>(id.kind));
    }
};

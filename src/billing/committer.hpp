#pragma once
// Writes charged records in batches, one transaction each, on a thread of its own. Private to billing.

#include <array>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "billing/store.hpp"
#include "store/node.hpp"

namespace nebula::billing {

/// When to try again what was not recorded and not charged.
constexpr int unrecorded_retry_ms = 1000;

/// Thread-safe. A record given to enqueue() ends in exactly one of three ways: it is in the database with its
/// charge, it was there before (its charge comes back), or it failed for good (its charge comes back, the
/// caller gets overloaded). Whose outcome stays unknown (nobody could be asked) gets internal.
class Committer {
   public:
    /// `node`: of those that share the database; null where one process owns it.
    Committer(const BillingSettings& settings, store::Db& db, const Clock& clock, metrics::Registry& metrics,
              const Shared& shared, store::Node* node);
    ~Committer() { stop(); }
    void start();
    /// Commits what is queued, then joins.
    void stop();

    /// False after stop(): nothing was taken. An awaited entry stays the caller's and must live until `done`
    /// is set; else the committer deletes it.
    bool enqueue(Entry* entry);
    std::size_t queued() const { return static_cast<std::size_t>(depth_->load(std::memory_order_relaxed)); }
    bool is_full() const { return depth_->load(std::memory_order_relaxed) >= queue_max_; }

   private:
    enum class Phase { idle, gathering, busy };
    /// What became of one attempt to write.
    enum class Attempt { committed, duplicate, failed, lost };
    using Entries = std::vector<Entry*>;

    void run();
    void gather(std::unique_lock<std::mutex>& lock);
    void take(Entries& batch);
    /// Until every entry of the batch has ended. Absorbs newly queued entries when it has to try again.
    void commit(Entries& batch);
    Attempt write(std::span<Entry* const> entries);
    void plan(std::span<Entry* const> entries);
    void add_charge(const std::shared_ptr<Purse>& purse, std::int64_t amount);
    /// In a transaction. False when some record is there already.
    bool write_all(store::Tx& tx, std::span<Entry* const> entries);
    /// Ends the entries that are in the database already, ours of an attempt that failed late or duplicates.
    bool settle_recorded(Entries& batch, Entries& later);
    /// When whole batches fail: one account at a time, so that the records of one cannot hold up all others.
    void isolate(Entries& batch);
    void give_up(Entries& batch, const Error& why, bool is_in_doubt);
    void review_unresolved();
    bool back_off(std::chrono::milliseconds& waited, std::chrono::milliseconds& pause);

    static void give_back(AccountState& state, Nanos charge, std::span<const PursePart> parts);
    void succeed(Entry* entry);
    void finish(Entry* entry, Result<Settled> result);
    void resume_finished();

    store::Db& db_;
    const Clock& clock_;
    const Shared& shared_;
    store::Node* const node_;
    const std::int64_t queue_max_;
    const std::size_t batch_max_;
    const std::chrono::milliseconds commit_retry_;

    std::mutex mutex_;
    std::condition_variable wake_;
    Entry* first_ = nullptr;  // the queue
    Entry* last_ = nullptr;
    std::size_t length_ = 0;  // of the queue
    std::size_t wanted_ = 0;  // while gathering: wake up at this length
    Phase phase_ = Phase::busy;
    bool is_stopping_ = false;
    bool is_stopped_ = false;
    std::thread thread_;

    // The thread's own.
    BatchBuffer buffer_;
    std::vector<PursePart> charges_;  // of the batch in hand, by purse; without credits in one process
    bool is_careful_ = false;         // a slice was smaller than what was charged to it
    std::uint64_t batch_number_ = 0;
    Ticks gathered_at_{};
    std::int64_t records_per_second_ = 0;
    bool is_unknown_ = false;  // a COMMIT failed: whether it happened is not known
    std::string problem_;      // of the last attempt
    struct Waiting {
        IoThread* thread;
        std::vector<std::coroutine_handle<>> handles;
    };
    std::vector<Waiting> finished_;
    /// Given up while it was not known whether they were committed: their money stays taken until that is
    /// known.
    struct Unresolved {
        AccountState* state;
        RequestId request;
        PostingId posting;
        Nanos charge;
        std::vector<PursePart> parts;
    };
    std::vector<Unresolved> unresolved_;
    Ticks reviewed_at_{};

    // Shared with the registry's callback, which may outlive this object. Queued and in the batch in hand.
    std::shared_ptr<std::atomic<std::int64_t>> depth_ = std::make_shared<std::atomic<std::int64_t>>(0);
    metrics::Counter& batches_;
    metrics::Gauge& batch_size_;
    metrics::Histogram& commit_seconds_;
    metrics::Counter& failures_;
    metrics::Counter& duplicates_;
    metrics::Counter& lost_;
    metrics::Counter& estimated_;
    metrics::Counter& written_off_;
    metrics::Counter& charged_;
    std::array<metrics::Counter*, 4> records_;
};

}  // namespace nebula::billing

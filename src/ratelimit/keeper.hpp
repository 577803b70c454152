#pragma once
// Keeps the limiter's durable side: blocks of daily requests and, among several nodes, shares of limits. One
// thread does all the SQL: requests that wait are served together, one transaction at a time, so that this
// node's rows have one writer.

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "async/completion.hpp"
#include "ratelimit/days.hpp"
#include "ratelimit/shares.hpp"
#include "ratelimit/table.hpp"

namespace nebula::ratelimit {

class Keeper {
   public:
    /// `node`: null unless limits are shared. `notices` may be null: then shares come back only by
    /// themselves.
    Keeper(Table& table, const Clock& clock, metrics::Registry& metrics, store::Db& db, store::Node* node,
           store::Notices* notices);
    Keeper(const Keeper&) = delete;
    Keeper& operator=(const Keeper&) = delete;
    ~Keeper() { stop(); }

    /// Lets waiting requests go, then gives back what is unused. Any thread but its own; again is harmless.
    void stop();
    /// Returns at once when `keeper` is null, stopped, or its queue is full.
    static Async<void> acquire(Keeper* keeper, std::vector<Check> checks, Use use);
    /// Gives shares back: those that others called for, and those of idle subjects.
    void tick();

   private:
    struct Waiter {
        std::vector<Check> checks;
        Use use;
        Completion<bool> done;
    };
    /// What other threads leave for this one. The subscription to notices may outlive the keeper.
    struct Inbox {
        std::mutex mutex;
        std::condition_variable arrived;
        std::deque<Waiter*> waiters;
        std::vector<Subject> recalls;
        bool is_stopping = false;
    };
    /// One transaction's worth of wishes.
    struct Batch {
        std::vector<ShareWant> shares;
        std::vector<DayWant> days;
        std::vector<Subject> subjects;  // of `shares`, sorted
    };
    struct Instant {
        std::int64_t ms;
        std::int64_t second;
    };

    void run();
    Instant now() const;
    void serve(const std::vector<Waiter*>& waiters);
    Batch collect(const std::vector<Waiter*>& waiters, Instant at);
    void add_shares(Batch& batch, const Check& check, const Use& use);
    void add_day(Batch& batch, const Check& check);
    void look_up(Batch& batch, Instant at);
    Result<bool> lease(store::Tx& tx, Batch& batch, Instant at);
    void lease_shares(store::Tx& tx, Batch& batch, Instant at);
    void apply(const Batch& batch, bool done, Instant at);
    void call_back(store::Tx& tx, const ShareWant& want, Instant at);

    void give_back(std::vector<Subject> subjects, Instant at);
    /// This node's row after the change, when it changes.
    bool shrink(const ShareRow& row, const Holdings& holdings, Instant at, ShareRow& changed);
    void drop_idle(Instant at);
    void return_all();
    void return_days();
    bool in_tx(const char* what, const std::function<Result<bool>(store::Tx&)>& work);

    Table& table_;
    const Clock& clock_;
    store::Db& db_;
    store::Node* const node_;
    store::Notices* const notices_;
    metrics::Counter& transactions_;
    metrics::Counter& failures_;
    metrics::Counter& recalls_sent_;
    metrics::Counter& recalls_heard_;
    std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();

    std::mutex work_mutex_;  // the thread's work, which tick() may do instead; guards what follows
    std::map<Subject, std::int64_t> contended_;  // until when (ms) to look at them every second
    std::map<Subject, std::int64_t> recalled_;   // others asked for them since the last tick
    std::int64_t refreshed_second_ = 0;
    std::int64_t dropped_second_ = 0;
    std::int64_t forgot_day_ = -1;
    std::thread thread_;
};

}  // namespace nebula::ratelimit

#pragma once
// Requests that wait for one of a provider's slots. Accounts take turns, however many requests each has; when
// the queue is full, the newest request of the account with the most makes room for one with fewer.

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "async/async.hpp"
#include "async/completion.hpp"
#include "async/deadline.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"

namespace nebula::gateway::routing {

enum class Turn : std::uint8_t {
    granted,  // the slot is taken for the one that waited
    full,     // too many wait
    timeout,
    left,  // the client has gone
};

class SlotQueue;

/// One request's wait, on its I/O thread. Lives in a coroutine's frame until run() has returned.
class SlotWait {
   public:
    SlotWait(SlotQueue& queue, std::uint64_t account) : queue_(queue), account_(account) {}
    SlotWait(const SlotWait&) = delete;
    SlotWait& operator=(const SlotWait&) = delete;
    Async<Turn> run(std::int64_t queue_max, std::int64_t concurrency_max, Ticks deadline);
    /// The client has gone; on the thread of run().
    void leave() { end(Turn::left); }

   private:
    friend class SlotQueue;
    void end(Turn turn);

    SlotQueue& queue_;
    std::uint64_t account_;
    nebula::Completion<Turn> done_;
};

/// Any thread.
class SlotQueue {
   public:
    /// `take` tries to take a slot below the given concurrency without waiting.
    SlotQueue(std::function<bool(std::int64_t concurrency_max)> take, const std::string& provider,
              metrics::Registry& metrics);

    /// Whoever comes now has to wait behind others.
    bool is_waited_for() const { return waiting_.load() > 0; }
    /// After a slot was given back: hands it to who is next.
    void slot_free() {
        if (is_waited_for()) hand_on();
    }

   private:
    friend class SlotWait;
    struct Line {
        std::deque<SlotWait*> waits;  // oldest first
    };
    using Ended = std::vector<std::pair<SlotWait*, Turn>>;

    void join(SlotWait& wait, std::int64_t queue_max, std::int64_t concurrency_max);
    bool withdraw(SlotWait& wait);
    void hand_on();
    // Under the lock:
    void grant(Ended& ended);
    bool make_room(const SlotWait& newcomer, Ended& ended);
    void drop_line(std::uint64_t account);
    void count(std::int64_t by);

    std::function<bool(std::int64_t)> take_;
    std::mutex mutex_;
    std::unordered_map<std::uint64_t, Line> lines_;  // never an empty one
    std::deque<std::uint64_t> turns_;                // accounts with a line, who is next first
    std::atomic<std::int64_t> waiting_{0};
    std::int64_t concurrency_max_ = 0;
    metrics::Gauge &waiting_gauge_, &max_gauge_;
    metrics::Counter &waits_, &full_, &timeouts_, &left_;
};

}  // namespace nebula::gateway::routing

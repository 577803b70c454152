#pragma once
// Requests that are the same at the same time share one call: the first leads, the others wait for its
// answer. When the leader fails, the next one leads.

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "async/completion.hpp"
#include "gateway/cache/cache.hpp"
#include "http/http.hpp"

namespace nebula::gateway {

class Flights;

/// The leader's part. Move-only; a leader that goes without land() or release() has failed. Any thread, one
/// at a time.
class Flight {
   public:
    Flight() = default;
    Flight(Flight&& other) noexcept { *this = std::move(other); }
    Flight& operator=(Flight&& other) noexcept;
    ~Flight() { fail(); }
    explicit operator bool() const { return flights_ != nullptr; }
    /// Somebody waits for the answer now.
    bool has_followers() const;
    /// Everybody who waits gets the entry.
    void land(std::shared_ptr<const CacheEntry> entry);
    /// The answer cannot be shared: everybody asks for himself.
    void release() { land(nullptr); }
    /// The next one leads.
    void fail();

   private:
    friend class Flights;
    Flights* flights_ = nullptr;
    Sha256 key_;
    std::shared_ptr<std::atomic<std::int64_t>> followers_;
};

/// What waiting came to.
struct Landing {
    enum class Kind {
        lead,   // `flight` is this request's now
        ready,  // `entry` is the answer
        alone,  // ask without sharing: too many wait, waited too long, or the answer is too large
        gone,   // the client has left
    } kind = Kind::alone;
    std::shared_ptr<const CacheEntry> entry = {};
    Flight flight = {};
};

/// Thread-safe. Outlives the flights and whoever waits.
class Flights {
   public:
    Flights(const CacheSettings& settings, metrics::Registry& metrics);

    /// On the exchange's thread. Waits at most until `until`; replaces what exchange.on_gone() was set to.
    Async<Landing> join(http::Exchange& exchange, Sha256 key, Ticks until);

   private:
    friend class Flight;
    struct Waiter {
        nebula::Completion<Landing> landing;  // not the gateway's own one
    };
    struct Open {
        std::list<std::shared_ptr<Waiter>> waiters;
        std::shared_ptr<std::atomic<std::int64_t>> count = std::make_shared<std::atomic<std::int64_t>>(0);
    };
    struct Leaver;
    Flight make_flight(const Sha256& key, const Open& open);
    void leave(const Sha256& key, const std::shared_ptr<Waiter>& waiter, Landing::Kind why);

    const CacheSettings& settings_;
    metrics::Gauge& waiting_;
    metrics::Counter &shared_, &full_, &timed_out_, &promoted_;
    std::mutex mutex_;
    std::unordered_map<Sha256, Open> open_;
    std::int64_t waiters_ = 0;
};

}  // namespace nebula::gateway

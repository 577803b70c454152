#include "gateway/cache/flights.hpp"

#include <algorithm>

namespace nebula::gateway {

Flight& Flight::operator=(Flight&& other) noexcept {
    if (this == &other) return *this;
    fail();
    flights_ = std::exchange(other.flights_, nullptr);
    key_ = other.key_;
    followers_ = std::move(other.followers_);
    return *this;
}

bool Flight::has_followers() const { return flights_ != nullptr && followers_->load() > 0; }

void Flight::land(std::shared_ptr<const CacheEntry> entry) {
    Flights* flights = std::exchange(flights_, nullptr);
    if (flights == nullptr) return;
    std::list<std::shared_ptr<Flights::Waiter>> waiters;
    {
        std::lock_guard lock(flights->mutex_);
        auto found = flights->open_.find(key_);
        waiters = std::move(found->second.waiters);
        flights->open_.erase(found);
        flights->waiters_ -= static_cast<std::int64_t>(waiters.size());
        flights->waiting_.set(flights->waiters_);
    }
    if (entry) flights->shared_.add(waiters.size());
    for (auto& waiter : waiters)
        waiter->landing.set({.kind = entry ? Landing::Kind::ready : Landing::Kind::alone, .entry = entry});
}

void Flight::fail() {
    Flights* flights = std::exchange(flights_, nullptr);
    if (flights == nullptr) return;
    std::shared_ptr<Flights::Waiter> next;
    Landing landing{.kind = Landing::Kind::lead};
    {
        std::lock_guard lock(flights->mutex_);
        auto found = flights->open_.find(key_);
        Flights::Open& open = found->second;
        if (open.waiters.empty()) {
            flights->open_.erase(found);
            return;
        }
        next = std::move(open.waiters.front());
        open.waiters.pop_front();
        --*open.count;
        flights->waiting_.set(--flights->waiters_);
        landing.flight = flights->make_flight(key_, open);
    }
    flights->promoted_.add();
    next->landing.set(std::move(landing));
}

Flights::Flights(const CacheSettings& settings, metrics::Registry& metrics)
    : settings_(settings),
      waiting_(metrics.gauge("nebula_cache_waiting", "Requests that wait for the answer to the same one.")),
      shared_(metrics.counter("nebula_cache_shared_total", "Requests answered with another one's answer.")),
      full_(metrics.counter("nebula_cache_waiters_full_total", "Requests that found too many waiting.")),
      timed_out_(metrics.counter("nebula_cache_wait_timeouts_total", "Requests that waited too long.")),
      promoted_(metrics.counter("nebula_cache_promoted_total", "Waiting requests that had to lead.")) {
    metrics.gauge("nebula_cache_waiting_max", "Bound of nebula_cache_waiting.").set(settings.waiters_max);
}

Flight Flights::make_flight(const Sha256& key, const Open& open) {
    Flight flight;
    flight.flights_ = this;
    flight.key_ = key;
    flight.followers_ = open.count;
    return flight;
}

// Who takes a waiter out of the list, under the lock, is the one who sets its landing.
void Flights::leave(const Sha256& key, const std::shared_ptr<Waiter>& waiter, Landing::Kind why) {
    {
        std::lock_guard lock(mutex_);
        auto found = open_.find(key);
        if (found == open_.end()) return;
        auto& waiters = found->second.waiters;
        auto here = std::ranges::find(waiters, waiter);
        if (here == waiters.end()) return;
        waiters.erase(here);
        --*found->second.count;
        waiting_.set(--waiters_);
    }
    if (why == Landing::Kind::alone) timed_out_.add();
    waiter->landing.set({.kind = why});
}

struct Flights::Leaver {
    Flights& flights;
    Sha256 key;
    std::shared_ptr<Waiter> waiter;
    static void fire(void* self) {
        auto& leaver = *static_cast<Leaver*>(self);
        leaver.flights.leave(leaver.key, leaver.waiter, Landing::Kind::alone);
    }
};

Async<Landing> Flights::join(http::Exchange& exchange, Sha256 key, Ticks until) {
    auto waiter = std::make_shared<Waiter>();
    {
        std::lock_guard lock(mutex_);
        auto [found, is_first] = open_.try_emplace(key);
        if (is_first) {
            Landing landing{.kind = Landing::Kind::lead};
            landing.flight = make_flight(key, found->second);
            co_return landing;
        }
        if (waiters_ >= settings_.waiters_max) {
            full_.add();
            co_return Landing{};
        }
        found->second.waiters.push_back(waiter);
        ++*found->second.count;
        waiting_.set(++waiters_);
    }
    Leaver leaver{*this, key, waiter};
    exchange.on_gone([&leaver] { leaver.flights.leave(leaver.key, leaver.waiter, Landing::Kind::gone); });
    Deadline deadline(exchange.thread().deadlines(), &Leaver::fire, &leaver);
    deadline.arm(until);
    Landing landing = co_await waiter->landing;
    deadline.disarm();
    exchange.on_gone({});
    co_return landing;
}

}  // namespace nebula::gateway

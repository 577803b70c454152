#pragma once
// What the gateway remembers of each provider (requests in flight, who waits for a slot, circuit breaker,
// metrics) and of each route. Survives reloads of the catalog: keyed by the numbers of names.

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "catalog/catalog.hpp"
#include "gateway/routing/plan.hpp"
#include "gateway/routing/route_state.hpp"
#include "gateway/routing/slot_queue.hpp"

namespace nebula::gateway {

/// One provider. Any thread.
class Upstream {
   public:
    Upstream(const std::string& name, metrics::Registry& metrics);

    /// Closed: yes. Open: no, until its time is over; then one trial at a time, which ends with end_trial().
    enum class Leave { no, yes, trial };
    Leave may_try(Ticks now);
    void end_trial() { trial_ = false; }
    void succeeded();
    /// `reason` is a bounded word for the metric: connect, timeout, cut, status_5xx, malformed.
    void failed(const catalog::Provider& provider, Ticks now, const char* reason);
    /// Neither: the provider answered, but with a refusal that says nothing about its health (429, 4xx).
    void answered();
    /// What a probe found. Twice nothing opens the breaker, whatever requests met; an answer closes it.
    void probed(const catalog::Provider& provider, Ticks now, bool is_alive);
    bool is_open(Ticks now) const {
        return open_until_.load(std::memory_order_relaxed) > now.time_since_epoch().count();
    }

    /// Not while others wait for one.
    bool take_slot(std::int64_t concurrency_max);
    void give_slot();
    std::int64_t in_flight() const { return in_flight_.load(std::memory_order_relaxed); }
    routing::SlotQueue& queue() { return queue_; }
    void observe(std::int64_t latency_us) { latency_.observe_us(latency_us); }

   private:
    void open(const catalog::Provider& provider, Ticks now, const char* reason);
    bool take_free_slot(std::int64_t concurrency_max);

    metrics::Registry& metrics_;
    std::string name_;
    std::atomic<std::int64_t> in_flight_{0};
    std::atomic<std::int64_t> dead_probes_{0};
    std::atomic<std::int64_t> failures_{0};
    std::atomic<Ticks::rep> open_until_{0};
    std::atomic<bool> trial_{false};
    metrics::Counter& requests_;
    metrics::Counter& full_;
    metrics::Histogram& latency_;
    metrics::Gauge& in_flight_gauge_;
    metrics::Gauge& open_gauge_;
    routing::SlotQueue queue_;
};

/// The breaker's leave for one attempt. A trial that ends without a verdict (the client left, no slot was
/// free) makes room for the next one.
class Attempted {
   public:
    Attempted(Upstream& upstream, Ticks now) : upstream_(upstream), leave_(upstream.may_try(now)) {}
    Attempted(const Attempted&) = delete;
    Attempted& operator=(const Attempted&) = delete;
    ~Attempted() {
        if (leave_ == Upstream::Leave::trial) upstream_.end_trial();
    }
    explicit operator bool() const { return leave_ != Upstream::Leave::no; }

   private:
    Upstream& upstream_;
    Upstream::Leave leave_;
};

/// Holds one of a provider's slots.
class Slot {
   public:
    Slot() = default;
    Slot(Upstream& upstream, std::int64_t concurrency_max)
        : upstream_(upstream.take_slot(concurrency_max) ? &upstream : nullptr) {}
    /// The one that a SlotWait was granted.
    static Slot granted(Upstream& upstream) {
        Slot slot;
        slot.upstream_ = &upstream;
        return slot;
    }
    Slot(Slot&& other) noexcept : upstream_(std::exchange(other.upstream_, nullptr)) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot() {
        if (upstream_ != nullptr) upstream_->give_slot();
    }
    explicit operator bool() const { return upstream_ != nullptr; }

   private:
    Upstream* upstream_ = nullptr;
};

/// One attempt at one route. What it finds out is noted with the provider and with the route.
class Trial {
   public:
    Trial(const catalog::Route& the_route, Upstream& the_upstream, routing::RouteState& state,
          const Clock& clock)
        : route(the_route), upstream(the_upstream), state_(state), clock_(clock), started(clock.ticks()) {}

    /// `reason` as for Upstream::failed().
    void failed(const char* reason) {
        Ticks now = clock_.ticks();
        upstream.failed(*route.provider, now, reason);
        state_.failed(now);
    }
    void answered() { upstream.answered(); }
    void outrun() { state_.outrun(clock_.ticks(), waited_us()); }
    void limited_for(std::chrono::milliseconds wait) { state_.limited(clock_.ticks() + wait); }
    /// `first_content`: when; for what came at once, now.
    void succeeded(Ticks first_content, std::int64_t tokens);
    std::int64_t waited_us() const {
        return std::chrono::duration_cast<std::chrono::microseconds>(clock_.ticks() - started).count();
    }

    const catalog::Route& route;
    Upstream& upstream;

   private:
    routing::RouteState& state_;
    const Clock& clock_;

   public:
    const Ticks started;
};

/// State by number, found without a lock: one atomic load.
template <class T>
class Numbered {
   public:
    template <class Make>
    T& of(std::uint32_t number, Make make) {
        if (number < known_.size())
            if (T* known = known_[number].load(std::memory_order_acquire)) return *known;
        std::lock_guard lock(mutex_);
        auto& slot = all_[number];
        if (!slot) slot = make();
        if (number < known_.size()) known_[number].store(slot.get(), std::memory_order_release);
        return *slot;
    }
    template <class Use>
    void each(Use use) {
        std::lock_guard lock(mutex_);
        for (auto& [number, state] : all_) use(number, *state);
    }

   private:
    std::array<std::atomic<T*>, 4096> known_{};
    std::mutex mutex_;
    std::map<std::uint32_t, std::unique_ptr<T>> all_;
};

class Upstreams final : public routing::FactSource {
   public:
    Upstreams(const Clock& clock, metrics::Registry& metrics) : clock_(clock), metrics_(metrics) {}
    /// Stays valid as long as this object.
    Upstream& of(const catalog::Provider& provider) const;
    routing::RouteState& of(const catalog::Route& route) const;

    routing::Facts facts(const catalog::Route& route) const override;
    std::int64_t latency_us_at(const catalog::Route& route, int percent) const override;
    std::int64_t milli_tps_at(const catalog::Route& route, int percent) const override;

   private:
    const Clock& clock_;
    metrics::Registry& metrics_;
    mutable Numbered<Upstream> upstreams_;
    mutable Numbered<routing::RouteState> routes_;
};

}  // namespace nebula::gateway

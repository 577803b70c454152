#pragma once
// What the gateway remembers of each provider: requests in flight, circuit breaker, metrics. Survives reloads
// of the catalog (keyed by provider name). And the order in which a model's routes are tried.

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

    bool take_slot(std::int64_t concurrency_max);
    void give_slot();
    void observe(std::int64_t latency_us) { latency_.observe_us(latency_us); }

   private:
    metrics::Registry& metrics_;
    std::string name_;
    std::atomic<std::int64_t> in_flight_{0};
    std::atomic<std::int64_t> failures_{0};
    std::atomic<Ticks::rep> open_until_{0};
    std::atomic<bool> trial_{false};
    metrics::Counter& requests_;
    metrics::Counter& full_;
    metrics::Histogram& latency_;
    metrics::Gauge& in_flight_gauge_;
    metrics::Gauge& open_gauge_;
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
    Slot(Slot&& other) noexcept : upstream_(std::exchange(other.upstream_, nullptr)) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot() {
        if (upstream_ != nullptr) upstream_->give_slot();
    }
    explicit operator bool() const { return upstream_ != nullptr; }

   private:
    Upstream* upstream_ = nullptr;
};

class Upstreams {
   public:
    explicit Upstreams(metrics::Registry& metrics) : metrics_(metrics) {}
    /// Stays valid as long as this object.
    Upstream& of(const std::string& provider);

   private:
    metrics::Registry& metrics_;
    std::mutex mutex_;
    std::map<std::string, std::unique_ptr<Upstream>> all_;
};

/// Routes in the order to try them: as listed, or drawn by weight without replacement. `random` is any 64-bit
/// number. A route of weight 0 is tried last.
std::vector<const catalog::Route*> order_routes(const catalog::Model& model, std::uint64_t random);

}  // namespace nebula::gateway

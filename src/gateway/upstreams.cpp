#include "gateway/upstreams.hpp"

#include "base/log.hpp"

namespace nebula::gateway {

Upstream::Upstream(const std::string& name, metrics::Registry& metrics)
    : metrics_(metrics),
      name_(name),
      requests_(metrics.counter("nebula_upstream_requests_total", "Requests sent to a provider.",
                                {{"provider", name}})),
      full_(metrics.counter("nebula_upstream_full_total",
                            "Requests that found the provider's concurrency limit reached.",
                            {{"provider", name}})),
      latency_(metrics.histogram("nebula_upstream_first_byte_seconds",
                                 "Time from sending a request to the head of its answer.",
                                 {{"provider", name}})),
      in_flight_gauge_(
          metrics.gauge("nebula_upstream_in_flight", "Requests at a provider now.", {{"provider", name}})),
      open_gauge_(metrics.gauge("nebula_upstream_breaker_open",
                                "1 while the provider's circuit breaker is open.", {{"provider", name}})) {}

Upstream::Leave Upstream::may_try(Ticks now) {
    Ticks::rep until = open_until_.load(std::memory_order_relaxed);
    if (until == 0) return Leave::yes;
    if (now.time_since_epoch().count() < until) return Leave::no;
    return trial_.exchange(true) ? Leave::no : Leave::trial;  // half open: one request finds out
}

void Upstream::succeeded() {
    if (failures_.load(std::memory_order_relaxed) != 0) failures_ = 0;
    if (open_until_.load(std::memory_order_relaxed) == 0) return;
    LOG_INFO("circuit breaker closed", {"provider", name_});
    open_until_ = 0;
    trial_ = false;
    open_gauge_.set(0);
}

void Upstream::answered() { succeeded(); }

void Upstream::failed(const catalog::Provider& provider, Ticks now, const char* reason) {
    metrics_
        .counter("nebula_upstream_failures_total", "Failed requests to a provider.",
                 {{"provider", name_}, {"reason", reason}})
        .add();
    bool was_trial = trial_.exchange(false);
    if (failures_.fetch_add(1) + 1 < provider.breaker_failures && !was_trial) return;
    if (open_until_.exchange((now + provider.breaker_open).time_since_epoch().count()) == 0)
        LOG_WARN("circuit breaker opened", {"provider", name_}, {"reason", reason});
    open_gauge_.set(1);
}

bool Upstream::take_slot(std::int64_t concurrency_max) {
    if (in_flight_.fetch_add(1, std::memory_order_relaxed) >= concurrency_max) {
        in_flight_.fetch_sub(1, std::memory_order_relaxed);
        full_.add();
        return false;
    }
    requests_.add();
    in_flight_gauge_.add(1);
    return true;
}

void Upstream::give_slot() {
    in_flight_.fetch_sub(1, std::memory_order_relaxed);
    in_flight_gauge_.add(-1);
}

Upstream& Upstreams::of(const std::string& provider) {
    std::lock_guard lock(mutex_);
    auto& slot = all_[provider];
    if (!slot) slot = std::make_unique<Upstream>(provider, metrics_);
    return *slot;
}

std::vector<const catalog::Route*> order_routes(const catalog::Model& model, std::uint64_t random) {
    std::vector<const catalog::Route*> order;
    order.reserve(model.routes.size());
    for (const catalog::Route& route : model.routes) order.push_back(&route);
    if (model.is_ordered || order.size() < 2) return order;
    for (std::size_t place = 0; place + 1 < order.size(); ++place) {
        std::uint64_t total = 0;
        for (std::size_t i = place; i < order.size(); ++i)
            total += static_cast<std::uint64_t>(order[i]->weight);
        if (total == 0) break;
        // A step of splitmix64 for each draw, so that one random number serves all.
        random += 0x9E3779B97F4A7C15ULL;
        std::uint64_t mixed = (random ^ random >> 30) * 0xBF58476D1CE4E5B9ULL;
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBULL;
        std::uint64_t draw = (mixed ^ mixed >> 31) % total;
        std::size_t chosen = place;
        while (draw >= static_cast<std::uint64_t>(order[chosen]->weight)) {
            draw -= static_cast<std::uint64_t>(order[chosen]->weight);
            ++chosen;
        }
        std::swap(order[place], order[chosen]);
    }
    return order;
}

}  // namespace nebula::gateway

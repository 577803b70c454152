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
                                "1 while the provider's circuit breaker is open.", {{"provider", name}})),
      queue_([this](std::int64_t concurrency_max) { return take_free_slot(concurrency_max); }, name,
             metrics) {}

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
    open(provider, now, reason);
}

void Upstream::open(const catalog::Provider& provider, Ticks now, const char* reason) {
    if (open_until_.exchange((now + provider.breaker_open).time_since_epoch().count()) == 0)
        LOG_WARN("circuit breaker opened", {"provider", name_}, {"reason", reason});
    open_gauge_.set(1);
}

void Upstream::probed(const catalog::Provider& provider, Ticks now, bool is_alive) {
    if (is_alive) {
        dead_probes_ = 0;
        return succeeded();
    }
    if (dead_probes_.fetch_add(1) + 1 >= 2) open(provider, now, "probe");
}

bool Upstream::take_free_slot(std::int64_t concurrency_max) {
    // Never above the bound, not even for a moment: who hands a slot on could miss it.
    std::int64_t count = in_flight_.load();
    do {
        if (count >= concurrency_max) return false;
    } while (!in_flight_.compare_exchange_weak(count, count + 1));
    requests_.add();
    in_flight_gauge_.add(1);
    return true;
}

bool Upstream::take_slot(std::int64_t concurrency_max) {
    if (!queue_.is_waited_for() && take_free_slot(concurrency_max)) return true;
    full_.add();
    return false;
}

void Upstream::give_slot() {
    in_flight_.fetch_sub(1);
    in_flight_gauge_.add(-1);
    queue_.slot_free();
}

void Trial::succeeded(Ticks first_content, std::int64_t tokens) {
    using std::chrono::microseconds;
    Ticks now = clock_.ticks();
    auto latency = std::chrono::duration_cast<microseconds>(first_content - started).count();
    auto since = std::chrono::duration_cast<microseconds>(now - first_content).count();
    // What came whole was made all the time.
    state_.succeeded(now, latency, tokens, since > 0 ? since : latency);
}

Upstream& Upstreams::of(const catalog::Provider& provider) const {
    return upstreams_.of(provider.number,
                         [&] { return std::make_unique<Upstream>(provider.name, metrics_); });
}

routing::RouteState& Upstreams::of(const catalog::Route& route) const {
    return routes_.of(route.number, [&] { return std::make_unique<routing::RouteState>(route, metrics_); });
}

routing::Facts Upstreams::facts(const catalog::Route& route) const {
    Ticks now = clock_.ticks();
    routing::Facts facts = of(route).facts(now);
    Upstream& upstream = of(*route.provider);
    facts.in_flight = upstream.in_flight();
    facts.is_shaky = facts.is_shaky || upstream.is_open(now);
    return facts;
}

std::int64_t Upstreams::latency_us_at(const catalog::Route& route, int percent) const {
    return of(route).latencies_us().at(percent, clock_.ticks());
}

std::int64_t Upstreams::milli_tps_at(const catalog::Route& route, int percent) const {
    return of(route).milli_tps().at(percent, clock_.ticks());
}

}  // namespace nebula::gateway

#pragma once
// Metrics of the supervisor. Private to runtime.

#include <array>

#include "runtime/supervisor.hpp"

namespace nebula::runtime {

struct Supervisor::Counters {
    explicit Counters(metrics::Registry& registry)
        : starts(registry.counter("nebula_runtime_starts_total", "Runner processes started.")),
          crashes(registry.counter("nebula_runtime_crashes_total",
                                   "Runner processes that ended by themselves or did not become ready.")),
          evictions(
              registry.counter("nebula_runtime_evictions_total", "Runners ended to make room for others.")),
          idle_unloads(registry.counter("nebula_runtime_idle_unloads_total",
                                        "Runners ended because nobody used them.")),
          refusals(registry.counter("nebula_runtime_refusals_total", "Starts refused for lack of memory.")),
          start_seconds(registry.histogram("nebula_runtime_start_seconds", "From start to ready.")),
          memory(registry.gauge("nebula_runtime_memory_bytes", "Memory of all runners.")),
          budget(
              registry.gauge("nebula_runtime_memory_budget_bytes", "Memory that runners may use together.")),
          leases(registry.gauge("nebula_runtime_leases", "Uses of runners in progress.")) {
        for (std::size_t i = 0; i < state_count; ++i)
            states[i] = &registry.gauge("nebula_runtime_runners", "Models by state of their runner.",
                                        {{"state", state_name(static_cast<State>(i))}});
    }
    metrics::Counter& starts;
    metrics::Counter& crashes;
    metrics::Counter& evictions;
    metrics::Counter& idle_unloads;
    metrics::Counter& refusals;
    metrics::Histogram& start_seconds;
    metrics::Gauge& memory;
    metrics::Gauge& budget;
    metrics::Gauge& leases;
    std::array<metrics::Gauge*, state_count> states{};
};

}  // namespace nebula::runtime

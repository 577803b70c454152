#pragma once
// What is remembered of one route: how fast and how reliable it was lately, and until when it wants to be
// left alone. Any thread; no locks: a lost sample does no harm.

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "gateway/routing/plan.hpp"

namespace nebula::gateway::routing {

/// Distribution over the last 15 to 30 minutes, in buckets a fifth apart.
class RecentValues {
   public:
    void add(std::int64_t value, Ticks now);
    /// The value that `percent` of hundred do not exceed; 0 without values.
    std::int64_t at(int percent, Ticks now) const;

   private:
    static constexpr std::size_t buckets = 96;
    using Counts = std::array<std::atomic<std::uint32_t>, buckets>;
    std::int64_t turn(Ticks now);

    std::array<Counts, 2> counts_{};
    std::atomic<std::int64_t> epoch_{0};
};

/// Calls that ended well and badly, minute by minute and hour by hour.
class RecentOutcomes {
   public:
    void add(bool is_good, Ticks now);
    /// Share of good ones in thousandths; -1 without calls.
    std::int64_t permille(std::chrono::minutes window, Ticks now) const;

   private:
    struct Cell {
        std::atomic<std::int64_t> period{-1};
        std::atomic<std::uint32_t> good{0}, bad{0};
    };
    static void count(Cell& cell, std::int64_t period, bool is_good);

    std::array<Cell, 30> minutes_;
    std::array<Cell, 24> hours_;
};

class RouteState {
   public:
    /// Labels of the gauges: the provider and its name of the model.
    RouteState(const catalog::Route& route, metrics::Registry& metrics);

    void succeeded(Ticks now, std::int64_t latency_us, std::int64_t tokens, std::int64_t generated_in_us);
    void failed(Ticks now);
    /// Had no content after `waited_us`, when another route had.
    void outrun(Ticks now, std::int64_t waited_us);
    /// The provider said when it wants to be asked again.
    void limited(Ticks until) { limited_until_.store(until.time_since_epoch().count(), relaxed); }
    /// 0: may be asked.
    std::int64_t limited_for_ms(Ticks now) const;

    /// Whether one more stream that was first asked of this route may be asked of a second one: `percent` of
    /// the streams, and a few in a row. note_stream() counts them.
    void note_stream(std::int64_t percent);
    bool take_hedge();

    Facts facts(Ticks now) const;  // without in_flight
    const RecentValues& latencies_us() const { return latencies_; }
    const RecentValues& milli_tps() const { return speeds_; }
    const RecentOutcomes& outcomes() const { return outcomes_; }

   private:
    static constexpr std::int64_t hedge_credit_max = 1'000;
    static constexpr auto relaxed = std::memory_order_relaxed;
    std::atomic<std::int64_t> latency_us_{0}, milli_tps_{0}, error_ppm_{0};
    std::atomic<std::int64_t> hedge_credit_{hedge_credit_max};  // hundredths of a stream
    std::atomic<Ticks::rep> sampled_at_{0}, failed_at_{0}, limited_until_{0};
    RecentValues latencies_, speeds_;
    RecentOutcomes outcomes_;
    metrics::Gauge &latency_gauge_, &speed_gauge_, &error_gauge_;
};

}  // namespace nebula::gateway::routing

#include "gateway/routing/route_state.hpp"

#include <algorithm>
#include <bit>

namespace nebula::gateway::routing {
namespace {

using namespace std::chrono_literals;

constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto half_window = 15min;
constexpr auto shaky_for = 30s;
// What was measured so long ago counts half, so that who was slow once is asked again some day.
constexpr auto half_life = 2min;
constexpr int smallest_octave = 6;

// Four buckets per octave.
std::size_t bucket_of(std::int64_t value, std::size_t buckets) {
    auto bits = static_cast<std::uint64_t>(std::max<std::int64_t>(value, 1 << smallest_octave));
    int octave = static_cast<int>(std::bit_width(bits)) - 1;
    auto place = static_cast<std::size_t>(4 * (octave - smallest_octave)) + ((bits >> (octave - 2)) & 3);
    return std::min(place, buckets - 1);
}

std::int64_t middle_of(std::size_t bucket) {
    std::int64_t quarter = std::int64_t{1} << (bucket / 4 + smallest_octave - 2);
    return quarter * (4 + static_cast<std::int64_t>(bucket % 4)) + quarter / 2;
}

std::int64_t smoothed(std::int64_t old, std::int64_t value) {
    return old == 0 ? value : old + (value - old) / 8;
}

std::int64_t period_of(Ticks now, std::chrono::nanoseconds length) { return now.time_since_epoch() / length; }

}  // namespace

std::int64_t RecentValues::turn(Ticks now) {
    std::int64_t epoch = period_of(now, half_window);
    std::int64_t last = epoch_.load(relaxed);
    if (epoch != last && epoch_.compare_exchange_strong(last, epoch)) {
        for (auto& count : counts_[static_cast<std::size_t>(epoch) % 2]) count.store(0, relaxed);
        if (epoch != last + 1)
            for (auto& count : counts_[static_cast<std::size_t>(epoch + 1) % 2]) count.store(0, relaxed);
    }
    return epoch;
}

void RecentValues::add(std::int64_t value, Ticks now) {
    auto& counts = counts_[static_cast<std::size_t>(turn(now)) % 2];
    counts[bucket_of(value, buckets)].fetch_add(1, relaxed);
}

std::int64_t RecentValues::at(int percent, Ticks now) const {
    std::int64_t age = period_of(now, half_window) - epoch_.load(relaxed);
    if (age > 1) return 0;
    auto count_at = [&](std::size_t i) {
        std::uint64_t current = counts_[static_cast<std::size_t>(epoch_.load(relaxed)) % 2][i].load(relaxed);
        std::uint64_t before =
            counts_[static_cast<std::size_t>(epoch_.load(relaxed) + 1) % 2][i].load(relaxed);
        return current + (age == 0 ? before : 0);
    };
    std::uint64_t all = 0;
    for (std::size_t i = 0; i < buckets; ++i) all += count_at(i);
    if (all == 0) return 0;
    std::uint64_t wanted = (all * static_cast<std::uint64_t>(percent) + 99) / 100, seen = 0;
    for (std::size_t i = 0; i < buckets; ++i) {
        seen += count_at(i);
        if (seen >= wanted) return middle_of(i);
    }
    return 0;
}

void RecentOutcomes::count(Cell& cell, std::int64_t period, bool is_good) {
    std::int64_t last = cell.period.load(relaxed);
    if (last != period && cell.period.compare_exchange_strong(last, period)) {
        cell.good.store(0, relaxed);
        cell.bad.store(0, relaxed);
    }
    (is_good ? cell.good : cell.bad).fetch_add(1, relaxed);
}

void RecentOutcomes::add(bool is_good, Ticks now) {
    std::int64_t minute = period_of(now, 1min), hour = period_of(now, 1h);
    count(minutes_[static_cast<std::size_t>(minute) % minutes_.size()], minute, is_good);
    count(hours_[static_cast<std::size_t>(hour) % hours_.size()], hour, is_good);
}

std::int64_t RecentOutcomes::permille(std::chrono::minutes window, Ticks now) const {
    std::uint64_t good = 0, bad = 0;
    auto sum = [&](const auto& cells, std::int64_t current, std::int64_t count) {
        for (const Cell& cell : cells) {
            std::int64_t period = cell.period.load(relaxed);
            if (period < 0 || period > current || period <= current - count) continue;
            good += cell.good.load(relaxed);
            bad += cell.bad.load(relaxed);
        }
    };
    if (window <= 30min)
        sum(minutes_, period_of(now, 1min), window.count());
    else
        sum(hours_, period_of(now, 1h), window / 1h);
    return good + bad == 0 ? -1 : static_cast<std::int64_t>(good * 1000 / (good + bad));
}

RouteState::RouteState(const catalog::Route& route, metrics::Registry& metrics)
    : latency_gauge_(metrics.gauge("nebula_route_first_content_ms", "Smoothed time to the first content.",
                                   {{"provider", route.provider->name}, {"model", route.upstream_model}})),
      speed_gauge_(metrics.gauge("nebula_route_tokens_per_second", "Smoothed speed of answers.",
                                 {{"provider", route.provider->name}, {"model", route.upstream_model}})),
      error_gauge_(metrics.gauge("nebula_route_errors_permille", "Smoothed share of failed calls.",
                                 {{"provider", route.provider->name}, {"model", route.upstream_model}})) {}

void RouteState::succeeded(Ticks now, std::int64_t latency_us, std::int64_t tokens,
                           std::int64_t generated_in_us) {
    latency_us_.store(smoothed(latency_us_.load(relaxed), std::max<std::int64_t>(latency_us, 1)), relaxed);
    latencies_.add(latency_us, now);
    // A handful of tokens says nothing about speed.
    if (tokens >= 4 && generated_in_us > 0) {
        std::int64_t speed = std::max<std::int64_t>(1, tokens * 1'000'000'000 / generated_in_us);
        milli_tps_.store(smoothed(milli_tps_.load(relaxed), speed), relaxed);
        speeds_.add(speed, now);
        speed_gauge_.set(milli_tps_.load(relaxed) / 1000);
    }
    error_ppm_.store(error_ppm_.load(relaxed) * 15 / 16, relaxed);
    sampled_at_.store(now.time_since_epoch().count(), relaxed);
    outcomes_.add(true, now);
    latency_gauge_.set(latency_us_.load(relaxed) / 1000);
    error_gauge_.set(error_ppm_.load(relaxed) / 1000);
}

void RouteState::outrun(Ticks now, std::int64_t waited_us) {
    latency_us_.store(smoothed(latency_us_.load(relaxed), std::max<std::int64_t>(waited_us, 1)), relaxed);
    latencies_.add(waited_us, now);
    sampled_at_.store(now.time_since_epoch().count(), relaxed);
    latency_gauge_.set(latency_us_.load(relaxed) / 1000);
}

void RouteState::failed(Ticks now) {
    std::int64_t errors = error_ppm_.load(relaxed);
    error_ppm_.store(errors + (1'000'000 - errors) / 16, relaxed);
    failed_at_.store(now.time_since_epoch().count(), relaxed);
    outcomes_.add(false, now);
    error_gauge_.set(error_ppm_.load(relaxed) / 1000);
}

std::int64_t RouteState::limited_for_ms(Ticks now) const {
    Ticks::rep until = limited_until_.load(relaxed);
    if (until == 0) return 0;
    auto left = Ticks(Ticks::duration(until)) - now;
    return left.count() <= 0 ? 0 : std::chrono::ceil<std::chrono::milliseconds>(left).count();
}

void RouteState::note_stream(std::int64_t percent) {
    std::int64_t credit = hedge_credit_.load(relaxed);
    while (credit < hedge_credit_max && !hedge_credit_.compare_exchange_weak(
                                            credit, std::min(hedge_credit_max, credit + percent), relaxed)) {
    }
}

bool RouteState::take_hedge() {
    std::int64_t credit = hedge_credit_.load(relaxed);
    do {
        if (credit < 100) return false;
    } while (!hedge_credit_.compare_exchange_weak(credit, credit - 100, relaxed));
    return true;
}

Facts RouteState::facts(Ticks now) const {
    Facts facts;
    auto age = now - Ticks(Ticks::duration(sampled_at_.load(relaxed)));
    auto halvings = std::clamp<std::int64_t>(age / half_life, 0, 40);
    facts.latency_us = latency_us_.load(relaxed) >> halvings;
    std::int64_t speed = milli_tps_.load(relaxed);
    facts.milli_tps = speed == 0 ? 0 : halvings > 20 ? std::int64_t{1} << 60 : speed << halvings;
    facts.error_ppm = error_ppm_.load(relaxed);
    Ticks::rep failed = failed_at_.load(relaxed);
    facts.is_shaky = failed != 0 && now - Ticks(Ticks::duration(failed)) < shaky_for;
    return facts;
}

}  // namespace nebula::gateway::routing

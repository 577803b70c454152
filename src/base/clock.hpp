#pragma once
// Time is injected: code asks a Clock, tests move a FakeClock.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace nebula {

/// Wall-clock UTC with microseconds; what the database stores (as a 64-bit count).
using Time = std::chrono::sys_time<std::chrono::microseconds>;
/// Monotonic time, for deadlines, windows and durations.
using Ticks = std::chrono::steady_clock::time_point;

/// Thread-safe. Never goes back within one process as far as ticks() is concerned.
class Clock {
   public:
    virtual ~Clock() = default;
    virtual Time now() const = 0;
    virtual Ticks ticks() const = 0;
};

class SystemClock final : public Clock {
   public:
    Time now() const override;
    Ticks ticks() const override;
};

/// Starts at 2026-01-01T00:00:00Z and tick 1 h; moves only by advance().
class FakeClock final : public Clock {
   public:
    Time now() const override { return start_ + std::chrono::microseconds(offset_us_.load()); }
    Ticks ticks() const override {
        return Ticks(std::chrono::hours(1) + std::chrono::microseconds(offset_us_.load()));
    }
    void advance(std::chrono::microseconds by) { offset_us_ += by.count(); }

   private:
    Time start_ = Time(std::chrono::seconds(1767225600));
    std::atomic<std::int64_t> offset_us_{0};
};

inline std::int64_t to_micros(Time t) { return t.time_since_epoch().count(); }
inline Time from_micros(std::int64_t us) { return Time(std::chrono::microseconds(us)); }
/// "2026-11-21T04:05:06.789Z"
std::string to_iso8601(Time t);

}  // namespace nebula

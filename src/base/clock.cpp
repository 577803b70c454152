#include "base/clock.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace nebula {

// The one place that asks the operating system for the time.
Time SystemClock::now() const {
    return std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
}
Ticks SystemClock::ticks() const { return std::chrono::steady_clock::now(); }

std::string to_iso8601(Time t) {
    auto seconds = std::chrono::floor<std::chrono::seconds>(t);
    auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(t - seconds).count();
    auto civil = fmt::gmtime(std::chrono::system_clock::to_time_t(seconds));
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", civil, millis);
}

}  // namespace nebula

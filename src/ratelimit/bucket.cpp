#include "ratelimit/bucket.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nebula::ratelimit {

void Window::advance(std::int64_t from_second, std::int64_t to_second) {
    if (sum_ == 0) return;
    if (to_second - from_second >= seconds) {
        slots_.fill(0);
        sum_ = 0;
        return;
    }
    for (std::int64_t s = from_second + 1 - seconds; s <= to_second - seconds; ++s) {
        sum_ -= slots_[at(s)];
        slots_[at(s)] = 0;
    }
}

void Window::add(std::int64_t second, std::int64_t amount) {
    std::uint32_t& slot = slots_[at(second)];
    std::int64_t room = std::numeric_limits<std::uint32_t>::max() - static_cast<std::int64_t>(slot);
    auto added = static_cast<std::uint32_t>(std::min(amount, room));
    slot += added;
    sum_ += added;
    if (added > 0) last_ = second;
}

void Window::give_back(std::int64_t first, std::int64_t last, std::int64_t amount) {
    std::int64_t step = first <= last ? 1 : -1;
    for (std::int64_t s = first; amount > 0 && sum_ > 0; s += step) {
        std::uint32_t& slot = slots_[at(s)];
        auto back = static_cast<std::uint32_t>(std::min<std::int64_t>(amount, slot));
        slot -= back;
        sum_ -= back;
        amount -= back;
        if (s == last) return;
    }
}

std::int64_t Window::ms_until_at_most(std::int64_t wanted, std::int64_t now_ms) const {
    std::int64_t left = sum();
    if (left <= wanted) return 0;
    std::int64_t now_second = now_ms / 1000;
    for (std::int64_t s = now_second + 1 - seconds; s <= now_second; ++s) {
        left -= slots_[at(s)];
        if (left <= wanted) return (s + seconds) * 1000 - now_ms;
    }
    return seconds * 1000;
}

namespace {

constexpr double half_life_seconds = 8;
// Turns the sum of decaying amounts into the amount of a whole window at the same pace.
constexpr double per_window = static_cast<double>(Window::seconds) * 0.6931471805599453 / half_life_seconds;

double decayed(double value, std::int64_t seconds) {
    return seconds <= 0 ? value : value * std::exp2(-static_cast<double>(seconds) / half_life_seconds);
}

}  // namespace

void Share::ask(std::int64_t amount, std::int64_t second) {
    if (second > demand_second_) {
        demand_ = decayed(demand_, second - demand_second_);
        demand_second_ = second;
    }
    demand_ += static_cast<double>(amount) * per_window;
}

std::int64_t Share::demand(std::int64_t second) const {
    double now = decayed(demand_, second - demand_second_);
    return now >= static_cast<double>(limit) ? limit : std::llround(now);
}

}  // namespace nebula::ratelimit

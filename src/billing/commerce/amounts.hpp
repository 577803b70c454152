#pragma once
// Arithmetic of what is sold: cents, tax, shares, periods. Exact, without floating point. Rounding: tax half
// up to the cent; the unused part of a plan's price down to the nano-dollar; shares of a refund half up, over
// cumulative sums, so that the parts always add up to the whole.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/nanos.hpp"

namespace nebula::billing::commerce {

constexpr std::int64_t nanos_per_cent = Nanos::per_credit / 100;

inline Nanos from_cents(std::int64_t cents) { return Nanos{cents * nanos_per_cent}; }
/// Nothing when it is not whole cents.
std::optional<std::int64_t> to_cents(Nanos amount);

/// A percentage with at most 6 digits after the point, from 0 to 100, in millionths of a percent: "14.975" is
/// 14,975,000.
std::optional<std::int64_t> parse_percent(std::string_view text);
/// On whole cents, rounded half up to the cent.
std::int64_t tax_cents(std::int64_t net_cents, std::int64_t percent_millionths);

/// amount × part / whole, rounded half up. 0 <= part <= whole, whole > 0.
std::int64_t share(std::int64_t amount, std::int64_t part, std::int64_t whole);

struct Period {
    Time start;
    Time end;
};
/// What of `price`, paid for the period, is not used at `now`: rounded down.
Nanos unused_part(Nanos price, const Period& period, Time now);

/// The same day and time of day, `months` later; the month's last day where it is shorter.
Time add_months(Time anchor, int months);
/// The month beginning on the anchor's day that `now` (not before the anchor) is in.
Period anniversary_period(Time anchor, Time now);
/// UTC.
Period calendar_month(Time now);
/// "2026-11-21"
std::string day_text(Time time);

}  // namespace nebula::billing::commerce

#pragma once
// Hours, days, weeks (from Monday) and months of bills, all UTC. Private to bills.

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"

namespace nebula::billing::bills {

enum class Cycle { hour, day, week, month };
/// "Hour", "Day", "Week", "Month".
std::optional<Cycle> parse_cycle(std::string_view word);

/// Start of the period that holds `time`.
Time period_start(Cycle cycle, Time time);
/// Start of the following one; `start` is a period's start.
Time next_period(Cycle cycle, Time start);

/// [from, to)
struct Window {
    Time from;
    Time to;
};
/// "2026-10", years 2000 to 2199.
std::optional<Window> parse_month(std::string_view text);
std::string month_text(Time time);
std::string day_text(Time time);

}  // namespace nebula::billing::bills

#include "billing/bills/periods.hpp"

#include "base/text.hpp"

namespace nebula::billing::bills {

using namespace std::chrono;

std::optional<Cycle> parse_cycle(std::string_view word) {
    if (equals_ignore_case(word, "hour")) return Cycle::hour;
    if (equals_ignore_case(word, "day")) return Cycle::day;
    if (equals_ignore_case(word, "week")) return Cycle::week;
    if (equals_ignore_case(word, "month")) return Cycle::month;
    return std::nullopt;
}

Time period_start(Cycle cycle, Time time) {
    sys_days day = floor<days>(time);
    switch (cycle) {
        case Cycle::hour:
            return floor<hours>(time);
        case Cycle::day:
            return day;
        case Cycle::week:
            return day - (weekday(day) - Monday);
        case Cycle::month: {
            year_month_day date(day);
            return sys_days(date.year() / date.month() / 1);
        }
    }
    return day;
}

Time next_period(Cycle cycle, Time start) {
    switch (cycle) {
        case Cycle::hour:
            return start + hours(1);
        case Cycle::day:
            return start + days(1);
        case Cycle::week:
            return start + days(7);
        case Cycle::month: {
            year_month_day date(floor<days>(start));
            return sys_days((date.year() / date.month() + months(1)) / 1);
        }
    }
    return start;
}

std::optional<Window> parse_month(std::string_view text) {
    if (text.size() != 7 || text[4] != '-') return std::nullopt;
    auto y = parse_int<int>(text.substr(0, 4));
    auto m = parse_int<unsigned>(text.substr(5));
    if (!y || !m || *y < 2000 || *y > 2199 || *m < 1 || *m > 12) return std::nullopt;
    Time from = sys_days(year(*y) / month(*m) / 1);
    return Window{from, next_period(Cycle::month, from)};
}

std::string month_text(Time time) { return to_iso8601(time).substr(0, 7); }
std::string day_text(Time time) { return to_iso8601(time).substr(0, 10); }

}  // namespace nebula::billing::bills

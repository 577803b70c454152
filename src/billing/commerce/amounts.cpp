#include "billing/commerce/amounts.hpp"

#include <algorithm>

namespace nebula::billing::commerce {

using namespace std::chrono;

std::optional<std::int64_t> to_cents(Nanos amount) {
    if (amount.value % nanos_per_cent != 0) return std::nullopt;
    return amount.value / nanos_per_cent;
}

std::optional<std::int64_t> parse_percent(std::string_view text) {
    auto parsed = Nanos::parse(text);
    constexpr std::int64_t millionth = Nanos::per_credit / 1'000'000;
    if (!parsed || parsed->value < 0 || parsed->value > 100 * Nanos::per_credit) return std::nullopt;
    if (parsed->value % millionth != 0) return std::nullopt;
    return parsed->value / millionth;
}

std::int64_t tax_cents(std::int64_t net_cents, std::int64_t percent_millionths) {
    constexpr __int128 whole = 100'000'000;  // 100 percent
    __int128 exact = static_cast<__int128>(net_cents) * percent_millionths;
    return static_cast<std::int64_t>((exact + whole / 2) / whole);
}

std::int64_t share(std::int64_t amount, std::int64_t part, std::int64_t whole) {
    __int128 exact = static_cast<__int128>(amount) * part;
    return static_cast<std::int64_t>((2 * exact + whole) / (2 * static_cast<__int128>(whole)));
}

Nanos unused_part(Nanos price, const Period& period, Time now) {
    std::int64_t whole = (period.end - period.start).count();
    std::int64_t rest = (period.end - std::max(now, period.start)).count();
    if (rest <= 0 || whole <= 0) return {};
    return Nanos{static_cast<std::int64_t>(static_cast<__int128>(price.value) * rest / whole)};
}

Time add_months(Time anchor, int count) {
    auto day = floor<days>(anchor);
    year_month_day date = year_month_day(day) + months(count);
    if (!date.ok()) date = date.year() / date.month() / last;
    return sys_days(date) + (anchor - day);
}

Period anniversary_period(Time anchor, Time now) {
    year_month_day first(floor<days>(anchor)), today(floor<days>(now));
    int count = static_cast<int>((today.year() / today.month() - first.year() / first.month()).count());
    if (add_months(anchor, count) > now) --count;
    count = std::max(count, 0);
    return {add_months(anchor, count), add_months(anchor, count + 1)};
}

Period calendar_month(Time now) {
    year_month_day today(floor<days>(now));
    auto first = today.year() / today.month() / 1;
    return {Time(sys_days(first)), Time(sys_days(first + months(1)))};
}

std::string day_text(Time time) { return to_iso8601(time).substr(0, 10); }

}  // namespace nebula::billing::commerce

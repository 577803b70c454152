#include "base/nanos.hpp"

#include <limits>

#include "base/check.hpp"

namespace nebula {
namespace {

// amount.value / 10^places, without zeros at the end.
std::string shortest(Nanos amount, std::size_t places) {
    // Through unsigned, so that the smallest value has a magnitude.
    auto magnitude = amount.value < 0 ? 0 - static_cast<std::uint64_t>(amount.value)
                                      : static_cast<std::uint64_t>(amount.value);
    std::string digits = std::to_string(magnitude);
    if (digits.size() <= places) digits.insert(0, places + 1 - digits.size(), '0');
    digits.insert(digits.size() - places, ".");
    digits.erase(digits.find_last_not_of('0') + 1);
    if (digits.back() == '.') digits.pop_back();
    return amount.value < 0 ? "-" + digits : digits;
}

}  // namespace

std::optional<Nanos> Nanos::parse(std::string_view text) {
    bool negative = text.starts_with('-');
    if (negative) text.remove_prefix(1);
    std::int64_t whole = 0;
    std::size_t i = 0;
    for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
        whole = whole * 10 + (text[i] - '0');
        if (whole > 9'200'000'000) return std::nullopt;
    }
    if (i == 0) return std::nullopt;
    std::int64_t fraction = 0;
    if (i < text.size()) {
        if (text[i] != '.') return std::nullopt;
        std::string_view digits = text.substr(i + 1);
        if (digits.empty() || digits.size() > 9) return std::nullopt;
        for (char c : digits) {
            if (c < '0' || c > '9') return std::nullopt;
            fraction = fraction * 10 + (c - '0');
        }
        for (std::size_t n = digits.size(); n < 9; ++n) fraction *= 10;
    }
    std::int64_t total = whole * per_credit + fraction;
    return Nanos{negative ? -total : total};
}

std::string Nanos::text() const {
    if (value == 0) return "0";
    // Through unsigned, so that the smallest value has a magnitude.
    auto magnitude = value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    std::string digits = std::to_string(magnitude % per_credit);
    digits.insert(0, 9 - digits.size(), '0');
    while (digits.size() > 4 && digits.back() == '0') digits.pop_back();
    return (value < 0 ? "-" : "") + std::to_string(magnitude / per_credit) + "." + digits;
}

std::string Nanos::short_text() const { return shortest(*this, 9); }

std::string price_of_one(Nanos per_million) { return shortest(per_million, 15); }

Nanos operator+(Nanos a, Nanos b) {
    Nanos sum;
    CHECK(!__builtin_add_overflow(a.value, b.value, &sum.value), "amounts are bounded far below 2^63");
    return sum;
}

Nanos operator-(Nanos a, Nanos b) {
    Nanos difference;
    CHECK(!__builtin_sub_overflow(a.value, b.value, &difference.value), "amounts are bounded far below 2^63");
    return difference;
}

Nanos round_up(MicroNanos amount) {
    constexpr std::int64_t unit = 1'000'000;
    constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max();
    // Nearly always: a division of 128 bits is a call, one of 64 bits by a constant a multiplication.
    if (amount.value >= 0 && amount.value <= largest - unit)
        return Nanos{(static_cast<std::int64_t>(amount.value) + unit - 1) / unit};
    __int128 whole = amount.value / unit;
    if (amount.value > 0 && amount.value % unit != 0) ++whole;
    if (whole > largest) return Nanos{largest};
    return Nanos{static_cast<std::int64_t>(whole)};
}

}  // namespace nebula

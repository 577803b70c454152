#pragma once
// Money: a 64-bit count of nano-dollars (1e-9 USD; 1 credit = 1 USD). No floating point anywhere near it.

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nebula {

struct Nanos {
    std::int64_t value = 0;

    static constexpr std::int64_t per_credit = 1'000'000'000;

    /// Decimal text with up to 9 fraction digits, optional leading '-': "10", "0.20", "-3.5". Anything else,
    /// more digits or a value beyond ±9.2e9 credits is refused.
    static std::optional<Nanos> parse(std::string_view text);
    /// Exact decimal text with at least 4 fraction digits: "9.9940", "0.000123456"; zero is "0".
    std::string text() const;
    /// Exact decimal text, as short as it can be; also a JSON number: "10", "0.2", "-3.5", "0".
    std::string short_text() const;

    auto operator<=>(const Nanos&) const = default;
};

/// Overflow throws CheckFailed: balances are bounded far below the limit, so it means a defect.
Nanos operator+(Nanos a, Nanos b);
Nanos operator-(Nanos a, Nanos b);
inline Nanos& operator+=(Nanos& a, Nanos b) { return a = a + b; }
inline Nanos& operator-=(Nanos& a, Nanos b) { return a = a - b; }

/// One price line: `units` at `per_million` nano-dollars per million units, in 1e-6 nano-dollars (not yet
/// rounded). Sum the lines of a record first, then round up once with round_up().
struct MicroNanos {
    __int128 value = 0;
};
inline MicroNanos price(std::int64_t units, Nanos per_million) {
    return {static_cast<__int128>(units) * per_million.value};
}
inline MicroNanos operator+(MicroNanos a, MicroNanos b) { return {a.value + b.value}; }
/// Rounds up to whole nano-dollars; saturates at the largest Nanos.
Nanos round_up(MicroNanos amount);
/// Of a price per million the price of one, exact and as short as it can be: "0.0000002".
std::string price_of_one(Nanos per_million);

}  // namespace nebula

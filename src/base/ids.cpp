#include "base/ids.hpp"

#include <algorithm>
#include <array>
#include <atomic>

namespace nebula {
namespace {

constexpr std::string_view alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
constexpr std::int64_t epoch_ms = 1704067200000;  // 2024-01-01T00:00:00Z

constexpr std::array<signed char, 256> make_reverse() {
    std::array<signed char, 256> table{};
    table.fill(-1);
    for (std::size_t i = 0; i < alphabet.size(); ++i)
        table[static_cast<unsigned char>(alphabet[i])] = static_cast<signed char>(i);
    return table;
}
constexpr auto reverse = make_reverse();

// Process-wide by nature: two sources in one process could hand out the same id.
std::atomic<std::uint64_t> last_id{0};
std::atomic<unsigned> node_number{0};

}  // namespace

std::string base32_id(std::uint64_t value) {
    std::string text(13, '0');
    for (std::size_t i = 13; i-- > 0; value >>= 5) text[i] = alphabet[value & 31];
    return text;
}

std::optional<std::uint64_t> parse_base32_id(std::string_view text) {
    if (text.size() != 13) return std::nullopt;
    std::uint64_t value = 0;
    for (char c : text) {
        int digit = reverse[static_cast<unsigned char>(c)];
        if (digit < 0) return std::nullopt;
        if (value >> 59 != 0) return std::nullopt;
        value = value << 5 | static_cast<std::uint64_t>(digit);
    }
    if (value >> 63 != 0) return std::nullopt;  // must fit a signed BIGINT
    return value;
}

void set_id_node(unsigned node) { node_number = std::min(node, 1023u); }

std::uint64_t next_id_value(const Clock& clock) {
    auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(clock.now().time_since_epoch()).count();
    auto fresh = static_cast<std::uint64_t>(std::max<std::int64_t>(ms - epoch_ms, 1)) << 22 |
                 static_cast<std::uint64_t>(node_number.load(std::memory_order_relaxed)) << 12;
    std::uint64_t last = last_id.load(std::memory_order_relaxed);
    std::uint64_t next = 0;
    do {
        next = std::max(last + 1, fresh);
    } while (!last_id.compare_exchange_weak(last, next, std::memory_order_relaxed));
    return next;
}

}  // namespace nebula

#pragma once
// Ids that cannot be mixed up. 63 bits, increasing with time, unique per node; text form "acc_01hx…" (prefix,
// '_', 13 characters of Crockford base32, lower case). Stored as BIGINT. They are names, not secrets.

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"

namespace nebula {

/// 13 characters of Crockford base32, most significant first, so text order is number order.
std::string base32_id(std::uint64_t value);
std::optional<std::uint64_t> parse_base32_id(std::string_view text);

/// Next id: milliseconds since 2024-01-01 in the upper 41 bits, then 10 bits of node number, then a counter.
/// Strictly increasing within the process. Thread-safe.
std::uint64_t next_id_value(const Clock& clock);
/// Node number 0…1023, set once at start when several nodes share a database.
void set_id_node(unsigned node);

template <class Tag>
struct Id {
    std::uint64_t value = 0;

    static Id next(const Clock& clock) { return Id{next_id_value(clock)}; }
    static std::optional<Id> parse(std::string_view text) {
        constexpr std::string_view prefix = Tag::prefix;
        if (text.size() != prefix.size() + 14 || !text.starts_with(prefix) || text[prefix.size()] != '_')
            return std::nullopt;
        auto parsed = parse_base32_id(text.substr(prefix.size() + 1));
        if (!parsed) return std::nullopt;
        return Id{*parsed};
    }
    static Id from_db(std::int64_t stored) { return Id{static_cast<std::uint64_t>(stored)}; }
    std::int64_t db() const { return static_cast<std::int64_t>(value); }
    std::string text() const { return std::string(Tag::prefix) + "_" + base32_id(value); }
    explicit operator bool() const { return value != 0; }
    auto operator<=>(const Id&) const = default;
};

struct AccountTag {
    static constexpr std::string_view prefix = "acc";
};
struct UserTag {
    static constexpr std::string_view prefix = "usr";
};
struct KeyTag {
    static constexpr std::string_view prefix = "key";
};
struct RequestTag {
    static constexpr std::string_view prefix = "req";
};
struct PostingTag {
    static constexpr std::string_view prefix = "pst";
};

using AccountId = Id<AccountTag>;
using UserId = Id<UserTag>;
using KeyId = Id<KeyTag>;
using RequestId = Id<RequestTag>;
using PostingId = Id<PostingTag>;

}  // namespace nebula

template <class Tag>
struct std::hash<nebula::Id<Tag>> {
    std::size_t operator()(const nebula::Id<Tag>& id) const noexcept {
        return static_cast<std::size_t>(id.value * 0x9E3779B97F4A7C15ULL);
    }
};

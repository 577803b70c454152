#pragma once
// Small text helpers used on every level.

#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nebula {

/// Appends `text` as the inside of a JSON string (no quotes); invalid UTF-8 becomes U+FFFD.
void append_json_escaped(std::string& out, std::string_view text);
/// `text` as a JSON string with quotes.
std::string json_string(std::string_view text);

bool equals_ignore_case(std::string_view a, std::string_view b);
std::string to_lower(std::string_view text);
std::string_view trim(std::string_view text);
/// %XX decoded; malformed escapes stay as they are. In forms and queries a plus means a space.
enum class Plus { plus, space };
std::string percent_decoded(std::string_view text, Plus plus = Plus::plus);
std::vector<std::string_view> split(std::string_view text, char separator);

/// The whole text must be the number.
template <class Int>
std::optional<Int> parse_int(std::string_view text) {
    Int value{};
    auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
    return value;
}

}  // namespace nebula

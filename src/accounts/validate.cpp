#include "accounts/validate.hpp"

#include <algorithm>
#include <optional>

#include "base/text.hpp"

namespace nebula::accounts {
namespace {

constexpr std::size_t name_characters_max = 100;
constexpr std::size_t email_bytes_max = 254;  // RFC 5321
constexpr std::size_t password_characters_min = 10;
constexpr std::size_t password_bytes_max = 1024;
constexpr std::int64_t limit_max = 1'000'000'000'000;

/// Takes one character off the front; empty when it is not valid UTF-8.
std::optional<char32_t> next_character(std::string_view& text) {
    auto first = static_cast<unsigned char>(text.front());
    std::size_t size = first < 0x80         ? 1
                       : first >> 5 == 0x6  ? 2
                       : first >> 4 == 0xe  ? 3
                       : first >> 3 == 0x1e ? 4
                                            : 0;
    if (size == 0 || text.size() < size) return std::nullopt;
    char32_t character = size == 1 ? first : first & (0x7fu >> size);
    for (std::size_t k = 1; k < size; ++k) {
        auto byte = static_cast<unsigned char>(text[k]);
        if (byte >> 6 != 0x2) return std::nullopt;
        character = character << 6 | (byte & 0x3fu);
    }
    constexpr char32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (character < smallest[size] || character > 0x10ffff || (character >= 0xd800 && character < 0xe000))
        return std::nullopt;
    text.remove_prefix(size);
    return character;
}

bool is_control(char32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;  // the last two end lines
}

std::unexpected<Error> bad(std::string message, const char* param) {
    return fail(Code::invalid_request, std::move(message), param);
}

}  // namespace

Result<std::string> check_name(std::string_view name, const char* param) {
    std::size_t count = 0;
    for (std::string_view rest = name; !rest.empty(); ++count) {
        auto character = next_character(rest);
        if (!character) return bad("the name is not valid UTF-8", param);
        if (is_control(*character)) return bad("the name must not contain control characters", param);
    }
    if (count < 1 || count > name_characters_max) return bad("the name must have 1 to 100 characters", param);
    if (name.front() == ' ' || name.back() == ' ')
        return bad("the name must not begin or end with a blank", param);
    return std::string(name);
}

Result<std::string> check_email(std::string_view email) {
    std::string normal = to_lower(trim(email));
    auto is_plain = [](char c) { return c > ' ' && c < 0x7f; };
    bool is_good = normal.size() <= email_bytes_max && std::ranges::count(normal, '@') == 1 &&
                   normal.front() != '@' && normal.back() != '@' && std::ranges::all_of(normal, is_plain);
    if (!is_good) return bad("the e-mail address must look like name@example.com", "email");
    return normal;
}

Result<bool> check_password(const Secret& password) {
    std::string_view text = password.reveal();
    if (text.size() > password_bytes_max) return bad("the password must have at most 1024 bytes", "password");
    std::size_t count = 0;
    for (std::string_view rest = text; !rest.empty(); ++count)
        if (!next_character(rest)) return bad("the password is not valid UTF-8", "password");
    if (count < password_characters_min)
        return bad("the password must have at least 10 characters", "password");
    return true;
}

Result<bool> check_limits(const RateLimits& limits) {
    auto is_good = [](std::int64_t limit) { return limit >= 0 && limit <= limit_max; };
    if (!is_good(limits.rpm)) return bad("the requests per minute must be 0 (no limit) or more", "rpm");
    if (!is_good(limits.tpm)) return bad("the tokens per minute must be 0 (no limit) or more", "tpm");
    return true;
}

}  // namespace nebula::accounts

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
constexpr std::size_t description_characters_max = 1'000;
constexpr std::size_t models_max = 200;
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
    if (!is_good(limits.ipm)) return bad("the images per minute must be 0 (no limit) or more", "ipm");
    if (!is_good(limits.rpd)) return bad("the requests per day must be 0 (no limit) or more", "rpd");
    return true;
}

Result<std::string> check_description(std::string_view text) {
    std::size_t count = 0;
    for (std::string_view rest = text; !rest.empty(); ++count) {
        auto character = next_character(rest);
        if (!character) return bad("the description is not valid UTF-8", "description");
        bool is_space = *character == '\n' || *character == '\r' || *character == '\t';
        if (is_control(*character) && !is_space)
            return bad("the description must not contain control characters", "description");
    }
    if (count > description_characters_max)
        return bad("the description must have at most 1000 characters", "description");
    return std::string(text);
}

Result<bool> check_budget(const KeyBudget& budget) {
    auto is_good = [](Nanos amount) { return amount.value >= 0; };
    if (is_good(budget.total) && is_good(budget.daily) && is_good(budget.weekly) && is_good(budget.monthly))
        return true;
    return bad("a budget must be 0 (none) or more", "budget");
}

Result<bool> check_models(const std::vector<std::string>& models) {
    if (models.size() > models_max) return bad("there may be at most 200 models", "models");
    for (const std::string& model : models) {
        auto good = check_name(model, "models");
        if (!good) return fail(good.error());
        std::size_t star = model.find('*');
        if (star != std::string::npos && star + 1 != model.size())
            return bad("a '*' may only end the name of a model", "models");
    }
    return true;
}

}  // namespace nebula::accounts

#include "accounts/key_text.hpp"

#include <algorithm>

#include "accounts/accounts.hpp"

namespace nebula::accounts {
namespace {

constexpr std::string_view prefix = "sk-neb-";
constexpr std::size_t random_size = 40;
constexpr std::size_t checksum_size = 6;  // 62^6 > 2^32
constexpr std::string_view alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

std::string checksum(std::string_view prefix_and_random) {
    std::uint32_t rest = crc32(prefix_and_random);
    std::string text(checksum_size, '0');
    for (std::size_t k = checksum_size; k-- > 0; rest /= 62) text[k] = alphabet[rest % 62];
    return text;
}

bool is_base62(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

}  // namespace

Secret make_key_text() {
    Secret random(random_base62(random_size));
    std::string text;
    text.reserve(prefix.size() + random_size + checksum_size);  // a growing string would leave copies behind
    text += prefix;
    text += random.reveal();
    text += checksum(text);
    return Secret(std::move(text));
}

bool is_well_formed_key(std::string_view text) {
    if (text.size() != prefix.size() + random_size + checksum_size || !text.starts_with(prefix)) return false;
    std::string_view body = text.substr(0, prefix.size() + random_size);
    if (!std::ranges::all_of(text.substr(prefix.size()), is_base62)) return false;
    return text.substr(body.size()) == checksum(body);
}

std::string key_hint(std::string_view key) {
    constexpr std::size_t shown = 4;
    return std::string(key.substr(0, prefix.size() + shown)) + "…" +
           std::string(key.substr(key.size() - shown));
}

}  // namespace nebula::accounts

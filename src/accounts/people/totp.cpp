#include "accounts/people/totp.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>

#include "base/check.hpp"
#include "base/crypto.hpp"

namespace nebula::accounts {
namespace {

constexpr std::string_view base32_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
constexpr std::string_view code_alphabet = "0123456789abcdefghjkmnpqrstvwxyz";  // none that look alike
constexpr std::int64_t step_seconds = 30;

template <std::size_t Size>
std::string random_letters(std::string_view alphabet) {
    std::array<unsigned char, Size> random{};
    random_bytes(random);
    std::string text;
    for (unsigned char byte : random) text += alphabet[byte % 32];  // 256 is a multiple of 32
    return text;
}

std::optional<std::string> base32_decoded(std::string_view text) {
    std::string out;
    std::uint32_t bits = 0;
    int count = 0;
    for (char c : text) {
        std::size_t value = base32_alphabet.find(c);
        if (value == std::string_view::npos) return std::nullopt;
        bits = bits << 5 | static_cast<std::uint32_t>(value);
        count += 5;
        if (count < 8) continue;
        count -= 8;
        out += static_cast<char>(bits >> count & 255);
    }
    return out;
}

std::string url_encoded(std::string_view text) {
    static constexpr char digits[] = "0123456789ABCDEF";
    std::string out;
    for (char c : text) {
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                        c == '.' || c == '-' || c == '_';
        auto byte = static_cast<unsigned char>(c);
        if (is_plain)
            out += c;
        else
            out += {'%', digits[byte >> 4], digits[byte & 15]};
    }
    return out;
}

}  // namespace

Secret make_totp_secret() { return Secret(random_letters<32>(base32_alphabet)); }

std::string totp_url(const Secret& secret, std::string_view email) {
    return "otpauth://totp/Nebula:" + url_encoded(email) + "?secret=" + secret.reveal() +
           "&issuer=Nebula&algorithm=SHA1&digits=6&period=30";
}

std::int64_t totp_step(Time now) { return to_micros(now) / 1'000'000 / step_seconds; }

std::optional<std::string> totp_code(const Secret& secret, std::int64_t step) {
    auto key = base32_decoded(secret.reveal());
    if (!key || key->empty()) return std::nullopt;
    std::array<unsigned char, 8> counter{};
    for (std::size_t k = 0; k < 8; ++k) counter[k] = static_cast<unsigned char>(step >> (56 - 8 * k));
    std::array<unsigned char, 20> mac{};
    unsigned size = mac.size();
    CHECK(HMAC(EVP_sha1(), key->data(), static_cast<int>(key->size()), counter.data(), counter.size(),
               mac.data(), &size) != nullptr,
          "hashing memory cannot fail");
    std::size_t at = mac[19] & 15;
    std::uint32_t number = (mac[at] & 0x7fu) << 24 | static_cast<std::uint32_t>(mac[at + 1]) << 16 |
                           static_cast<std::uint32_t>(mac[at + 2]) << 8 | mac[at + 3];
    std::string digits = std::to_string(number % 1'000'000);
    return std::string(6 - digits.size(), '0') + digits;
}

std::optional<std::int64_t> matching_totp_step(const Secret& secret, std::string_view code, Time now) {
    std::optional<std::int64_t> found;
    for (std::int64_t step = totp_step(now) - 1; step <= totp_step(now) + 1; ++step) {
        auto expected = totp_code(secret, step);
        if (expected && constant_time_equal(*expected, code)) found = step;
    }
    return found;
}

std::vector<std::string> make_recovery_codes() {
    std::vector<std::string> codes(10);
    for (std::string& code : codes) {
        std::string letters = random_letters<16>(code_alphabet);
        code = letters.substr(0, 4) + "-" + letters.substr(4, 4) + "-" + letters.substr(8, 4) + "-" +
               letters.substr(12);
    }
    return codes;
}

std::string recovery_code_hash(std::string_view code) {
    std::string plain;
    for (char c : code) {
        if (c == '-' || c == ' ') continue;
        plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    return to_hex(sha256(plain).bytes);
}

}  // namespace nebula::accounts

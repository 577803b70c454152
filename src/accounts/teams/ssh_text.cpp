#include "accounts/teams/ssh_text.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "accounts/people/base64url.hpp"
#include "accounts/validate.hpp"
#include "base/crypto.hpp"
#include "base/text.hpp"

namespace nebula::accounts {
namespace {

constexpr std::size_t text_max = 16 * 1024;
constexpr std::size_t rsa_bits_min = 2048;
constexpr std::size_t rsa_bits_max = 16384;

std::unexpected<Error> bad(const char* param, std::string message) {
    return fail(Code::invalid_request, std::move(message), param);
}

/// RFC 4648 with padding, as keys are written.
std::optional<std::string> decoded(std::string_view text) {
    std::size_t padding = 0;
    while (padding < 2 && !text.empty() && text.back() == '=') {
        text.remove_suffix(1);
        ++padding;
    }
    if ((text.size() + padding) % 4 != 0) return std::nullopt;
    std::string url(text);
    if (url.find_first_of("-_") != std::string::npos) return std::nullopt;
    std::ranges::replace(url, '+', '-');
    std::ranges::replace(url, '/', '_');
    return base64url_decoded(url);
}

/// Takes a string of RFC 4251 (four bytes of length first) off the front.
std::optional<std::string_view> next_part(std::string_view& blob) {
    if (blob.size() < 4) return std::nullopt;
    std::size_t size = 0;
    for (std::size_t k = 0; k < 4; ++k) size = size << 8 | static_cast<unsigned char>(blob[k]);
    if (size > blob.size() - 4) return std::nullopt;
    std::string_view part = blob.substr(4, size);
    blob.remove_prefix(4 + size);
    return part;
}

std::size_t bits_of(std::string_view number) {
    while (!number.empty() && number.front() == '\0') number.remove_prefix(1);
    if (number.empty()) return 0;
    std::size_t bits = (number.size() - 1) * 8;
    for (auto top = static_cast<unsigned char>(number.front()); top != 0; top >>= 1) ++bits;
    return bits;
}

struct Curve {
    std::string_view type;
    std::string_view name;
    std::size_t point_size;  // uncompressed
    bool has_application;    // of security keys
};
constexpr std::array<Curve, 4> curves = {{
    {"ecdsa-sha2-nistp256", "nistp256", 65, false},
    {"ecdsa-sha2-nistp384", "nistp384", 97, false},
    {"ecdsa-sha2-nistp521", "nistp521", 133, false},
    {"sk-ecdsa-sha2-nistp256@openssh.com", "nistp256", 65, true},
}};

bool is_good_rsa(std::string_view rest) {
    auto exponent = next_part(rest), modulus = next_part(rest);
    if (!exponent || !modulus || !rest.empty()) return false;
    return bits_of(*exponent) >= 2 && bits_of(*exponent) <= 64 && bits_of(*modulus) >= rsa_bits_min &&
           bits_of(*modulus) <= rsa_bits_max;
}

bool is_good_ed25519(std::string_view rest, bool has_application) {
    auto point = next_part(rest);
    if (!point || point->size() != 32) return false;
    if (has_application && !next_part(rest)) return false;
    return rest.empty();
}

bool is_good_curve(std::string_view rest, const Curve& curve) {
    auto name = next_part(rest), point = next_part(rest);
    if (!name || !point || *name != curve.name || point->size() != curve.point_size) return false;
    if (point->front() != '\x04') return false;
    if (curve.has_application && !next_part(rest)) return false;
    return rest.empty();
}

bool is_good(std::string_view type, std::string_view rest) {
    if (type == "ssh-rsa") return is_good_rsa(rest);
    if (type == "ssh-ed25519") return is_good_ed25519(rest, false);
    if (type == "sk-ssh-ed25519@openssh.com") return is_good_ed25519(rest, true);
    auto curve = std::ranges::find(curves, type, &Curve::type);
    return curve != curves.end() && is_good_curve(rest, *curve);
}

}  // namespace

Result<SshPublicKey> parse_ssh_key(std::string_view text, const char* param) {
    text = trim(text);
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
    if (text.find("PRIVATE KEY") != std::string_view::npos)
        return bad(param, "this is a private key: keep it to yourself and send the public one");
    if (text.size() > text_max || text.find_first_of("\r\n") != std::string_view::npos)
        return bad(param, "the public key must be one line");
    std::size_t type_end = text.find(' ');
    std::string_view type = text.substr(0, type_end);
    std::string_view rest = type_end == std::string_view::npos ? "" : trim(text.substr(type_end));
    std::size_t data_end = rest.find(' ');
    std::string_view data = rest.substr(0, data_end);
    std::string_view comment = data_end == std::string_view::npos ? "" : trim(rest.substr(data_end));
    if (!check_description(comment) || comment.find('\t') != std::string_view::npos)
        return bad(param, "the public key's comment is not good");

    auto blob = decoded(data);
    std::string_view inside = blob ? std::string_view(*blob) : std::string_view();
    auto inner_type = next_part(inside);
    if (!inner_type || *inner_type != type || !is_good(type, inside))
        return bad(param,
                   "this is not an SSH public key (ssh-ed25519, ssh-rsa from 2048 bits, ecdsa or sk-), as in"
                   " ~/.ssh/id_ed25519.pub");
    SshPublicKey key;
    key.line = std::string(type) + " " + std::string(data);
    if (!comment.empty()) key.line += " " + std::string(comment);
    Sha256 digest = sha256(*blob);
    key.fingerprint =
        "SHA256:" + base64({reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size()});
    while (key.fingerprint.back() == '=') key.fingerprint.pop_back();
    return key;
}

}  // namespace nebula::accounts

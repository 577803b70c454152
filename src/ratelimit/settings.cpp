#include <arpa/inet.h>

#include <cstring>

#include "ratelimit/ratelimit.hpp"
#include "ratelimit/table.hpp"

namespace nebula::ratelimit {
namespace {

std::uint64_t hash_bytes(std::uint64_t seed, std::string_view bytes) {
    std::uint64_t h = 0xCBF29CE484222325ULL ^ seed * 0x9E3779B97F4A7C15ULL;
    for (char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
    return hash_subject({Kind::ip, h});
}

}  // namespace

std::uint64_t hash_ip(std::string_view ip) {
    char text[INET6_ADDRSTRLEN] = {};
    unsigned char bytes[16];
    if (ip.find(':') == std::string_view::npos || ip.size() >= sizeof text) return hash_bytes(0, ip);
    std::memcpy(text, ip.data(), ip.size());
    if (inet_pton(AF_INET6, text, bytes) != 1) return hash_bytes(0, ip);
    static constexpr unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    if (std::memcmp(bytes, mapped, sizeof mapped) == 0) {
        char v4[INET_ADDRSTRLEN];
        return hash_bytes(0, inet_ntop(AF_INET, bytes + 12, v4, sizeof v4));
    }
    return hash_bytes(1, std::string_view(reinterpret_cast<const char*>(bytes), 8));
}

std::uint64_t hash_pair(std::uint64_t id, std::string_view text) { return hash_bytes(id, text); }

void LimitSettings::describe(settings::Visitor& v) {
    auto limit = [&v](std::string_view name, std::string_view help, std::int64_t& value) {
        v.field({.name = name, .help = help, .max = 1'000'000'000}, value);
    };
    limit("key_rpm", "Requests per minute of one API key that has no limit of its own; 0 = no limit.",
          key_rpm);
    limit("key_tpm", "Tokens per minute of one API key that has no limit of its own; 0 = no limit.", key_tpm);
    limit("account_rpm", "Requests per minute of all keys of an account together; 0 = no limit.",
          account_rpm);
    limit("account_tpm", "Tokens per minute of all keys of an account together; 0 = no limit.", account_tpm);
    limit("ip_rpm", "Requests per minute from one IP address (IPv6: one /64 network); 0 = no limit.", ip_rpm);
    limit("account_rpd",
          "Requests per day (UTC) of all keys of an account together; 0 = no limit. Kept in the database.",
          account_rpd);
    limit("credits_ip_rpm",
          "Requests per minute of the credit API (POST /api/v1/chat) from one IP address; 0 = no limit.",
          credits_ip_rpm);
    v.field(
        {.name = "shadow",
         .help =
             "Count what the limits would refuse (nebula_ratelimit_shadow_refused_total), refuse nothing."},
        shadow);
}

}  // namespace nebula::ratelimit

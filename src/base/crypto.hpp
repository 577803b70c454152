#pragma once
// Hashes, random bytes and text encodings. All functions are thread-safe.

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace nebula {

struct Sha256 {
    std::array<unsigned char, 32> bytes{};
    auto operator<=>(const Sha256&) const = default;
};

/// About 80 ns for a short text: uses a digest fetched once and a context per thread.
Sha256 sha256(std::string_view text);

std::string to_hex(std::span<const unsigned char> bytes);
std::uint32_t crc32(std::string_view text);

void random_bytes(std::span<unsigned char> out);
/// `count` characters from 0-9A-Za-z, uniformly, from the system's generator (5.95 bits each).
std::string random_base62(std::size_t count);
/// Time does not depend on where the texts differ.
bool constant_time_equal(std::string_view a, std::string_view b);

/// Argon2id (libsodium, 64 MiB, about 0.1 s). Returns the encoded hash; check it with verify_password.
/// Both block: call them on a blocking pool only.
std::string hash_password(std::string_view password);
bool verify_password(std::string_view password, const std::string& encoded);

}  // namespace nebula

template <>
struct std::hash<nebula::Sha256> {
    std::size_t operator()(const nebula::Sha256& digest) const noexcept {
        std::size_t word;  // any 8 bytes of a cryptographic digest are uniformly distributed
        std::memcpy(&word, digest.bytes.data(), sizeof word);
        return word;
    }
};

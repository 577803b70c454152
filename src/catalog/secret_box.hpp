#pragma once
// Encrypts secrets that must be read back, with a key that is not in the database: XChaCha20-Poly1305.

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/secret.hpp"

namespace nebula::catalog {

/// What a small file holds, without white space around it; nothing when it cannot be read.
std::optional<Secret> read_secret_file(const std::string& path);

class SecretBox {
   public:
    /// Reads the key file: 32 bytes in hex. One that is not there is made (0600) if `may_create`. Errors:
    /// internal, naming the file: missing, not readable, not a key.
    static Result<SecretBox> from_file(const std::string& path, bool may_create);

    /// Nonce and cipher text in hex. `context` is sealed with it: the box opens in the same context only.
    std::string seal(const Secret& secret, std::string_view context) const;
    /// Nothing: changed, sealed by another key, or for another context.
    std::optional<Secret> open(std::string_view sealed_hex, std::string_view context) const;

   private:
    explicit SecretBox(Secret key) : key_(std::move(key)) {}
    Secret key_;  // 32 bytes
};

}  // namespace nebula::catalog

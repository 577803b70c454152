#pragma once
// The one-line form of SSH public keys. Private to this module.

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace nebula::accounts {

struct SshPublicKey {
    std::string line;         // "<type> <base64>[ <comment>]", without blanks around it
    std::string fingerprint;  // "SHA256:…" as ssh-keygen -l prints it
};
/// ssh-ed25519, ssh-rsa (from 2,048 bits), ecdsa-sha2-nistp256/384/521 and the two sk-… types. What is inside
/// must be what the type says. Errors name `param`.
Result<SshPublicKey> parse_ssh_key(std::string_view text, const char* param);

}  // namespace nebula::accounts

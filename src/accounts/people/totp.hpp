#pragma once
// Time-based one-time passwords, RFC 6238 with SHA-1, 30-second steps and 6 digits, which every
// authenticator app takes. Private to this module.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/secret.hpp"

namespace nebula::accounts {

/// RFC 4648 base32 of 160 random bits.
Secret make_totp_secret();
std::string totp_url(const Secret& secret, std::string_view email);
std::int64_t totp_step(Time now);
/// `secret` in base32; nothing when that is malformed.
std::optional<std::string> totp_code(const Secret& secret, std::int64_t step);
/// The step that the code belongs to, one before and one after now included; nothing for a wrong code.
std::optional<std::int64_t> matching_totp_step(const Secret& secret, std::string_view code, Time now);

/// 10 codes of 80 bits, "xxxx-xxxx-xxxx-xxxx".
std::vector<std::string> make_recovery_codes();
/// What is stored: SHA-256 in hexadecimal of the code without blanks, hyphens and case.
std::string recovery_code_hash(std::string_view code);

}  // namespace nebula::accounts

#pragma once
// What callers may choose. Every error names the field in `param`. Private to this module.

#include <string>
#include <string_view>

#include "accounts/accounts.hpp"

namespace nebula::accounts {

/// Unchanged when good: 1–100 characters of valid UTF-8, no control characters, not blank at either end.
Result<std::string> check_name(std::string_view name, const char* param);
/// Lower case and without surrounding blanks: one '@' with something on either side, at most 254 bytes of
/// ASCII.
Result<std::string> check_email(std::string_view email);
/// At least 10 characters, at most 1,024 bytes.
Result<bool> check_password(const Secret& password);
Result<bool> check_limits(const RateLimits& limits);
/// At most 1,000 characters of valid UTF-8; line ends and tabs are the only controls.
Result<std::string> check_description(std::string_view text);
/// Amounts of 0 (none) or more.
Result<bool> check_budget(const KeyBudget& budget);
/// At most 200 names of models; a '*' only at the end.
Result<bool> check_models(const std::vector<std::string>& models);

}  // namespace nebula::accounts

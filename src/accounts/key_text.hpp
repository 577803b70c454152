#pragma once
#include <string>
#include <string_view>

namespace nebula::accounts {

/// Of a well-formed key: "sk-neb-AbCd…wxyz".
std::string key_hint(std::string_view key);

}  // namespace nebula::accounts

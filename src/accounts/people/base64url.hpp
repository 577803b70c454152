#pragma once
// RFC 4648 base64 with the URL alphabet and without padding, as JSON Web Tokens use it. Private to this
// module.

#include <optional>
#include <string>
#include <string_view>

namespace nebula::accounts {

std::string base64url(std::string_view bytes);
/// Nothing when it is malformed, padded, or has bits that encode nothing.
std::optional<std::string> base64url_decoded(std::string_view text);
/// The usual alphabet with padding, for mails and HTTP.
std::string base64(std::string_view bytes);

}  // namespace nebula::accounts

#pragma once
// How errors look in the dialects that several modules answer in. The OpenAI one is the gateway's.

#include "http/http.hpp"

namespace nebula::http {

/// Platform and console: {"status":"error","error":{"code","message","details"},"message"}; `details` holds
/// {"param"} and {"request_id"}.
Response platform_error(const Error& error, RequestId request);
/// Novita: {"code":<status>,"reason":"UPPER_CASE","message","metadata"}. Billing's words; an invalid key is
/// 403 INVALID_API_KEY, no money 403 NOT_ENOUGH_BALANCE.
Response novita_error(const Error& error, RequestId request);
/// Credit API: {"error":"text"}.
Response credits_error(const Error& error, RequestId request);
/// OpenRouter: {"error":{"code":<status>,"message","metadata"}}.
Response openrouter_error(const Error& error, RequestId request);
/// Its `error_type`.
const char* openrouter_word(Code code);

}  // namespace nebula::http

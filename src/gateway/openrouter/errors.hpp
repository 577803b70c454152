#pragma once
// OpenRouter answers clients of two other APIs below /api/v1 as well; errors have their shape and its word.

#include "http/http.hpp"

namespace nebula::gateway::openrouter {

/// POST /api/v1/messages: Anthropic's with `error.error_type`.
http::Response messages_error(const Error& error, RequestId request);
/// POST /api/v1/responses: OpenAI's with `error_type` beside `error`.
http::Response responses_error(const Error& error, RequestId request);

}  // namespace nebula::gateway::openrouter

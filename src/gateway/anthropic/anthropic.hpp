#pragma once
// Anthropic's Messages API as a client edge. Wire facts: docs.anthropic.com, API version 2023-06-01.

#include <memory>

#include "gateway/client_edge.hpp"
#include "http/http.hpp"

namespace nebula::gateway::anthropic {

/// {"type":"error","error":{"type","message"},"request_id"} with Anthropic's statuses (529 when overloaded).
http::Response error(const Error& error, RequestId request);
/// The word of an error ("invalid_request_error", …).
const char* error_type(Code code);

/// The chat request that a Messages request becomes. Errors name the member.
Result<std::string> to_chat_request(std::string_view body);
/// The same where only the prompt matters: max_tokens may be missing.
Result<std::string> to_countable_request(std::string_view body);
/// What must be known of a Messages request that a provider of the same API gets as it is.
Result<ChatRequest> read_native(std::string_view body);
/// The message that a chat answer becomes.
Result<std::string> to_message(std::string_view chat_answer, std::string_view id);

/// One per request.
std::unique_ptr<ClientEdge> make_edge(RequestId request);

}  // namespace nebula::gateway::anthropic

#pragma once
// OpenAI's Responses API as a client edge. Without a store a conversation comes whole with every request.
// Wire facts: platform.openai.com/docs/api-reference/responses.

#include <memory>

#include "base/clock.hpp"
#include "gateway/client_edge.hpp"
#include "records/stored_responses.hpp"

namespace nebula::gateway::responses {

/// The chat request that a Responses request becomes. Errors name the member.
Result<std::string> to_chat_request(std::string_view body);

/// One per request. `may_be_native`: some provider speaks this API itself.
std::unique_ptr<ClientEdge> make_edge(RequestId request, const Clock& clock,
                                      records::StoredResponses* store = nullptr, bool may_be_native = false);

}  // namespace nebula::gateway::responses

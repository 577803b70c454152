#pragma once
// Uploads: what must be known of a multipart request. The form itself travels on as it came; only the model's
// name is replaced in it.

#include <string_view>

#include "base/result.hpp"
#include "gateway/chat_request.hpp"
#include "gateway/endpoint.hpp"

namespace nebula::gateway::media {

/// Errors, invalid_request: a malformed form (see http/multipart.hpp); model or file missing, repeated, a
/// file where a text must be or the other way round; a bad n or stream.
Result<ChatRequest> parse_form_request(std::string_view body, std::string_view content_type,
                                       Endpoint endpoint);

}  // namespace nebula::gateway::media

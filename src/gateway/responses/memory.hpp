#pragma once
// Conversations rebuilt from stored responses.

#include <string>
#include <string_view>
#include <vector>

#include "async/async.hpp"
#include "gateway/responses/response_object.hpp"
#include "records/stored_responses.hpp"

namespace nebula::gateway::responses {

/// What `body` builds on. Errors: not_found with param previous_response_id.
Async<Result<Memory>> remember(records::StoredResponses& store, std::string_view body, AccountId account);

/// The items as JSON, each with an id of this request unless it has one.
std::string with_ids(boost::json::array items, RequestId request);

/// All items that a response was made from: those of the conversation before it, and its own input.
boost::json::array items_before(const std::vector<records::StoredResponse>& conversation);

}  // namespace nebula::gateway::responses

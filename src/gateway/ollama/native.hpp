#pragma once
// Ollama's requests passed through to providers of the same API: what must be known of one, and the edits
// made to it.

#include <boost/json/object.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/chat_request.hpp"

namespace nebula::gateway::ollama {

struct Native {
    ChatRequest request;
    bool has_temperature = false;
    // Where a lowered cap and a model's own temperature go.
    std::optional<Span> options, num_predict;
    bool options_is_object = false;
    bool options_is_empty = false;
};

/// `body` is followed by 64 readable bytes. Errors name the member.
Result<Native> read_native(std::string_view body);
std::string edit_native(std::string_view body, const Native& native, const Edits& edits);

/// Whether it may go to a provider as it is. Not where it says how that server is to run (how long to keep
/// the model, how much memory to use): that is the operator's. Nor where
/// it says who shall answer. Nor where a name is spelled in a way that
/// Ollama, which does not look at case, takes for one that we read.
bool may_pass(const boost::json::object& body);

}  // namespace nebula::gateway::ollama

#pragma once
// Responses requests passed through to providers of the same API: what must be known of one, the edits made
// to it, and the few marks by which their answers become ours.

#include <boost/json/array.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/chat_request.hpp"

namespace nebula::gateway::responses {

/// Uses of hosted tools that a request may come to when it does not say (`max_tool_calls`).
inline constexpr std::int64_t tool_calls_default = 10;

struct Native {
    ChatRequest request;
    std::vector<std::string> hosted;  // types of tools and items that run at the provider
    // Where edits go.
    std::optional<Span> max_output_tokens, store, max_tool_calls, input;
    bool input_is_text = false;
    std::vector<Span> ours;        // members that are not for providers, in order
    std::optional<Span> previous;  // of them, that of the response before
    std::vector<Span> forgotten;   // items of the input that the provider could not look up
    std::size_t items = 0;         // of an input that is a list
};

/// invalid_request where the request cannot go to a provider as it is: because it names things that lie in
/// the operator's account there (files, stored prompts, responses, conversations), because we and the
/// provider could read different things, or because of its shape. `body` is JSON (see translate()).
Result<Native> read_native(std::string_view body);

/// The body for the provider, which keeps nothing of it: `store` is false. `earlier`: JSON of the items
/// before the input, without brackets.
std::string edit_native(std::string_view body, const Native& native, const Edits& edits,
                        std::string_view earlier);

/// Items of stored responses as a provider that has none of them takes them; without brackets.
std::string items_to_send(const boost::json::array& earlier);

/// What a response of ours says of itself.
struct Marks {
    std::string_view id;
    bool is_stored = false;
    std::string_view previous;  // empty: none
};
struct Marked {
    std::string json;    // the whole text
    std::string object;  // the response object in it
    std::string type;    // of the event
};
/// `json` is a response, or an event that carries one as its member `response`. Nothing: there is none in it.
std::optional<Marked> mark_response(std::string_view json, bool is_event, const Marks& marks);

}  // namespace nebula::gateway::responses

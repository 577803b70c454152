// What must be known of a Messages request to pass it through as it is.
#include <algorithm>
#include <initializer_list>

#include "gateway/anthropic/anthropic.hpp"

namespace nebula::gateway::anthropic {
namespace {

// Whatever makes tokens that its bytes do not tell: media, stored files, and tools that run at the provider,
// whose names carry a date. Inside a text, quotes are escaped; so these stand in none.
bool has_unseen_tokens(std::string_view body) {
    return std::ranges::any_of(
        std::initializer_list<std::string_view>{"\"image\"", "\"document\"", "\"file_id\"", "\"container\"",
                                                "\"server_tool_use\"", "\"mcp_servers\"", "_20"},
        [body](std::string_view mark) { return body.find(mark) != std::string_view::npos; });
}

}  // namespace

Result<ChatRequest> read_native(std::string_view body) {
    // Model, stream, cap and messages have OpenAI's names.
    auto request = parse_request(body, Endpoint::chat);
    if (!request) return request;
    if (!request->max_tokens)
        return fail(Code::invalid_request, "max_tokens: a whole number of at least 1 is required",
                    "max_tokens");
    request->n = 1;
    request->prompt_bytes = body.size();
    request->has_media = has_unseen_tokens(body);
    return request;
}

}  // namespace nebula::gateway::anthropic

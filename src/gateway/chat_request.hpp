#pragma once
// What the gateway must know of a chat request, from one pass over the client's bytes, and the edits made to
// them.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "gateway/endpoint.hpp"
#include "gateway/routing/preferences.hpp"

namespace nebula::gateway {

/// A stretch of the body.
struct Span {
    std::size_t at = 0;
    std::size_t length = 0;
};

struct ChatRequest {
    std::string model;
    bool stream = false;
    bool include_usage = false;  // the client wants the usage chunk itself
    std::int64_t n = 1;          // answers asked for in all: n (or best_of) of each prompt
    std::optional<std::int64_t> max_tokens;
    std::optional<std::int64_t> max_completion_tokens;
    std::size_t prompt_bytes = 0;  // raw JSON of messages, tools, functions and response_format
    bool has_media = false;        // image, audio or file parts: bytes say little about tokens
    bool is_form = false;          // multipart: the model stands there without quotes
    bool has_temperature = false;  // a null counts: the client leaves it to the provider
    // What is not counted in tokens, at most; `n` is the number of images.
    std::int64_t characters = 0;   // of the text to be spoken
    std::int64_t documents = 0;    // to be ranked
    std::string size, quality;     // of images, as asked for
    std::int64_t seconds = 0;      // of the sound to be read, by the file
    std::int64_t seconds_max = 0;  // that a report of the provider can be true up to
    // Uses of tools that run at the provider, at most; each may read the whole prompt again.
    std::int64_t tool_calls_max = 0;

    routing::Found routing;  // who shall answer

    // Where edits go.
    std::size_t object_open = 0;  // just behind the outer '{'
    Span model_value;
    std::optional<Span> max_tokens_value, max_completion_tokens_value;
    std::optional<Span> stream_options_value;  // the object with its braces, or the null
    bool stream_options_is_object = false;
    bool stream_options_is_empty = false;
    std::optional<Span> include_usage_value;
    Span messages_value;
    // Members that say who shall answer, each with the comma that goes with it: not for providers.
    std::vector<Span> routing_members;
    std::optional<Span> models_member;  // of these, the one that no provider ever gets

    /// The smaller of the two caps the client gave.
    std::optional<std::int64_t> asked_output() const;
};

/// The same for every endpoint: `messages` stands for prompt, input, query and documents.
Result<ChatRequest> parse_request(std::string_view body, Endpoint endpoint);
/// `body` must be followed by 64 readable bytes. Errors: invalid_request naming the member: not a JSON
/// object, missing or wrong type, repeated member (upstream might read the other one).
Result<ChatRequest> parse_chat_request(std::string_view body);

/// One stretch replaced.
struct Edit {
    Span where;
    std::string text;
};

struct Edits {
    std::string_view upstream_model = {};         // replaces model when different
    bool keeps_routing = false;                   // leave the members about routing in, but `models`
    bool ask_for_usage = false;                   // add stream_options.include_usage
    std::optional<std::int64_t> output_cap = {};  // lower the cap to this
    std::string_view temperature = {};            // set where the client names none
};

/// The body with the edits made, as pieces to be written in order: views into `body` and into `texts`.
struct EditedBody {
    std::vector<std::string> texts;
    std::vector<std::string_view> pieces;
    std::string joined() const;
};
/// Edits in any order; what is inserted at one place stands before what is replaced there.
EditedBody apply_edits(std::string_view body, std::vector<Edit> edits);
/// Takes members of an object (each with its name) or elements of an array out together with their commas.
/// Of a run of neighbours at the end, the comma before it goes. `members` stand in order.
void add_removals(std::string_view body, const std::vector<Span>& members, std::vector<Edit>& edits);
EditedBody edit_chat_request(std::string_view body, const ChatRequest& request, const Edits& edits);

}  // namespace nebula::gateway

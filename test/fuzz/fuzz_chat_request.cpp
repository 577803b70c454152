// The gateway's reader of chat requests and its edits: whatever bytes come, no crash; and where the request
// is accepted, the edited body is still JSON that says what was wanted and nothing else has changed.
#include <simdjson.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gateway/chat_request.hpp"
#include "gateway/completion.hpp"

namespace {

using namespace nebula::gateway;

void require(bool truth) {
    if (!truth) std::abort();
}

bool is_json(const std::string& text, simdjson::dom::parser& parser, simdjson::dom::element& out) {
    simdjson::padded_string padded(text);
    static std::vector<simdjson::padded_string> keep;
    keep.clear();
    keep.push_back(std::move(padded));
    return parser.parse(keep.back()).get(out) == simdjson::SUCCESS;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    std::vector<char> padded(size + 64);
    if (size > 0) std::memcpy(padded.data(), data, size);
    std::string_view body(padded.data(), size);

    UsageBounds bounds{1000, 1000};
    (void)read_chunk(body, bounds);
    (void)read_answer(body, bounds);

    auto request = parse_chat_request(body);
    if (!request) return 0;
    Edits edits{.upstream_model = "up/\"stream\"", .ask_for_usage = request->stream, .output_cap = 1};
    auto edited = edit_chat_request(body, *request, edits);
    std::string text;
    for (auto piece : edited.pieces) text += piece;

    simdjson::dom::parser before_parser, after_parser;
    simdjson::dom::element before, after;
    // Skipped members are checked for structure only; then the provider refuses the body, as it should.
    if (!is_json(std::string(body), before_parser, before)) return 0;
    require(is_json(text, after_parser, after));
    std::string_view model;
    require(!after["model"].get(model) && model == "up/\"stream\"");
    if (request->stream) {
        bool asks = false;
        require(!after["stream_options"]["include_usage"].get(asks) && asks);
    }
    std::int64_t cap = 0;
    bool has_cap = !after["max_tokens"].get(cap) || !after["max_completion_tokens"].get(cap);
    require(has_cap && cap == 1);
    return 0;
}

// The edits made to a client's bytes: few, each at a place that parsing found.
#include <algorithm>

#include "base/text.hpp"
#include "gateway/chat_request.hpp"

namespace nebula::gateway {
namespace {

struct Edit {
    Span where;
    std::string text;
};

void add_cap_edits(const ChatRequest& request, std::int64_t cap, std::vector<Edit>& edits) {
    std::string text = std::to_string(cap);
    bool present = false;
    if (request.max_tokens_value) {
        present = true;
        if (*request.max_tokens > cap) edits.push_back({*request.max_tokens_value, text});
    }
    if (request.max_completion_tokens_value) {
        present = true;
        if (*request.max_completion_tokens > cap)
            edits.push_back({*request.max_completion_tokens_value, text});
    }
    if (!present) edits.push_back({{request.object_open, 0}, "\"max_tokens\":" + text + ","});
}

void add_usage_edits(const ChatRequest& request, std::vector<Edit>& edits) {
    if (request.include_usage_value) {
        edits.push_back({*request.include_usage_value, "true"});
    } else if (request.stream_options_is_object) {
        std::size_t inside = request.stream_options_value->at + 1;
        edits.push_back(
            {{inside, 0},
             request.stream_options_is_empty ? "\"include_usage\":true" : "\"include_usage\":true,"});
    } else if (request.stream_options_value) {
        edits.push_back({*request.stream_options_value, R"({"include_usage":true})"});
    } else {
        edits.push_back({{request.object_open, 0}, R"("stream_options":{"include_usage":true},)"});
    }
}

}  // namespace

std::string EditedBody::joined() const {
    std::string whole;
    for (std::string_view piece : pieces) whole += piece;
    return whole;
}

EditedBody edit_chat_request(std::string_view body, const ChatRequest& request, const Edits& wanted) {
    std::vector<Edit> edits;
    if (!wanted.upstream_model.empty() && wanted.upstream_model != request.model)
        edits.push_back({request.model_value, request.is_form ? std::string(wanted.upstream_model)
                                                              : json_string(wanted.upstream_model)});
    if (wanted.ask_for_usage && !request.include_usage) add_usage_edits(request, edits);
    if (wanted.output_cap) add_cap_edits(request, *wanted.output_cap, edits);
    if (!wanted.temperature.empty() && !request.has_temperature)
        edits.push_back(
            {{request.object_open, 0}, "\"temperature\":" + std::string(wanted.temperature) + ","});
    // Insertions at one place may go in any order; replacements never overlap.
    std::ranges::sort(edits, {}, [](const Edit& edit) { return edit.where.at; });

    EditedBody out;
    out.texts.reserve(edits.size());  // the pieces view the texts: they must not move
    std::size_t at = 0;
    for (Edit& edit : edits) {
        if (edit.where.at > at) out.pieces.push_back(body.substr(at, edit.where.at - at));
        out.pieces.push_back(out.texts.emplace_back(std::move(edit.text)));
        at = edit.where.at + edit.where.length;
    }
    if (at < body.size()) out.pieces.push_back(body.substr(at));
    return out;
}

}  // namespace nebula::gateway

// The edits made to a client's bytes: few, each at a place that parsing found.
#include <algorithm>

#include "base/text.hpp"
#include "gateway/chat_request.hpp"

namespace nebula::gateway {
namespace {

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

void add_removals(std::string_view body, const std::vector<Span>& members, std::vector<Edit>& edits) {
    auto skip = [body](std::size_t at) {
        return std::min(body.find_first_not_of(" \t\r\n", at), body.size());
    };
    for (std::size_t i = 0; i < members.size();) {
        std::size_t from = members[i].at;
        std::size_t to = skip(from + members[i].length);
        bool has_comma = false;
        for (;; to = skip(members[i].at + members[i].length)) {
            has_comma = to < body.size() && body[to] == ',';
            if (has_comma) to = skip(to + 1);
            if (++i == members.size() || members[i].at != to) break;
        }
        if (!has_comma) {
            std::size_t before = body.find_last_not_of(" \t\r\n", from - 1);
            if (before != std::string_view::npos && body[before] == ',') from = before;
        }
        edits.push_back({{from, to - from}, {}});
    }
}

EditedBody apply_edits(std::string_view body, std::vector<Edit> edits) {
    // Insertions at one place may go in any order, before what is replaced there; replacements never overlap.
    std::ranges::sort(edits, {},
                      [](const Edit& edit) { return std::pair(edit.where.at, edit.where.length); });

    EditedBody out;
    out.texts.reserve(edits.size());  // the pieces view the texts: they must not move
    std::size_t at = 0;
    for (Edit& edit : edits) {
        if (edit.where.at > at) out.pieces.push_back(body.substr(at, edit.where.at - at));
        if (!edit.text.empty()) out.pieces.push_back(out.texts.emplace_back(std::move(edit.text)));
        at = edit.where.at + edit.where.length;
    }
    if (at < body.size()) out.pieces.push_back(body.substr(at));
    return out;
}

EditedBody edit_chat_request(std::string_view body, const ChatRequest& request, const Edits& wanted) {
    std::vector<Edit> edits;
    if (request.model_value.length == 0)  // named in `models` only
        edits.push_back(
            {{request.object_open, 0},
             "\"model\":" +
                 json_string(wanted.upstream_model.empty() ? request.model : wanted.upstream_model) + ","});
    else if (!wanted.upstream_model.empty() && wanted.upstream_model != request.model)
        edits.push_back({request.model_value, request.is_form ? std::string(wanted.upstream_model)
                                                              : json_string(wanted.upstream_model)});
    if (!wanted.keeps_routing)
        add_removals(body, request.routing_members, edits);
    else if (request.models_member)
        add_removals(body, {*request.models_member}, edits);
    if (wanted.ask_for_usage && !request.include_usage) add_usage_edits(request, edits);
    if (wanted.output_cap) add_cap_edits(request, *wanted.output_cap, edits);
    if (!wanted.temperature.empty() && !request.has_temperature)
        edits.push_back(
            {{request.object_open, 0}, "\"temperature\":" + std::string(wanted.temperature) + ","});
    return apply_edits(body, std::move(edits));
}

}  // namespace nebula::gateway

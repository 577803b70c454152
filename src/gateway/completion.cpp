#include "gateway/completion.hpp"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace nebula::gateway {
namespace {

namespace dom = simdjson::dom;

// The parser wants padding behind the text; a copy of a small event is cheaper than proving that it has some.
simdjson::simdjson_result<dom::element> parse(std::string_view text) {
    thread_local dom::parser parser;
    thread_local std::vector<char> scratch;
    if (scratch.size() < text.size() + simdjson::SIMDJSON_PADDING)
        scratch.resize(text.size() + simdjson::SIMDJSON_PADDING + 1024);
    std::memcpy(scratch.data(), text.data(), text.size());
    auto parsed = parser.parse(scratch.data(), text.size(), false);
    // One huge answer must not pin its size in every thread for ever.
    if (scratch.size() > 4 * 1024 * 1024 && text.size() < 64 * 1024) scratch = std::vector<char>(64 * 1024);
    return parsed;
}

bool read_count(dom::object usage, const char* name, std::int64_t max, std::int64_t& out, bool& refused) {
    dom::element value;
    if (usage[name].get(value) || value.is_null()) return false;
    std::int64_t count = 0;
    if (value.get(count) || count < 0 || count > max) {
        refused = true;
        return false;
    }
    out = count;
    return true;
}

ReportedUsage read_usage(dom::object object, const UsageBounds& bounds) {
    ReportedUsage report;
    dom::element element;
    if (object["usage"].get(element) || element.is_null()) return report;
    dom::object usage;
    bool refused = element.get(usage) != simdjson::SUCCESS;
    if (!refused) {
        bool has_input = read_count(usage, "prompt_tokens", bounds.input_max, report.usage.input, refused);
        bool has_output = read_count(usage, "completion_tokens", bounds.output_max, report.usage.output, refused);
        if (!has_input && !has_output && !refused) return report;
        dom::object details;
        if (!usage["prompt_tokens_details"].get(details))
            read_count(details, "cached_tokens", bounds.input_max, report.usage.cached, refused);
        // Some providers count cached tokens beside the prompt's; never discount more than the prompt.
        report.usage.cached = std::min(report.usage.cached, report.usage.input);
    }
    report.state = refused ? ReportedUsage::State::refused : ReportedUsage::State::good;
    if (refused) report.usage = {};
    return report;
}

std::size_t text_bytes(dom::object object, const char* name) {
    std::string_view text;
    return object[name].get(text) ? 0 : text.size();
}

// delta of a chunk or message of an answer.
void read_content(dom::object part, Completion& out) {
    std::size_t bytes = 0;
    for (const char* name : {"content", "reasoning_content", "reasoning", "refusal"}) bytes += text_bytes(part, name);
    dom::array calls;
    if (!part["tool_calls"].get(calls)) {
        for (dom::element call : calls) {
            out.has_content = true;
            dom::object function;
            if (call["function"].get(function)) continue;
            bytes += text_bytes(function, "name") + text_bytes(function, "arguments");
        }
    }
    dom::object call;
    if (!part["function_call"].get(call)) bytes += text_bytes(call, "name") + text_bytes(call, "arguments");
    dom::object audio;
    if (!part["audio"].get(audio)) out.has_content = true;
    out.content_bytes += bytes;
    if (bytes > 0) out.has_content = true;
}

bool read_error(dom::object object, Completion& out) {
    dom::element error;
    if (object["error"].get(error) || error.is_null()) return false;
    out.kind = Completion::Kind::error;
    std::string_view message;
    if (!error["message"].get(message) || !error.get(message)) out.error_message = message;
    return true;
}

Completion read(std::string_view text, const char* part_name, const UsageBounds& bounds) {
    Completion out;
    dom::object object;
    if (parse(text).get(object)) return out;
    if (read_error(object, out)) return out;
    dom::array choices;
    if (object["choices"].get(choices)) return out;
    out.kind = Completion::Kind::chunk;
    for (dom::element choice : choices) {
        out.has_choices = true;
        dom::object fields;
        if (choice.get(fields)) {
            out.kind = Completion::Kind::malformed;
            return out;
        }
        dom::object part;
        if (!fields[part_name].get(part)) read_content(part, out);
        std::string_view finish;
        if (!fields["finish_reason"].get(finish)) out.has_finish = true;
    }
    out.usage = read_usage(object, bounds);
    return out;
}

}  // namespace

Completion read_chunk(std::string_view data, const UsageBounds& bounds) {
    if (data.empty()) return {.kind = Completion::Kind::comment};
    if (data == "[DONE]") return {.kind = Completion::Kind::done};
    return read(data, "delta", bounds);
}

Completion read_answer(std::string_view body, const UsageBounds& bounds) {
    Completion out = read(body, "message", bounds);
    // An answer without a choice is none.
    if (out.kind == Completion::Kind::chunk && !out.has_choices) out.kind = Completion::Kind::malformed;
    return out;
}

std::int64_t estimate_tokens(std::size_t bytes, std::int64_t content_events) {
    return std::max(static_cast<std::int64_t>((bytes + 3) / 4), content_events);
}

}  // namespace nebula::gateway

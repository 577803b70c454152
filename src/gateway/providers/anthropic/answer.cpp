// A whole message → chat answer.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/members.hpp"
#include "gateway/providers/anthropic/messages.hpp"
#include "gateway/providers/anthropic/words.hpp"

namespace nebula::gateway::anthropic {
namespace {

namespace json = boost::json;
using namespace members;

std::unexpected<Error> malformed(const char* detail) {
    return fail(Code::upstream_failed, "the provider sent an invalid answer", {}, detail);
}

// What the blocks say, by where OpenAI's message has it.
struct Content {
    std::string text, thoughts;
    bool has_text = false;
    json::array calls, details;
};

void read_block(const json::object& block, Content& content) {
    std::string_view type = text_of(block, "type");
    auto index = static_cast<std::int64_t>(content.details.size());
    if (type == "text") {
        content.has_text = true;
        content.text += text_of(block, "text");
    } else if (type == "thinking") {
        content.thoughts += text_of(block, "thinking");
        json::object detail{{"type", "reasoning.text"},
                            {"text", text_of(block, "thinking")},
                            {"signature", text_of(block, "signature")},
                            {"format", reasoning_format},
                            {"index", index}};
        content.details.push_back(std::move(detail));
    } else if (type == "redacted_thinking") {
        json::object detail{{"type", "reasoning.encrypted"},
                            {"data", text_of(block, "data")},
                            {"format", reasoning_format},
                            {"index", index}};
        content.details.push_back(std::move(detail));
    } else if (type == "tool_use") {
        const json::value* input = block.if_contains("input");
        json::object function{{"name", text_of(block, "name")},
                              {"arguments", input != nullptr ? json::serialize(*input) : "{}"}};
        content.calls.push_back(json::object{
            {"id", text_of(block, "id")}, {"type", "function"}, {"function", std::move(function)}});
    }
}

json::object message_of(Content content, bool tells_reasoning) {
    json::object message{{"role", "assistant"}};
    bool is_silent = !content.has_text && !content.calls.empty();
    message["content"] = is_silent ? json::value(nullptr) : json::value(content.text);
    message["refusal"] = nullptr;
    if (tells_reasoning && !content.thoughts.empty()) message["reasoning_content"] = content.thoughts;
    if (tells_reasoning && !content.details.empty())
        message["reasoning_details"] = std::move(content.details);
    if (!content.calls.empty()) message["tool_calls"] = std::move(content.calls);
    return message;
}

// Counts that are none are passed on, so that whoever meters sees them.
json::value sum_of(const json::object& usage, std::initializer_list<const char*> names) {
    std::int64_t sum = 0;
    for (const char* name : names) {
        const json::value* count = usage.if_contains(name);
        if (count == nullptr || count->is_null()) continue;
        if (!count->is_int64() || count->get_int64() < 0 || count->get_int64() > counts_max) return *count;
        sum += count->get_int64();
    }
    return sum;
}

json::object usage_of(const json::object& usage) {
    json::value prompt =
        sum_of(usage, {"input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"});
    json::value output = sum_of(usage, {"output_tokens"});
    json::object told{{"prompt_tokens", prompt}, {"completion_tokens", output}};
    if (prompt.is_int64() && output.is_int64())
        told["total_tokens"] = prompt.get_int64() + output.get_int64();
    told["prompt_tokens_details"] =
        json::object{{"cached_tokens", sum_of(usage, {"cache_read_input_tokens"})},
                     {"cache_write_tokens", sum_of(usage, {"cache_creation_input_tokens"})}};
    const json::object* details = object_of(usage, "output_tokens_details");
    if (details != nullptr && is_given(*details, "thinking_tokens"))
        told["completion_tokens_details"] =
            json::object{{"reasoning_tokens", sum_of(*details, {"thinking_tokens"})}};
    return told;
}

}  // namespace

const char* finish_reason(std::string_view stop_reason) {
    if (stop_reason == "max_tokens" || stop_reason == "model_context_window_exceeded") return "length";
    if (stop_reason == "tool_use") return "tool_calls";
    if (stop_reason == "refusal") return "content_filter";
    return "stop";  // end_turn, stop_sequence, pause_turn
}

Result<std::string> to_chat_answer(std::string_view body, const Telling& telling, std::string_view id,
                                   std::int64_t created) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 512;
    json::value value = json::parse(body, failed, {}, options);
    if (failed || !value.is_object()) return malformed("not a JSON object");
    const json::object& message = value.get_object();
    const json::array* blocks = array_of(message, "content");
    if (text_of(message, "type") != "message" || blocks == nullptr) return malformed("not a message");
    Content content;
    for (const json::value& item : *blocks)
        if (const json::object* block = item.if_object()) read_block(*block, content);

    std::string_view own_id = text_of(message, "id");
    json::object choice{{"index", 0},
                        {"message", message_of(std::move(content), telling.tells_reasoning)},
                        {"logprobs", nullptr},
                        {"finish_reason", finish_reason(text_of(message, "stop_reason"))}};
    json::array choices;
    choices.push_back(std::move(choice));
    json::object answer{{"id", own_id.empty() ? id : own_id},
                        {"object", "chat.completion"},
                        {"created", created},
                        {"model", text_of(message, "model")},
                        {"choices", std::move(choices)}};
    if (const json::object* usage = object_of(message, "usage")) answer["usage"] = usage_of(*usage);
    return json::serialize(answer);
}

}  // namespace nebula::gateway::anthropic

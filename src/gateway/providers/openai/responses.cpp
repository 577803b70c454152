// A whole response → chat answer.
#include "gateway/providers/openai/responses.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>

#include "gateway/members.hpp"

namespace nebula::gateway::openai {
namespace {

namespace json = boost::json;
using namespace members;

std::unexpected<Error> malformed(const char* detail) {
    return fail(Code::upstream_failed, "the provider sent an invalid answer", {}, detail);
}

// What the items say, by where a chat message has it.
struct Content {
    std::string text, refusal, thoughts;
    bool has_text = false;
    json::array calls, details;
    std::int64_t tool_calls = 0;
};

void add_parts(const json::object& item, std::string_view list, Content& content) {
    const json::array* parts = array_of(item, list);
    if (parts == nullptr) return;
    for (const json::value& one : *parts) {
        const json::object* part = one.if_object();
        std::string_view type = part != nullptr ? text_of(*part, "type") : std::string_view();
        if (type == "output_text") {
            content.has_text = true;
            content.text += text_of(*part, "text");
        } else if (type == "refusal") {
            content.refusal += text_of(*part, "refusal");
        } else if (type == "summary_text" || type == "reasoning_text") {
            content.thoughts += text_of(*part, "text");
        }
    }
}

void add_item(const json::object& item, Content& content) {
    std::string_view type = text_of(item, "type");
    if (type == "message") {
        add_parts(item, "content", content);
    } else if (type == "reasoning") {
        add_parts(item, "summary", content);
        add_parts(item, "content", content);
        std::string_view sealed = text_of(item, "encrypted_content");
        if (!sealed.empty())
            content.details.push_back(json::object{{"type", "reasoning.encrypted"},
                                                   {"data", sealed},
                                                   {"id", text_of(item, "id")},
                                                   {"format", "openai-responses-v1"}});
    } else if (type == "function_call" || type == "custom_tool_call") {
        const char* said = type == "function_call" ? "arguments" : "input";
        json::object function{{"name", text_of(item, "name")}, {"arguments", text_of(item, said)}};
        content.calls.push_back(json::object{
            {"id", text_of(item, "call_id")}, {"type", "function"}, {"function", std::move(function)}});
    } else if (is_tool_use(type)) {
        ++content.tool_calls;
    }
}

json::object message_of(Content content) {
    json::object message{{"role", "assistant"}};
    message["content"] = content.has_text ? json::value(content.text) : json::value(nullptr);
    message["refusal"] = content.refusal.empty() ? json::value(nullptr) : json::value(content.refusal);
    if (!content.thoughts.empty()) message["reasoning_content"] = content.thoughts;
    if (!content.details.empty()) message["reasoning_details"] = std::move(content.details);
    if (!content.calls.empty()) message["tool_calls"] = std::move(content.calls);
    return message;
}

// Counts are passed on as they are: whoever meters judges them.
json::object usage_of(const json::object& usage) {
    json::object told;
    auto pass = [](const json::object& from, const char* name, json::object& to, const char* as) {
        if (is_given(from, name)) to[as] = from.at(name);
    };
    pass(usage, "input_tokens", told, "prompt_tokens");
    pass(usage, "output_tokens", told, "completion_tokens");
    pass(usage, "total_tokens", told, "total_tokens");
    if (const json::object* details = object_of(usage, "input_tokens_details")) {
        json::object input;
        pass(*details, "cached_tokens", input, "cached_tokens");
        pass(*details, "cache_write_tokens", input, "cache_write_tokens");
        told["prompt_tokens_details"] = std::move(input);
    }
    if (const json::object* details = object_of(usage, "output_tokens_details")) {
        json::object output;
        pass(*details, "reasoning_tokens", output, "reasoning_tokens");
        told["completion_tokens_details"] = std::move(output);
    }
    return told;
}

const char* finish_of(const json::object& response, bool has_calls) {
    if (text_of(response, "status") != "incomplete") return has_calls ? "tool_calls" : "stop";
    const json::object* details = object_of(response, "incomplete_details");
    bool is_filtered = details != nullptr && text_of(*details, "reason") == "content_filter";
    return is_filtered ? "content_filter" : "length";
}

class ResponsesTranslator final : public Translator {
   public:
    ResponsesTranslator(std::string_view id, Time created)
        : id_(id),
          created_(std::chrono::duration_cast<std::chrono::seconds>(created.time_since_epoch()).count()),
          events_(id_, created_) {}

    Result<std::string> request(std::string_view) override {
        return fail(Code::invalid_request, "only requests of the Responses API are sent there", "model");
    }
    Result<std::string> answer(std::string_view body) override {
        return to_chat_answer(body, id_, created_, tool_calls_);
    }
    bool event(std::string_view data, std::string& lines) override { return events_.read(data, lines); }
    bool has_begun() const override { return events_.has_begun(); }
    std::int64_t tool_calls() const override { return tool_calls_ + events_.tool_calls(); }

   private:
    const std::string id_;
    const std::int64_t created_;
    std::int64_t tool_calls_ = 0;
    ResponsesReader events_;
};

}  // namespace

bool is_tool_use(std::string_view item_type) {
    constexpr std::string_view uses[] = {"web_search_call", "file_search_call", "code_interpreter_call",
                                         "image_generation_call", "mcp_call"};
    return std::ranges::find(uses, item_type) != std::end(uses);
}

Result<std::string> to_chat_answer(std::string_view body, std::string_view id, std::int64_t created,
                                   std::int64_t& tool_calls) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 512;
    json::value value = json::parse(body, failed, {}, options);
    if (failed || !value.is_object()) return malformed("not a JSON object");
    const json::object& response = value.get_object();
    const json::array* output = array_of(response, "output");
    std::string_view status = text_of(response, "status");
    bool is_whole = status == "completed" || status == "incomplete";
    if (output == nullptr || !is_whole) return malformed(status == "failed" ? "it failed" : "not a response");
    Content content;
    for (const json::value& one : *output)
        if (const json::object* item = one.if_object()) add_item(*item, content);
    tool_calls = content.tool_calls;

    json::object choice{
        {"index", 0}, {"finish_reason", finish_of(response, !content.calls.empty())}, {"logprobs", nullptr}};
    choice["message"] = message_of(std::move(content));
    json::array choices;
    choices.push_back(std::move(choice));
    std::string_view own_id = text_of(response, "id");
    json::object answer{{"id", own_id.empty() ? id : own_id},
                        {"object", "chat.completion"},
                        {"created", created},
                        {"model", text_of(response, "model")},
                        {"choices", std::move(choices)}};
    if (const json::object* usage = object_of(response, "usage")) answer["usage"] = usage_of(*usage);
    return json::serialize(answer);
}

std::unique_ptr<Translator> make_responses_translator(std::string_view id, Time created) {
    return std::make_unique<ResponsesTranslator>(id, created);
}

}  // namespace nebula::gateway::openai

// The response object and whole answers.
#include <boost/json/parse.hpp>

#include "base/text.hpp"
#include "gateway/responses/response_object.hpp"

namespace nebula::gateway::responses {
namespace {

namespace json = boost::json;

std::string_view text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string_view(value->get_string())
                                                  : std::string_view();
}

std::int64_t count_of(const json::object* object, std::string_view name) {
    const json::value* value = object != nullptr ? object->if_contains(name) : nullptr;
    return value != nullptr && value->is_int64() ? std::max<std::int64_t>(0, value->get_int64()) : 0;
}

const json::object* object_of(const json::object* object, std::string_view name) {
    const json::value* value = object != nullptr ? object->if_contains(name) : nullptr;
    return value != nullptr ? value->if_object() : nullptr;
}

Usage usage_of(const json::object& answer) {
    const json::object* counts = object_of(&answer, "usage");
    Usage usage;
    usage.input = count_of(counts, "prompt_tokens");
    usage.output = count_of(counts, "completion_tokens");
    const json::object* input = object_of(counts, "prompt_tokens_details");
    usage.cached = std::min(usage.input, count_of(input, "cached_tokens"));
    const json::object* output = object_of(counts, "completion_tokens_details");
    usage.reasoning = std::min(usage.output, count_of(output, "reasoning_tokens"));
    return usage;
}

std::string usage_text(const Usage& usage) {
    return R"({"input_tokens":)" + std::to_string(usage.input) +
           R"(,"input_tokens_details":{"cached_tokens":)" + std::to_string(usage.cached) +
           R"(,"cache_write_tokens":0},"output_tokens":)" + std::to_string(usage.output) +
           R"(,"output_tokens_details":{"reasoning_tokens":)" + std::to_string(usage.reasoning) +
           R"(},"total_tokens":)" + std::to_string(usage.input + usage.output) + "}";
}

std::string seconds_text(Time time) {
    return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count());
}

// Items in the order in which a model thinks, speaks and calls.
class Items {
   public:
    Items(const ResponseObject& object, std::string_view last_status)
        : object_(object), last_status_(last_status) {}

    std::string read(const json::object& message) {
        std::string_view thinking = text_of(message, "reasoning_content");
        if (thinking.empty()) thinking = text_of(message, "reasoning");
        if (!thinking.empty())
            add(reasoning_item(object_.item_id("rs", index_), "completed",
                               reasoning_part(json_string(thinking))));
        const json::value* calls = message.if_contains("tool_calls");
        const json::array* list = calls != nullptr ? calls->if_array() : nullptr;
        bool has_calls = list != nullptr && !list->empty();
        std::string said(text_of(message, "content"));
        said += text_of(message, "refusal");
        if (!said.empty())
            add(message_item(object_.item_id("msg", index_), has_calls ? "completed" : last_status_,
                             text_part(json_string(said))));
        if (has_calls)
            for (const json::value& item : *list) add_call(item);
        return std::move(text_);
    }

   private:
    void add_call(const json::value& item) {
        const json::object* call = item.if_object();
        const json::object* function = object_of(call, "function");
        if (function == nullptr) return;
        std::string id(text_of(*call, "id"));
        if (id.empty()) id = object_.item_id("call", index_);
        add(call_item(object_.item_id("fc", index_), last_status_, json_string(id),
                      json_string(text_of(*function, "name")), json_string(text_of(*function, "arguments"))));
    }
    void add(const std::string& item) {
        if (!text_.empty()) text_ += ',';
        text_ += item;
        ++index_;
    }

    const ResponseObject& object_;
    const std::string_view last_status_;
    std::string text_;
    int index_ = 0;
};

}  // namespace

Ending ending_of(std::string_view finish_reason) {
    if (finish_reason == "length") return {"incomplete", "max_output_tokens"};
    if (finish_reason == "content_filter") return {"incomplete", "content_filter"};
    return {};
}

const char* error_word(Code code) {
    return code == Code::rate_limited || code == Code::overloaded ? "rate_limit_exceeded" : "server_error";
}

std::string response_id(RequestId request) { return "resp_" + base32_id(request.value); }

std::optional<RequestId> parse_response_id(std::string_view text) {
    constexpr std::string_view prefix = "resp_";
    if (!text.starts_with(prefix)) return std::nullopt;
    auto value = parse_base32_id(text.substr(prefix.size()));
    if (!value || *value == 0) return std::nullopt;
    return RequestId{*value};
}

Error no_response(std::string_view id) {
    return {.code = Code::not_found,
            .message = "Response with id '" + std::string(id.substr(0, 100)) + "' not found."};
}

ResponseObject::ResponseObject(RequestId request, Time created)
    : id_(request.text().substr(4)), created_(seconds_text(created)) {}

std::string ResponseObject::item_id(std::string_view prefix, int index) const {
    return std::string(prefix) + "_" + id_ + "_" + std::to_string(index);
}

std::string ResponseObject::text(std::string_view status, std::string_view output, std::string_view error,
                                 const char* reason, std::string_view rest, bool is_stored) const {
    std::string text = R"({"id":"resp_)" + id_ + R"(","object":"response","created_at":)" + created_;
    text.append(R"(,"status":")").append(status).append(R"(","error":)").append(error);
    text += R"(,"incomplete_details":)";
    text += reason != nullptr ? R"({"reason":")" + std::string(reason) + "\"}" : "null";
    text.append(R"(,"output":[)").append(output).append("],").append(echo_);
    text.append(is_stored ? R"(,"store":true)" : R"(,"store":false)").append(rest).append("}");
    return text;
}

std::string ResponseObject::in_progress() const {
    return text("in_progress", {}, "null", nullptr, R"(,"completed_at":null,"usage":null)", is_stored_);
}

std::string ResponseObject::ended(const Ending& ending, std::string_view output, const Usage& usage,
                                  Time now) const {
    std::string completed = ending.reason == nullptr ? seconds_text(now) : "null";
    return text(ending.status, output, "null", ending.reason,
                R"(,"completed_at":)" + completed + R"(,"usage":)" + usage_text(usage), is_stored_);
}

std::string ResponseObject::failed(const Error& error, std::string_view output) const {
    std::string told =
        R"({"code":")" + std::string(error_word(error.code)) + R"(","message":)" + json_string(error.message);
    return text("failed", output, told + "}", nullptr, R"(,"completed_at":null,"usage":null)", false);
}

std::string text_part(std::string_view raw) {
    return std::string(R"({"type":"output_text","text":)")
        .append(raw)
        .append(R"(,"annotations":[],"logprobs":[]})");
}

std::string message_item(std::string_view id, std::string_view status, std::string_view part) {
    return std::string(R"({"type":"message","id":")")
        .append(id)
        .append(R"(","role":"assistant","status":")")
        .append(status)
        .append(R"(","content":[)")
        .append(part)
        .append("]}");
}

std::string reasoning_part(std::string_view raw) {
    return std::string(R"({"type":"reasoning_text","text":)").append(raw).append("}");
}

std::string reasoning_item(std::string_view id, std::string_view status, std::string_view part) {
    return std::string(R"({"type":"reasoning","id":")")
        .append(id)
        .append(R"(","status":")")
        .append(status)
        .append(R"(","summary":[],"content":[)")
        .append(part)
        .append("]}");
}

std::string call_item(std::string_view id, std::string_view status, std::string_view raw_call_id,
                      std::string_view raw_name, std::string_view raw_arguments) {
    return std::string(R"({"type":"function_call","id":")")
        .append(id)
        .append(R"(","status":")")
        .append(status)
        .append(R"(","call_id":)")
        .append(raw_call_id)
        .append(R"(,"name":)")
        .append(raw_name)
        .append(R"(,"arguments":)")
        .append(raw_arguments)
        .append("}");
}

Result<std::string> to_response(std::string_view chat_answer, const ResponseObject& object, Time now) {
    boost::system::error_code failed;
    json::value value = json::parse(chat_answer, failed);
    const json::value* choices =
        !failed && value.is_object() ? value.get_object().if_contains("choices") : nullptr;
    const json::array* list = choices != nullptr ? choices->if_array() : nullptr;
    const json::object* choice = list != nullptr && !list->empty() ? list->front().if_object() : nullptr;
    const json::object* message = object_of(choice, "message");
    if (message == nullptr)
        return fail(Code::upstream_failed, "the provider sent an invalid answer", {}, "no message in it");
    Ending ending = ending_of(text_of(*choice, "finish_reason"));
    std::string items = Items(object, ending.status).read(*message);
    return object.ended(ending, items, usage_of(value.get_object()), now);
}

}  // namespace nebula::gateway::responses

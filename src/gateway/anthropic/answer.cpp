// Errors and whole answers in Anthropic's words.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.hpp"
#include "gateway/anthropic/anthropic.hpp"
#include "gateway/anthropic/words.hpp"
#include "gateway/members.hpp"

namespace nebula::gateway::anthropic {
namespace {

namespace json = boost::json;
using members::count_of;
using members::text_of;

json::value arguments_of(const json::object& function) {
    boost::system::error_code failed;
    json::value input = json::parse(text_of(function, "arguments"), failed);
    // A model may write arguments that are no JSON object; the text must not be lost.
    if (failed || !input.is_object()) return json::object{{"arguments", text_of(function, "arguments")}};
    return input;
}

json::array content_of(const json::object& message) {
    json::array content;
    for (const char* name : {"reasoning_content", "reasoning"}) {
        std::string_view thinking = text_of(message, name);
        if (thinking.empty()) continue;
        content.push_back(json::object{{"type", "thinking"}, {"thinking", thinking}, {"signature", ""}});
        break;
    }
    for (const char* name : {"content", "refusal"})
        if (std::string_view text = text_of(message, name); !text.empty())
            content.push_back(json::object{{"type", "text"}, {"text", text}});
    const json::value* calls = message.if_contains("tool_calls");
    if (calls == nullptr || !calls->is_array()) return content;
    for (const json::value& item : calls->get_array()) {
        const json::object* call = item.if_object();
        const json::value* function = call != nullptr ? call->if_contains("function") : nullptr;
        if (function == nullptr || !function->is_object()) continue;
        content.push_back(json::object{{"type", "tool_use"},
                                       {"id", text_of(*call, "id")},
                                       {"name", text_of(function->get_object(), "name")},
                                       {"input", arguments_of(function->get_object())}});
    }
    return content;
}

json::object usage_of(const json::object& answer) {
    std::int64_t input = 0, cached = 0, output = 0;
    if (const json::value* usage = answer.if_contains("usage"); usage != nullptr && usage->is_object()) {
        const json::object& counts = usage->get_object();
        input = count_of(counts, "prompt_tokens");
        output = count_of(counts, "completion_tokens");
        const json::value* details = counts.if_contains("prompt_tokens_details");
        if (details != nullptr && details->is_object())
            cached = std::min(input, count_of(details->get_object(), "cached_tokens"));
    }
    return {{"input_tokens", input - cached},
            {"output_tokens", output},
            {"cache_creation_input_tokens", 0},
            {"cache_read_input_tokens", cached},
            {"service_tier", "standard"}};
}

}  // namespace

const char* stop_reason(std::string_view finish_reason) {
    if (finish_reason == "length") return "max_tokens";
    if (finish_reason == "tool_calls" || finish_reason == "function_call") return "tool_use";
    if (finish_reason == "content_filter") return "refusal";
    return "end_turn";
}

const char* error_type(Code code) {
    switch (code) {
        case Code::invalid_request:
        case Code::method_not_allowed:
        case Code::conflict:
        case Code::headers_too_large:
        case Code::cancelled:
            return "invalid_request_error";
        case Code::unauthenticated:
            return "authentication_error";
        case Code::forbidden:
            return "permission_error";
        case Code::not_found:
            return "not_found_error";
        case Code::payload_too_large:
            return "request_too_large";
        case Code::payment_required:
            return "billing_error";
        case Code::rate_limited:
            return "rate_limit_error";
        case Code::overloaded:
            return "overloaded_error";
        case Code::timeout:
            return "timeout_error";
        case Code::upstream_failed:
        case Code::internal:
            return "api_error";
    }
    return "api_error";
}

http::Response error(const Error& error, RequestId request) {
    http::Response response;
    response.status = error.code == Code::overloaded ? 529 : http::status_of(error.code);
    response.body = R"({"type":"error","error":{"type":")" + std::string(error_type(error.code)) +
                    R"(","message":)" + json_string(error.message) + R"(},"request_id":)" +
                    json_string(request.text()) + "}";
    response.headers.emplace_back("request-id", request.text());
    if (error.retry_after_ms > 0)
        response.headers.emplace_back("retry-after", std::to_string((error.retry_after_ms + 999) / 1000));
    return response;
}

Result<std::string> to_message(std::string_view chat_answer, std::string_view id) {
    boost::system::error_code failed;
    json::value value = json::parse(chat_answer, failed);
    const json::value* choices =
        !failed && value.is_object() ? value.get_object().if_contains("choices") : nullptr;
    const json::array* list = choices != nullptr ? choices->if_array() : nullptr;
    const json::object* choice = list != nullptr && !list->empty() ? list->front().if_object() : nullptr;
    const json::value* message = choice != nullptr ? choice->if_contains("message") : nullptr;
    if (message == nullptr || !message->is_object())
        return fail(Code::upstream_failed, "the provider sent an invalid answer", {}, "no message in it");
    const json::object& answer = value.get_object();
    json::object out{{"id", id},
                     {"type", "message"},
                     {"role", "assistant"},
                     {"model", text_of(answer, "model")},
                     {"content", content_of(message->get_object())},
                     {"stop_reason", stop_reason(text_of(*choice, "finish_reason"))},
                     {"stop_sequence", nullptr},
                     {"usage", usage_of(answer)}};
    return json::serialize(out);
}

}  // namespace nebula::gateway::anthropic

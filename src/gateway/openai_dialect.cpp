// Wire facts of OpenAI's errors: status, type and code words as its clients expect them.
#include "base/text.hpp"
#include "gateway/gateway.hpp"
#include "gateway/guardrails/rails.hpp"
#include "http/dialects.hpp"

namespace nebula::gateway {
namespace {

struct Words {
    const char* type;
    const char* code;  // null = JSON null
};

Words words_of(const Error& error) {
    switch (error.code) {
        case Code::invalid_request:
            return {"invalid_request_error",
                    error.param == guardrails::content_policy ? "content_policy_violation" : nullptr};
        case Code::unauthenticated:
            return {"invalid_request_error", "invalid_api_key"};
        case Code::forbidden:
            return {"invalid_request_error", nullptr};
        case Code::not_found:
            return {"invalid_request_error", error.param == "model" ? "model_not_found"
                                             : error.param == "previous_response_id"
                                                 ? "previous_response_not_found"
                                                 : nullptr};
        case Code::method_not_allowed:
            return {"invalid_request_error", "method_not_supported"};
        case Code::conflict:
            return {"invalid_request_error", nullptr};
        case Code::payload_too_large:
            return {"invalid_request_error", "payload_too_large"};
        case Code::headers_too_large:
            return {"invalid_request_error", "headers_too_large"};
        case Code::payment_required:
            return {"insufficient_quota", "insufficient_quota"};
        case Code::rate_limited:
            return {error.param == "tokens" ? "tokens" : "requests", "rate_limit_exceeded"};
        case Code::overloaded:
            return {"server_error", "overloaded"};
        case Code::upstream_failed:
            return {"server_error", "upstream_failed"};
        case Code::timeout:
            return {"server_error", "timeout"};
        case Code::cancelled:
            return {"invalid_request_error", "cancelled"};
        case Code::internal:
            return {"server_error", nullptr};
    }
    return {"server_error", nullptr};
}

}  // namespace

http::Response openai_error(const Error& error, RequestId) {
    Words words = words_of(error);
    // The parameter of a rate limit names the unit, which the type already says.
    bool has_param =
        !error.param.empty() && error.code != Code::rate_limited && error.param != guardrails::content_policy;
    http::Response response;
    response.status = http::status_of(error.code);
    // What a request builds on is a part of it.
    if (error.code == Code::not_found && error.param == "previous_response_id") response.status = 400;
    response.body = R"({"error":{"message":)" + json_string(error.message) + R"(,"type":")" + words.type +
                    R"(","param":)" + (has_param ? json_string(error.param) : "null") + R"(,"code":)" +
                    (words.code != nullptr ? json_string(words.code) : "null") + "}}";
    if (error.retry_after_ms > 0) {
        response.headers.emplace_back("retry-after", std::to_string((error.retry_after_ms + 999) / 1000));
        response.headers.emplace_back("retry-after-ms", std::to_string(error.retry_after_ms));
    }
    return response;
}

http::Response novita_llm_error(const Error& error, RequestId request) {
    http::Response response = http::novita_error(error, request);
    std::string object = openai_error(error, request).body;
    // {"error":{…}} and {"code":…}: one object with the members of both.
    response.body = object.substr(0, object.size() - 1) + "," + response.body.substr(1);
    return response;
}

}  // namespace nebula::gateway

// Wire facts of the dialects' errors: statuses, words and shapes as their clients know them.
#include "http/dialects.hpp"

#include "base/text.hpp"

namespace nebula::http {
namespace {

void add_retry_after(Response& response, const Error& error) {
    if (error.retry_after_ms <= 0) return;
    response.headers.emplace_back("retry-after", std::to_string((error.retry_after_ms + 999) / 1000));
}

struct NovitaWord {
    int status;
    const char* reason;
};

NovitaWord novita_word(const Error& error) {
    switch (error.code) {
        case Code::invalid_request:
            if (error.param == "productCategory" || error.param == "category")
                return {400, "INVALID_PRODUCT_CATEGORY"};
            if (error.param == "cycleType") return {400, "INVALID_BILL_CYCLE"};
            return {400, "INVALID_REQUEST_BODY"};
        case Code::unauthenticated:
            return {403, "INVALID_API_KEY"};
        case Code::forbidden:
            return {403, "ACCESS_DENY"};
        case Code::not_found:
            return {404, error.param == "model" ? "MODEL_NOT_FOUND" : "API_NOT_FOUND"};
        case Code::method_not_allowed:
            return {405, "API_NOT_ALLOWED"};
        case Code::conflict:
            return {409, "CONFLICT"};
        case Code::payload_too_large:
            return {413, "INVALID_REQUEST_BODY"};
        case Code::headers_too_large:
            return {431, "INVALID_REQUEST_BODY"};
        case Code::payment_required:
            return {403, "NOT_ENOUGH_BALANCE"};
        case Code::rate_limited:
            return {429, error.param == "tokens" ? "TOKEN_LIMIT_EXCEEDED" : "RATE_LIMIT_EXCEEDED"};
        case Code::overloaded:
            return {503, "SERVICE_NOT_AVAILABLE"};
        case Code::upstream_failed:
            return {502, "SERVICE_NOT_AVAILABLE"};
        case Code::timeout:
            return {504, "SERVICE_NOT_AVAILABLE"};
        case Code::cancelled:
            return {499, "REQUEST"};
        case Code::internal:
            return {500, "UNKNOWN"};
    }
    return {500, "UNKNOWN"};
}

}  // namespace

Response platform_error(const Error& error, RequestId request) {
    Response response;
    response.status = status_of(error.code);
    std::string message = json_string(error.message);
    response.body = R"({"status":"error","error":{"code":)" + json_string(code_name(error.code)) +
                    R"(,"message":)" + message + R"(,"details":{)" +
                    (error.param.empty() ? "" : R"("param":)" + json_string(error.param) + ",") +
                    R"("request_id":)" + json_string(request.text()) + R"(}},"message":)" + message + "}";
    add_retry_after(response, error);
    return response;
}

Response novita_error(const Error& error, RequestId request) {
    NovitaWord word = novita_word(error);
    Response response;
    response.status = word.status;
    response.body = R"({"code":)" + std::to_string(word.status) + R"(,"reason":)" + json_string(word.reason) +
                    R"(,"message":)" + json_string(error.message) + R"(,"metadata":{"request_id":)" +
                    json_string(request.text()) +
                    (error.param.empty() ? "" : R"(,"param":)" + json_string(error.param)) + "}}";
    add_retry_after(response, error);
    return response;
}

Response credits_error(const Error& error, RequestId) {
    Response response;
    response.status = status_of(error.code);
    // Its clients know seven statuses.
    if (response.status == 403) response.status = 401;
    if (response.status > 500) response.status = 500;
    response.body = R"({"error":)" + json_string(error.message) + "}";
    add_retry_after(response, error);
    return response;
}

const char* openrouter_word(Code code) {
    switch (code) {
        case Code::invalid_request:
        case Code::method_not_allowed:
        case Code::headers_too_large:
            return "invalid_request";
        case Code::unauthenticated:
            return "authentication";
        case Code::forbidden:
            return "permission_denied";
        case Code::not_found:
            return "not_found";
        case Code::conflict:
            return "precondition_failed";
        case Code::payload_too_large:
            return "payload_too_large";
        case Code::payment_required:
            return "payment_required";
        case Code::rate_limited:
            return "rate_limit_exceeded";
        case Code::overloaded:
            return "provider_overloaded";
        case Code::upstream_failed:
            return "provider_unavailable";
        case Code::timeout:
            return "timeout";
        case Code::cancelled:
        case Code::internal:
            return "server";
    }
    return "server";
}

Response openrouter_error(const Error& error, RequestId request) {
    Response response;
    response.status = status_of(error.code);
    response.body = R"({"error":{"code":)" + std::to_string(response.status) + R"(,"message":)" +
                    json_string(error.message) + R"(,"metadata":{"error_type":)" +
                    json_string(openrouter_word(error.code)) + R"(,"request_id":)" +
                    json_string(request.text()) +
                    (error.param.empty() ? "" : R"(,"param":)" + json_string(error.param)) + "}}}";
    add_retry_after(response, error);
    return response;
}

}  // namespace nebula::http

#include "gateway/openrouter/errors.hpp"

#include "gateway/anthropic/anthropic.hpp"
#include "gateway/gateway.hpp"
#include "http/dialects.hpp"

namespace nebula::gateway::openrouter {
namespace {

std::string member(const Error& error) {
    return std::string(R"("error_type":")") + http::openrouter_word(error.code) + '"';
}

}  // namespace

http::Response messages_error(const Error& error, RequestId request) {
    constexpr std::string_view open = R"("error":{)";
    http::Response response = anthropic::error(error, request);
    response.body.insert(response.body.find(open) + open.size(), member(error) + ",");
    return response;
}

http::Response responses_error(const Error& error, RequestId request) {
    http::Response response = openai_error(error, request);
    response.body.insert(response.body.size() - 1, "," + member(error));
    return response;
}

}  // namespace nebula::gateway::openrouter

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "app/services.hpp"
#include "base/crypto.hpp"
#include "base/text.hpp"

namespace nebula::app {
namespace {

namespace json = boost::json;

constexpr std::size_t body_bytes_max = 1024 * 1024;

Async<void> answer_text(http::Exchange& exchange, int status, std::string body) {
    co_await exchange.respond(status, "text/plain; charset=utf-8", body);
}

}  // namespace

http::Response admin_error(const Error& error, RequestId) {
    http::Response response;
    response.status = http::status_of(error.code);
    response.body = R"({"error":{"code":)" + json_string(code_name(error.code)) + R"(,"message":)" +
                    json_string(error.message) + R"(,"param":)" +
                    (error.param.empty() ? "null" : json_string(error.param)) + "}}";
    return response;
}

void register_health(http::Router& router, std::function<bool()> is_ready) {
    const std::string open = accounts::Access::anyone().name();
    router.add(
        http::Method::get, "/healthz", admin_error,
        [](http::Exchange& exchange) { return answer_text(exchange, 200, "ok\n"); }, open);
    router.add(
        http::Method::get, "/readyz", admin_error,
        [is_ready](http::Exchange& exchange) {
            return is_ready() ? answer_text(exchange, 200, "ready\n")
                              : answer_text(exchange, 503, "not ready\n");
        },
        open);
}

void AdminApi::register_routes(http::Router& router) {
    router.set_dialect("/", admin_error);
    register_health(router, is_ready);
    router.add(http::Method::get, "/metrics", admin_error, [this](http::Exchange& exchange) {
        return answer_text(exchange, 200, metrics.prometheus_text());
    });
    router.add(http::Method::post, "/admin/v1/{operation}", admin_error,
               [this](http::Exchange& exchange) { return call_operation(exchange); });
}

Async<void> AdminApi::call_operation(http::Exchange& exchange) {
    // Loopback alone is no proof: any local program, or a browser, can reach the port.
    std::string expected = "Bearer " + token;
    auto given = exchange.head().header("authorization").value_or("");
    if (!constant_time_equal(given, expected)) {
        Error error{.code = Code::unauthenticated, .message = "the admin token is missing or wrong"};
        co_await exchange.respond_error(std::move(error));
        co_return;
    }
    auto body = co_await exchange.body(body_bytes_max);
    if (!body) {
        co_await exchange.respond_error(std::move(body.error()));
        co_return;
    }
    json::object arguments;
    if (!body->empty()) {
        boost::system::error_code failed;
        json::value value = json::parse(*body, failed);
        if (failed || !value.is_object()) {
            Error error{.code = Code::invalid_request, .message = "the body must be a JSON object"};
            co_await exchange.respond_error(std::move(error));
            co_return;
        }
        arguments = std::move(value.get_object());
    }
    std::string operation(exchange.path_param("operation"));
    if (operation == "config.reload") {
        json::array problems;
        for (const std::string& problem : reload()) problems.push_back(json::string(problem));
        std::string text = json::serialize(json::object{{"problems", std::move(problems)}});
        co_await exchange.respond(200, "application/json", text);
        co_return;
    }
    auto answer = co_await operations.call(std::move(operation), std::move(arguments));
    if (!answer) {
        co_await exchange.respond_error(std::move(answer.error()));
        co_return;
    }
    std::string text = json::serialize(*answer);
    co_await exchange.respond(200, "application/json", text);
}

}  // namespace nebula::app

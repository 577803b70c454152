// The credit API: POST /api/v1/chat. One credit a request, two with ?batch=1, whatever the tokens; answers
// say what was charged and what remains. Bodies and statuses are those of its documentation.
#include "gateway/chat.hpp"
#include "http/json_api.hpp"

namespace nebula::gateway {
namespace {

constexpr std::int64_t default_max_tokens = 150;

}  // namespace

Async<void> Chat::handle_credits(http::Exchange& exchange) {
    Call call(exchange);
    call.edge = Edge::credits;
    call.trail.api = "credits";
    Observed observed(observer_, call);
    call.deadline = services_.clock.ticks() + settings_.request_timeout;
    call.is_credit_batch = http::query(exchange.head()).get("batch") == std::string_view("1");
    call.prices.request = call.is_credit_batch ? credit_batch_price_ : credit_request_price_;
    auto in_limit = check_ip(exchange, ratelimit::Kind::credits_ip, services_.limits.credits_ip_rpm);
    if (!in_limit) {
        Error error = std::move(in_limit.error());
        error.message = "Rate limit exceeded: " + std::to_string(services_.limits.credits_ip_rpm) +
                        " requests per minute per IP address";
        co_await exchange.respond_error(std::move(error));
        co_return;
    }
    auto admitted = co_await admit(call);
    if (!admitted) {
        co_await refuse_credits(call, std::move(admitted.error()));
        co_return;
    }
    if (!call.request.asked_output()) call.output_cap = default_max_tokens;
    co_await follow(call);
}

Async<void> Chat::refuse_credits(Call& call, Error error) {
    call.trail.fail(error.code, http::status_of(error.code));
    if (error.code == Code::unauthenticated) {
        error.message = "Invalid API key";
    } else if (error.code == Code::invalid_request && (error.param == "model" || error.param == "messages")) {
        error.message = "Missing required fields: model and messages array";
    } else if (error.code == Code::not_found && error.param == "model") {
        error.message = "Model '" + call.request.model + "' not found";
    } else if (error.code == Code::payment_required && error.param != "account" && call.key) {
        auto balance = co_await services_.billing.balance(call.key->account);
        Nanos available = balance ? std::max(balance->available, Nanos{}) : Nanos{};
        std::string required = call.prices.request.short_text();
        std::string left = available.short_text();
        http::Response response;
        response.status = 402;
        response.body = R"({"error":"Insufficient credits. Required: )" + required + ", Available: " + left +
                        R"(","credits_required":)" + required + R"(,"credits_available":)" + left + "}";
        co_await call.exchange.respond(std::move(response));
        co_return;
    }
    co_await call.exchange.respond_error(std::move(error));
}

// The provider's answer with three members more; it is a JSON object, so it ends with a brace.
std::string Chat::with_credits(const Call& call, std::string_view answer) {
    std::size_t end = answer.rfind('}');
    std::string told(answer.substr(0, end));
    told += R"(,"credits_charged":)" + call.settled.charge.short_text() + R"(,"credits_remaining":)" +
            call.settled.remaining.short_text() + R"(,"batch_request":)" +
            (call.is_credit_batch ? "true" : "false") + "}";
    return told;
}

}  // namespace nebula::gateway

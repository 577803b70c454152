#include "gateway/gateway.hpp"

#include "base/text.hpp"
#include "gateway/anthropic/anthropic.hpp"
#include "gateway/chat.hpp"
#include "http/dialects.hpp"

namespace nebula::gateway {
namespace {

std::string model_json(const catalog::Model& model) {
    return R"({"id":)" + json_string(model.id) + R"(,"object":"model","created":)" +
           std::to_string(model.created) + R"(,"owned_by":)" + json_string(model.owned_by) +
           R"(,"context_length":)" + std::to_string(model.context_length) + R"(,"max_output_tokens":)" +
           std::to_string(model.max_output_tokens) + "}";
}

}  // namespace

// Where the documented APIs keep OpenAI's endpoints.
struct Base {
    const char* path;
    http::Dialect dialect;
};
constexpr Base bases[] = {{"/v1", openai_error},
                          {"/openai/v1", novita_llm_error},
                          {"/openai", novita_llm_error},
                          {"/v3/openai", novita_llm_error},
                          {"/api/v1", http::openrouter_error}};

void GatewaySettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "governance",
         .help =
             "Keys, limits, holds and metering. Off turns the gateway into a plain proxy without any check: "
             "for trusted networks and measurements only."},
        governance);
    v.field({.name = "attempts_max",
             .help = "Routes tried for one request before it fails.",
             .min = 1,
             .max = 100},
            attempts_max);
    v.field({.name = "answer_bytes_max", .help = "Largest JSON answer of a provider, in bytes.", .min = 1024},
            answer_bytes_max);
    v.field({.name = "request_timeout_ms",
             .help = "Whole request, all attempts together, in milliseconds.",
             .min = 1},
            request_timeout);
    v.field(
        {.name = "credit_request_price",
         .help = "Credits that one request of the credit API (POST /api/v1/chat) costs, as decimal text."},
        credit_request_price);
    v.field({.name = "credit_batch_price",
             .help = "Credits that one batch request of the credit API (?batch=1) costs, as decimal text."},
            credit_batch_price);
}

struct Gateway::Impl {
    Impl(const GatewaySettings& settings, Services the_services)
        : services(the_services), chat(settings, the_services) {}

    Async<void> list_models(http::Exchange& exchange) {
        auto key = co_await chat.authenticate(exchange);
        if (!key) {
            co_await exchange.respond_error(std::move(key.error()));
            co_return;
        }
        std::string body = list_json();
        co_await exchange.respond(200, "application/json", body);
    }

    // An estimate: what counts in the end is what the model's server reports.
    Async<void> count_tokens(http::Exchange& exchange) {
        auto key = co_await chat.authenticate(exchange);
        if (!key) {
            co_await exchange.respond_error(std::move(key.error()));
            co_return;
        }
        auto body = co_await exchange.body(std::numeric_limits<std::size_t>::max());
        auto tokens = body ? anthropic::count_tokens(*body) : Result<std::int64_t>(fail(body.error()));
        if (!tokens) {
            co_await exchange.respond_error(std::move(tokens.error()));
            co_return;
        }
        std::string answer = R"({"input_tokens":)" + std::to_string(*tokens) + "}";
        co_await exchange.respond(200, "application/json", answer);
    }

    // The credit API's list is public: its text asks for no key.
    Async<void> list_public(http::Exchange& exchange) {
        std::string body = list_json();
        co_await exchange.respond(200, "application/json", body);
    }

    std::string list_json() const {
        auto snapshot = services.catalog.current();
        std::string body = R"({"object":"list","data":[)";
        for (const auto& model : snapshot->models) {
            if (body.back() == '}') body += ',';
            body += model_json(*model);
        }
        return body + "]}";
    }

    Async<void> get_model(http::Exchange& exchange) {
        auto key = co_await chat.authenticate(exchange);
        if (!key) {
            co_await exchange.respond_error(std::move(key.error()));
            co_return;
        }
        std::string id(exchange.path_param("id"));
        auto model = services.catalog.current()->find(id);
        if (!model) {
            Error error{.code = Code::not_found,
                        .message = "the model '" + id + "' does not exist",
                        .param = "model"};
            co_await exchange.respond_error(std::move(error));
            co_return;
        }
        std::string body = model_json(*model);
        co_await exchange.respond(200, "application/json", body);
    }

    Services services;
    Chat chat;
};

Gateway::Gateway(const GatewaySettings& settings, Services services)
    : impl_(std::make_unique<Impl>(settings, services)) {}
Gateway::~Gateway() = default;

void Gateway::register_routes(http::Router& router) {
    Impl* impl = impl_.get();
    router.set_dialect("/", openai_error);
    const std::string access = accounts::Access::key().name();
    const std::string open = accounts::Access::anyone().name();
    for (auto [base, dialect] : bases) {
        for (Endpoint endpoint : {Endpoint::chat, Endpoint::completions, Endpoint::embeddings,
                                  Endpoint::rerank, Endpoint::moderations})
            router.add(
                http::Method::post, std::string(base) + info(endpoint).path, dialect,
                [impl, endpoint](http::Exchange& exchange) { return impl->chat.handle(exchange, endpoint); },
                access);
    }
    router.add(
        http::Method::get, "/v1/models", openai_error,
        [impl](http::Exchange& exchange) { return impl->list_models(exchange); }, access);
    router.add(
        http::Method::get, "/v1/models/{id*}", openai_error,
        [impl](http::Exchange& exchange) { return impl->get_model(exchange); }, access);
    for (const char* base : {"/v1/messages", "/anthropic/v1/messages"}) {
        router.add(
            http::Method::post, base, anthropic::error,
            [impl](http::Exchange& exchange) {
                return impl->chat.handle_client(exchange, anthropic::make_edge(exchange.id()));
            },
            access);
        router.add(
            http::Method::post, std::string(base) + "/count_tokens", anthropic::error,
            [impl](http::Exchange& exchange) { return impl->count_tokens(exchange); }, access);
    }
    router.add(
        http::Method::post, "/api/v1/chat", http::credits_error,
        [impl](http::Exchange& exchange) { return impl->chat.handle_credits(exchange); }, access);
    router.add(
        http::Method::get, "/api/models", http::credits_error,
        [impl](http::Exchange& exchange) { return impl->list_public(exchange); }, open);
}

}  // namespace nebula::gateway

#include "gateway/gateway.hpp"

#include "base/text.hpp"
#include "gateway/anthropic/anthropic.hpp"
#include "gateway/chat.hpp"
#include "gateway/media/images_edge.hpp"
#include "gateway/media/media_lists.hpp"
#include "gateway/model_lists.hpp"
#include "gateway/ollama/api.hpp"
#include "gateway/openrouter/errors.hpp"
#include "gateway/openrouter_lists.hpp"
#include "gateway/platform/text_edge.hpp"
#include "gateway/responses/responses.hpp"
#include "gateway/responses/stored_api.hpp"
#include "gateway/routing/prober.hpp"
#include "http/dialects.hpp"

namespace nebula::gateway {
namespace {

// Where the documented APIs keep OpenAI's endpoints.
struct Base {
    const char* path;
    http::Dialect dialect;
};
std::string embedding_models(const catalog::Snapshot& snapshot) {
    return openrouter_models(media::only(snapshot, {"embeddings"}));
}
std::string image_models(const catalog::Snapshot& snapshot) {
    return openrouter_models(media::only(snapshot, {"images", "image_edits", "image_variations"}));
}
constexpr Base bases[] = {{"/v1", openai_error},
                          {"/openai/v1", novita_llm_error},
                          {"/openai", novita_llm_error},
                          {"/v3/openai", novita_llm_error},
                          {"/api/v1", http::openrouter_error}};

}  // namespace

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
    v.field({.name = "upload_bytes_max",
             .help = "Largest upload of sound or images, in bytes; at most http.body_bytes_max counts.",
             .min = 1024},
            upload_bytes_max);
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
    v.field(
        {.name = "byok_fee_percent",
         .help = "Percent of the list price that is charged when the customer's own provider key was used.",
         .max = 100 * Nanos::per_credit},
        byok_fee_percent);
}

std::vector<std::string> check_guardrails(const GatewaySettings& settings) {
    metrics::Registry unused;
    std::vector<std::string> problems;
    guardrails::Rails rails(settings.guardrails, unused, problems);
    return problems;
}

struct Gateway::Impl {
    Impl(const GatewaySettings& settings, Services the_services)
        : services(the_services),
          chat(settings, the_services),
          prober(services.catalog, chat.upstreams(), services.client, services.clock, services.metrics) {}

    using List = std::string (*)(const catalog::Snapshot& snapshot);
    using Describe = std::string (*)(const catalog::Model& model);

    Async<void> list_models(http::Exchange& exchange, List list) {
        auto key = co_await chat.authenticate(exchange);
        if (!key) {
            co_await exchange.respond_error(std::move(key.error()));
            co_return;
        }
        // Anthropic's clients name a version with every request, and read a list of another shape.
        bool is_plain = list == openai_models || list == novita_models;
        bool is_anthropic = is_plain && exchange.head().header("anthropic-version").has_value();
        auto models = seen_by(key->get(), services.catalog.current());
        std::string body = (is_anthropic ? anthropic_models : list)(*models);
        co_await exchange.respond(200, "application/json", body);
    }

    // Prices are public; so are the lists that are documented without a key. With one, they are that key's.
    Async<void> list_public(http::Exchange& exchange, List list) {
        auto key = co_await chat.authenticate_if_sent(exchange);
        if (!key) {
            co_await exchange.respond_error(std::move(key.error()));
            co_return;
        }
        std::string body = list(*seen_by(key->get(), services.catalog.current()));
        co_await exchange.respond(200, "application/json", body);
    }

    Async<void> list_openrouter(http::Exchange& exchange) {
        auto key = co_await chat.authenticate_if_sent(exchange);
        if (!key) {
            co_await exchange.respond_error(std::move(key.error()));
            co_return;
        }
        auto models = seen_by(key->get(), services.catalog.current());
        auto body = openrouter_models(*models, http::query(exchange.head()), chat.upstreams());
        if (body)
            co_await exchange.respond(200, "application/json", *body);
        else
            co_await exchange.respond_error(std::move(body.error()));
    }

    Async<void> get_openrouter(http::Exchange& exchange) {
        auto key = co_await chat.authenticate_if_sent(exchange);
        if (!key) {
            co_await exchange.respond_error(std::move(key.error()));
            co_return;
        }
        std::string id(exchange.path_param("id"));
        auto model = find_seen(key->get(), *services.catalog.current(), id);
        if (!model) {
            Error error = no_model(id);
            co_await exchange.respond_error(std::move(error));
            co_return;
        }
        std::string body = openrouter_one(*model);
        co_await exchange.respond(200, "application/json", body);
    }

    // Who serves a model, with "/endpoints" behind its name; without it, the model.
    Async<void> list_endpoints(http::Exchange& exchange) {
        auto key = co_await chat.authenticate(exchange);
        if (!key) {
            co_await exchange.respond_error(std::move(key.error()));
            co_return;
        }
        std::string id(exchange.path_param("id"));
        constexpr std::string_view mark = "/endpoints";
        bool is_endpoints = id.ends_with(mark);
        if (is_endpoints) id.resize(id.size() - mark.size());
        auto model = find_seen(key->get(), *services.catalog.current(), id);
        if (!model) {
            Error error = no_model(id);
            co_await exchange.respond_error(std::move(error));
            co_return;
        }
        std::string body = is_endpoints
                               ? openrouter_endpoints(*model, chat.upstreams(), services.clock.ticks())
                               : openrouter_one(*model);
        co_await exchange.respond(200, "application/json", body);
    }

    Async<void> get_model(http::Exchange& exchange, Describe describe = openai_model) {
        auto key = co_await chat.authenticate(exchange);
        if (!key) {
            co_await exchange.respond_error(std::move(key.error()));
            co_return;
        }
        std::string id(exchange.path_param("id"));
        auto model = find_seen(key->get(), *services.catalog.current(), id);
        if (!model) {
            Error error = no_model(id);
            co_await exchange.respond_error(std::move(error));
            co_return;
        }
        bool is_anthropic = exchange.head().header("anthropic-version").has_value();
        std::string body = (is_anthropic ? anthropic_model : describe)(*model);
        co_await exchange.respond(200, "application/json", body);
    }

    static Error no_model(const std::string& id) {
        return {
            .code = Code::not_found, .message = "the model '" + id + "' does not exist", .param = "model"};
    }

    void add(http::Router& router, http::Method method, std::string_view pattern, http::Dialect dialect,
             http::Handler handler) {
        router.add(method, pattern, dialect, std::move(handler), accounts::Access::key().name());
    }
    void add_open(http::Router& router, std::string_view pattern, http::Dialect dialect,
                  http::Handler handler) {
        router.add(http::Method::get, pattern, dialect, std::move(handler),
                   accounts::Access::anyone().name());
    }

    void register_lists(http::Router& router) {
        for (auto [base, dialect] : bases) {
            if (base == std::string_view("/api/v1")) continue;  // OpenRouter's has another shape
            bool is_novita = std::string_view(base).contains("openai");
            List list = is_novita ? novita_models : openai_models;
            Describe describe = is_novita ? novita_model : openai_model;
            add(router, http::Method::get, std::string(base) + "/models", dialect,
                [this, list](http::Exchange& exchange) { return list_models(exchange, list); });
            add(router, http::Method::get, std::string(base) + "/models/{id*}", dialect,
                [this, describe](http::Exchange& exchange) { return get_model(exchange, describe); });
        }
        add_open(router, "/api/v1/models", http::openrouter_error,
                 [this](http::Exchange& exchange) { return list_openrouter(exchange); });
        add_open(router, "/api/v1/models/count", http::openrouter_error,
                 [this](http::Exchange& exchange) { return list_public(exchange, openrouter_count); });
        add_open(router, "/api/v1/model/{id*}", http::openrouter_error,
                 [this](http::Exchange& exchange) { return get_openrouter(exchange); });
        // Who serves is for customers only.
        add(router, http::Method::get, "/api/v1/models/{id*}", http::openrouter_error,
            [this](http::Exchange& exchange) { return list_endpoints(exchange); });
        add(router, http::Method::get, "/api/v1/providers", http::openrouter_error,
            [this](http::Exchange& exchange) { return list_models(exchange, openrouter_providers); });
        add_open(router, "/api/v1/serverless/models", http::platform_error,
                 [this](http::Exchange& exchange) { return list_public(exchange, platform_models); });
        add_open(router, "/api/models", http::credits_error,
                 [this](http::Exchange& exchange) { return list_public(exchange, openai_models); });
    }

    Async<void> list_media(http::Exchange& exchange) {
        auto key = co_await chat.authenticate(exchange);
        if (!key) {
            co_await exchange.respond_error(std::move(key.error()));
            co_return;
        }
        auto models = seen_by(key->get(), services.catalog.current());
        auto body = media::novita_models(*models, http::query(exchange.head()));
        if (!body) {
            co_await exchange.respond_error(std::move(body.error()));
            co_return;
        }
        co_await exchange.respond(200, "application/json", *body);
    }

    // Images in other words than OpenAI's, and the platform's first API.
    void register_media(http::Router& router) {
        struct Images {
            const char* path;
            http::Dialect dialect;
            media::ImageApi api;
        };
        for (auto [path, dialect, api] :
             {Images{"/api/v1/images/generation", http::platform_error, media::ImageApi::platform},
              Images{"/api/v1/images", http::openrouter_error, media::ImageApi::openrouter},
              Images{"/v1/images/generate", http::platform_error, media::ImageApi::old_text},
              Images{"/api/v1/images/generate", http::platform_error, media::ImageApi::old_text}})
            add(router, http::Method::post, path, dialect, [this, api](http::Exchange& exchange) {
                return chat.handle_client(exchange, media::make_images_edge(api, services.clock),
                                          Endpoint::images);
            });
        for (const char* base : {"/v1", "/api/v1"})
            for (auto [path, kind] : {std::pair{"/text/generate", platform::TextKind::text},
                                      {"/vision/generate", platform::TextKind::vision}})
                add(router, http::Method::post, std::string(base) + path, http::platform_error,
                    [this, kind](http::Exchange& exchange) {
                        return chat.handle_client(exchange, platform::make_text_edge(kind));
                    });
        add_open(router, "/api/v1/embeddings/models", http::openrouter_error,
                 [this](http::Exchange& exchange) { return list_public(exchange, embedding_models); });
        add_open(router, "/api/v1/images/models", http::openrouter_error,
                 [this](http::Exchange& exchange) { return list_public(exchange, image_models); });
        add(router, http::Method::get, "/v3/model", http::novita_error,
            [this](http::Exchange& exchange) { return list_media(exchange); });
    }

    Async<void> respond(http::Exchange& exchange) {
        bool may_be_native = services.catalog.current()->has_responses;
        return chat.handle_client(
            exchange, responses::make_edge(exchange.id(), services.clock, services.responses, may_be_native));
    }

    void register_responses(http::Router& router) {
        for (auto [base, dialect] : {Base{"/v1", openai_error}, Base{"/openai/v1", novita_llm_error}}) {
            stored.register_routes(router, base, dialect);
            add(router, http::Method::post, std::string(base) + "/responses", dialect,
                [this](http::Exchange& exchange) { return respond(exchange); });
        }
        add(router, http::Method::post, "/api/v1/responses", openrouter::responses_error,
            [this](http::Exchange& exchange) {
                exchange.add_header("x-generation-id", exchange.id().text());
                return respond(exchange);
            });
    }

    void register_anthropic(http::Router& router) {
        for (const char* base : {"/v1/messages", "/anthropic/v1/messages"}) {
            add(router, http::Method::post, base, anthropic::error, [this](http::Exchange& exchange) {
                return chat.handle_client(exchange, anthropic::make_edge(exchange.id()));
            });
            add(router, http::Method::post, std::string(base) + "/count_tokens", anthropic::error,
                [this](http::Exchange& exchange) { return chat.count_tokens(exchange); });
        }
        add(router, http::Method::post, "/api/v1/messages", openrouter::messages_error,
            [this](http::Exchange& exchange) {
                exchange.add_header("x-generation-id", exchange.id().text());
                return chat.handle_client(exchange, anthropic::make_edge(exchange.id()));
            });
        add(router, http::Method::get, "/anthropic/v1/models", anthropic::error,
            [this](http::Exchange& exchange) { return list_models(exchange, anthropic_models); });
        add(router, http::Method::get, "/anthropic/v1/models/{id*}", anthropic::error,
            [this](http::Exchange& exchange) { return get_model(exchange); });
    }

    Services services;
    Chat chat;
    ollama::Api ollama{chat, services};
    responses::StoredApi stored{chat, services};
    routing::Prober prober;
};

Gateway::Gateway(const GatewaySettings& settings, Services services)
    : impl_(std::make_unique<Impl>(settings, services)) {}
Gateway::~Gateway() = default;

void Gateway::start(IoThread& thread) { impl_->prober.start(thread); }
void Gateway::stop() { impl_->prober.stop(); }

void Gateway::register_routes(http::Router& router) {
    Impl* impl = impl_.get();
    router.set_dialect("/", openai_error);
    for (auto [base, dialect] : bases) {
        for (std::size_t i = 0; i < endpoint_count; ++i) {
            auto endpoint = static_cast<Endpoint>(i);
            bool is_openrouter = base == std::string_view("/api/v1") && !info(endpoint).is_media;
            impl->add(router, http::Method::post, std::string(base) + info(endpoint).path, dialect,
                      [impl, endpoint, is_openrouter](http::Exchange& exchange) {
                          return impl->chat.handle(exchange, endpoint, is_openrouter);
                      });
        }
    }
    impl->register_lists(router);
    impl->register_media(router);
    impl->register_responses(router);
    impl->register_anthropic(router);
    impl->ollama.register_routes(router);
    impl->add(router, http::Method::post, "/api/v1/chat", http::credits_error,
              [impl](http::Exchange& exchange) { return impl->chat.handle_credits(exchange); });
}

}  // namespace nebula::gateway

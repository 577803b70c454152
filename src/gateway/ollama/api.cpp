#include "gateway/ollama/api.hpp"

#include "accounts/caller.hpp"
#include "base/text.hpp"
#include "gateway/model_lists.hpp"
#include "http/json_api.hpp"

namespace nebula::gateway::ollama {
namespace {

constexpr std::string_view banner = "Ollama is running";
constexpr std::string_view json_type = "application/json; charset=utf-8";
// Clients that load a model say no more than its name and how long to keep it.
constexpr std::uint64_t load_bytes_max = 1024;

// Clients ask which features they may use: those of this version of Ollama's API.
constexpr std::string_view version = R"({"version":"0.33.0+nebula.)" NEBULA_VERSION R"("})";

Error no_model(const std::string& id) {
    return {.code = Code::not_found, .message = "model '" + id + "' not found", .param = "model"};
}

Async<void> answer_root(http::Exchange& exchange) {
    if (!expects_banner(exchange.head())) {
        Error error{.code = Code::not_found, .message = "there is no page here"};
        co_await exchange.respond_error(std::move(error));
        co_return;
    }
    co_await exchange.respond(200, "text/plain; charset=utf-8", banner);
}

Async<void> answer_version(http::Exchange& exchange) { co_await exchange.respond(200, json_type, version); }

Async<void> answer_no_blob(http::Exchange& exchange) {
    Error error{.code = Code::not_found, .message = "blob not found"};
    co_await exchange.respond_error(std::move(error));
}

}  // namespace

bool expects_banner(const http::RequestHead& head) {
    auto accept = head.header("accept");
    return !accept || to_lower(*accept).find("text/html") == std::string::npos;
}

Async<void> Api::ask(http::Exchange& exchange, Kind kind) {
    bool is_answered = co_await answer_load(exchange, kind);
    if (is_answered) co_return;
    bool is_chat = kind == Kind::chat || kind == Kind::generate;
    co_await chat_.handle_client(exchange, make_edge(kind, services_.clock),
                                 is_chat ? Endpoint::chat : Endpoint::embeddings);
}

Async<bool> Api::answer_load(http::Exchange& exchange, Kind kind) {
    bool may_load = kind == Kind::chat || kind == Kind::generate;
    if (!may_load || exchange.head().content_length.value_or(load_bytes_max + 1) > load_bytes_max)
        co_return false;
    auto body = co_await exchange.body(load_bytes_max);
    if (!body) co_return false;  // reading it again tells why
    auto load = read_load(*body, kind);
    if (!load) co_return false;
    auto key = co_await chat_.authenticate(exchange);
    if (!key) {
        co_await exchange.respond_error(std::move(key.error()));
        co_return true;
    }
    if (!find_seen(key->get(), *services_.catalog.current(), load->model)) {
        Error error = no_model(load->model);
        co_await exchange.respond_error(std::move(error));
        co_return true;
    }
    std::string answer = loaded(*load, kind, services_.clock);
    co_await exchange.respond(200, json_type, answer);
    co_return true;
}

Async<void> Api::list(http::Exchange& exchange, List list) {
    auto key = co_await chat_.authenticate(exchange);
    if (!key) {
        co_await exchange.respond_error(std::move(key.error()));
        co_return;
    }
    std::string body = list(*seen_by(key->get(), services_.catalog.current()));
    co_await exchange.respond(200, json_type, body);
}

Async<void> Api::show(http::Exchange& exchange) {
    auto key = co_await chat_.authenticate(exchange);
    if (!key) {
        co_await exchange.respond_error(std::move(key.error()));
        co_return;
    }
    auto fields = co_await http::read_fields(exchange);
    if (!fields) {
        co_await exchange.respond_error(std::move(fields.error()));
        co_return;
    }
    std::string id = fields->text_or("model", fields->text_or("name", ""));
    auto model = find_seen(key->get(), *services_.catalog.current(), id);
    if (!model) {
        Error error = no_model(id);
        co_await exchange.respond_error(std::move(error));
        co_return;
    }
    std::string body = ollama_show(*model);
    co_await exchange.respond(200, json_type, body);
}

Async<void> Api::refuse(http::Exchange& exchange) {
    auto key = co_await chat_.authenticate(exchange);
    if (!key) {
        co_await exchange.respond_error(std::move(key.error()));
        co_return;
    }
    Error error{
        .code = Code::forbidden,
        .message = "the models of this server are its operator's: " + std::string(exchange.head().path) +
                   " is not available; /api/tags lists what can be used"};
    co_await exchange.respond_error(std::move(error));
}

void Api::register_routes(http::Router& router) {
    using http::Method;
    const std::string with_key = accounts::Access::key().name(), open = accounts::Access::anyone().name();
    struct Asking {
        const char* path;
        Kind kind;
    };
    for (Asking one : {Asking{"/api/chat", Kind::chat}, Asking{"/api/generate", Kind::generate},
                       Asking{"/api/embed", Kind::embed}, Asking{"/api/embeddings", Kind::embeddings}})
        router.add(
            Method::post, one.path, error,
            [this, kind = one.kind](http::Exchange& exchange) { return ask(exchange, kind); }, with_key);
    router.add(
        Method::get, "/api/tags", error,
        [this](http::Exchange& exchange) { return list(exchange, ollama_tags); }, with_key);
    router.add(
        Method::get, "/api/ps", error, [this](http::Exchange& exchange) { return list(exchange, ollama_ps); },
        with_key);
    router.add(
        Method::post, "/api/show", error, [this](http::Exchange& exchange) { return show(exchange); },
        with_key);
    auto refusal = [this](http::Exchange& exchange) { return refuse(exchange); };
    for (const char* path : {"/api/pull", "/api/push", "/api/create", "/api/copy", "/api/blobs/{digest}"})
        router.add(Method::post, path, error, refusal, with_key);
    router.add(Method::del, "/api/delete", error, refusal, with_key);
    router.add(Method::head, "/api/blobs/{digest}", error, answer_no_blob, open);
    for (Method method : {Method::get, Method::head}) {
        router.add(method, "/api/version", error, answer_version, open);
        router.add(method, "/", openai_error, answer_root, open);
    }
}

}  // namespace nebula::gateway::ollama

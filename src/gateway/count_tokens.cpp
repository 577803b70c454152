// Anthropic's count_tokens: exact where a provider of its API or one of our runners serves the model or its
// vocabulary is known, else an estimate.
#include <limits>

#include "gateway/anthropic/anthropic.hpp"
#include "gateway/chat.hpp"
#include "gateway/token_count.hpp"

namespace nebula::gateway {
namespace {

constexpr std::size_t count_bytes_max = 64 * 1024;

std::string target_of(const catalog::Provider& provider) {
    return provider.path + "/v1/messages/count_tokens";
}

}  // namespace

Async<void> Chat::count_tokens(http::Exchange& exchange) {
    Call call(exchange);
    call.deadline = services_.clock.ticks() + settings_.request_timeout;
    auto admitted = co_await admit_count(call);
    if (!admitted) {
        co_await exchange.respond_error(std::move(admitted.error()));
        co_return;
    }
    for (const catalog::Route& route : call.model->routes) {
        if (call.guard) break;  // nobody outside may see what its rails have not seen
        if (provider_of(route.provider->kind).wire() != Wire::anthropic) continue;
        bool is_answered = co_await count_at(call, route);
        if (is_answered) co_return;
    }
    auto prompt = anthropic::to_countable_request(call.body);
    if (!prompt) {
        co_await exchange.respond_error(std::move(prompt.error()));
        co_return;
    }
    TokenCount count = co_await count_prompt(services_, counting_, call.key.get(), std::move(*prompt));
    exchange.add_header("x-nebula-tokenizer", count.method);
    std::string answer = R"({"input_tokens":)" + std::to_string(count.tokens) + "}";
    co_await exchange.respond(200, "application/json", answer);
}

// Free of charge, but a request: it counts against their limits, and against no tokens.
Async<Result<void>> Chat::admit_count(Call& call) {
    auto key = co_await authenticate(call.exchange);
    if (!key) co_return fail(std::move(key.error()));
    call.key = std::move(*key);
    auto body = co_await call.exchange.body(std::numeric_limits<std::size_t>::max());
    if (!body) co_return fail(std::move(body.error()));
    call.body = *body;
    auto request = parse_request(call.body, Endpoint::chat);
    if (!request) co_return fail(std::move(request.error()));
    call.native = std::make_unique<ChatRequest>(std::move(*request));
    call.model = services_.catalog.current()->find(call.native->model);
    if (!call.model)
        co_return fail(Code::not_found,
                       "the model '" + call.native->model + "' does not exist or is not available", "model");
    if (!call.key) co_return Result<void>();
    call.terms = services_.billing.terms(call.key->account);
    if (!call.terms) {
        auto loaded = co_await services_.billing.load_terms(call.key->account);
        if (!loaded) co_return fail(std::move(loaded.error()));
        call.terms = std::move(*loaded);
    }
    Result<void> admitted = check_rights(call, *call.model);
    if (admitted && !rails_.empty()) find_rails(call);
    if (admitted) admitted = co_await take_rate(call);
    if (admitted) correct_rate(call, 0);
    co_return admitted;
}

// False when the provider did not say: the next one may, or the estimate has to do.
Async<bool> Chat::count_at(Call& call, const catalog::Route& route) {
    const catalog::Provider& provider = *route.provider;
    Upstream& state = upstreams_.of(provider);
    Attempted attempted(state, services_.clock.ticks());
    if (!attempted) co_return false;
    Slot slot(state, provider.concurrency_max);
    if (!slot) co_return false;

    EditedBody edited =
        edit_chat_request(call.body, *call.native, Edits{.upstream_model = route.upstream_model});
    http::ClientRequest request;
    request.method = http::Method::post;
    request.path = target_of(provider);
    request.headers = "content-type: application/json\r\naccept: application/json\r\n";
    provider_of(provider.kind).add_headers(provider, provider.api_key, request.headers);
    if (auto beta = call.exchange.head().header("anthropic-beta"))
        request.headers.append("anthropic-beta: ").append(*beta).append("\r\n");
    request.body_pieces = edited.pieces;
    request.timeouts = provider.timeouts;
    auto response = co_await services_.client.send(provider.origin, std::move(request), &call.cancel);
    if (!response) {
        state.failed(provider, services_.clock.ticks(), "connect");
        co_return false;
    }
    int status = (*response)->status();
    state.answered();
    if (status != 200 && status != 400 && status != 413) co_return false;
    auto body = co_await (*response)->read_all(count_bytes_max);
    if (!body) co_return false;
    if (status == 200) call.exchange.add_header("x-nebula-tokenizer", "provider");
    co_await call.exchange.respond(status, "application/json", *body);
    co_return true;
}

}  // namespace nebula::gateway

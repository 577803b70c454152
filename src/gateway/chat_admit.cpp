// Steps 2 to 5 of a request: key, body, rate, hold.
#include <algorithm>

#include "base/text.hpp"
#include "gateway/chat.hpp"

namespace nebula::gateway {
namespace {

// Tokens that a chat template may add around the client's text.
constexpr std::int64_t template_tokens = 256;
// No tokenizer in use packs more of a JSON prompt than this many bytes into one token on average; the bound
// below which a balance surely does not pay for the prompt.
constexpr std::int64_t bytes_per_token_max = 12;

std::string_view bearer_token(const http::RequestHead& head) {
    if (auto value = head.header("authorization")) {
        if (value->size() > 7 && equals_ignore_case(value->substr(0, 7), "bearer "))
            return trim(value->substr(7));
        return {};
    }
    return head.header("x-api-key").value_or(std::string_view());
}

std::string duration_text(std::int64_t ms) {
    if (ms < 1'000) return std::to_string(ms) + "ms";
    std::int64_t seconds = (ms + 999) / 1'000;
    if (seconds < 60) return std::to_string(seconds) + "s";
    return std::to_string(seconds / 60) + "m" + std::to_string(seconds % 60) + "s";
}

void add_rate_headers(http::Exchange& exchange, const ratelimit::Standing& standing) {
    auto add = [&exchange](std::string_view name, const std::string& value) {
        exchange.add_header(name, value);
    };
    if (standing.limit_requests >= 0) {
        add("x-ratelimit-limit-requests", std::to_string(standing.limit_requests));
        add("x-ratelimit-remaining-requests", std::to_string(standing.remaining_requests));
        add("x-ratelimit-reset-requests", duration_text(standing.reset_requests_ms));
    }
    if (standing.limit_tokens >= 0) {
        add("x-ratelimit-limit-tokens", std::to_string(standing.limit_tokens));
        add("x-ratelimit-remaining-tokens", std::to_string(standing.remaining_tokens));
        add("x-ratelimit-reset-tokens", duration_text(standing.reset_tokens_ms));
    }
}

Error rate_error(const ratelimit::Standing& standing) {
    std::string unit = standing.tokens ? "tokens" : "requests";
    return {.code = Code::rate_limited,
            .message = "rate limit reached for this " + std::string(standing.scope) + " on " + unit +
                       " per minute; " +
                       (standing.retry_after_ms > 0 ? "try again in " + duration_text(standing.retry_after_ms)
                                                    : "this request alone exceeds it"),
            .param = unit,
            .retry_after_ms = static_cast<int>(std::min<std::int64_t>(standing.retry_after_ms, 3'600'000))};
}

// The smaller of two limits where 0 means none.
std::int64_t tighter(std::int64_t a, std::int64_t b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

}  // namespace

Result<void> Chat::check_ip(http::Exchange& exchange) {
    if (services_.limits.ip_rpm == 0) return {};
    ratelimit::Check check{{ratelimit::Kind::ip, ratelimit::hash_ip(exchange.remote_ip())},
                           {services_.limits.ip_rpm, 0}};
    auto standing = services_.limiter.take(&check, 1, 0);
    if (standing.admitted) return {};
    rate_limited_.add();
    return fail(rate_error(standing));
}

Async<Result<std::shared_ptr<const accounts::Key>>> Chat::authenticate(http::Exchange& exchange) {
    if (!settings_.governance) co_return std::shared_ptr<const accounts::Key>();
    if (auto ok = check_ip(exchange); !ok) co_return fail(std::move(ok.error()));
    std::string_view token = bearer_token(exchange.head());
    if (!token.empty()) {
        if (auto known = services_.accounts.find_cached(sha256(token))) co_return known;
    }
    auto key = co_await services_.accounts.authenticate(std::string(token));
    if (!key && key.error().code == Code::unauthenticated) unauthenticated_.add();
    co_return key;
}

Async<Result<void>> Chat::admit(Call& call) {
    auto key = co_await authenticate(call.exchange);
    if (!key) co_return fail(std::move(key.error()));
    call.key = std::move(*key);

    auto body = co_await call.exchange.body(std::numeric_limits<std::size_t>::max());
    if (!body) co_return fail(std::move(body.error()));
    call.body = *body;
    auto request = parse_chat_request(call.body);
    if (!request) co_return fail(std::move(request.error()));
    call.request = std::move(*request);

    call.model = services_.catalog.current()->find(call.request.model);
    if (!call.model) {
        co_return fail(Code::not_found,
                       "the model '" + call.request.model + "' does not exist or is not available", "model");
    }
    if (!call.model->serves_chat)
        co_return fail(Code::invalid_request, "the model '" + call.model->id + "' does not serve chat",
                       "model");
    call.metrics = &metrics_of(call.model->id);
    std::int64_t context = call.model->context_length;
    std::int64_t prompt_max = static_cast<std::int64_t>(call.request.prompt_bytes) + template_tokens;
    std::int64_t output_max = std::max(context, call.request.asked_output().value_or(0));
    call.bounds = {std::max(context, prompt_max), output_max * call.request.n};
    if (!call.key) co_return Result<void>();

    auto admitted = take_rate(call);
    if (admitted) admitted = co_await take_hold(call);
    if (!admitted) call.metrics->refused.add();
    co_return admitted;
}

Result<void> Chat::take_rate(Call& call) {
    const accounts::Key& key = *call.key;
    const ratelimit::LimitSettings& defaults = services_.limits;
    auto add = [&call](ratelimit::Kind kind, std::uint64_t id, std::int64_t rpm, std::int64_t tpm) {
        if (rpm == 0 && tpm == 0) return;
        call.checks[call.check_count++] = {{kind, id}, {rpm, tpm}};
    };
    add(ratelimit::Kind::key, key.id.value, tighter(key.limits.rpm, defaults.key_rpm),
        tighter(key.limits.tpm, defaults.key_tpm));
    add(ratelimit::Kind::account, key.account.value, defaults.account_rpm, defaults.account_tpm);
    add(ratelimit::Kind::model, ratelimit::hash_pair(key.account.value, call.model->id), call.model->rpm,
        call.model->tpm);
    if (call.check_count == 0) return {};

    // What the client asks for explicitly counts in advance; the rest is corrected when the usage is known.
    call.rate_tokens = call.likely_prompt() + call.request.asked_output().value_or(0) * call.request.n;
    call.rate_taken_at = services_.clock.ticks();
    auto standing = services_.limiter.take(call.checks, call.check_count, call.rate_tokens);
    add_rate_headers(call.exchange, standing);
    if (!standing.taken) call.check_count = 0;  // then there is nothing to correct
    if (standing.admitted) return {};
    rate_limited_.add();
    return fail(rate_error(standing));
}

void Chat::correct_rate(Call& call, std::int64_t used) {
    if (call.check_count == 0) return;
    services_.limiter.correct(call.checks, call.check_count, used - call.rate_tokens, call.rate_taken_at);
    call.rate_tokens = used;
}

Async<Result<void>> Chat::take_hold(Call& call) {
    const catalog::Model& model = *call.model;
    const ChatRequest& request = call.request;
    std::int64_t asked =
        std::min(request.asked_output().value_or(model.max_output_tokens), model.max_output_tokens);
    // Media parts cost tokens that their bytes do not tell: only the context bounds them.
    std::int64_t prompt_max =
        request.has_media ? model.context_length
                          : std::min(static_cast<std::int64_t>(request.prompt_bytes) + template_tokens,
                                     std::max(model.context_length, std::int64_t{1}));
    std::int64_t prompt_min =
        request.has_media ? 1
                          : std::max<std::int64_t>(
                                1, static_cast<std::int64_t>(request.prompt_bytes) / bytes_per_token_max);
    bool exact_cap = call.exchange.head().header("x-nebula-output-cap") == std::string_view("exact");

    billing::HoldRequest wanted;
    wanted.account = call.key->account;
    wanted.worst_case = billing::charge_of(model.prices, {prompt_max, 0, asked * request.n});
    wanted.least = exact_cap ? wanted.worst_case : billing::charge_of(model.prices, {prompt_min, 0, 1});
    auto fast = services_.billing.try_admit(wanted);
    if (fast) {
        call.hold = std::move(*fast);
        co_return Result<void>();
    }
    auto hold = co_await services_.billing.admit(wanted, call.deadline);
    if (!hold) {
        if (hold.error().code == Code::payment_required) unpaid_.add();
        co_return fail(std::move(hold.error()));
    }
    call.hold = std::move(*hold);
    if (call.hold.amount() >= wanted.worst_case || model.prices.output_per_m.value == 0)
        co_return Result<void>();
    // The balance pays for less than asked: lower the cap to what it pays for.
    billing::TokenUsage prompt{std::min(call.likely_prompt(), prompt_max), 0, 0};
    Nanos left = call.hold.amount() - std::min(call.hold.amount(), billing::charge_of(model.prices, prompt));
    auto tokens = static_cast<std::int64_t>(static_cast<__int128>(left.value) * 1'000'000 /
                                            model.prices.output_per_m.value / request.n);
    if (tokens < asked) call.output_cap = std::max<std::int64_t>(tokens, 1);
    co_return Result<void>();
}

}  // namespace nebula::gateway

// Steps 2 to 5 of a request: key, body, rate, hold.
#include <algorithm>
#include <utility>

#include "accounts/people.hpp"
#include "base/text.hpp"
#include "gateway/chat.hpp"
#include "gateway/media/form_request.hpp"
#include "gateway/media/json_upload.hpp"
#include "gateway/media/meter.hpp"
#include "http/json_api.hpp"

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

// Signed in, with a token of POST /api/v1/login or the console's cookie.
bool is_person(const http::RequestHead& head, std::string_view token) {
    if (!token.empty()) return accounts::People::looks_like_jwt(token);
    return http::cookie(head, accounts::session_cookie).has_value();
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
    if (standing.limit_images >= 0) {
        add("x-ratelimit-limit-images", std::to_string(standing.limit_images));
        add("x-ratelimit-remaining-images", std::to_string(standing.remaining_images));
    }
    if (standing.limit_day >= 0) {
        add("x-ratelimit-limit-requests-day", std::to_string(standing.limit_day));
        add("x-ratelimit-remaining-requests-day", std::to_string(standing.remaining_day));
        add("x-ratelimit-reset-requests-day", duration_text(standing.reset_day_ms));
    }
}

Error rate_error(const ratelimit::Standing& standing) {
    bool is_images = std::string_view(standing.unit) == "images";
    std::string unit = standing.tokens ? "tokens" : is_images ? "images" : "requests";
    bool is_daily = std::string_view(standing.unit) == "requests per day";
    return {.code = Code::rate_limited,
            .message = "rate limit reached for this " + std::string(standing.scope) + " on " +
                       (is_daily ? standing.unit : unit + " per minute") + "; " +
                       (standing.retry_after_ms > 0 ? "try again in " + duration_text(standing.retry_after_ms)
                                                    : "this request alone exceeds it"),
            .param = unit,
            .retry_after_ms = static_cast<int>(std::min<std::int64_t>(standing.retry_after_ms, 3'600'000))};
}

struct HoldBounds {
    std::int64_t asked;  // output tokens
    std::int64_t prompt_max;
};

// The smaller of two limits where 0 means none.
std::int64_t tighter(std::int64_t a, std::int64_t b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

// What the request may take of the model at most.
HoldBounds bounds_of(const Call& call, const catalog::Model& model) {
    const ChatRequest& request = call.request;
    std::int64_t asked =
        std::min(request.asked_output().value_or(model.max_output_tokens), model.max_output_tokens);
    // Media parts cost tokens that their bytes do not tell: only the context bounds them.
    std::int64_t prompt = request.has_media
                              ? model.context_length
                              : static_cast<std::int64_t>(request.prompt_bytes) + template_tokens;
    // One conversation fits the context; lists of inputs are bounded by their bytes alone.
    if (call.endpoint == Endpoint::chat && !request.has_media)
        prompt = std::min(prompt, std::max(model.context_length, std::int64_t{1}));
    prompt *= 1 + request.tool_calls_max;
    return {info(call.endpoint).has_output ? asked : 0, prompt};
}

// Of whichever model answers.
billing::TokenUsage media_worst_case(Call& call) {
    billing::TokenUsage worst = media::worst_case(call);
    auto first = call.model;
    for (const auto& model : call.models) {
        call.model = model;
        billing::TokenUsage other = media::worst_case(call);
        worst.input = std::max(worst.input, other.input);
        worst.output = std::max(worst.output, other.output);
        worst.units = std::max(worst.units, other.units);
    }
    call.model = std::move(first);
    return worst;
}

}  // namespace

Result<void> Chat::check_ip(http::Exchange& exchange, ratelimit::Kind kind, std::int64_t rpm) {
    if (rpm == 0) return {};
    ratelimit::Check check{{kind, ratelimit::hash_ip(exchange.remote_ip())}, {.rpm = rpm}};
    auto standing = services_.limiter.take(&check, 1, 0);
    if (standing.admitted) return {};
    rate_limited_.add();
    return fail(rate_error(standing));
}

Async<Result<std::shared_ptr<const accounts::Key>>> Chat::authenticate(http::Exchange& exchange) {
    if (!settings_.governance) co_return std::shared_ptr<const accounts::Key>();
    auto in_limit = check_ip(exchange, ratelimit::Kind::ip, services_.limits.ip_rpm);
    if (!in_limit) co_return fail(std::move(in_limit.error()));
    std::string_view token = bearer_token(exchange.head());
    if (!token.empty()) {
        if (auto known = services_.accounts.find_cached(sha256(token))) co_return known;
    }
    if (services_.guard != nullptr && is_person(exchange.head(), token)) {
        auto person = co_await authenticate_person(exchange);
        co_return person;
    }
    auto key = co_await services_.accounts.authenticate(std::string(token));
    if (!key && key.error().code == Code::unauthenticated) unauthenticated_.add();
    co_return key;
}

// Whoever guesses keys here meets the limit of addresses as everywhere.
Async<Result<std::shared_ptr<const accounts::Key>>> Chat::authenticate_if_sent(http::Exchange& exchange) {
    std::string_view token = bearer_token(exchange.head());
    if (token.empty() || is_person(exchange.head(), token)) co_return std::shared_ptr<const accounts::Key>();
    auto key = co_await authenticate(exchange);
    if (!key && key.error().code == Code::unauthenticated) co_return std::shared_ptr<const accounts::Key>();
    co_return key;
}

// Somebody signed in uses models as the account acted for, without a key of its own.
Async<Result<std::shared_ptr<const accounts::Key>>> Chat::authenticate_person(http::Exchange& exchange) {
    auto caller = co_await services_.guard->identify(exchange);
    if (!caller) {
        if (caller.error().code == Code::unauthenticated) unauthenticated_.add();
        co_return fail(std::move(caller.error()));
    }
    auto key = std::make_shared<accounts::Key>();
    key->account = caller->account;
    key->creator = caller->user;
    key->name = "session";
    key->permissions = caller->permissions.bits();
    co_return std::shared_ptr<const accounts::Key>(std::move(key));
}

Async<Result<void>> Chat::admit(Call& call) {
    auto key = co_await authenticate(call.exchange);
    if (!key) co_return fail(std::move(key.error()));
    call.key = std::move(*key);

    const EndpointInfo endpoint = info(call.endpoint);
    auto bytes_max = endpoint.is_form ? static_cast<std::size_t>(settings_.upload_bytes_max)
                                      : std::numeric_limits<std::size_t>::max();
    auto body = co_await call.exchange.body(bytes_max);
    if (!body) co_return fail(std::move(body.error()));
    call.body = *body;
    if (call.client) {
        if (call.key && call.client->is_stateful()) {
            auto ready = co_await call.client->prepare(call.body, call.key->account);
            if (!ready) co_return fail(std::move(ready.error()));
        }
        auto translated = translate(call);
        if (!translated) co_return fail(std::move(translated.error()));
    }
    if (!call.untranslatable) {
        auto request = endpoint.is_form ? parse_upload(call) : parse_request(call.body, call.endpoint);
        if (!request) co_return fail(std::move(request.error()));
        call.request = std::move(*request);
        // A provider of the client's own API reads also what the translation left out.
        if (call.native) {
            call.request.prompt_bytes = std::max(call.request.prompt_bytes, call.native->prompt_bytes);
            call.request.has_media = call.request.has_media || call.native->has_media;
        }
    }
    auto routing = read_routing(call);
    if (!routing) co_return fail(std::move(routing.error()));

    auto chosen = choose_models(call);
    if (!chosen) co_return fail(std::move(chosen.error()));
    if (!call.key) co_return Result<void>();

    call.terms = services_.billing.terms(call.key->account);
    if (!call.terms) {
        auto loaded = co_await services_.billing.load_terms(call.key->account);
        if (!loaded) co_return fail(std::move(loaded.error()));
        call.terms = std::move(*loaded);
    }
    auto admitted = co_await admit_paying(call);
    if (!admitted) {
        call.metrics->refused.add();
        co_return admitted;
    }
    if (call.key->id) services_.accounts.note_use(*call.key);
    co_return admitted;
}

// A form, or JSON that becomes one.
Result<ChatRequest> Chat::parse_upload(Call& call) {
    call.form_type = call.exchange.head().header("content-type").value_or(std::string_view());
    if (media::is_json(call.form_type) && !info(call.endpoint).is_image) {
        auto upload = media::form_of_json(call.body, call.exchange.id());
        if (!upload) return fail(std::move(upload.error()));
        call.translated = std::move(upload->form);
        call.form_type = std::move(upload->content_type);
        call.body = call.translated;
    }
    return media::parse_form_request(call.body, call.form_type, call.endpoint);
}

Async<Result<void>> Chat::admit_paying(Call& call) {
    Result<void> admitted = check_rights(call, *call.model);
    drop_forbidden(call);
    set_prices(call);
    if (info(call.endpoint).is_image) media::set_image_price(call);
    if (admitted && !rails_.empty()) find_rails(call);
    // Rails change what is asked, and they cost something: then the limits come first.
    if (admitted && !call.guard) admitted = look_up(call);
    if (admitted) admitted = co_await take_rate(call);
    if (admitted && call.guard) {
        admitted = co_await guard_request(call);
        if (admitted) admitted = look_up(call);
        if (!admitted || call.is_hit()) correct_rate(call, 0);
    }
    if (admitted && call.cache && !call.cache->hit) admitted = co_await share(call);
    if (admitted) admitted = call.is_hit() ? co_await hold_for_hit(call) : co_await take_hold(call);
    // An answer that the balance cut short is nobody else's.
    if (call.output_cap) call.cache.reset();
    co_return admitted;
}

Result<void> Chat::translate(Call& call) {
    call.client_body = call.body;
    auto translated = call.client->request(call.body);
    if (call.client->wire() != Wire::openai) {
        auto native = call.client->native(call.body);
        // Whatever the translation lacks, the model's own provider may know; it is only asked for what can be
        // metered.
        if (!native) return fail(std::move(translated ? native.error() : translated.error()));
        call.native = std::make_unique<ChatRequest>(std::move(*native));
        if (!translated) {
            call.untranslatable = std::move(translated.error());
            call.request = *call.native;
            return {};
        }
    }
    if (!translated) return fail(std::move(translated.error()));
    call.translated = std::move(*translated);
    call.translated.reserve(call.translated.size() + 64);  // the parser reads a little beyond the end
    call.body = call.translated;
    return {};
}

// What the key and the plan allow at all, before anything is counted.
Result<void> Chat::check_rights(const Call& call, const catalog::Model& model) const {
    const accounts::Key& key = *call.key;
    if (!accounts::Permissions(key.permissions).has(accounts::Permission::inference_write))
        return fail(Code::forbidden, "this API key may not call models: it lacks inference:write");
    if (!key.may_use_model(model.id))
        return fail(Code::forbidden, "this API key may not use the model '" + model.id + "'", "model");
    const billing::Terms& terms = *call.terms;
    bool is_entitled = !terms.restricts_models ||
                       std::ranges::find(terms.model_classes, model.model_class) != terms.model_classes.end();
    if (!is_entitled)
        return fail(Code::forbidden,
                    "the plan '" + terms.plan + "' does not include the model '" + model.id + "'", "model");
    return {};
}

ratelimit::Check Chat::model_check(const Call& call, const catalog::Model& model) {
    const billing::Terms& terms = *call.terms;
    return {{ratelimit::Kind::model, ratelimit::hash_pair(call.key->account.value, model.id)},
            {tighter(terms.model_rpm, model.rpm), tighter(terms.model_tpm, model.tpm), model.ipm, 0}};
}

std::size_t Chat::list_limits(Call& call) const {
    const accounts::RateLimits& own = call.key->limits;
    const billing::Terms& terms = *call.terms;
    const ratelimit::LimitSettings& defaults = services_.limits;
    std::size_t count = 0;
    auto add = [&](ratelimit::Kind kind, std::uint64_t id, ratelimit::Limits limits) {
        if ((limits.rpm | limits.tpm | limits.ipm | limits.rpd) == 0) return;
        call.checks[count++] = {{kind, id}, limits};
        call.has_model_check = kind == ratelimit::Kind::model;
    };
    if (call.key->id)
        add(ratelimit::Kind::key, call.key->id.value,
            {tighter(own.rpm, defaults.key_rpm), tighter(own.tpm, defaults.key_tpm), own.ipm, own.rpd});
    add(ratelimit::Kind::account, call.key->account.value,
        {tighter(terms.rpm, defaults.account_rpm), tighter(terms.tpm, defaults.account_tpm), terms.ipm,
         tighter(terms.rpd, defaults.account_rpd)});
    ratelimit::Check model = model_check(call, *call.model);
    add(ratelimit::Kind::model, model.subject.id, model.limits);
    return count;
}

Async<Result<void>> Chat::take_rate(Call& call) {
    call.check_count = list_limits(call);
    if (call.check_count == 0) co_return Result<void>();

    // What the client asks for explicitly counts in advance; the rest is corrected when the usage is known.
    call.rate_tokens =
        call.is_hit() ? 0 : call.likely_prompt() + call.request.asked_output().value_or(0) * call.request.n;
    ratelimit::Use use{.tokens = call.rate_tokens,
                       .images = info(call.endpoint).is_image ? call.request.n : 0};
    call.rate_taken_at = services_.clock.ticks();
    auto standing = services_.limiter.take(call.checks, call.check_count, use);
    for (int tries = 0; standing.needs_share && tries < 2; ++tries) {
        co_await services_.limiter.acquire(call.checks, call.check_count, use);
        call.rate_taken_at = services_.clock.ticks();
        standing = services_.limiter.take(call.checks, call.check_count, use);
    }
    add_rate_headers(call.exchange, standing);
    if (!standing.taken) call.check_count = 0;  // then there is nothing to correct
    if (standing.admitted) co_return Result<void>();
    rate_limited_.add();
    co_return fail(rate_error(standing));
}

void Chat::correct_rate(Call& call, std::int64_t used) {
    if (call.check_count == 0) return;
    services_.limiter.correct(call.checks, call.check_count, used - call.rate_tokens, call.rate_taken_at);
    call.rate_tokens = used;
}

Async<Result<void>> Chat::take_hold(Call& call) {
    const ChatRequest& request = call.request;
    bool has_output = info(call.endpoint).has_output;
    auto [asked, prompt_max] = bounds_of(call, *call.model);
    for (const auto& model : call.models) {  // whichever answers
        HoldBounds other = bounds_of(call, *model);
        asked = std::max(asked, other.asked);
        prompt_max = std::max(prompt_max, other.prompt_max);
    }
    std::int64_t prompt_min =
        request.has_media ? 1
                          : std::max<std::int64_t>(
                                1, static_cast<std::int64_t>(request.prompt_bytes) / bytes_per_token_max);
    bool exact_cap = call.exchange.head().header("x-nebula-output-cap") == std::string_view("exact");

    billing::HoldRequest wanted;
    wanted.account = call.key->account;
    wanted.most = {prompt_max, 0, asked * request.n};
    wanted.fewest = exact_cap ? wanted.most : billing::TokenUsage{prompt_min, 0, has_output ? 1 : 0};
    bool is_media = info(call.endpoint).is_media;
    if (is_media)
        wanted.most = wanted.fewest = media_worst_case(call);
    else
        wanted.most.units = wanted.fewest.units = media::units_asked(call);
    wanted.prices = billing::dearest(call.prices);
    wanted.worst_case = billing::charge_of(wanted.prices, wanted.most);
    wanted.least = exact_cap ? wanted.worst_case : billing::charge_of(wanted.prices, wanted.fewest);
    if (call.key->budget.is_any()) wanted.budget_of = call.key.get();
    wanted.uses_quota =
        call.edge == Edge::openai && (call.terms->quota_input > 0 || call.terms->quota_output > 0);
    if (is_media && wanted.most.input + wanted.most.output == 0) wanted.uses_quota = false;
    auto fast = services_.billing.try_admit(wanted);
    if (fast) {  // the worst case, whole
        call.hold = std::move(*fast);
        co_return Result<void>();
    }
    auto hold = co_await services_.billing.admit(wanted, call.deadline);
    if (!hold) {
        if (hold.error().code == Code::payment_required) unpaid_.add();
        co_return fail(std::move(hold.error()));
    }
    call.hold = std::move(*hold);
    if (!exact_cap && has_output) lower_cap(call, asked, prompt_max);
    co_return Result<void>();
}

// Where quota, budget or balance pay for less than asked: the cap becomes what they pay for.
void Chat::lower_cap(Call& call, std::int64_t asked, std::int64_t prompt_max) const {
    const billing::Hold& hold = call.hold;
    const billing::Prices prices = billing::dearest(call.prices);
    std::int64_t n = call.request.n;
    std::int64_t covered_prompt = hold.quota_input();
    std::int64_t covered_output = hold.quota_output();
    billing::TokenUsage uncovered{std::max<std::int64_t>(0, prompt_max - covered_prompt), 0,
                                  std::max<std::int64_t>(0, asked * n - covered_output)};
    if (hold.spendable() >= billing::charge_of(prices, uncovered)) return;
    if (prices.output_per_m.value == 0) return;
    billing::TokenUsage prompt{
        std::max<std::int64_t>(0, std::min(call.likely_prompt(), prompt_max) - covered_prompt), 0, 0};
    Nanos left = hold.spendable() - std::min(hold.spendable(), billing::charge_of(prices, prompt));
    auto paid =
        static_cast<std::int64_t>(static_cast<__int128>(left.value) * 1'000'000 / prices.output_per_m.value);
    std::int64_t tokens = (covered_output + paid) / n;
    if (tokens < asked) call.output_cap = std::max<std::int64_t>(tokens, 1);
}

}  // namespace nebula::gateway

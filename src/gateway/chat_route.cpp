// Step 6 of a request: which routes are tried, one after the other, until one has answered.
#include <algorithm>

#include "base/log.hpp"
#include "base/text.hpp"
#include "gateway/chat.hpp"
#include "gateway/native.hpp"
#include "http/dialects.hpp"

namespace nebula::gateway {
namespace {

// A route that wants to be left alone for a while.
Error limited_error(std::int64_t wait_ms) {
    return {.code = Code::rate_limited,
            .message = "the provider of this model is rate limited; try again later",
            .param = "requests",
            .retry_after_ms = static_cast<int>(std::min<std::int64_t>(wait_ms, 3'600'000))};
}

Error full_error() {
    return {.code = Code::overloaded,
            .message = "the provider is at its concurrency limit",
            .retry_after_ms = 1000};
}

// Code of OpenRouter's error.availability.
const char* availability_code(Code code) {
    if (code == Code::rate_limited) return "capacity_exhausted";
    return code == Code::upstream_failed ? "model_unavailable_upstream" : "temporarily_unavailable";
}

}  // namespace

routing::Candidates Chat::plan_routes(const Call& call) const {
    routing::Question question;
    question.models = call.all_models();
    const routing::Found& routing = call.request.routing;
    if (routing.preferences && routing.preferences->has_wishes())
        question.preferences = routing.preferences.get();
    question.random = call.exchange.id().value;
    if (call.model->routes.size() > 1 && call.model->affinity != catalog::Affinity::none) {
        std::uint64_t session = routing.session;
        if (session == 0)
            if (auto header = call.exchange.head().header("x-session-id"); header && !header->empty())
                session = routing::hash_of(*header);
        Span span = call.request.messages_value;
        question.affinity =
            routing::affinity_of(*call.model, session, routing.user, call.body.substr(span.at, span.length),
                                 call.key ? call.key->account.value : 0);
    }
    routing::Candidates order = routing::plan(question, upstreams_);
    if (call.untranslatable)  // the others would only use up attempts
        std::erase_if(order,
                      [&call](const auto& one) { return !passes_natively(call, *one.route->provider); });
    return with_own_keys(call, std::move(order));
}

Async<void> Chat::forward(Call& call) {
    call.error = {.code = Code::upstream_failed, .message = "no provider of this model is available now"};
    bool is_answered = false;
    if (call.is_hit()) {
        is_answered = co_await answer_cached(call);
    } else {
        routing::Candidates order = plan_routes(call);
        is_answered = co_await try_routes(call, order);
    }
    if (is_answered) co_return;
    if (call.is_client_gone) {
        call.trail.fail(Code::cancelled, http::status_of(Code::cancelled));
        call.metrics->client_left.add();
        call.exchange.abort("");
        co_return;
    }
    call.metrics->upstream_failed.add();
    // The token estimate is given back; the request itself stays counted.
    correct_rate(call, 0);
    LOG_WARN("no provider answered", {"request", call.exchange.id().text()}, {"model", call.model->id},
             {"code", code_name(call.error.code)}, {"detail", call.error.detail},
             {"upstream_status", call.error.upstream_status});
    call.trail.fail(call.error.code, http::status_of(call.error.code));
    co_await respond_failure(call);
}

// OpenRouter's clients are told whose fault it was, and whether to come again.
Async<void> Chat::respond_failure(Call& call) {
    if (!call.is_openrouter) {
        co_await call.exchange.respond_error(call.error);
        co_return;
    }
    http::Response response = http::openrouter_error(call.error, call.exchange.id());
    constexpr std::string_view mark = R"("metadata":{)";
    std::size_t at = response.body.find(mark);
    std::string more;
    if (call.provider != nullptr) more = R"("provider_name":)" + json_string(call.provider->name) + ",";
    std::string availability = R"("availability":{"code":")" +
                               std::string(availability_code(call.error.code)) +
                               R"(","retryable":true,"retry_after":)";
    availability +=
        call.error.retry_after_ms > 0 ? std::to_string((call.error.retry_after_ms + 999) / 1000) : "null";
    response.body.insert(at + mark.size(), more);
    response.body.insert(at,
                         availability + R"(,"requested_models":[)" + json_string(call.request.model) + "]},");
    co_await call.exchange.respond(std::move(response));
}

bool Chat::is_over(const Call& call) const {
    return call.is_client_gone || services_.clock.ticks() >= call.deadline;
}

Async<bool> Chat::try_routes(Call& call, const routing::Candidates& order) {
    routing::Candidates full;
    std::vector<const catalog::Model*> given_up;  // bounded by the models of the request
    auto is_given_up = [&given_up](const routing::Candidate& one) {
        return std::ranges::find(given_up, one.model) != given_up.end();
    };
    std::int64_t attempts = 0;
    for (std::size_t i = 0; i < order.size() && !is_over(call); ++i) {
        const routing::Candidate& candidate = order[i];
        if (is_given_up(candidate)) continue;
        if (candidate.model != call.model.get()) {
            bool may_ask = co_await enter_model(call, *candidate.model);
            if (!may_ask) given_up.push_back(candidate.model);
            if (!may_ask) continue;
            attempts = 0;
        }
        if (attempts >= settings_.attempts_max) continue;
        call.own_key = candidate.own_key;
        call.has_further_model = std::any_of(
            order.begin() + static_cast<std::ptrdiff_t>(i), order.end(),
            [&](const auto& later) { return later.model != candidate.model && !is_given_up(later); });
        const catalog::Route* other = nullptr;
        if (call.model->hedge.count() > 0 && i + 1 < order.size() && order[i + 1].model == candidate.model &&
            !call.own_key && !order[i + 1].own_key && attempts + 1 < settings_.attempts_max &&
            may_hedge(call, *candidate.route) && may_hedge(call, *order[i + 1].route))
            other = order[i + 1].route;
        bool is_other_tried = false;
        Attempt result = Attempt::skipped;
        if (other != nullptr)
            result = co_await attempt_hedged(call, *candidate.route, *other, is_other_tried);
        else
            result = co_await attempt(call, *candidate.route);
        if (result == Attempt::answered) co_return true;
        if (is_other_tried) ++i, ++attempts;
        if (result == Attempt::full) full.push_back(candidate);
        if (result == Attempt::next_model) given_up.push_back(candidate.model);
        if (result == Attempt::try_next) ++attempts;
    }
    if (full.empty()) co_return false;
    co_return co_await try_full_routes(call, full);
}

// No other route had room: waits for a slot of each in turn, the preferred one first.
Async<bool> Chat::try_full_routes(Call& call, const routing::Candidates& full) {
    for (const routing::Candidate& candidate : full) {
        if (is_over(call)) co_return false;
        if (candidate.model != call.model.get()) {
            bool may_ask = co_await enter_model(call, *candidate.model);
            if (!may_ask) continue;
        }
        call.own_key = candidate.own_key;
        const catalog::Provider& provider = *candidate.route->provider;
        Upstream& upstream = upstreams_.of(provider);
        routing::SlotWait wait(upstream.queue(), call.key ? call.key->account.value : 0);
        call.waiting = &wait;
        Ticks until = std::min(call.deadline, services_.clock.ticks() + provider.queue_timeout);
        routing::Turn turn = co_await wait.run(provider.queue_max, provider.concurrency_max, until);
        call.waiting = nullptr;
        if (turn != routing::Turn::granted) {
            call.error = full_error();
            continue;
        }
        Slot slot = Slot::granted(upstream);
        if (is_over(call)) co_return false;
        Attempted attempted(upstream, services_.clock.ticks());
        if (!attempted) continue;
        call.has_further_model = false;
        Trial trial(*candidate.route, upstream, upstreams_.of(*candidate.route), services_.clock);
        Attempt result = co_await run_trial(call, trial, std::move(slot));
        if (result == Attempt::answered) co_return true;
    }
    co_return false;
}

Async<Chat::Attempt> Chat::attempt(Call& call, const catalog::Route& route) {
    Upstream& upstream = upstreams_.of(*route.provider);
    routing::RouteState& state = upstreams_.of(route);
    Trial trial(route, upstream, state, services_.clock);
    call.provider = route.provider.get();
    // What a provider told about our key says nothing about the customer's own.
    if (std::int64_t wait = call.own_key ? 0 : state.limited_for_ms(trial.started); wait > 0) {
        if (call.failure == nullptr) call.error = limited_error(wait);
        call.failure = "rate_limited";
        co_return Attempt::skipped;
    }
    Attempted attempted(upstream, trial.started);
    if (!attempted) {
        if (call.failure == nullptr) call.failure = "breaker_open";
        co_return Attempt::skipped;
    }
    Slot slot(upstream, route.provider->concurrency_max);
    if (!slot) {
        if (call.failure == nullptr) call.error = full_error();
        call.failure = "full";
        co_return Attempt::full;
    }
    Attempt result = co_await run_trial(call, trial, std::move(slot));
    co_return result;
}

Async<Chat::Attempt> Chat::run_trial(Call& call, Trial& trial, Slot slot) {
    note_fallback(call);
    call.trail.begin_attempt(trial.route, trial.started);
    call.trail.attempt().is_byok = call.own_key != nullptr;
    Attempt result = co_await ask_route(call, trial, std::move(slot));
    call.trail.end_attempt(services_.clock.ticks(), result == Attempt::answered ? nullptr : &call.error);
    co_return result;
}

// Another route than the first choice is asked.
void Chat::note_fallback(Call& call) {
    if (call.failure == nullptr) return;
    call.metrics->fallbacks.add();
    services_.metrics
        .counter("nebula_fallback_reasons_total",
                 "Attempts at a further route, by why the one before was not it.", {{"reason", call.failure}})
        .add();
}

}  // namespace nebula::gateway

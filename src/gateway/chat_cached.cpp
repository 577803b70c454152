// Answers from the cache, and from the same request of somebody else.
#include <algorithm>

#include "gateway/chat.hpp"

namespace nebula::gateway {
namespace {

// Few requests say anything about the cache: one look at the names tells.
bool names_cache(const http::RequestHead& head) {
    for (const http::Header& header : head.headers) {
        if (header.name.size() < 14 || (header.name.front() | 0x20) != 'x') continue;
        std::string_view name = header.name;
        if (name.find("ache") != std::string_view::npos || name.find("ACHE") != std::string_view::npos)
            return true;
    }
    return false;
}

// Of the answers' source, in records and metrics.
const catalog::Route& cache_route() {
    static const catalog::Route route = [] {
        catalog::Provider provider;
        provider.name = "cache";
        provider.number = catalog::number_of(provider.name);
        catalog::Route made;
        made.number = catalog::number_of("cache answers");
        made.provider = std::make_shared<const catalog::Provider>(std::move(provider));
        return made;
    }();
    return route;
}

const char* wire_word(Wire wire) {
    switch (wire) {
        case Wire::openai:
            return "openai";
        case Wire::responses:
            return "responses";
        case Wire::anthropic:
            return "anthropic";
        case Wire::ollama:
            return "ollama";
        case Wire::gemini:
            return "gemini";
    }
    return "openai";
}

std::string seconds_text(std::chrono::steady_clock::duration time) {
    return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count());
}

void tell(http::Exchange& exchange, bool is_hit, std::chrono::steady_clock::duration ttl) {
    exchange.add_header("x-nebula-cache", is_hit ? "hit" : "miss");
    exchange.add_header("x-openrouter-cache-status", is_hit ? "HIT" : "MISS");
    exchange.add_header("x-openrouter-cache-ttl", seconds_text(ttl));
}

}  // namespace

// Before anything is counted: an answer that is there takes no tokens from the limits.
Result<void> Chat::look_up(Call& call) {
    bool by_key = call.key->uses_cache;
    bool is_off =
        call.model->caching != catalog::Caching::always && !by_key && !names_cache(call.exchange.head());
    if (is_off) return {};
    const http::RequestHead& head = call.exchange.head();
    auto wish = read_wish(head, by_key, call.model->caching, cache_.settings());
    if (!wish) return fail(std::move(wish.error()));
    if (!wish->is_on || call.edge == Edge::credits || info(call.endpoint).is_media) return {};

    // A provider of the client's own API would get the client's own bytes.
    Wire wire = call.client ? call.client->wire() : Wire::openai;
    bool is_foreign = wire != Wire::openai;
    CacheScope scope{.account = cache_.settings().shared ? 0 : call.key->account.value,
                     .endpoint = info(call.endpoint).word,
                     .model = call.model->id,
                     .wire = wire_word(wire),
                     .path = call.client ? call.client->native_path() : std::string_view(),
                     .headers = is_foreign ? head.header("anthropic-beta").value_or("") : "",
                     .is_stream = call.request.stream,
                     .is_repeated = wire == Wire::responses};
    auto key = cache_key(scope, is_foreign ? call.client_body : call.body);
    if (!key) return {};
    call.cache = std::make_unique<CacheUse>(cache_);
    call.cache->key = *key;
    call.cache->model = call.model->id;
    call.cache->ttl = wish->ttl;
    if (wish->clear)
        cache_.forget(*key);
    else if (auto entry = cache_.find(*key))
        use_entry(call, std::move(entry));
    return {};
}

void Chat::use_entry(Call& call, std::shared_ptr<const CacheEntry> entry) {
    cache_.hits.add();
    tell(call.exchange, true, entry->expires_at - entry->stored_at);
    call.exchange.add_header("x-openrouter-cache-age",
                             seconds_text(services_.clock.ticks() - entry->stored_at));
    call.exchange.add_header("x-openrouter-cache-source-id", entry->source.text());
    call.prices = hit_prices(entry->prices, cache_.settings().hit_price_percent);
    call.cache->hit = std::move(entry);
}

// The same request may be on its way already: then this one waits for its answer.
Async<Result<void>> Chat::share(Call& call) {
    CacheUse& use = *call.cache;
    Ticks until = std::min(services_.clock.ticks() + cache_.settings().wait, call.deadline);
    Landing landing = co_await flights_.join(call.exchange, use.key, until);
    if (landing.kind == Landing::Kind::gone) co_return fail(Code::cancelled, "the client has left");
    use.flight = std::move(landing.flight);
    // It may have been answered between looking and asking to lead.
    if (use.flight && !landing.entry) {
        landing.entry = cache_.find(use.key);
        if (landing.entry) use.flight.land(landing.entry);
    }
    if (landing.entry) {
        use_entry(call, std::move(landing.entry));
        correct_rate(call, 0);
        co_return Result<void>();
    }
    cache_.misses.add();
    tell(call.exchange, false, use.ttl);
    co_return Result<void>();
}

// What the answer is known to cost, and nothing of the plan's quota.
Async<Result<void>> Chat::hold_for_hit(Call& call) {
    billing::HoldRequest wanted;
    wanted.account = call.key->account;
    wanted.most = wanted.fewest = call.cache->hit->usage;
    wanted.prices = call.prices;
    wanted.worst_case = wanted.least = billing::charge_of(call.prices, wanted.most);
    if (call.key->budget.is_any()) wanted.budget_of = call.key.get();
    auto hold = co_await services_.billing.admit(wanted, call.deadline);
    if (!hold) {
        if (hold.error().code == Code::payment_required) unpaid_.add();
        co_return fail(std::move(hold.error()));
    }
    call.hold = std::move(*hold);
    co_return Result<void>();
}

Async<bool> Chat::answer_cached(Call& call) {
    const catalog::Route& route = cache_route();
    call.provider = route.provider.get();
    speak(call, *call.cache->hit->kind);
    Trial trial(route, upstreams_.of(*route.provider), upstreams_.of(route), services_.clock);
    call.trail.begin_attempt(route, trial.started);
    call.trail.attempt().status = 200;
    auto upstream = replay(call.cache->hit);
    Attempt result = Attempt::try_next;
    if (call.request.stream)
        result = co_await answer_stream(call, std::move(upstream), trial);
    else
        result = co_await answer_json(call, *upstream, trial);
    bool is_answered = result == Attempt::answered;
    call.trail.end_attempt(services_.clock.ticks(), is_answered ? nullptr : &call.error);
    co_return is_answered;
}

// The answer was whole and is paid for: now it is everybody's who waits, and later ones'.
void Chat::keep_answer(Call& call) {
    CacheUse& use = *call.cache;
    if (!use.flight) return;
    // Another model than the first one may have answered.
    if (call.model->id != use.model) return use.flight.release();
    auto entry = use.recording.finish(call.exchange.id(), call.billed, call.prices, use.ttl);
    if (entry) cache_.store(use.key, entry);
    use.flight.land(std::move(entry));
}

}  // namespace nebula::gateway

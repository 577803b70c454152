// Which models a request may be answered by: the one it names, its variant or alias, and those it names for
// when that one fails.
#include <algorithm>
#include <utility>

#include "gateway/chat.hpp"
#include "gateway/native.hpp"

namespace nebula::gateway {
namespace {

// Tokens that a chat template may add around the client's text.
constexpr std::int64_t template_tokens = 256;

std::unexpected<Error> no_model(const std::string& id, const char* member) {
    return fail(Code::not_found, "the model '" + id + "' does not exist or is not available", member);
}

const routing::Preferences* wishes(const Call& call) { return call.request.routing.preferences.get(); }

// Whether some provider that may be asked takes the client's own bytes.
bool has_native_route(const Call& call) {
    const routing::Preferences* wanted = wishes(call);
    return std::ranges::any_of(call.all_models(), [&](const auto& model) {
        return std::ranges::any_of(model->routes, [&](const catalog::Route& route) {
            return passes_natively(call, *route.provider) &&
                   (wanted == nullptr || routing::is_allowed(*model, route, *wanted));
        });
    });
}

}  // namespace

// Clients of other APIs say it in their own body, which the translation does not repeat.
Result<void> Chat::read_routing(Call& call) const {
    if (!call.client) return {};
    auto found = routing::find_members(call.client_body);
    if (!found) return fail(std::move(found.error()));
    call.request.routing = std::move(*found);
    return {};
}

Result<std::shared_ptr<const catalog::Model>> Chat::find_model(const std::string& id, routing::Found& routing,
                                                               const char* member) const {
    auto snapshot = services_.catalog.current();
    auto model = snapshot->find(id);
    if (model) return model;
    auto variant = routing::variant_of(id);
    if (!variant) {
        if (!snapshot->find(id.substr(0, id.rfind(':')))) return no_model(id, member);
        return fail(std::move(variant.error()));
    }
    if (!variant->model.empty()) model = snapshot->find(variant->model);
    if (!model) return no_model(id, member);
    routing::Preferences& wanted = routing.wishes();
    if (variant->sort != routing::Sort::none && wanted.sort == routing::Sort::none)
        wanted.sort = variant->sort;
    wanted.is_free = wanted.is_free || variant->is_free;
    return model;
}

Result<void> Chat::choose_models(Call& call) {
    routing::Found& routing = call.request.routing;
    auto first = find_model(call.request.model, routing, "model");
    if (!first) return fail(std::move(first.error()));
    const char* word = info(call.endpoint).word;
    if (!(*first)->serves(word))
        return fail(Code::invalid_request, "the model '" + (*first)->id + "' does not serve " + word,
                    "model");
    ask(call, std::move(*first));
    if (!routing.preferences) {
        if (call.untranslatable && !has_native_route(call)) return fail(std::move(*call.untranslatable));
        return {};
    }
    for (const std::string& id : std::vector<std::string>(routing.preferences->models)) {
        auto model = find_model(id, routing, "models");
        if (!model) return fail(std::move(model.error()));
        if (call.models.empty()) call.models.push_back(call.model);
        if ((*model)->serves(word) && std::ranges::find(call.models, *model) == call.models.end())
            call.models.push_back(std::move(*model));
    }
    if (call.untranslatable && !has_native_route(call)) return fail(std::move(*call.untranslatable));
    routing::Preferences& wanted = *routing.preferences;
    if (wanted.require_parameters)
        wanted.parameters = routing::parameters_of(call.client ? call.client_body : call.body);
    bool is_any_allowed = std::ranges::any_of(call.all_models(), [&wanted](const auto& model) {
        return std::ranges::any_of(model->routes, [&](const catalog::Route& route) {
            return routing::is_allowed(*model, route, wanted);
        });
    });
    if (is_any_allowed) return {};
    return fail(Code::not_found, "no provider of this model fits what the request demands", "provider");
}

// Makes the model the one that is asked.
void Chat::ask(Call& call, std::shared_ptr<const catalog::Model> model) {
    call.model = std::move(model);
    call.metrics = &metrics_of(*call.model);
    bound(call);
}

void Chat::bound(Call& call) {
    std::int64_t context = call.model->context_length;
    std::int64_t prompt_max = static_cast<std::int64_t>(call.request.prompt_bytes) + template_tokens;
    prompt_max = std::max(context, prompt_max) * (1 + call.request.tool_calls_max);
    std::int64_t output_max = std::max(context, call.request.asked_output().value_or(0));
    const EndpointInfo endpoint = info(call.endpoint);
    bool may_generate = endpoint.has_output || endpoint.is_media;
    call.bounds = {prompt_max, may_generate ? output_max * call.request.n : 0, call.request.seconds_max};
}

// The first model's refusal is the request's; further ones are merely not tried.
void Chat::drop_forbidden(Call& call) const {
    if (call.models.empty()) return;
    auto is_forbidden = [&](const auto& model) { return !check_rights(call, *model); };
    call.models.erase(std::remove_if(call.models.begin() + 1, call.models.end(), is_forbidden),
                      call.models.end());
}

void Chat::set_prices(Call& call) const {
    if (call.edge != Edge::openai) return;
    const routing::Preferences* wanted = wishes(call);
    if (wanted == nullptr) {
        call.prices = call.model->worst_prices;
        return;
    }
    std::optional<billing::Prices> worst;
    for (const auto& model : call.all_models())
        for (const catalog::Route& route : model->routes)
            if (routing::is_allowed(*model, route, *wanted))
                worst = worst ? catalog::worst_of(*worst, route.prices) : route.prices;
    call.prices = worst.value_or(call.model->worst_prices);
}

// Another model after the first: its own limits must have room. False: it has none.
Async<bool> Chat::enter_model(Call& call, const catalog::Model& model) {
    auto all = call.all_models();
    auto shared = *std::ranges::find(all, &model, [](const auto& one) { return one.get(); });
    if (call.check_count > 0 && call.has_model_check) {
        // The estimate goes back to the model left; that it was asked stays counted.
        ratelimit::Check& left = call.checks[--call.check_count];
        services_.limiter.correct(&left, 1, -call.rate_tokens, call.rate_taken_at);
        call.has_model_check = false;
    }
    if (call.key && call.check_count < std::size(call.checks)) {
        ratelimit::Check check = model_check(call, model);
        if ((check.limits.rpm | check.limits.tpm | check.limits.ipm) != 0) {
            if (call.rate_tokens == 0)
                call.rate_tokens =
                    call.likely_prompt() + call.request.asked_output().value_or(0) * call.request.n;
            ratelimit::Use use{.tokens = call.rate_tokens,
                               .images = info(call.endpoint).is_image ? call.request.n : 0};
            if (call.check_count == 0) call.rate_taken_at = services_.clock.ticks();
            auto standing = services_.limiter.take(&check, 1, use);
            for (int tries = 0; standing.needs_share && tries < 2; ++tries) {
                co_await services_.limiter.acquire(&check, 1, use);
                standing = services_.limiter.take(&check, 1, use);
            }
            if (!standing.admitted) {
                rate_limited_.add();
                co_return false;
            }
            if (standing.taken) {
                call.checks[call.check_count++] = check;
                call.has_model_check = true;
            }
        }
    }
    ask(call, std::move(shared));
    co_return true;
}

}  // namespace nebula::gateway

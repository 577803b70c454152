// Guard rails: what is refused, changed or asked about before a request leaves and before an answer is told.
#include <algorithm>

#include "base/log.hpp"
#include "base/text.hpp"
#include "gateway/chat.hpp"
#include "gateway/guardrails/ask.hpp"
#include "gateway/media/form_request.hpp"

namespace nebula::gateway {

using guardrails::HookAnswer;
using guardrails::Kind;
using guardrails::Rail;

namespace {

constexpr std::size_t padding = 64;        // that the parser reads beyond the end
constexpr std::int64_t notes_max = 1'000;  // hooks that are being told of streams, in all

bool is_foreign(const Call& call) { return call.client && call.client->wire() != Wire::openai; }

void set_text(std::string& keeper, std::string_view& view, std::string text) {
    keeper = std::move(text);
    keeper.reserve(keeper.size() + padding);
    view = keeper;
}

Result<ChatRequest> parse_again(std::string_view body, const Call& call) {
    if (info(call.endpoint).is_form) return media::parse_form_request(body, call.form_type, call.endpoint);
    return parse_request(body, call.endpoint);
}

// Who shall answer, clients of other APIs have said in their own body.
void take_request(Call& call, ChatRequest request) {
    if (call.client) request.routing = std::move(call.request.routing);
    call.request = std::move(request);
}

// Nobody looks into forms, so no rail can say that one is good.
void judge_form(GuardUse& guard) {
    for (const Rail* rail : guard.rails) {
        if (!rail->on_input) continue;
        guard.matched.push_back(rail);
        if (!rail->is_enforced || guard.refusal) continue;
        guard.refusal = guardrails::Refusal{.rail = rail, .reason = "unreadable", .excerpt = {}};
    }
}

Error refusal_error(const guardrails::Refusal& refusal) {
    const std::string& name = refusal.rail->settings.name;
    bool is_limit = refusal.rail->kind == Kind::limits;
    std::string message = !refusal.message.empty() ? refusal.message
                          : is_limit ? "the request is larger than the guard rail '" + name + "' allows"
                                     : "the request was refused by the guard rail '" + name + "'";
    return {.code = Code::invalid_request,
            .message = std::move(message),
            .param = std::string(guardrails::content_policy),
            .detail = name + ": " + refusal.reason};
}

// How OpenRouter's clients know it.
std::string openrouter_refusal(const Call& call, const Error& error) {
    const guardrails::Refusal& refusal = *call.guard->refusal;
    std::string reasons;
    for (std::string_view reason : split(refusal.reason, ','))
        reasons.append(reasons.empty() ? "" : ",").append(json_string(reason));
    return R"({"error":{"code":403,"message":)" + json_string(error.message) + R"(,"metadata":{"reasons":[)" +
           reasons + R"(],"flagged_input":)" + json_string(refusal.excerpt) + R"(,"provider_name":)" +
           json_string(refusal.rail->settings.name) + R"(,"model_slug":)" + json_string(call.model->id) +
           R"(,"error_type":"content_policy_violation","request_id":)" +
           json_string(call.exchange.id().text()) + "}}}";
}

}  // namespace

void Chat::find_rails(Call& call) const {
    std::string key = call.key->id ? call.key->id.text() : std::string();
    std::vector<const Rail*> rails;
    // Any of the models may answer in the end.
    for (const auto& model : call.all_models())
        for (const Rail* rail : rails_.of(model->id, key))
            if (std::ranges::find(rails, rail) == rails.end()) rails.push_back(rail);
    if (rails.empty()) return;
    call.guard = std::make_unique<GuardUse>();
    call.guard->rails = std::move(rails);
}

Async<void> Chat::refuse_flagged(Call& call, Error error) {
    bool is_openrouter = call.exchange.head().path.starts_with("/api/v1/");
    if (is_openrouter && !call.client) {
        std::string body = openrouter_refusal(call, error);
        co_await call.exchange.respond(403, "application/json", body);
        co_return;
    }
    co_await call.exchange.respond_error(std::move(error));
}

// Rails that need nobody else: sizes, words, personal data. Both forms of a request are judged and changed
// alike, since it depends on the route which one leaves.
Result<void> Chat::judge(Call& call) const {
    GuardUse& guard = *call.guard;
    auto take = [&guard](std::string_view json, std::string& keeper, std::string_view& view) -> Result<bool> {
        auto judged = guardrails::judge_input(guard.rails, json, guard.placeholders, guard.matched);
        if (!judged) return fail(std::move(judged.error()));
        if (judged->refusal) {
            guard.refusal = std::move(judged->refusal);
            return false;
        }
        if (judged->texts.is_changed) set_text(keeper, view, std::move(judged->texts.json));
        return judged->texts.is_changed;
    };
    if (!call.untranslatable) {
        auto changed = take(call.body, guard.body, call.body);
        if (!changed) return fail(std::move(changed.error()));
        if (guard.refusal) return {};
        if (*changed) {
            auto request = parse_again(call.body, call);
            if (!request) return fail(std::move(request.error()));
            take_request(call, std::move(*request));
        }
    }
    if (!is_foreign(call)) return {};
    auto changed = take(call.client_body, guard.client_body, call.client_body);
    if (!changed) return fail(std::move(changed.error()));
    if (!*changed) return {};
    auto native = call.client->native(call.client_body);
    if (!native) return fail(std::move(native.error()));
    call.native = std::make_unique<ChatRequest>(std::move(*native));
    if (call.untranslatable) {
        take_request(call, *call.native);
        call.body = call.client_body;
    }
    return {};
}

Async<Result<void>> Chat::guard_request(Call& call) {
    GuardUse& guard = *call.guard;
    if (call.request.is_form) {
        judge_form(guard);
    } else if (auto judged = judge(call); !judged) {
        co_return judged;
    }
    for (const Rail* rail : guard.rails) {
        if (guard.refusal || call.request.is_form) break;
        if (!rail->on_input) continue;
        if (rail->kind == Kind::moderation) co_await moderate(call, *rail);
        if (rail->kind == Kind::hook) co_await ask_hook(call, *rail);
    }
    tell_matched(call);
    if (guard.refusal) co_return fail(refusal_error(*guard.refusal));
    bound(call);

    auto looks = [](const Rail* rail) {
        return rail->on_output && (rail->reads_text() || rail->kind == Kind::hook);
    };
    bool has_names = !guard.placeholders.empty();
    if (info(call.endpoint).has_output && (has_names || std::ranges::any_of(guard.rails, looks))) {
        guard.output.emplace(guard.rails, guard.placeholders, guard.matched);
        for (const Rail* rail : guard.rails)
            if (rail->on_output && rail->kind == Kind::hook)
                guard.output->listen(static_cast<std::size_t>(rail->settings.body_bytes_max));
    }
    if (guard.needs_translation() && call.untranslatable) co_return fail(std::move(*call.untranslatable));
    co_return Result<void>();
}

// Counted and logged once for each rail and request; never with a word of the text.
void Chat::tell_matched(Call& call) {
    for (const Rail* rail : call.guard->matched) {
        rail->matched->add();
        LOG_INFO("guard rail found something", {"request", call.exchange.id().text()},
                 {"rail", rail->settings.name}, {"mode", rail->settings.mode}, {"model", call.model->id});
    }
    call.guard->matched.clear();
}

// The rail could not be asked: open lets the request pass, closed refuses it.
void Chat::rail_failed(Call& call, const Rail& rail, const Error& error) {
    rail.failed->add();
    LOG_WARN("guard rail could not be asked", {"request", call.exchange.id().text()},
             {"rail", rail.settings.name}, {"code", code_name(error.code)}, {"detail", error.detail});
    if (rail.fails_open || !rail.is_enforced) return;
    call.guard->refusal = guardrails::Refusal{
        .rail = &rail,
        .reason = "unavailable",
        .excerpt = {},
        .message = "the guard rail '" + rail.settings.name + "' cannot be asked now; try again later"};
}

Async<Result<std::string>> Chat::post(Call* call, http::Origin origin, std::string path, std::string headers,
                                      std::string body, const Rail& rail) {
    Ticks began = services_.clock.ticks();
    auto wait = rail.settings.timeout;
    std::string_view pieces[] = {body};
    http::ClientRequest request;
    request.method = http::Method::post;
    request.path = path.empty() ? "/" : std::move(path);
    request.headers =
        "content-type: application/json\r\naccept: application/json\r\nuser-agent: nebula/" NEBULA_VERSION
        "\r\n" +
        headers;
    request.body_pieces = pieces;
    request.timeouts = {.connect = wait, .first_byte = wait, .idle = wait, .total = wait};
    auto response =
        co_await services_.client.send(origin, std::move(request), call != nullptr ? &call->cancel : nullptr);
    if (!response) co_return fail(std::move(response.error()));
    auto answer = co_await (*response)->read_all(static_cast<std::size_t>(rail.settings.body_bytes_max));
    int status = (*response)->status();
    auto took = std::chrono::duration_cast<std::chrono::microseconds>(services_.clock.ticks() - began);
    rail.seconds->observe_us(took.count());
    if (answer && status != 200)
        co_return fail(Code::upstream_failed, "a guard rail failed", {}, "status " + std::to_string(status));
    co_return answer;
}

// Asks a model of the catalog, at the operator's cost.
Async<void> Chat::moderate(Call& call, const Rail& rail) {
    auto texts = co_await ask_moderation(call, rail);
    if (!texts) {
        rail_failed(call, rail, texts.error());
        co_return;
    }
    if (texts->empty()) co_return;
    call.guard->matched.push_back(&rail);
    if (!rail.is_enforced || rail.action == guardrails::Action::log) co_return;
    call.guard->refusal = guardrails::Refusal{.rail = &rail, .reason = std::move(*texts), .excerpt = {}};
}

Async<Result<std::string>> Chat::ask_moderation(Call& call, const Rail& rail) {
    auto model = services_.catalog.current()->find(rail.settings.moderation_model);
    const catalog::Route* route = nullptr;
    if (model)
        for (const catalog::Route& one : model->routes) {
            const Provider& kind = provider_of(one.provider->kind);
            if (!one.provider->is_runtime() && kind.wire() == Wire::openai &&
                kind.serves(Endpoint::moderations)) {
                route = &one;
                break;
            }
        }
    if (route == nullptr)
        co_return fail(Code::upstream_failed, "a guard rail failed", {},
                       "no provider of the moderation model");
    const catalog::Provider& provider = *route->provider;
    const Provider& kind = provider_of(provider.kind);
    auto body = guardrails::moderation_request(route->upstream_model,
                                               call.untranslatable ? call.client_body : call.body,
                                               static_cast<std::size_t>(rail.settings.body_bytes_max));
    if (!body) co_return fail(std::move(body.error()));
    std::string headers;
    kind.add_headers(provider, provider.api_key, headers);
    std::string path = kind.target(provider, route->upstream_model, Endpoint::moderations, false);
    auto answer =
        co_await post(&call, provider.origin, std::move(path), std::move(headers), std::move(*body), rail);
    if (!answer) co_return fail(std::move(answer.error()));
    co_return guardrails::flagged_categories(*answer);
}

Async<Result<HookAnswer>> Chat::call_hook(Call* call, const Rail& rail, std::string body) {
    if (body.size() > static_cast<std::size_t>(rail.settings.body_bytes_max))
        co_return fail(Code::payload_too_large, "a guard rail failed", {},
                       "more than body_bytes_max to post");
    std::string headers;
    if (!rail.settings.secret_env.empty())
        headers =
            "x-nebula-signature: " + guardrails::hook_signature(rail.secret, services_.clock.now(), body) +
            "\r\n";
    auto answer =
        co_await post(call, rail.url.origin, rail.url.path, std::move(headers), std::move(body), rail);
    if (!answer) co_return fail(std::move(answer.error()));
    co_return guardrails::read_hook_answer(*answer);
}

std::string Chat::hook_body(const Call& call, const Rail& rail, std::string_view stage,
                            std::string_view body) {
    bool is_stream = call.request.stream;
    guardrails::HookCall about{.request_id = call.exchange.id().text(),
                               .account = call.key->account.text(),
                               .key = call.key->id ? call.key->id.text() : std::string(),
                               .model = call.model->id,
                               .endpoint = info(call.endpoint).word,
                               .stage = stage,
                               .is_stream = is_stream};
    if (rail.settings.send_body) about.body = body;
    std::string usage;
    if (stage == "response" && is_stream) {
        usage = R"({"prompt_tokens":)" + std::to_string(call.billed.input) + R"(,"completion_tokens":)" +
                std::to_string(call.billed.output) + "}";
        about.usage = usage;
        if (rail.settings.send_body && call.guard->output) about.said = call.guard->output->said();
    }
    return guardrails::hook_request(about);
}

Async<void> Chat::ask_hook(Call& call, const Rail& rail) {
    GuardUse& guard = *call.guard;
    auto answer = co_await call_hook(
        &call, rail, hook_body(call, rail, "request", call.untranslatable ? call.client_body : call.body));
    if (!answer) {
        rail_failed(call, rail, answer.error());
        co_return;
    }
    if (answer->action == HookAnswer::Action::allow) co_return;
    guard.matched.push_back(&rail);
    if (!rail.is_enforced) co_return;
    if (answer->action == HookAnswer::Action::block) {
        guard.refusal = guardrails::Refusal{
            .rail = &rail, .reason = "blocked", .excerpt = {}, .message = std::move(answer->message)};
        co_return;
    }
    auto replaced = replace_request(call, std::move(answer->body));
    if (!replaced) rail_failed(call, rail, replaced.error());
}

// What a hook gives instead must be a request to the same model that is told in the same way.
Result<void> Chat::replace_request(Call& call, std::string body) {
    auto wrong = [](const char* what) {
        return fail(Code::upstream_failed, "a guard rail failed", {}, what);
    };
    if (call.untranslatable) return wrong("a request in the provider's own words cannot be replaced");
    body.reserve(body.size() + padding);
    auto request = parse_again(body, call);
    if (!request) return wrong("the request given instead is wrong");
    if (request->model != call.request.model || request->stream != call.request.stream)
        return wrong("the request given instead has another model or stream");
    set_text(call.guard->body, call.body, std::move(body));
    take_request(call, std::move(*request));
    call.guard->is_replaced = true;
    return {};
}

// A whole answer, in OpenAI's words, as the rails leave it.
Async<Result<std::string>> Chat::guard_answer(Call& call, std::string_view whole) {
    GuardUse& guard = *call.guard;
    auto answer = guard.output->answer(whole);
    if (!answer) co_return answer;
    for (const Rail* rail : guard.rails) {
        if (rail->kind != Kind::hook || !rail->on_output) continue;
        auto said = co_await call_hook(&call, *rail, hook_body(call, *rail, "response", *answer));
        bool is_refused = false;
        if (!said) {
            rail_failed(call, *rail, said.error());
            is_refused = guard.refusal.has_value();
        } else if (said->action != HookAnswer::Action::allow) {
            guard.matched.push_back(rail);
            is_refused = rail->is_enforced && said->action == HookAnswer::Action::block;
            bool is_replaced = rail->is_enforced && said->action == HookAnswer::Action::replace;
            if (is_replaced &&
                read_answer(said->body, call.bounds, call.endpoint).kind == Completion::Kind::chunk)
                answer = std::move(said->body);
            else if (is_replaced)
                is_refused = true;
        }
        if (is_refused) answer = guardrails::withheld(*answer);
    }
    guard.refusal.reset();
    tell_matched(call);
    co_return answer;
}

// After a stream: hooks hear of it, and nobody waits for them.
void Chat::tell_hooks(Call& call) {
    tell_matched(call);
    for (const Rail* rail : call.guard->rails) {
        if (rail->kind != Kind::hook || !rail->on_output) continue;
        if (notes_waiting_.value() >= notes_max) {
            rail->failed->add();
            continue;
        }
        notes_waiting_.add(1);
        notes_.spawn(call.exchange.thread(), tell_hook(*rail, hook_body(call, *rail, "response", {})));
    }
}

Async<void> Chat::tell_hook(const Rail& rail, std::string body) {
    auto answer = co_await call_hook(nullptr, rail, std::move(body));
    if (!answer) rail.failed->add();
    notes_waiting_.add(-1);
}

}  // namespace nebula::gateway

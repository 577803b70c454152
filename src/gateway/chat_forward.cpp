// Steps 7 to 9 of a request: forward to one route, settle, and only then the last byte.
#include <array>

#include "base/log.hpp"
#include "base/text.hpp"
#include "gateway/chat.hpp"
#include "gateway/media/media.hpp"
#include "gateway/native.hpp"
#include "gateway/openrouter/answer.hpp"
#include "http/sse.hpp"

namespace nebula::gateway {
namespace {

constexpr std::size_t refusal_bytes_max = 64 * 1024;
constexpr std::size_t tracestate_bytes_max = 512;
constexpr std::chrono::milliseconds rest_time_max{2'000};  // for what follows the end of a stream

Error upstream_error(const char* message, std::string detail, int status = 0) {
    return {.code = Code::upstream_failed,
            .message = message,
            .detail = std::move(detail),
            .upstream_status = status};
}

// Seconds of a retry-after header; dates and nonsense count as unknown.
int retry_after_ms(const http::ClientResponse& upstream) {
    auto value = upstream.header("retry-after");
    if (!value) return 0;
    auto seconds = parse_int<int>(trim(*value));
    return seconds && *seconds > 0 && *seconds <= 3600 ? *seconds * 1000 : 0;
}

// The upstream's refusals that concern this request and not the provider: passed on as they are.
bool is_about_the_request(int status) {
    return status == 400 || status == 413 || status == 415 || status == 422;
}

Error refusal_error(int status, std::string words) {
    return {.code = status == 413 ? Code::payload_too_large : Code::invalid_request,
            .message = words.empty() ? "the provider of this model refused the request" : std::move(words),
            .upstream_status = status};
}

const char* failure_word(const Error& error) {
    if (error.code == Code::timeout) return "timeout";
    if (error.upstream_status >= 500) return "status_5xx";
    if (error.upstream_status != 0) return "status";
    return error.detail.starts_with("connect") ? "connect" : "broken";
}

bool is_stream(const Call& call, const http::ClientResponse& upstream) {
    auto type = upstream.header("content-type");
    if (!type) return false;
    std::string word = to_lower(type->substr(0, type->find(';')));
    if (call.kind->streams_lines()) return word == "application/x-ndjson" || word == "application/json";
    return word == "text/event-stream";
}

// Several headers are one list. What is longer than everybody must be able to take is left out whole.
void add_tracestate(const http::RequestHead& head, std::string& headers) {
    std::string state;
    for (const http::Header& header : head.headers)
        if (equals_ignore_case(header.name, "tracestate") && !trim(header.value).empty())
            state.append(state.empty() ? "" : ",").append(trim(header.value));
    if (!state.empty() && state.size() <= tracestate_bytes_max)
        headers.append("tracestate: ").append(state).append("\r\n");
}

std::string request_headers(const Call& call, const catalog::Provider& provider) {
    bool by_lines = call.kind->streams_lines();
    const EndpointInfo endpoint = info(call.endpoint);
    std::string_view type = call.request.is_form ? std::string_view(call.form_type) : "application/json";
    std::string headers =
        "content-type: " + std::string(type) + "\r\nuser-agent: nebula/" NEBULA_VERSION "\r\n";
    headers += endpoint.is_media && !endpoint.is_image ? "accept: */*\r\n"
               : !call.request.stream                  ? "accept: application/json\r\n"
               : by_lines                              ? "accept: application/x-ndjson\r\n"
                                                       : "accept: text/event-stream\r\n";
    call.kind->add_headers(provider, call.own_key ? *call.own_key : provider.api_key, headers);
    if (call.trail.trace) {
        telemetry::TraceParent parent{call.trail.trace->id, call.trail.attempt().span, true};
        headers.append("traceparent: ").append(telemetry::traceparent_text(parent)).append("\r\n");
        // The state of a trace that the client began, as it came.
        if (call.trail.trace->parent != 0) add_tracestate(call.exchange.head(), headers);
    }
    if (call.is_native && call.kind->wire() == Wire::anthropic) {
        if (auto beta = call.exchange.head().header("anthropic-beta"))
            headers.append("anthropic-beta: ").append(*beta).append("\r\n");
    }
    return headers;
}

Edits edits_of(const Call& call, const catalog::Route& route) {
    Edits edits;
    edits.upstream_model = route.upstream_model;
    edits.ask_for_usage =
        call.request.stream && call.key != nullptr && !call.is_native && info(call.endpoint).has_output;
    edits.keeps_routing = route.provider->passes_routing;
    edits.output_cap = call.output_cap;
    if (info(call.endpoint).has_output) edits.temperature = call.model->default_temperature;
    return edits;
}

openrouter::Receipt receipt_of(const Call& call, Time now) {
    openrouter::Receipt receipt{.provider = call.provider->name,
                                .model = call.request.model,
                                .upstream_id = call.trail.upstream_id,
                                .request_id = call.exchange.id().text(),
                                .has_output = info(call.endpoint).has_output,
                                .is_text = call.endpoint == Endpoint::completions,
                                .usage = call.billed,
                                .charge = call.settled.charge,
                                .is_reported = call.usage.state == ReportedUsage::State::good,
                                .created = to_micros(now) / 1'000'000};
    if (!call.own_key) return receipt;
    // What the customer owes the provider himself, by our list.
    billing::TokenUsage prompt = call.billed;
    prompt.output = prompt.reasoning = prompt.units = 0;
    receipt.is_byok = true;
    receipt.upstream_cost = call.upstream_cost();
    receipt.upstream_prompt_cost = billing::charge_of(call.prices, prompt);
    return receipt;
}

std::string error_event(Call& call, const Error& error) {
    if (call.is_sound) return {};  // a player would take the words for sound
    if (call.client) return call.client->broken(error);
    return "data: " + openai_error(error, call.exchange.id()).body + "\n\n";
}

}  // namespace

void Chat::fail_trial(Call& call, Trial& trial, const char* reason) {
    call.failure = reason != nullptr ? reason : failure_word(call.error);
    trial.failed(call.failure);
}

Async<Chat::Attempt> Chat::ask_route(Call& call, Trial& trial, Slot slot) {
    const catalog::Route& route = trial.route;
    const catalog::Provider& provider = *route.provider;
    runtime::RunnerLease lease;
    http::Origin origin = provider.origin;
    if (provider.is_runtime()) {
        if (services_.runtime == nullptr) co_return Attempt::try_next;
        auto acquired = co_await services_.runtime->acquire(route.upstream_model, call.deadline);
        if (!acquired) {
            call.error = std::move(acquired.error());
            call.failure = "no_runner";
            co_return Attempt::try_next;
        }
        lease = std::move(*acquired);
        origin = lease.origin();
    }

    auto body = prepare(call, route);
    if (!body) {  // this provider cannot be told what the client wants; another one may
        call.error = std::move(body.error());
        call.failure = "untranslatable";
        co_return Attempt::try_next;
    }
    auto response = co_await send(call, route, origin, std::move(*body), &call.cancel);
    if (!response) {
        call.error = std::move(response.error());
        if (call.error.code != Code::cancelled) fail_trial(call, trial);
        co_return Attempt::try_next;
    }
    trial.upstream.observe(trial.waited_us());
    co_return co_await take_answer(call, trial, std::move(*response));
}

Async<Chat::Attempt> Chat::take_answer(Call& call, Trial& trial,
                                       std::unique_ptr<http::ClientResponse> answer) {
    http::ClientResponse& upstream = *answer;
    const catalog::Route& route = trial.route;
    call.provider = route.provider.get();
    if (call.edge == Edge::openai) call.prices = route.prices;
    int status = upstream.status();
    call.trail.attempt().status = status;
    if (status >= 200 && status < 300) {
        const EndpointInfo endpoint = info(call.endpoint);
        // Who cannot stream images or words answers whole, as OpenAI does for some models.
        bool is_whole = !call.request.stream || (endpoint.is_media && !is_stream(call, upstream));
        call.is_sound = call.endpoint == Endpoint::speech && is_whole;
        if (is_whole && !call.is_sound) co_return co_await answer_json(call, upstream, trial);
        co_return co_await answer_stream(call, std::move(answer), trial);
    }
    if (is_about_the_request(status)) co_return co_await answer_refusal(call, upstream, trial);
    co_return note_status(call, upstream, trial);
}

// The provider refuses for reasons of its own: limits, an outage, or our key or name of the model is wrong
// there.
Chat::Attempt Chat::note_status(Call& call, const http::ClientResponse& upstream, Trial& trial) {
    int status = upstream.status();
    int wait = retry_after_ms(upstream);
    // A customer's own key that is used up says nothing about ours.
    bool is_limit = status == 503 || (status == 429 && !call.own_key);
    if (wait > 0 && is_limit) trial.limited_for(std::chrono::milliseconds(wait));
    if (status == 429) {
        trial.answered();
        call.error = {.code = Code::rate_limited,
                      .message = "the provider of this model is rate limited; try again later",
                      .param = "requests",
                      .retry_after_ms = wait > 0 ? wait : 1000,
                      .upstream_status = status};
        call.failure = "rate_limited";
        return Attempt::try_next;
    }
    call.error =
        upstream_error("the provider of this model failed", "status " + std::to_string(status), status);
    call.failure = failure_word(call.error);
    if (status >= 500 || status == 408)
        trial.failed(call.failure);
    else
        trial.answered();  // no reason to stop trying others' models
    return Attempt::try_next;
}

void Chat::speak(Call& call, const Provider& kind) const {
    call.kind = &kind;
    call.is_native = call.client && kind.wire() != Wire::openai && call.client->wire() == kind.wire() &&
                     !needs_translation(call);
    call.translator = kind.translate(call.endpoint, call.exchange.id().text(), services_.clock.now());
}

Result<std::string> Chat::prepare(Call& call, const catalog::Route& route) const {
    speak(call, spoken_to(call, *route.provider));
    if (!call.kind->serves(call.endpoint))
        return fail(Code::invalid_request,
                    "the provider of this model does not serve " + std::string(info(call.endpoint).word),
                    "model");
    if (!call.is_native && call.untranslatable) return fail(*call.untranslatable);
    Edits edits = edits_of(call, route);
    if (call.is_native) return call.client->native_body(call.client_body, *call.native, edits);
    if (!call.translator) return std::string();
    // Some APIs demand a cap.
    if (!edits.output_cap && !call.request.asked_output() && info(call.endpoint).has_output)
        edits.output_cap = call.model->max_output_tokens;
    return call.translator->request(edit_chat_request(call.body, call.request, edits).joined());
}

Async<Result<std::unique_ptr<http::ClientResponse>>> Chat::send(Call& call, const catalog::Route& route,
                                                                const http::Origin& origin, std::string body,
                                                                http::CancelToken* cancel) {
    EditedBody edited;
    if (body.empty())
        edited = edit_chat_request(call.body, call.request, edits_of(call, route));
    else
        edited.pieces.push_back(body);

    http::ClientRequest request;
    request.method = http::Method::post;
    request.path =
        call.kind->target(*route.provider, route.upstream_model, call.endpoint, call.request.stream);
    if (call.is_native && !call.client->native_path().empty())
        request.path = route.provider->path + std::string(call.client->native_path());
    // Anthropic's clients name their beta resources so.
    if (call.is_native && call.exchange.head().query == "beta=true") request.path += "?beta=true";
    request.headers = request_headers(call, *route.provider);
    request.body_pieces = edited.pieces;
    request.timeouts = route.provider->timeouts;
    auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(call.deadline - services_.clock.ticks());
    request.timeouts.total = std::min(request.timeouts.total, left);
    co_return co_await services_.client.send(origin, std::move(request), cancel);
}

Async<Chat::Attempt> Chat::answer_json(Call& call, http::ClientResponse& upstream, Trial& trial) {
    auto body = co_await upstream.read_all(static_cast<std::size_t>(settings_.answer_bytes_max));
    if (!body) {
        call.error = std::move(body.error());
        if (call.error.code != Code::cancelled) fail_trial(call, trial);
        co_return Attempt::try_next;
    }
    std::string openai;  // what the answer is in OpenAI's words, when it came in others
    bool is_told = true;
    if (call.translator) {
        auto translated = call.translator->answer(*body);
        is_told = translated.has_value();
        if (is_told) openai = std::move(*translated);
    }
    std::string_view whole = call.translator ? std::string_view(openai) : std::string_view(*body);
    std::string_view type = upstream.header("content-type").value_or("application/json");
    std::size_t room = (call.translator ? openai : *body).capacity();
    Completion answer{};
    if (is_told && media::is_text_answer(call.endpoint, type))
        answer = {.kind = Completion::Kind::chunk, .content_bytes = whole.size()};
    else if (is_told)
        answer = read_answer(whole, call.bounds, call.endpoint, room);
    if (answer.kind != Completion::Kind::chunk) {
        call.error = upstream_error("the provider sent an invalid answer", "answer of another shape");
        fail_trial(call, trial, "malformed");
        co_return Attempt::try_next;
    }
    std::string told, guarded;
    const std::string_view original = whole;
    if (call.guard && call.guard->output) {
        auto judged = co_await guard_answer(call, whole);
        if (!judged) {
            call.error = std::move(judged.error());
            fail_trial(call, trial, "malformed");
            co_return Attempt::try_next;
        }
        guarded = std::move(*judged);
        whole = guarded;
    }
    if (call.client && !call.is_native) {
        auto translated = call.client->answer(whole);
        if (!translated) {
            call.error = std::move(translated.error());
            fail_trial(call, trial, "malformed");
            co_return Attempt::try_next;
        }
        told = std::move(*translated);
    } else if (call.client) {
        told = call.client->native_answer(*body);
    }
    trial.upstream.succeeded();
    trial.succeeded(services_.clock.ticks(), answer.usage.usage.output);
    if (call.cache) {
        call.cache->begin(*call.kind, upstream.header("content-type").value_or("application/json"));
        call.cache->record(*body);
    }
    call.usage = answer.usage;
    call.trail.restart();
    call.trail.note(answer.raw_id, answer.raw_finish);
    call.trail.keep_output(whole);
    call.content_bytes = answer.content_bytes;
    call.content_events = 1;
    call.images = answer.images;
    call.image_size = std::move(answer.size);
    call.image_quality = std::move(answer.quality);
    if (call.is_client_gone && call.disconnect() != catalog::Disconnect::drain) co_return Attempt::try_next;
    if (call.model->tokenizer) co_await count_answer(call, original);
    auto settled = co_await settle(
        call, call.is_client_gone ? billing::Outcome::client_left : billing::Outcome::completed);
    if (!settled) {
        co_await call.exchange.respond_error(std::move(settled.error()));
        co_return Attempt::answered;
    }
    if (call.client && call.client->is_stateful() && !call.is_client_gone) {
        bool is_kept = co_await call.client->keep(call.billed);
        if (!is_kept)
            told = call.is_native ? call.client->native_answer(*body)
                                  : call.client->answer(whole).value_or(told);
    }
    if (call.cache) keep_answer(call);
    (call.is_client_gone ? call.metrics->client_left : call.metrics->completed).add();
    if ((call.client || call.translator) && !call.is_native) type = "application/json";
    if (call.edge == Edge::credits) told = with_credits(call, whole);
    if (call.is_openrouter) told = openrouter::with_cost(whole, receipt_of(call, services_.clock.now()));
    call.mark_own_key();
    co_await call.exchange.respond(200, type, !told.empty() ? told : call.is_native ? *body : whole);
    co_return Attempt::answered;
}

// The provider refuses the request itself: its words are for the client, no other provider would do better.
// Another model may, where the client named one.
Async<Chat::Attempt> Chat::answer_refusal(Call& call, http::ClientResponse& upstream, Trial& trial) {
    int status = upstream.status();
    trial.answered();
    if (call.cache) call.cache->flight.release();  // whoever waits would be refused as well
    std::string type(upstream.header("content-type").value_or("application/json"));
    auto body = co_await upstream.read_all(refusal_bytes_max);
    if (body && call.kind->is_about_us(*body)) {
        call.error =
            upstream_error("the provider of this model failed", "it refuses our key or account", status);
        co_return Attempt::try_next;
    }
    std::string words = body ? call.kind->error_message(*body) : std::string();
    if (call.has_further_model) {
        call.error = refusal_error(status, std::move(words));
        call.failure = "refused";
        co_return Attempt::next_model;
    }
    correct_rate(call, 0);
    call.trail.fail(Code::invalid_request, status);
    call.metrics->refused.add();
    bool speaks_alike = call.is_native || (!call.client && !call.translator);
    if (!words.empty() && speaks_alike) {
        co_await call.exchange.respond(status, type, *body);
        co_return Attempt::answered;
    }
    Error error = refusal_error(status, std::move(words));
    co_await call.exchange.respond_error(std::move(error));
    co_return Attempt::answered;
}

Async<Chat::Attempt> Chat::answer_stream(Call& call, std::unique_ptr<http::ClientResponse> upstream,
                                         Trial& trial) {
    StreamEnd end;
    // What an attempt before this one read has reached nobody, and its usage is not this one's.
    call.usage = {};
    call.content_bytes = 0;
    call.content_events = 0;
    call.images = 0;
    call.image_size = call.image_quality = {};
    call.first_token_us = 0;
    call.usage_chunk.clear();
    call.trail.restart();
    begin_counting(call);
    if (call.client) call.client->restart();
    if (call.guard && call.guard->output) call.guard->output->restart();
    if (call.is_sound) {
        end = co_await relay_sound(call, *upstream);
    } else if (is_stream(call, *upstream)) {
        std::string type(*upstream->header("content-type"));
        if (call.cache) call.cache->begin(*call.kind, type);
        end = co_await relay_stream(call, *upstream, std::move(type), services_.clock);
    } else {
        end.error = upstream_error("the provider sent no event stream", "wrong content-type");
    }
    switch (end.kind) {
        case StreamEnd::Kind::done:
            trial.upstream.succeeded();
            trial.succeeded(call.exchange.started() + std::chrono::microseconds(call.first_token_us),
                            call.usage.usage.output);
            // What follows the end is read in the background, so that the connection can be used again.
            // It outlives the call and its token.
            upstream->detach(rest_time_max);
            background_.spawn(call.exchange.thread(), read_rest(std::move(upstream)));
            co_await finish_stream(call, std::move(end.last_event));
            co_return Attempt::answered;
        case StreamEnd::Kind::failed: {
            call.error = std::move(end.error);
            fail_trial(call, trial);
            if (!call.exchange.has_begun()) co_return Attempt::try_next;
            upstream.reset();
            co_await break_stream(call, call.error);
            co_return Attempt::answered;
        }
        case StreamEnd::Kind::client_left: {
            upstream.reset();  // cancels it now, before the bill is written
            call.trail.fail(Code::cancelled, http::status_of(Code::cancelled));
            call.metrics->client_left.add();
            bool pays = call.has_delivered() && call.disconnect() == catalog::Disconnect::bill_delivered;
            if (pays) co_await settle(call, billing::Outcome::client_left);
            call.exchange.abort("");
            co_return Attempt::answered;
        }
    }
    co_return Attempt::answered;
}

Async<void> Chat::finish_stream(Call& call, std::string last_event) {
    if (call.disconnect() == catalog::Disconnect::cancel && call.is_client_gone) {
        call.exchange.abort("");
        co_return;
    }
    auto settled = co_await settle(
        call, call.is_client_gone ? billing::Outcome::client_left : billing::Outcome::completed);
    if (!settled) {
        call.exchange.abort(error_event(call, settled.error()));
        co_return;
    }
    if (call.cache) keep_answer(call);
    if (call.guard) tell_hooks(call);
    if (call.is_client_gone) {
        call.metrics->client_left.add();
        call.exchange.abort("");
        co_return;
    }
    call.metrics->completed.add();
    if (call.is_openrouter)
        last_event.insert(
            0, "data: " + openrouter::usage_chunk(call.usage_chunk, receipt_of(call, services_.clock.now())) +
                   "\n\n");
    if (call.client && call.is_native) {
        last_event = co_await end_native(call, std::move(last_event));
    } else if (call.client) {
        if (call.client->is_stateful()) co_await call.client->keep(call.billed);
        last_event = call.client->end(call.billed);
    }
    if (!call.exchange.has_begun()) call.mark_own_key();
    if (!call.exchange.has_begun())
        call.exchange.begin_stream(200, call.client ? call.client->stream_type() : "text/event-stream");
    co_await call.exchange.end(last_event);
}

// The edge reads what is to be kept from the last event, which then says whether it was.
Async<std::string> Chat::end_native(Call& call, std::string last_event) {
    std::string scratch, told;
    std::string_view data = http::sse_data(last_event, scratch);
    bool is_told = call.client->native_event(data, told);
    if (call.client->is_stateful()) {
        bool is_kept = co_await call.client->keep(call.billed);
        if (!is_kept) told.clear();
        if (!is_kept) is_told = call.client->native_event(data, told);
    }
    co_return is_told ? told : last_event;
}

// Content has been sent, so the client must learn in band that the rest is missing; it pays for what it got.
Async<void> Chat::break_stream(Call& call, Error error) {
    call.trail.fail(error.code, 200);
    call.metrics->upstream_failed.add();
    LOG_WARN("stream broke", {"request", call.exchange.id().text()}, {"model", call.model->id},
             {"provider", call.provider->name}, {"detail", error.detail});
    bool pays = info(call.endpoint).is_media ? call.images > 0 : call.has_delivered();
    if (pays) co_await settle(call, billing::Outcome::upstream_failed);
    call.exchange.abort(error_event(call, error));
}

Async<void> Chat::read_rest(std::unique_ptr<http::ClientResponse> upstream) {
    auto rest = co_await upstream->read();
    // Anything but the clean end makes the connection useless; dropping it is all there is to do.
    if (rest && !rest->empty()) LOG_DEBUG("provider sent data after the end of its stream");
}

}  // namespace nebula::gateway

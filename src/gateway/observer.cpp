#include "gateway/observer.hpp"

#include <charconv>

#include "base/log.hpp"
#include "base/text.hpp"
#include "records/records.hpp"
#include "telemetry/telemetry.hpp"

namespace nebula::gateway {
namespace {

constexpr std::size_t header_bytes_max = 200;  // of what clients say about themselves

std::int64_t micros(Ticks::duration time) {
    return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

// One JSON object, front to back.
class Line {
   public:
    explicit Line(std::string& out) : out_(out) { out_.clear(); }
    void text(std::string_view name, std::string_view value) {
        if (value.empty()) return;
        key(name);
        out_ += '"';
        append_json_escaped(out_, value);
        out_ += '"';
    }
    /// Of letters that need no escape: ids, names of the catalog, our own words.
    void word(std::string_view name, std::string_view value) {
        key(name);
        out_.append("\"").append(value).append("\"");
    }
    void number(std::string_view name, std::int64_t value) {
        key(name);
        char digits[24];
        auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
        out_.append(digits, end);
    }
    void flag(std::string_view name, bool value) {
        key(name);
        out_ += value ? "true" : "false";
    }
    void open(std::string_view name) {
        key(name);
        out_ += '[';
    }
    void open_item() {
        if (!out_.empty() && out_.back() == '}') out_ += ',';
        out_ += '{';
    }
    void close(char bracket) { out_ += bracket; }

   private:
    void key(std::string_view name) {
        if (!out_.empty() && out_.back() != '{') out_ += ',';
        out_.append("\"").append(name).append("\":");
    }
    std::string& out_;
};

void write_attempts(const Trail& trail, Line& line) {
    line.open("v");
    for (std::size_t i = 0; i < std::min(trail.attempt_count, Trail::attempts_max); ++i) {
        const AttemptNote& one = trail.attempt_at(i);
        line.open_item();
        line.text("provider", one.provider);
        line.number("status", one.status);
        if (one.failure != nullptr) line.word("failure", one.failure);
        line.number("latency_us", micros(one.ended - one.started));
        if (one.is_byok) line.flag("byok", true);
        line.close('}');
    }
    line.close(']');
}

std::string_view header_of(const Call& call, std::string_view name) {
    return call.exchange.head().header(name).value_or(std::string_view()).substr(0, header_bytes_max);
}

}  // namespace

void Observer::begin(Call& call) const {
    if (call.client) call.trail.api = call.client->api();
    if (call.is_openrouter) {
        call.trail.api = "openrouter";
        call.exchange.add_header("x-generation-id", call.exchange.id().text());
    }
    if (services_.tracer != nullptr && services_.tracer->is_on())
        call.trail.trace = services_.tracer->begin(call.exchange.head().header("traceparent").value_or(""));
    if (services_.log != nullptr && services_.log->keeps_bodies())
        call.trail.kept_bytes_max = services_.log->body_bytes_max();
}

// In a destructor: whatever goes wrong here is not the request's fault.
void Observer::end(Call& call) noexcept try {
    if (call.trail.trace) trace(call);
    if (call.model) count(call);
    if (call.key && services_.log != nullptr && services_.log->is_on()) log(call);
} catch (const std::exception& e) {
    LOG_ERROR("request not observed", {"request", call.exchange.id().text()}, {"what", e.what()});
}

Observer::RouteMetrics& Observer::route_metrics(const std::string& model, const std::string& provider) {
    std::pair<std::string_view, std::string_view> wanted(model, provider);
    {
        std::shared_lock lock(mutex_);
        auto found = routes_.find(wanted);
        if (found != routes_.end()) return *found->second;
    }
    std::unique_lock lock(mutex_);
    auto& slot = routes_[{model, provider}];
    if (slot) return *slot;
    metrics::Registry& registry = services_.metrics;
    metrics::Labels labels{{"model", model}, {"provider", provider}};
    slot.reset(new RouteMetrics{
        .output_tokens = registry.counter("nebula_generated_tokens_total",
                                          "Output tokens of streams whose times were measured.", labels),
        .first_token = registry.histogram("nebula_stream_first_token_seconds",
                                          "Request to first content of a stream.", labels),
        .generation =
            registry.histogram("nebula_generation_seconds", "First content of a stream to its end.", labels),
        .between_tokens = registry.histogram("nebula_inter_token_seconds",
                                             "Mean time between the tokens of a stream.", labels),
    });
    return *slot;
}

Observer::PlanMetrics& Observer::plan_metrics(const std::string& plan) {
    {
        std::shared_lock lock(mutex_);
        auto found = plans_.find(plan);
        if (found != plans_.end()) return *found->second;
    }
    std::unique_lock lock(mutex_);
    auto& slot = plans_[plan];
    if (slot) return *slot;
    metrics::Registry& registry = services_.metrics;
    std::string name = plan.empty() ? "none" : plan;
    auto requests = [&](const char* result) -> metrics::Counter& {
        return registry.counter("nebula_plan_requests_total", "Requests by the account's plan and result.",
                                {{"plan", name}, {"result", result}});
    };
    auto tokens = [&](const char* direction) -> metrics::Counter& {
        return registry.counter("nebula_plan_tokens_total", "Tokens by the account's plan and direction.",
                                {{"plan", name}, {"direction", direction}});
    };
    slot.reset(new PlanMetrics{requests("answered"), requests("failed"), tokens("input"), tokens("output")});
    return *slot;
}

void Observer::count(const Call& call) {
    const Trail& trail = call.trail;
    if (trail.error != nullptr)
        services_.metrics
            .counter("nebula_request_errors_total", "Requests that ended badly, by model and code.",
                     {{"model", call.model->id}, {"code", trail.error}})
            .add();
    if (call.terms) {
        PlanMetrics& plan = plan_metrics(call.terms->plan);
        (trail.error == nullptr ? plan.completed : plan.failed).add();
        plan.input_tokens.add(static_cast<std::uint64_t>(call.billed.input));
        plan.output_tokens.add(static_cast<std::uint64_t>(call.billed.output));
    }
    bool is_timed = trail.is_settled && call.first_token_us > 0 && call.provider != nullptr;
    if (!is_timed) return;
    RouteMetrics& route = route_metrics(call.model->id, call.provider->name);
    std::int64_t generation = std::max<std::int64_t>(0, trail.produced_us - call.first_token_us);
    route.first_token.observe_us(call.first_token_us);
    route.generation.observe_us(generation);
    route.output_tokens.add(static_cast<std::uint64_t>(call.billed.output));
    if (call.billed.output > 1) route.between_tokens.observe_us(generation / (call.billed.output - 1));
}

void Observer::trace(const Call& call) const {
    using telemetry::SpanText;
    const Trail& trail = call.trail;
    telemetry::Tracer& tracer = *services_.tracer;
    Ticks now = services_.clock.ticks();
    Time ended = services_.clock.now();
    auto time_of = [&](Ticks at) { return ended - std::chrono::microseconds(micros(now - at)); };
    const EndpointInfo endpoint = info(call.endpoint);
    std::string_view model =
        call.model ? std::string_view(call.model->id) : std::string_view(call.request.model);
    const char* operation = call.endpoint == Endpoint::completions ? "text_completion" : endpoint.word;
    std::string name = std::string(operation) + " " + std::string(model);

    for (std::size_t i = 0; i < std::min(trail.attempt_count, Trail::attempts_max); ++i) {
        const AttemptNote& one = trail.attempt_at(i);
        SpanText span(trail.trace->id, one.span, trail.trace->root, name, SpanText::Kind::client,
                      time_of(one.started), time_of(one.ended));
        span.text("gen_ai.operation.name", operation).text("gen_ai.provider.name", one.provider);
        span.text("gen_ai.request.model", one.upstream_model)
            .number("nebula.attempt", static_cast<std::int64_t>(i));
        if (one.status != 0) span.number("http.response.status_code", one.status);
        if (one.failure != nullptr) span.text("error.type", one.failure);
        if (i == trail.told_attempt && call.first_token_us > 0)
            span.event(time_of(call.exchange.started()) + std::chrono::microseconds(call.first_token_us),
                       "first_token");
        tracer.add(span.take(one.failure != nullptr, one.failure != nullptr ? one.failure : ""));
    }

    const http::RequestHead& head = call.exchange.head();
    SpanText span(trail.trace->id, trail.trace->root, trail.trace->parent,
                  std::string(http::method_name(head.method)) + " " + std::string(head.path),
                  SpanText::Kind::server, time_of(call.exchange.started()), ended);
    span.text("http.request.method", http::method_name(head.method)).text("url.path", head.path);
    span.text("user_agent.original", header_of(call, "user-agent"));
    if (trail.status != 0) span.number("http.response.status_code", trail.status);
    span.text("gen_ai.operation.name", operation).text("gen_ai.request.model", model);
    if (call.provider != nullptr) span.text("gen_ai.provider.name", call.provider->name);
    span.text("gen_ai.response.id", trail.upstream_id)
        .texts("gen_ai.response.finish_reasons", trail.finish_reason);
    if (trail.is_settled) {
        span.text("gen_ai.response.model", model);
        span.number("gen_ai.usage.input_tokens", call.billed.input);
        span.number("gen_ai.usage.output_tokens", call.billed.output);
        span.number("nebula.charge_nanos", call.settled.charge.value);
    }
    span.text("nebula.request.id", call.exchange.id().text()).flag("nebula.streamed", call.request.stream);
    if (call.key) {
        span.text("nebula.account.id", call.key->account.text());
        if (call.key->id) span.text("nebula.key.id", call.key->id.text());
    }
    if (trail.error != nullptr) span.text("error.type", trail.error);
    // What the client did wrong is no error of the server.
    bool is_error = trail.error != nullptr && (trail.status >= 500 || trail.status == 200);
    tracer.add(span.take(is_error, is_error ? trail.error : ""));
}

void Observer::log(Call& call) const {
    std::optional<records::Bodies> bodies;
    if (call.trail.kept_bytes_max > 0 && call.body.size() <= call.trail.kept_bytes_max &&
        !call.trail.is_output_too_large)
        bodies = records::Bodies{std::string(call.body), std::move(call.trail.output)};
    thread_local std::string entry;
    write_entry(call, entry);
    services_.log->add(call.key->account, call.exchange.id(), entry, std::move(bodies));
}

// The names are those of records/entry.hpp; what has its usual value is left out.
void Observer::write_entry(const Call& call, std::string& out) const {
    const Trail& trail = call.trail;
    std::int64_t latency = micros(services_.clock.ticks() - call.exchange.started());
    Line line(out);
    line.open_item();
    line.word("i", call.exchange.id().text());
    if (call.key->id) line.word("k", call.key->id.text());
    line.number("t", to_micros(services_.clock.now()) - latency);
    if (trail.api != std::string_view("openai")) line.word("a", trail.api);
    if (call.endpoint != Endpoint::chat) line.word("p", info(call.endpoint).word);
    if (call.model)
        line.word("m", call.model->id);
    else
        line.text("m", std::string_view(call.request.model).substr(0, header_bytes_max));
    if (call.provider != nullptr) line.text("r", call.provider->name);
    line.text("u", trail.upstream_id);
    if (trail.status != 200) line.number("s", trail.status);
    if (trail.error != nullptr) line.word("e", trail.error);
    if (call.request.stream) line.flag("d", true);
    line.text("f", trail.finish_reason);
    if (trail.is_settled) {
        if (trail.outcome != billing::Outcome::completed)
            line.word("w", billing::outcome_name(trail.outcome));
        line.number("n", call.billed.input);
        line.number("o", call.billed.output);
        if (call.billed.cached > 0) line.number("c", call.billed.cached);
        if (call.billed.reasoning > 0) line.number("h", call.billed.reasoning);
        std::string_view tokenizer = tokenizer_of(call);
        if (tokenizer != "provider") line.word("z", tokenizer);
        line.number("q", call.settled.charge.value);
        if (call.own_key) line.flag("j", true);
        if (call.own_key) line.number("uc", call.upstream_cost().value);
    }
    line.number("l", latency);
    if (call.first_token_us > 0) line.number("b", call.first_token_us);
    line.text("g", header_of(call, "user-agent"));
    line.text("x", header_of(call, "http-referer"));
    std::string_view title = header_of(call, "x-openrouter-title");
    line.text("y", title.empty() ? header_of(call, "x-title") : title);
    bool is_plain = trail.attempt_count == 0 || (trail.attempt_count == 1 && trail.error == nullptr);
    if (!is_plain) write_attempts(trail, line);
    line.close('}');
}

}  // namespace nebula::gateway

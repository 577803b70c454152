// Sampling, the queue, and sending it.
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>

#include "async/task_group.hpp"
#include "base/crypto.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "telemetry/telemetry.hpp"

namespace nebula::telemetry {
namespace {

constexpr int tries_max = 6;
constexpr std::chrono::milliseconds pause_first{1'000}, pause_max{30'000};
constexpr std::chrono::milliseconds last_words{2'000};  // for sending at the end of the process
constexpr std::chrono::milliseconds nap{100};           // how soon a stop is noticed
constexpr std::size_t answer_bytes_max = 64 * 1024;

// 0 to 1 as parts of 2^32.
std::optional<std::uint64_t> parse_ratio(std::string_view text) {
    double value = 0;
    auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc() || end != text.data() + text.size() || !(value >= 0 && value <= 1))
        return std::nullopt;
    return static_cast<std::uint64_t>(value * 4294967296.0);
}

// "name=value" pairs, percent-encoded as in W3C baggage; blanks around are ignored.
std::string decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned char byte = 0;
        bool is_escape =
            text[i] == '%' && i + 2 < text.size() &&
            std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr == text.data() + i + 3;
        out += is_escape ? static_cast<char>(byte) : text[i];
        if (is_escape) i += 2;
    }
    return out;
}

Result<std::string> header_lines(const std::string& env) {
    const char* value = env.empty() ? nullptr : std::getenv(env.c_str());
    std::string lines;
    if (value == nullptr) return lines;
    for (std::string_view pair : split(value, ',')) {
        if (trim(pair).empty()) continue;
        std::size_t equals = pair.find('=');
        std::string name(trim(pair.substr(0, std::min(equals, pair.size()))));
        std::string text = equals == std::string_view::npos ? "" : decoded(trim(pair.substr(equals + 1)));
        bool is_safe =
            std::ranges::none_of(name + text, [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
        if (name.empty() || equals == std::string_view::npos || !is_safe ||
            name.find(':') != std::string::npos)
            return fail(Code::invalid_request, env + ": must be name=value pairs separated by commas",
                        "telemetry.otlp_headers_env");
        lines += name + ": " + text + "\r\n";
    }
    return lines;
}

Result<std::string> resource_json(const std::vector<std::string>& attributes) {
    std::string out;
    for (const std::string& one : attributes) {
        std::size_t equals = one.find('=');
        if (equals == std::string::npos || equals == 0)
            return fail(Code::invalid_request,
                        "telemetry.resource_attributes: '" + one + "' must be name=value",
                        "telemetry.resource_attributes");
        if (!out.empty()) out += ',';
        out += R"({"key":)" + json_string(one.substr(0, equals)) + R"(,"value":{"stringValue":)" +
               json_string(one.substr(equals + 1)) + "}}";
    }
    return out;
}

bool is_worth_another_try(int status) {
    return status == 429 || status == 502 || status == 503 || status == 504;
}

}  // namespace

void TelemetrySettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "otlp_endpoint",
         .help =
             "URL of an OpenTelemetry collector (http://HOST:4318); spans go to its /v1/traces. Empty: no "
             "traces."},
        otlp_endpoint);
    v.field({.name = "otlp_headers_env",
             .help = "Environment variable with headers for the collector: name=value, separated by commas."},
            otlp_headers_env);
    v.field(
        {.name = "sample_ratio", .help = "Part of the requests that are traced, 0 to 1, as decimal text."},
        sample_ratio);
    v.field(
        {.name = "follow_clients",
         .help =
             "A client's traceparent decides whether its request is traced, and becomes the parent. Off: its "
             "header is ignored."},
        follow_clients);
    v.field({.name = "resource_attributes",
             .help = "What the collector is told about this process, as name=value."},
            resource_attributes);
    v.field({.name = "queue_max",
             .help = "Spans waiting to be sent; further ones are dropped.",
             .min = 1,
             .max = 1'000'000},
            queue_max);
    v.field({.name = "batch_max", .help = "Spans in one request to the collector.", .min = 1, .max = 10'000},
            batch_max);
    v.field({.name = "flush_ms",
             .help = "How long spans wait for others, in milliseconds.",
             .min = 10,
             .max = 60'000},
            flush);
    v.field({.name = "timeout_ms",
             .help = "For one request to the collector, in milliseconds.",
             .min = 100,
             .max = 60'000},
            timeout);
}

struct Tracer::Impl {
    Impl(const TelemetrySettings& the_settings, IoThreads& the_threads, http::Client& the_client,
         const Clock& the_clock, metrics::Registry& metrics)
        : settings(the_settings),
          threads(the_threads),
          client(the_client),
          clock(the_clock),
          sent(spans(metrics, "sent")),
          dropped(spans(metrics, "dropped")),
          refused(spans(metrics, "refused")),
          failures(
              metrics.counter("nebula_telemetry_failures_total", "Requests to the collector that failed.")),
          depth(metrics.gauge("nebula_telemetry_queue", "Spans waiting to be sent.")) {
        metrics.gauge("nebula_telemetry_queue_max", "Limit of waiting spans.").set(settings.queue_max);
    }
    static metrics::Counter& spans(metrics::Registry& metrics, const char* result) {
        return metrics.counter("nebula_telemetry_spans_total", "Spans by what became of them.",
                               {{"result", result}});
    }

    enum class Sent { done, refused, failed };
    Async<void> run();
    Async<void> deliver(std::vector<std::string> batch);
    Async<Sent> send(std::string body, std::chrono::milliseconds timeout, std::chrono::milliseconds& wait);
    Async<void> rest(std::chrono::milliseconds time);
    std::vector<std::string> take();
    std::string body_of(const std::vector<std::string>& batch) const;
    bool stopping() const { return is_stopping.load(); }

    const TelemetrySettings settings;
    IoThreads& threads;
    http::Client& client;
    const Clock& clock;
    bool is_on = false;
    std::uint64_t ratio = 0;
    http::ParsedUrl url;
    std::string headers, resource;
    metrics::Counter &sent, &dropped, &refused, &failures;
    metrics::Gauge& depth;

    std::mutex mutex;
    std::deque<std::string> queue;
    std::atomic<bool> is_stopping = false;
    TaskGroup tasks{"telemetry"};
};

Async<void> Tracer::Impl::rest(std::chrono::milliseconds time) {
    Ticks until = clock.ticks() + time;
    while (!stopping() && clock.ticks() < until)
        co_await sleep_until(
            std::min(until, clock.ticks() + std::chrono::duration_cast<Ticks::duration>(nap)));
}

std::vector<std::string> Tracer::Impl::take() {
    std::lock_guard lock(mutex);
    std::vector<std::string> batch;
    while (!queue.empty() && batch.size() < static_cast<std::size_t>(settings.batch_max)) {
        batch.push_back(std::move(queue.front()));
        queue.pop_front();
    }
    depth.set(static_cast<std::int64_t>(queue.size()));
    return batch;
}

std::string Tracer::Impl::body_of(const std::vector<std::string>& batch) const {
    std::string body = R"({"resourceSpans":[{"resource":{"attributes":[)" + resource +
                       R"(]},"scopeSpans":[{"scope":{"name":"nebula","version":")" NEBULA_VERSION
                       R"("},"spans":[)";
    for (const std::string& span : batch) {
        if (body.back() != '[') body += ',';
        body += span;
    }
    return body + "]}]}]}";
}

Async<void> Tracer::Impl::run() {
    while (true) {
        bool is_last = stopping();
        auto batch = take();
        if (batch.empty()) {
            if (is_last) co_return;
            co_await rest(settings.flush);
            continue;
        }
        bool is_full = batch.size() >= static_cast<std::size_t>(settings.batch_max);
        co_await deliver(std::move(batch));
        if (!is_full) co_await rest(settings.flush);
    }
}

Async<void> Tracer::Impl::deliver(std::vector<std::string> batch) {
    std::string body = body_of(batch);
    std::chrono::milliseconds pause = pause_first;
    for (int tries = 0; tries < tries_max; ++tries) {
        std::chrono::milliseconds wait{0};
        Sent result =
            co_await send(body, stopping() ? std::min(last_words, settings.timeout) : settings.timeout, wait);
        if (result == Sent::done) {
            sent.add(batch.size());
            co_return;
        }
        failures.add();
        if (result == Sent::refused) {
            refused.add(batch.size());
            co_return;
        }
        if (stopping()) break;
        co_await rest(std::max(wait, pause));
        pause = std::min(pause * 2, pause_max);
    }
    dropped.add(batch.size());
}

Async<Tracer::Impl::Sent> Tracer::Impl::send(std::string body, std::chrono::milliseconds time,
                                             std::chrono::milliseconds& wait) {
    std::string_view piece = body;
    http::ClientRequest request;
    request.path = url.path + "/v1/traces";
    request.headers = "content-type: application/json\r\nuser-agent: nebula/" NEBULA_VERSION "\r\n" + headers;
    request.body_pieces = std::span(&piece, 1);
    request.timeouts = {time, time, time, time};
    auto response = co_await client.send(url.origin, std::move(request), nullptr);
    if (!response) {
        LOG_DEBUG("collector not reached", {"detail", response.error().detail});
        co_return Sent::failed;
    }
    int status = (*response)->status();
    auto after = (*response)->header("retry-after");
    auto seconds = after ? parse_int<int>(trim(*after)) : std::nullopt;
    if (seconds && *seconds > 0)
        wait = std::min<std::chrono::milliseconds>(std::chrono::seconds(*seconds), pause_max);
    auto ignored = co_await (*response)->read_all(answer_bytes_max);
    if (status >= 200 && status < 300) co_return Sent::done;
    if (is_worth_another_try(status)) co_return Sent::failed;
    LOG_WARN("the collector refuses our spans", {"status", status});
    co_return Sent::refused;
}

Tracer::Tracer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tracer::~Tracer() { stop(); }

Result<std::unique_ptr<Tracer>> Tracer::make(const TelemetrySettings& settings, IoThreads& threads,
                                             http::Client& client, const Clock& clock,
                                             metrics::Registry& metrics) {
    auto impl = std::make_unique<Impl>(settings, threads, client, clock, metrics);
    auto ratio = parse_ratio(settings.sample_ratio);
    if (!ratio)
        return fail(Code::invalid_request, "telemetry.sample_ratio: must be a number from 0 to 1",
                    "telemetry.sample_ratio");
    impl->ratio = *ratio;
    auto resource = resource_json(settings.resource_attributes);
    if (!resource) return fail(std::move(resource.error()));
    impl->resource = std::move(*resource);
    if (!settings.otlp_endpoint.empty()) {
        auto url = http::parse_url(settings.otlp_endpoint);
        if (!url)
            return fail(Code::invalid_request, "telemetry.otlp_endpoint: " + url.error().message,
                        "telemetry.otlp_endpoint");
        impl->url = std::move(*url);
        auto headers = header_lines(settings.otlp_headers_env);
        if (!headers) return fail(std::move(headers.error()));
        impl->headers = std::move(*headers);
        impl->is_on = true;
    }
    return std::unique_ptr<Tracer>(new Tracer(std::move(impl)));
}

void Tracer::start() {
    if (impl_->is_on) impl_->tasks.spawn(impl_->threads[0], impl_->run());
}

void Tracer::stop() {
    impl_->is_stopping = true;
    impl_->tasks.close();
    impl_->tasks.wait();
}

bool Tracer::is_on() const { return impl_->is_on; }

std::optional<Trace> Tracer::begin(std::string_view traceparent) const {
    if (!impl_->is_on) return std::nullopt;
    Trace trace;
    if (impl_->settings.follow_clients && !traceparent.empty()) {
        if (auto parent = parse_traceparent(traceparent)) {
            if (!parent->is_sampled) return std::nullopt;
            trace.id = parent->trace;
            trace.parent = parent->span;
            trace.root = Trace::new_span();
            return trace;
        }
    }
    random_bytes(trace.id);
    std::uint32_t draw = 0;
    std::memcpy(&draw, trace.id.data() + 12, sizeof draw);
    if (draw >= impl_->ratio) return std::nullopt;
    trace.root = Trace::new_span();
    return trace;
}

void Tracer::add(std::string span) {
    std::lock_guard lock(impl_->mutex);
    if (impl_->is_stopping || impl_->queue.size() >= static_cast<std::size_t>(impl_->settings.queue_max)) {
        impl_->dropped.add();
        return;
    }
    impl_->queue.push_back(std::move(span));
    impl_->depth.set(static_cast<std::int64_t>(impl_->queue.size()));
}

}  // namespace nebula::telemetry

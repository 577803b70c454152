#pragma once
// Traces for an OpenTelemetry collector: spans are sent as OTLP/HTTP with JSON
// (opentelemetry.io/docs/specs/otlp), in batches, from the background. What the collector does not take in
// time is dropped and counted; a request never waits for it. W3C trace context (www.w3.org/TR/trace-context)
// connects clients, us and providers.

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/io_thread.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/settings.hpp"
#include "http/client.hpp"

namespace nebula::telemetry {

struct TelemetrySettings {      // [telemetry]
    std::string otlp_endpoint;  // empty: off
    std::string otlp_headers_env = "OTEL_EXPORTER_OTLP_HEADERS";
    std::string sample_ratio = "1";
    bool follow_clients = true;
    std::vector<std::string> resource_attributes = {"service.name=nebula"};
    std::int64_t queue_max = 8'192;  // spans waiting to be sent, then they are dropped
    std::int64_t batch_max = 512;
    std::chrono::milliseconds flush{2'000};
    std::chrono::milliseconds timeout{10'000};
    void describe(settings::Visitor& v);
};

using TraceId = std::array<unsigned char, 16>;
using SpanId = std::uint64_t;  // 0: none

struct TraceParent {
    TraceId trace{};
    SpanId span = 0;
    bool is_sampled = false;
};
/// Empty unless it is one by the letter of the recommendation; versions above 00 are read as 00.
std::optional<TraceParent> parse_traceparent(std::string_view header);
std::string traceparent_text(const TraceParent& parent);

/// One request that is traced.
struct Trace {
    TraceId id{};
    SpanId parent = 0;  // the client's
    SpanId root = 0;    // the request's own span
    static SpanId new_span();
};

/// Writes one span as OTLP's JSON, front to back.
class SpanText {
   public:
    enum class Kind { server = 2, client = 3 };
    SpanText(const TraceId& trace, SpanId id, SpanId parent, std::string_view name, Kind kind, Time start,
             Time end);
    SpanText& text(std::string_view key, std::string_view value);
    SpanText& number(std::string_view key, std::int64_t value);
    SpanText& flag(std::string_view key, bool value);
    SpanText& texts(std::string_view key, std::string_view only);  // an array with one text
    SpanText& event(Time at, std::string_view name);
    std::string take(bool is_error, std::string_view message = {});

   private:
    void key(std::string_view name, const char* type);
    std::string out_;
    std::string events_;
    bool has_attribute_ = false;
};

/// Thread-safe.
class Tracer {
   public:
    /// Errors name the setting: an endpoint that is no URL, a ratio or attribute that is none.
    static Result<std::unique_ptr<Tracer>> make(const TelemetrySettings& settings, IoThreads& threads,
                                                http::Client& client, const Clock& clock,
                                                metrics::Registry& metrics);
    ~Tracer();     // stop()
    void start();  // sends from threads[0]
    void stop();   // tries once to send what waits

    bool is_on() const;
    /// The trace of a request; empty when it is not to be recorded. `traceparent`: the client's header or
    /// empty.
    std::optional<Trace> begin(std::string_view traceparent) const;
    /// A span that has ended, as SpanText made it.
    void add(std::string span);

   private:
    struct Impl;
    explicit Tracer(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::telemetry

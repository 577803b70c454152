#include "load/report.hpp"

#include <cstdio>

namespace nebula::bench {
namespace {

/// Writes an object member by member. Names and texts are our own and need no escaping.
class JsonObject {
   public:
    JsonObject& raw(std::string_view name, std::string_view value) {
        text_ += text_.size() > 1 ? ",\"" : "\"";
        text_.append(name).append("\":").append(value);
        return *this;
    }
    JsonObject& text(std::string_view name, std::string_view value) {
        return raw(name, "\"" + std::string(value) + "\"");
    }
    JsonObject& number(std::string_view name, std::uint64_t value) {
        return raw(name, std::to_string(value));
    }
    JsonObject& decimal(std::string_view name, double value) {
        char digits[64];
        std::snprintf(digits, sizeof digits, "%.3f", value);
        return raw(name, digits);
    }
    std::string done() const { return text_ + "}"; }

   private:
    std::string text_ = "{";
};

std::string times(const Histogram& histogram) {
    auto micros = [](std::uint64_t nanos) { return static_cast<double>(nanos) / 1e3; };
    JsonObject object;
    object.number("count", histogram.count())
        .decimal("p50", micros(histogram.quantile(0.5)))
        .decimal("p90", micros(histogram.quantile(0.9)))
        .decimal("p99", micros(histogram.quantile(0.99)))
        .decimal("p999", micros(histogram.quantile(0.999)))
        .decimal("max", micros(histogram.max()));
    return object.done();
}

}  // namespace

std::uint64_t Results::error_count() const {
    std::uint64_t count = 0;
    for (const auto& [reason, number] : errors) count += number;
    return count;
}

std::string to_json(const LoadOptions& options, const Results& results) {
    JsonObject errors;
    for (const auto& [reason, number] : results.errors) errors.number(reason, number);
    double seconds = results.seconds > 0 ? results.seconds : 1;
    JsonObject object;
    object.text("mode", options.mode())
        .number("connections", options.connections)
        .decimal("rate", options.rate)
        .decimal("seconds", results.seconds)
        .number("requests", results.requests)
        .decimal("requests_per_s", static_cast<double>(results.requests) / seconds)
        .raw("errors", errors.done())
        .number("error_count", results.error_count())
        .number("altered_bodies", results.altered_bodies)
        .number("aborted", results.aborted)
        .number("unfinished", results.unfinished)
        .number("closed_by_server", results.closed_by_server)
        .raw("latency_us", times(results.latency));
    if (options.shape.is_streaming) {
        object.number("frames", results.frames)
            .decimal("frames_per_s", static_cast<double>(results.frames) / seconds)
            .number("altered_events", results.altered_events)
            .number("broken_streams", results.broken_streams)
            .number("streams_open", results.streams_open)
            .raw("first_event_us", times(results.first_event))
            .raw("frame_delay_us", times(results.frame_delay));
    }
    if (options.is_idle) {
        object.number("connections_held", results.connections_held)
            .number("connections_alive", results.connections_alive);
    }
    return object.done();
}

}  // namespace nebula::bench

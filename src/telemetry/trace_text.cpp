// Trace context and spans as text.
#include <charconv>
#include <cstring>
#include <span>

#include "base/crypto.hpp"
#include "base/text.hpp"
#include "telemetry/telemetry.hpp"

namespace nebula::telemetry {
namespace {

constexpr std::size_t value_bytes_max = 512;  // of an attribute

// Lower-case hexadecimal digits only, as the recommendation demands.
bool read_hex(std::string_view text, std::span<unsigned char> out) {
    auto digit = [](char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    };
    for (std::size_t i = 0; i < out.size(); ++i) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out[i] = static_cast<unsigned char>(high * 16 + low);
    }
    return true;
}

std::string span_hex(SpanId id) {
    std::array<unsigned char, 8> bytes{};
    for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(id >> (56 - 8 * i));
    return to_hex(bytes);
}

void append_time(std::string& out, Time at) {
    char digits[24];
    auto end = std::to_chars(digits, digits + sizeof digits, to_micros(at)).ptr;
    out.append(digits, end).append("000");
}

}  // namespace

std::optional<TraceParent> parse_traceparent(std::string_view header) {
    constexpr std::size_t length = 55;  // 00-<32>-<16>-<2>
    if (header.size() < length || header[2] != '-' || header[35] != '-' || header[52] != '-')
        return std::nullopt;
    std::array<unsigned char, 1> version{}, flags{};
    std::array<unsigned char, 8> span{};
    TraceParent parent;
    bool is_hex = read_hex(header.substr(0, 2), version) && read_hex(header.substr(3, 32), parent.trace) &&
                  read_hex(header.substr(36, 16), span) && read_hex(header.substr(53, 2), flags);
    if (!is_hex || version[0] == 0xFF) return std::nullopt;
    // A later version may add to the end, this one may not.
    if (header.size() > length && (version[0] == 0 || header[length] != '-')) return std::nullopt;
    for (unsigned char byte : span) parent.span = parent.span << 8 | byte;
    parent.is_sampled = (flags[0] & 1) != 0;
    if (parent.span == 0 || parent.trace == TraceId{}) return std::nullopt;
    return parent;
}

std::string traceparent_text(const TraceParent& parent) {
    return "00-" + to_hex(parent.trace) + "-" + span_hex(parent.span) + (parent.is_sampled ? "-01" : "-00");
}

SpanId Trace::new_span() {
    SpanId id = 0;
    while (id == 0) {
        std::array<unsigned char, sizeof id> bytes{};
        random_bytes(bytes);
        std::memcpy(&id, bytes.data(), sizeof id);
    }
    return id;
}

SpanText::SpanText(const TraceId& trace, SpanId id, SpanId parent, std::string_view name, Kind kind,
                   Time start, Time end) {
    out_.reserve(1024);
    out_.append(R"({"traceId":")")
        .append(to_hex(trace))
        .append(R"(","spanId":")")
        .append(span_hex(id))
        .append("\"");
    if (parent != 0) out_.append(R"(,"parentSpanId":")").append(span_hex(parent)).append("\"");
    out_.append(R"(,"flags":1,"name":")");
    append_json_escaped(out_, name.substr(0, value_bytes_max));
    out_.append(R"(","kind":)").append(kind == Kind::server ? "2" : "3").append(R"(,"startTimeUnixNano":")");
    append_time(out_, start);
    out_.append(R"(","endTimeUnixNano":")");
    append_time(out_, end);
    out_.append(R"(","attributes":[)");
}

void SpanText::key(std::string_view name, const char* type) {
    if (has_attribute_) out_ += ',';
    has_attribute_ = true;
    out_.append(R"({"key":")").append(name).append(R"(","value":{")").append(type).append("\":");
}

SpanText& SpanText::text(std::string_view name, std::string_view value) {
    if (value.empty()) return *this;
    key(name, "stringValue");
    out_ += '"';
    append_json_escaped(out_, value.substr(0, value_bytes_max));
    out_ += "\"}}";
    return *this;
}

// 64-bit numbers are texts in protobuf's JSON.
SpanText& SpanText::number(std::string_view name, std::int64_t value) {
    key(name, "intValue");
    out_.append("\"").append(std::to_string(value)).append("\"}}");
    return *this;
}

SpanText& SpanText::flag(std::string_view name, bool value) {
    key(name, "boolValue");
    out_.append(value ? "true}}" : "false}}");
    return *this;
}

SpanText& SpanText::texts(std::string_view name, std::string_view only) {
    if (only.empty()) return *this;
    key(name, "arrayValue");
    out_ += R"({"values":[{"stringValue":")";
    append_json_escaped(out_, only.substr(0, value_bytes_max));
    out_ += "\"}]}}}";
    return *this;
}

SpanText& SpanText::event(Time at, std::string_view name) {
    if (!events_.empty()) events_ += ',';
    events_ += R"({"timeUnixNano":")";
    append_time(events_, at);
    events_.append(R"(","name":")").append(name).append("\"}");
    return *this;
}

std::string SpanText::take(bool is_error, std::string_view message) {
    out_ += "]";
    if (!events_.empty()) out_.append(R"(,"events":[)").append(events_).append("]");
    out_ += R"(,"status":{)";
    if (is_error) {
        out_ += R"("code":2,"message":")";
        append_json_escaped(out_, message.substr(0, value_bytes_max));
        out_ += '"';
    }
    out_ += "}}";
    return std::move(out_);
}

}  // namespace nebula::telemetry

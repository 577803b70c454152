#include "common/payload.hpp"

#include <charconv>
#include <cstdio>

namespace nebula::bench {
namespace {

constexpr std::string_view chunk_head =
    R"(data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"bench",)";
constexpr std::string_view content_head = R"("choices":[{"index":0,"delta":{"content":")";
constexpr std::string_view content_tail = R"("},"finish_reason":null}]})";
// Two characters that JSON never escapes and that appear nowhere else in an event.
constexpr std::string_view stamp_mark = "@@";
constexpr std::size_t time_digits = 19;
constexpr std::size_t number_digits = 7;
static_assert(chunk_head.size() + content_head.size() + stamp_mark.size() + time_digits + 1 + number_digits +
                      content_tail.size() + 2 <=
                  event_bytes,
              "a content event must have room for its stamp");

std::string event(std::string_view rest) {
    std::string text(chunk_head);
    text.append(rest).append("\n\n");
    return text;
}

/// The text right after `"name":`, spaces skipped; empty when the member does not appear.
std::string_view member(std::string_view body, std::string_view name) {
    std::size_t at = body.find(name);
    if (at == std::string_view::npos) return {};
    at = body.find_first_not_of(" \t\r\n", at + name.size());
    if (at == std::string_view::npos || body[at] != ':') return {};
    at = body.find_first_not_of(" \t\r\n", at + 1);
    return at == std::string_view::npos ? std::string_view{} : body.substr(at);
}

}  // namespace

const std::string& completion_body() {
    static const std::string body = [] {
        std::string head =
            R"({"id":"chatcmpl-bench","object":"chat.completion","created":1790000000,"model":"bench",)"
            R"("choices":[{"index":0,"message":{"role":"assistant","content":")";
        std::string tail = R"("},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":42,)"
                           R"("completion_tokens":96,)"
                           R"("total_tokens":138},"system_fingerprint":"fp_bench"})";
        constexpr std::string_view words =
            "Every request is admitted, routed, forwarded, metered and settled. ";
        for (std::size_t i = 0; head.size() + tail.size() < 610; ++i) head.push_back(words[i % words.size()]);
        return head + tail;
    }();
    return body;
}

const std::string& role_event() {
    static const std::string text =
        event(R"("choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]})");
    return text;
}

std::string content_event(std::uint32_t number, std::int64_t written_ns) {
    char stamp[64];
    int size =
        std::snprintf(stamp, sizeof stamp, "@@%019lld %07u", static_cast<long long>(written_ns), number);
    std::string text;
    text.reserve(event_bytes);
    text.append(chunk_head).append(content_head).append(stamp, static_cast<std::size_t>(size));
    text.append(event_bytes - text.size() - content_tail.size() - 2, ' ');
    text.append(content_tail).append("\n\n");
    return text;
}

const std::string& finish_event() {
    static const std::string text = event(R"("choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})");
    return text;
}

std::string usage_event(std::uint32_t tokens) {
    std::string usage = R"("choices":[],"usage":{"prompt_tokens":)" + std::to_string(prompt_tokens);
    usage += R"(,"completion_tokens":)" + std::to_string(tokens);
    usage += R"(,"total_tokens":)" + std::to_string(prompt_tokens + tokens) + "}}";
    return event(usage);
}

const std::string& done_event() {
    static const std::string text = "data: [DONE]\n\n";
    return text;
}

std::optional<Stamp> find_stamp(std::string_view text) {
    // Where our own upstream puts it, tried first: searching every event would cost more than comparing it.
    std::size_t at = chunk_head.size() + content_head.size();
    if (text.size() <= at + stamp_mark.size() || text.substr(at, stamp_mark.size()) != stamp_mark) {
        at = text.find(stamp_mark);
        if (at == std::string_view::npos) return std::nullopt;
    }
    at += stamp_mark.size();
    if (text.size() < at + time_digits + 1 + number_digits) return std::nullopt;
    const char* time = text.data() + at;
    const char* number = time + time_digits + 1;
    Stamp stamp{};
    auto time_end = std::from_chars(time, time + time_digits, stamp.written_ns);
    auto number_end = std::from_chars(number, number + number_digits, stamp.number);
    if (time_end.ptr != time + time_digits || number_end.ptr != number + number_digits) return std::nullopt;
    return stamp;
}

bool is_exact_content_event(std::string_view text) {
    static const std::string model = content_event(0, 0);
    constexpr std::size_t head = chunk_head.size() + content_head.size() + stamp_mark.size();
    constexpr std::size_t tail = head + time_digits + 1 + number_digits;
    return text.size() == event_bytes && text.substr(0, head) == std::string_view(model).substr(0, head) &&
           text.substr(tail) == std::string_view(model).substr(tail);
}

std::string request_body(const RequestShape& shape) {
    std::string head =
        R"({"model":"bench","messages":[{"role":"system","content":"You are a helpful assistant.)"
        R"( Answer briefly and exactly."},{"role":"user","content":"Explain in two sentences what a)"
        R"( reverse proxy does.)";
    std::string tail = R"("}],"temperature":0.7,"max_tokens":)" + std::to_string(shape.tokens);
    if (shape.is_streaming) {
        tail += R"(,"stream":true)";
        if (shape.wants_usage) tail += R"(,"stream_options":{"include_usage":true})";
    }
    tail += "}";
    constexpr std::string_view filler = " The quick brown fox jumps over the lazy dog while tokens flow.";
    while (head.size() + tail.size() < shape.body_bytes) head.push_back(filler[head.size() % filler.size()]);
    return head + tail;
}

RequestShape read_request(std::string_view body) {
    RequestShape shape;
    shape.body_bytes = body.size();
    shape.is_streaming = member(body, R"("stream")").starts_with("true");
    shape.wants_usage = member(body, R"("include_usage")").starts_with("true");
    std::string_view tokens = member(body, R"("max_tokens")");
    std::from_chars(tokens.data(), tokens.data() + tokens.size(), shape.tokens);
    return shape;
}

}  // namespace nebula::bench

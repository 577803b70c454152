#pragma once
// What the fake upstream sends, as functions that both programs share: the load generator rebuilds every
// answer and compares it byte for byte, so a proxy that changes, drops or reorders anything is caught without
// hashing.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nebula::bench {

inline constexpr std::uint32_t prompt_tokens = 42;
/// Size of one content event including the blank line that ends it.
inline constexpr std::size_t event_bytes = 200;

/// The non-streaming completion: 610 bytes with usage (42 + 96 tokens).
const std::string& completion_body();
/// The first event of a stream, without content.
const std::string& role_event();
/// A content event of exactly event_bytes that carries its number and the moment it was written.
std::string content_event(std::uint32_t number, std::int64_t written_ns);
const std::string& finish_event();
std::string usage_event(std::uint32_t tokens);
const std::string& done_event();

struct Stamp {
    std::uint32_t number;
    std::int64_t written_ns;
};
/// The stamp inside a content event, also when a proxy has written the JSON around it anew; nothing
/// otherwise.
std::optional<Stamp> find_stamp(std::string_view event);

/// True when the event is exactly what content_event() makes for some number and moment.
bool is_exact_content_event(std::string_view event);

struct RequestShape {
    bool is_streaming = false;
    bool wants_usage = false;
    std::uint32_t tokens = 0;    // max_tokens: the number of content events of a stream
    std::size_t body_bytes = 0;  // pads the prompt up to this body size; 0 for the natural one (about 300)
};
std::string request_body(const RequestShape& shape);
/// Reads a request body back, leniently: the members may stand anywhere.
RequestShape read_request(std::string_view body);

}  // namespace nebula::bench

#pragma once
// Reading OpenAI chat completions, whole or as stream events, for what metering and truthful endings need.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "billing/billing.hpp"
#include "gateway/endpoint.hpp"

namespace nebula::gateway {

class AnswerTokens;

/// usage as the provider reported it, or why it cannot be believed.
struct ReportedUsage {
    enum class State { absent, good, refused } state = State::absent;
    billing::TokenUsage usage;
    std::int64_t seconds = 0;  // of sound, rounded up; 0: not told
};

/// Largest counts that can be true for a request; above (or below zero) a report is refused.
struct UsageBounds {
    std::int64_t input_max = 0;
    std::int64_t output_max = 0;
    std::int64_t seconds_max = 0;
};

/// What one stream event or a whole answer says.
struct Completion {
    enum class Kind {
        malformed,  // not a JSON object of the expected shape
        error,      // {"error": …}
        chunk,      // has choices, possibly none
        done,       // [DONE]
        comment,    // an event without data
    } kind = Kind::malformed;
    bool has_choices = false;             // at least one choice
    bool has_content = false;             // a choice carries text, a refusal or tool calls
    bool has_finish = false;              // some choice has a finish_reason
    std::size_t content_bytes = 0;        // text, reasoning and arguments in it
    std::int64_t images = 0;              // whole ones
    std::string size = {}, quality = {};  // of the images, where it is told
    ReportedUsage usage = {};
    // JSON strings with their quotes, or empty; valid until this thread reads again.
    std::string_view raw_id = {};
    std::string_view raw_finish = {};
    std::string error_message = {};  // of kind error
};

/// Data of one event ("[DONE]" or JSON). `texts`, if any, gets the texts of chats and completions.
Completion read_chunk(std::string_view data, const UsageBounds& bounds, AnswerTokens* texts = nullptr);
/// Data of one event of images or sound: kind chunk, whatever its type; has_finish for the last of an image
/// or text ("….completed", "….done").
Completion read_media_event(std::string_view data, const UsageBounds& bounds);
/// A whole JSON answer. Embeddings and images have `data`, rerank and moderations `results`, transcriptions
/// `text` instead of choices. `room`: bytes that can be read from the body's start; with 64 behind its end it
/// is read where it lies.
Completion read_answer(std::string_view body, const UsageBounds& bounds, Endpoint endpoint = Endpoint::chat,
                       std::size_t room = 0, AnswerTokens* texts = nullptr);

/// Token count from bytes when nobody reported one: 4 bytes a token, at least one token per event that
/// carried content (providers send one token per event).
std::int64_t estimate_tokens(std::size_t bytes, std::int64_t content_events);

}  // namespace nebula::gateway

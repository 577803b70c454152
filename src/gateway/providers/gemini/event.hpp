#pragma once
// What one event of Gemini's stream says, or a whole answer: they have the same members. Texts are raw JSON
// (raw_json.hpp) in the reader's buffer.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/providers/openai_writer.hpp"
#include "gateway/raw_json.hpp"

namespace nebula::gateway::gemini {

struct Part {
    enum class Kind { other, text, call } kind = Kind::other;
    bool is_thought = false;
    std::string_view raw_text;
    std::string_view raw_id, raw_name, arguments;  // of a call; arguments are an object's text
    std::string_view raw_signature;
};

struct Candidate {
    std::int64_t index = 0;
    std::string finish_reason;  // empty: goes on
    std::string logprobs;       // a list in OpenAI's form; empty: none
    std::vector<Part> parts;
};

struct Event {
    std::string_view raw_model;
    std::string block_reason;    // of the prompt
    std::string_view raw_error;  // the provider's words
    std::size_t candidate_count = 0;
    std::vector<Candidate> candidates;  // longer than the count: kept for their buffers
    ToldUsage usage;                    // views into the two below where counts are sums
    std::string completion, prompt;
};

class EventReader {
   public:
    /// False: malformed. `event` is valid until the next call.
    bool read(std::string_view data, Event& event);

   private:
    raw::Document document_;
};

}  // namespace nebula::gateway::gemini

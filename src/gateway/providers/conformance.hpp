#pragma once
// What every kind of provider must do, whatever its words: requests keep their meaning on the way out;
// answers and streams keep theirs on the way in, are well formed in OpenAI's API, and never look whole when
// they are not. A kind's test derives from Kind and calls each check_… in a test of its own (see anthropic/).
// Tests only.

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/provider.hpp"

namespace nebula::gateway::conformance {

struct Call {
    std::string id, name;
    std::string arguments;  // JSON text of an object
};

/// One thing said in a conversation, in order. Texts of one role behind each other count as one.
struct Item {
    enum class What { text, image, call, result } what = What::text;
    std::string role;      // user or assistant
    std::string id, name;  // of a call, or of the call that a result answers (either may be unknown)
    std::string text;  // text, arguments, result; of an image its URL ("data:…;base64,…" where it came so)
};

/// What a request asks, whatever the API.
struct Asked {
    std::string system;  // all system texts
    std::vector<Item> items;
    struct Tool {
        std::string name, description, schema;  // schema: JSON text
    };
    std::vector<Tool> tools;
    std::string tool_choice;  // auto, none, required or a function's name; empty: not said
    std::optional<std::int64_t> output_max;
    std::vector<std::string> stop;
    std::string schema;  // of the answer, JSON text
};

/// What an answer says.
struct Said {
    std::string model = "m-1";
    std::string thoughts = {}, text = {};
    std::vector<Call> calls = {};
    std::string finish = "stop";                      // in OpenAI's words
    std::int64_t prompt = 7, cached = 0, output = 3;  // prompt: with what was cached
};

/// How a stream cuts a text into pieces (between characters). Without a seed: behind every space.
class Cutter {
   public:
    explicit Cutter(std::optional<std::uint64_t> seed = {}) : is_random_(seed), random_(seed.value_or(0)) {}
    std::vector<std::string> cut(std::string_view text);

   private:
    bool is_random_;
    std::mt19937_64 random_;
};

/// A kind of provider and the other side of its wire: what its server reads and writes.
class Kind {
   public:
    virtual ~Kind() = default;
    virtual std::unique_ptr<Translator> make() const = 0;
    /// What the provider's server understands of a translated request.
    virtual Asked read(std::string_view body) const = 0;
    /// Its whole answer.
    virtual std::string answer(const Said& said) const = 0;
    /// Its stream: the data of each event, or each line without its end. The last one ends it.
    virtual std::vector<std::string> events(const Said& said, Cutter& cutter) const = 0;
    /// The event that reports an error; empty: the API has none.
    virtual std::string error_event(std::string_view message) const = 0;

    bool translates_requests = true;  // else only answers are: nobody but clients of the API is sent there
    // What the API cannot say.
    bool keeps_call_ids = true;
    bool keeps_image_urls = true;   // http URLs; data URLs are expected of everybody
    bool keeps_tool_choice = true;  // none, required and a function's name
    bool tells_cached = true;
    bool ends_with_done = true;  // else the stream is whole when it ends behind a finish reason
};

/// The same in OpenAI's API: requests as they are read, answers and chunks as they are written.
Asked read_openai(std::string_view body);
std::string write_openai(const Said& said);
std::vector<std::string> write_openai_chunks(const Said& said, Cutter& cutter);

/// Fixed requests: texts, systems, images, tools and choices, parallel calls and results, caps, stops,
/// schemas.
void check_requests(const Kind& kind);
/// Fixed answers, whole: text, thoughts, calls, every finish reason, usage; and bodies that are none.
void check_answers(const Kind& kind);
/// The same as streams: shape of every chunk, usage before the only [DONE].
void check_streams(const Kind& kind);
/// Every beginning of a stream must not look whole; errors and nonsense are told apart.
void check_broken_streams(const Kind& kind);
/// Random conversations, answers and cuts, with any characters and escapes; `rounds` of them.
void check_random(const Kind& kind, std::uint64_t seed, int rounds = 200);

}  // namespace nebula::gateway::conformance

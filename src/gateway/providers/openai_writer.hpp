#pragma once
// What providers of other APIs say, written as OpenAI's chunks or as one whole answer. Texts are raw JSON
// strings (raw_json.hpp) and are copied as they stand.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "gateway/endpoint.hpp"

namespace nebula::gateway {

/// Counts as raw JSON scalars: whether they can be true is judged where they are metered. Empty: not told.
struct ToldUsage {
    std::string_view prompt = {};
    std::string_view completion = {};  // reasoning included
    std::string_view cached = {};      // of the prompt
    std::string_view reasoning = {};   // of the completion
    std::string_view written = {};     // of the prompt, to a cache
    bool is_told() const { return !prompt.empty() && !completion.empty(); }
};

/// {"prompt_tokens":…}
std::string usage_json(const ToldUsage& usage);
/// {"error":{"message":…}} and a line feed.
void add_error_line(std::string_view raw_message, std::string& lines);

/// One answer, either in pieces as they come (chunks()) or collected (answer()).
class OpenAiWriter {
   public:
    /// `id` as Translator is given it.
    OpenAiWriter(Endpoint endpoint, std::string_view id, Time created);

    void model(std::string_view raw);  // the first one counts
    void text(std::int64_t choice, std::string_view raw, bool is_reasoning,
              std::string_view raw_logprobs = {});
    /// A whole call. `raw_id` may be empty: one is made. `arguments` is the object's JSON text.
    void call(std::int64_t choice, std::string_view raw_id, std::string_view raw_name,
              std::string_view arguments);
    /// A text that says why there is none.
    void refusal(std::int64_t choice, std::string_view raw);
    /// One entry of reasoning_details, as JSON text.
    void detail(std::int64_t choice, std::string_view json);
    /// `reason` of OpenAI; `native` as the provider says it, empty: the same.
    void finish(std::int64_t choice, std::string_view reason, std::string_view native = {});
    void usage(const ToldUsage& usage);

    bool has_calls(std::int64_t choice) { return of(choice).calls > 0; }
    /// Id of the call that was told last, as a raw string.
    const std::string& last_call_id() const { return last_id_; }

    /// Where chunks go from now on, each a line; null: they are collected for answer().
    void to_lines(std::string* lines) { lines_ = lines; }
    /// What was collected, as OpenAI's whole answer.
    std::string answer() const;

   private:
    struct Choice {
        std::int64_t index = 0;
        bool is_begun = false;
        int calls = 0;
        // Collected: insides of strings and elements of lists.
        std::string text, reasoning, refusal, tool_calls, details, logprobs, finish, native;
    };
    Choice& of(std::int64_t index);
    void begin(Choice& choice);
    void end(std::string_view raw_logprobs, std::string_view finish);
    bool is_text() const { return endpoint_ == Endpoint::completions; }
    std::string head(const char* object) const;
    std::string message(const Choice& choice) const;

    const Endpoint endpoint_;
    const std::string id_;
    const std::string created_;
    std::string model_ = "\"\"";
    bool has_model_ = false;
    std::string head_;  // of every chunk
    std::vector<Choice> choices_;
    std::string usage_;
    std::string last_id_;
    std::int64_t made_ids_ = 0;
    std::string* lines_ = nullptr;
};

}  // namespace nebula::gateway

#pragma once
// What a provider's Responses API says, in the words of OpenAI's chat: for metering, logs, rails and caches.
// Clients of the API itself get its bytes. The client's side of it is gateway/responses/.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "gateway/provider.hpp"

namespace nebula::gateway::openai {

/// Translates answers and events. Requests are refused: only those in the API's own words are sent there.
std::unique_ptr<Translator> make_responses_translator(std::string_view id, Time created);

/// The chat answer that a response becomes. `id` and `created` stand where it has none. `tool_calls`: uses of
/// tools that ran at the provider.
Result<std::string> to_chat_answer(std::string_view response, std::string_view id, std::int64_t created,
                                   std::int64_t& tool_calls);

/// Events of a stream → lines of OpenAI's; one per stream.
class ResponsesReader {
   public:
    ResponsesReader(std::string_view id, std::int64_t created);
    ~ResponsesReader();
    /// See Translator::event.
    bool read(std::string_view data, std::string& lines);
    bool has_begun() const;
    std::int64_t tool_calls() const;

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Whether an item of an answer is the use of a tool that ran at the provider.
bool is_tool_use(std::string_view item_type);

}  // namespace nebula::gateway::openai

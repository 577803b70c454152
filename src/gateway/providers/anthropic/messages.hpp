#pragma once
// Providers that speak Anthropic's Messages API (version 2023-06-01): Anthropic itself, and others that took
// its shape over. The client's side of the same API is gateway/anthropic/.

#include <memory>
#include <string>
#include <string_view>

#include "gateway/provider.hpp"

namespace nebula::gateway::anthropic {

/// base_url without /v1; the key is `x-api-key`.
const Provider& provider();

/// What of a request decides how its answer is told.
struct Telling {
    bool tells_reasoning = true;
};

/// The Messages request that an OpenAI chat request becomes; notes in `telling` what the answer needs.
Result<std::string> to_messages_request(std::string_view chat_request, Telling& telling);

/// The chat answer that a message becomes. `id` and `created` stand where the message has none.
Result<std::string> to_chat_answer(std::string_view message, const Telling& telling, std::string_view id,
                                   std::int64_t created);

/// Events of a stream → lines of OpenAI's; one per stream.
class EventReader {
   public:
    EventReader(std::string_view id, std::int64_t created);
    ~EventReader();
    /// See Translator::event.
    bool read(std::string_view data, const Telling& telling, std::string& lines);
    /// See Translator::has_begun.
    bool has_begun() const;

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// OpenAI's finish_reason of a stop_reason.
const char* finish_reason(std::string_view stop_reason);

}  // namespace nebula::gateway::anthropic

#pragma once
// The response object, which the JSON answer is and which the first and last events of a stream carry whole.

#include <boost/json/array.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/result.hpp"

namespace nebula::gateway::responses {

/// What a request becomes: the chat request, and what the response object repeats of it.
struct Translated {
    Result<std::string> chat;    // an error: only a provider of the same API could be asked it
    std::string echo;            // JSON members, without braces
    bool stores = false;         // the response is to be stored
    boost::json::array input{};  // then: the items that the request adds to the conversation, without ids
};
/// What a request may refer to.
struct Memory {
    bool is_on = false;  // responses are stored here
    bool stores_by_default = false;
    std::string previous{};        // id of the response that this one continues
    boost::json::array earlier{};  // the items up to it
};
Result<Translated> translate(std::string_view body, const Memory& memory = {});
/// resp_… and back: the digits are the request's.
std::string response_id(RequestId request);
std::optional<RequestId> parse_response_id(std::string_view text);
Error no_response(std::string_view id);

struct Usage {
    std::int64_t input = 0;
    std::int64_t cached = 0;  // of the input
    std::int64_t output = 0;
    std::int64_t reasoning = 0;  // of the output
};

/// How a finish reason of chat ends a response.
struct Ending {
    const char* status = "completed";
    const char* reason = nullptr;  // why it is incomplete
};
Ending ending_of(std::string_view finish_reason);

class ResponseObject {
   public:
    ResponseObject(RequestId request, Time created);

    void set_echo(std::string echo) { echo_ = std::move(echo); }
    void set_stored(bool is_stored) { is_stored_ = is_stored; }
    /// `prefix_…` of this response: ids of its items.
    std::string item_id(std::string_view prefix, int index) const;

    /// `output` is the JSON of the items without brackets.
    std::string in_progress() const;
    std::string ended(const Ending& ending, std::string_view output, const Usage& usage, Time now) const;
    std::string failed(const Error& error, std::string_view output) const;

   private:
    std::string text(std::string_view status, std::string_view output, std::string_view error,
                     const char* reason, std::string_view rest, bool is_stored) const;

    const std::string id_;
    const std::string created_;
    std::string echo_;
    bool is_stored_ = false;
};

/// The word of an error inside a response.
const char* error_word(Code code);

/// Items and parts, of texts that are JSON strings already.
std::string text_part(std::string_view raw);
std::string message_item(std::string_view id, std::string_view status, std::string_view part);
std::string reasoning_part(std::string_view raw);
std::string reasoning_item(std::string_view id, std::string_view status, std::string_view part);
std::string call_item(std::string_view id, std::string_view status, std::string_view raw_call_id,
                      std::string_view raw_name, std::string_view raw_arguments);

/// The whole answer, from a whole chat answer.
Result<std::string> to_response(std::string_view chat_answer, const ResponseObject& object, Time now);

}  // namespace nebula::gateway::responses

#pragma once
// What is said to moderation models and hooks, and what they answer.

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"

namespace nebula::gateway::guardrails {

/// The texts of a request as a moderation request of OpenAI's; texts beyond `bytes_max` in all are an error:
/// payload_too_large.
Result<std::string> moderation_request(std::string_view model, std::string_view request,
                                       std::size_t bytes_max);
/// The flagged categories, comma separated ("flagged" when none is named); empty: nothing is. upstream_failed
/// when it is no such answer.
Result<std::string> flagged_categories(std::string_view answer);

struct HookCall {
    std::string request_id, account, key, model;
    std::string_view endpoint;
    std::string_view stage;       // "request", "response"
    std::string_view body = {};   // JSON; empty: left out
    std::string_view said = {};   // text of a stream; empty: left out
    std::string_view usage = {};  // JSON; empty: left out
    bool is_stream = false;
};
std::string hook_request(const HookCall& call);
/// "t=SECONDS,v1=HEX": HMAC-SHA256 over "SECONDS.BODY".
std::string hook_signature(const Secret& secret, Time now, std::string_view body);

struct HookAnswer {
    enum class Action { allow, block, replace } action = Action::allow;
    std::string message;
    std::string body;  // JSON, of replace
};
/// upstream_failed when it is of another shape.
Result<HookAnswer> read_hook_answer(std::string_view body);

}  // namespace nebula::gateway::guardrails

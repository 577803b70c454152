#pragma once
// What the rails have to do with one call.

#include <optional>

#include "gateway/guardrails/output.hpp"
#include "gateway/guardrails/rails.hpp"

namespace nebula::gateway {

struct GuardUse {
    std::vector<const guardrails::Rail*> rails;    // that apply
    std::vector<const guardrails::Rail*> matched;  // that found something, each once
    guardrails::Placeholders placeholders;
    std::string body, client_body;  // where rails changed them; views of the call are of these then
    std::optional<guardrails::Refusal> refusal;
    bool is_replaced = false;                       // by a hook: the client's own bytes are not what is sent
    std::optional<guardrails::OutputGuard> output;  // answers must be looked at
    std::string lines;                              // scratch of it

    /// The client's own API cannot be passed through: nobody could look at its answers.
    bool needs_translation() const { return is_replaced || output.has_value(); }
};

}  // namespace nebula::gateway

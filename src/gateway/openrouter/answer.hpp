#pragma once
// What OpenRouter's clients read in answers beyond OpenAI's: what it cost, and who answered.

#include <string>
#include <string_view>

#include "base/nanos.hpp"
#include "billing/billing.hpp"

namespace nebula::gateway::openrouter {

/// Of a settled request. Views live as long as the call.
struct Receipt {
    std::string_view provider;
    std::string_view model;  // as the client named it
    std::string_view upstream_id;
    std::string request_id;
    bool has_output = true;
    bool is_text = false;  // of /completions
    billing::TokenUsage usage;
    Nanos charge;
    bool is_reported = false;  // the usage is the provider's
    std::int64_t created = 0;  // seconds
    bool is_byok = false;      // it was the customer's own key for the provider
    // Then: what the provider charges him for it, by our list.
    Nanos upstream_cost = {}, upstream_prompt_cost = {};
};

/// Whether a model's thoughts stand under the name that other servers have for them, `reasoning_content`, and
/// not under OpenRouter's, `reasoning`; and the same JSON under that.
bool tells_thoughts(std::string_view json);
std::string with_thoughts(std::string_view json);

/// The answer (a JSON object, checked before) with `provider`, `system_fingerprint` and the costs in `usage`;
/// thoughts under OpenRouter's name; all other bytes are the provider's.
std::string with_cost(std::string_view answer, const Receipt& receipt);

/// Data of the last chunk of a stream: the provider's own usage chunk with the costs, or, when that is empty,
/// one made here.
std::string usage_chunk(std::string_view chunk, const Receipt& receipt);

}  // namespace nebula::gateway::openrouter

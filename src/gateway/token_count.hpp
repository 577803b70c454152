#pragma once
// How many tokens a request's prompt has, before it is sent: exactly where the model's own runner can be
// asked or its vocabulary is known, else an estimate by kinds of characters.

#include <cstdint>
#include <string>
#include <string_view>

#include "async/async.hpp"
#include "gateway/gateway.hpp"
#include "gateway/tokens/counting.hpp"

namespace nebula::gateway {

/// Tokens of a text as common vocabularies split it, rather too many than too few: words of Latin letters
/// hardly ever have less than four letters a token, numbers two digits, signs two, Chinese, Japanese and
/// Korean one character, other scripts three bytes.
std::int64_t estimate_text(std::string_view text);
/// The same of a chat request: its texts, and a few tokens around each message. `chat_request` is JSON.
std::int64_t estimate_prompt(std::string_view chat_request);

struct TokenCount {
    std::int64_t tokens = 0;
    const char* method = "estimate";  // "runtime": the model's own tokenizer; "bpe": its vocabulary
};
/// Of an OpenAI chat request. A local model that `key` (null: governance is off) may use is asked, which
/// starts its runner; large prompts are estimated, so that counting costs nobody's turn.
Async<TokenCount> count_prompt(const Services& services, Counting& counting, const accounts::Key* key,
                               std::string chat_request);

}  // namespace nebula::gateway

#pragma once
// Tokens of a request's prompt by a model's vocabulary.

#include <cstdint>
#include <optional>
#include <string_view>

#include "gateway/endpoint.hpp"
#include "tokenizer/tokenizer.hpp"

namespace nebula::gateway {

struct PromptTokens {
    std::int64_t tokens = 0;
    bool has_media = false;  // images, sound or files, which are not in the count
};

/// Of OpenAI's request for `endpoint`: its texts, and for chats what templates write around them; tools and
/// schemas as the JSON they are. Empty: no JSON object, or above the tokenizer's bounds.
std::optional<PromptTokens> prompt_tokens(const tokenizer::Tokenizer& tokenizer, Endpoint endpoint,
                                          std::string_view request);

}  // namespace nebula::gateway

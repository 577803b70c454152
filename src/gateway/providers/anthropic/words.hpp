#pragma once
#include <cstdint>

namespace nebula::gateway::anthropic {

/// How OpenRouter's clients know whose signatures these are.
constexpr const char* reasoning_format = "anthropic-claude-v1";
/// A count above it is nonsense; sums of three stay far from overflow.
constexpr std::int64_t counts_max = 1'000'000'000'000;

}  // namespace nebula::gateway::anthropic

#pragma once
#include <string_view>

namespace nebula::gateway::anthropic {

/// Of OpenAI's finish_reason.
const char* stop_reason(std::string_view finish_reason);

}  // namespace nebula::gateway::anthropic

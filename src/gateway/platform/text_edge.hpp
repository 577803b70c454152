#pragma once
// The platform's first documentation (May 2025): POST /v1/text/generate and /v1/vision/generate as client
// edges over chat. Answers are {"status","data":{"text","usage"}}, streams `data: {"text","finish_reason"}`.

#include <memory>

#include "gateway/client_edge.hpp"

namespace nebula::gateway::platform {

enum class TextKind { text, vision };
std::unique_ptr<ClientEdge> make_text_edge(TextKind kind);

}  // namespace nebula::gateway::platform

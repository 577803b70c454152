#pragma once
// Ollama's native API as client edges: /api/chat, /api/generate, /api/embed. Streams are lines of JSON and
// the default. Wire facts: the API document of Ollama's repository (docs/api.md).

#include <memory>

#include "base/clock.hpp"
#include "gateway/client_edge.hpp"
#include "http/http.hpp"

namespace nebula::gateway::ollama {

/// {"error":"text"} with the statuses its clients know.
http::Response error(const Error& error, RequestId request);

/// OpenAI's request that means the same; `model` is set to the model's name.
Result<std::string> chat_request(std::string_view body, std::string* model = nullptr);
Result<std::string> generate_request(std::string_view body, std::string* model = nullptr);
Result<std::string> embed_request(std::string_view body, std::string* model = nullptr);

enum class Kind { chat, generate, embed };
/// One per request; durations count from here.
std::unique_ptr<ClientEdge> make_edge(Kind kind, const Clock& clock);

}  // namespace nebula::gateway::ollama

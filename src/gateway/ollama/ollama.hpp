#pragma once
// Ollama's native API as client edges: /api/chat, /api/generate, /api/embed, /api/embeddings. Streams are
// lines of JSON and the default. Wire facts: the API document of Ollama's repository (docs/api.md).

#include <memory>
#include <optional>

#include "base/clock.hpp"
#include "gateway/client_edge.hpp"
#include "http/http.hpp"

namespace nebula::gateway::ollama {

/// {"error":"text"} with the statuses its clients know.
http::Response error(const Error& error, RequestId request);

/// What else is learned of a request while it is translated.
struct Facts {
    std::string model;
    bool may_pass = false;  // to a provider of the same API, as it is
};
/// OpenAI's request that means the same. `facts` may be null.
Result<std::string> chat_request(std::string_view body, Facts* facts = nullptr);
Result<std::string> generate_request(std::string_view body, Facts* facts = nullptr);
Result<std::string> embed_request(std::string_view body, Facts* facts = nullptr);
/// Of the older /api/embeddings, which knows one prompt.
Result<std::string> embeddings_request(std::string_view body, Facts* facts = nullptr);

enum class Kind { chat, generate, embed, embeddings };
/// One per request; durations count from here.
std::unique_ptr<ClientEdge> make_edge(Kind kind, const Clock& clock);

/// A request without a prompt asks to load a model, or to let go of it.
struct Load {
    std::string model;
    bool is_unload = false;
};
std::optional<Load> read_load(std::string_view body, Kind kind);
/// The whole answer; nothing is loaded or unloaded: that is the provider's business.
std::string loaded(const Load& load, Kind kind, const Clock& clock);

}  // namespace nebula::gateway::ollama

#pragma once
// Providers that speak Ollama's own API: chat, completions (/api/generate) and embeddings. Streams are lines
// of JSON. Wire facts: the API document of Ollama's repository (docs/api.md).

#include <boost/json/object.hpp>
#include <string>

#include "gateway/provider.hpp"

namespace nebula::gateway::ollama {

/// base_url http://127.0.0.1:11434, or https://ollama.com with a key.
const Provider& provider();

/// Bodies for /api/chat, /api/generate and /api/embed that mean the same as OpenAI's request.
Result<std::string> to_chat(const boost::json::object& openai);
Result<std::string> to_generate(const boost::json::object& openai);
Result<std::string> to_embed(const boost::json::object& openai);

}  // namespace nebula::gateway::ollama

#pragma once
// The endpoints of OpenAI's API (and rerank, as Cohere and Jina shaped it) that share one request's life.

#include <cstdint>

namespace nebula::gateway {

enum class Endpoint : std::uint8_t { chat, completions, embeddings, rerank, moderations };

struct EndpointInfo {
    const char* word;  // in the catalog
    const char* path;  // behind the base path, here and at providers
    bool has_output;   // generates tokens: has a cap, may stream
};

constexpr EndpointInfo info(Endpoint endpoint) {
    switch (endpoint) {
        case Endpoint::chat:
            return {"chat", "/chat/completions", true};
        case Endpoint::completions:
            return {"completions", "/completions", true};
        case Endpoint::embeddings:
            return {"embeddings", "/embeddings", false};
        case Endpoint::rerank:
            return {"rerank", "/rerank", false};
        case Endpoint::moderations:
            return {"moderations", "/moderations", false};
    }
    return {"chat", "/chat/completions", true};
}

}  // namespace nebula::gateway

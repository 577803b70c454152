#pragma once
// The endpoints of OpenAI's API (and rerank, as Cohere and Jina shaped it) that share one request's life.

#include <cstddef>
#include <cstdint>

namespace nebula::gateway {

enum class Endpoint : std::uint8_t {
    chat,
    completions,
    embeddings,
    rerank,
    moderations,
    images,
    image_edits,
    image_variations,
    speech,
    transcriptions,
    translations,
};
constexpr std::size_t endpoint_count = 11;

struct EndpointInfo {
    const char* word;       // in the catalog
    const char* path;       // behind the base path, here and at providers
    bool has_output;        // generates tokens under a cap that can be lowered; may stream chunks
    bool is_media = false;  // makes or reads images or sound: answers and events of their own, see media/
    bool is_form = false;   // the request is multipart/form-data
    bool is_image = false;  // makes `n` images
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
        case Endpoint::images:
            return {"images", "/images/generations", false, true, false, true};
        case Endpoint::image_edits:
            return {"image_edits", "/images/edits", false, true, true, true};
        case Endpoint::image_variations:
            return {"image_variations", "/images/variations", false, true, true, true};
        case Endpoint::speech:
            return {"speech", "/audio/speech", false, true};
        case Endpoint::transcriptions:
            return {"transcriptions", "/audio/transcriptions", false, true, true};
        case Endpoint::translations:
            return {"translations", "/audio/translations", false, true, true};
    }
    return {"chat", "/chat/completions", true};
}

}  // namespace nebula::gateway

#pragma once
// Image generation in words of others than OpenAI, as client edges over its images endpoint.

#include <memory>

#include "base/clock.hpp"
#include "gateway/client_edge.hpp"

namespace nebula::gateway::media {

enum class ImageApi {
    platform,    // POST /api/v1/images/generation: num_steps, guidance_scale, width, height …
    openrouter,  // POST /api/v1/images: aspect_ratio, resolution …; base64 with its media type
    old_text,    // POST /v1/images/generate of the platform's first documentation
};
/// One per request; its time counts from here.
std::unique_ptr<ClientEdge> make_images_edge(ImageApi api, const Clock& clock);

}  // namespace nebula::gateway::media

#pragma once
// Answers of the endpoints for images and sound.

#include <string_view>

#include "gateway/endpoint.hpp"

namespace nebula::gateway::media {

/// Transcriptions come as text, SRT or VTT, too: there is nothing in them to be read.
bool is_text_answer(Endpoint endpoint, std::string_view content_type);

/// Whether a provider's answer can be sound; JSON, text and events are errors that it told with status 200.
bool is_sound(std::string_view content_type);

}  // namespace nebula::gateway::media

#pragma once
// Transcriptions as OpenRouter asks for them: JSON with the sound in base64. Providers take forms.

#include <string>
#include <string_view>

#include "base/ids.hpp"
#include "base/result.hpp"

namespace nebula::gateway::media {

bool is_json(std::string_view content_type);

struct Upload {
    std::string form;
    std::string content_type;
};
/// {"model","input_audio":{"data","format"},…} as the form that means the same. `request` makes the boundary.
/// Errors, invalid_request naming the member: no JSON object, no sound, bad base64, a boundary in a text.
Result<Upload> form_of_json(std::string_view body, RequestId request);

}  // namespace nebula::gateway::media

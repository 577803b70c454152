#pragma once
// Providers that speak Google's Gemini API (v1beta): generateContent, streamGenerateContent as server-sent
// events, batchEmbedContents. Wire facts: https://ai.google.dev/api/generate-content, …/api/embeddings,
// …/gemini-api/docs/thought-signatures, …/gemini-api/docs/thinking.

#include <boost/json/object.hpp>
#include <string>

#include "gateway/provider.hpp"

namespace nebula::gateway::gemini {

/// base_url https://generativelanguage.googleapis.com; a path in it replaces "/v1beta".
const Provider& provider();

/// Body of generateContent that means the same as OpenAI's chat request. The model stands in the path.
Result<std::string> to_contents(const boost::json::object& openai);
/// Body of batchEmbedContents.
Result<std::string> to_embed(const boost::json::object& openai);

/// "gemini-2.5-flash" → "models/gemini-2.5-flash"; names with a collection stay as they are.
std::string resource_of(std::string_view model);

/// `format` of reasoning_details that carry Gemini's signatures.
inline constexpr std::string_view signature_format = "google-gemini-v1";

}  // namespace nebula::gateway::gemini

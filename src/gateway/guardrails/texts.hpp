#pragma once
// The texts in a JSON document: found, looked at and replaced without touching anything else of it. Knows the
// requests of OpenAI's, Anthropic's, Ollama's and Gemini's APIs by what is not text in them.

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace nebula::gateway::guardrails {

/// Gets each text, decoded; true: `instead` takes its place.
using EditText = std::function<bool(std::string_view text, std::string& instead)>;

struct EditedTexts {
    std::string json;  // as it was when nothing changed
    bool is_changed = false;
    bool has_tokens = false;   // a prompt in token numbers: nobody can read it
    std::size_t bytes = 0;     // of all texts, decoded
    std::size_t messages = 0;  // elements of the outermost messages or contents
};

/// Every string value but those that name things of the protocol (roles, types, ids, models, data of images).
/// Within arguments of tools every string and long number counts, also where the arguments are JSON in a
/// string. A number that is replaced becomes a string. Linear; malformed JSON is invalid_request.
Result<EditedTexts> edit_texts(std::string_view json, const EditText& edit);

/// The same for the arguments of a tool's call: JSON whose every value counts, or else one text. Nothing when
/// it stays as it is.
std::optional<std::string> edit_own_texts(std::string_view text, const EditText& edit);

/// What stands between the quotes of a JSON string, decoded; lone surrogates become U+FFFD.
std::string decode_string(std::string_view raw);

}  // namespace nebula::gateway::guardrails

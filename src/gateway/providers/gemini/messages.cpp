#include "gateway/providers/gemini/messages.hpp"

#include <boost/json/parse.hpp>

#include "base/text.hpp"
#include "gateway/providers/gemini/gemini.hpp"

namespace nebula::gateway::gemini {
namespace {

namespace json = boost::json;
using namespace openai_request;

// What Google documents for calls that another model made, or whose signature was lost.
constexpr std::string_view no_signature = "skip_thought_signature_validator";

json::object text_part(std::string_view text) { return {{"text", text}}; }

// Public URLs come without their type; names tell it for what chat clients send.
std::string_view type_by_name(std::string_view url) {
    struct Type {
        std::string_view ending, type;
    };
    constexpr Type types[] = {
        {".png", "image/png"}, {".jpg", "image/jpeg"},  {".jpeg", "image/jpeg"}, {".webp", "image/webp"},
        {".gif", "image/gif"}, {".heic", "image/heic"}, {".heif", "image/heif"}, {".pdf", "application/pdf"},
        {".mp4", "video/mp4"}, {".webm", "video/webm"}, {".mov", "video/mov"},   {".mp3", "audio/mp3"},
        {".wav", "audio/wav"}, {".ogg", "audio/ogg"},   {".flac", "audio/flac"}, {".txt", "text/plain"},
    };
    std::string name = to_lower(url.substr(0, url.find_first_of("?#")));
    for (const Type& one : types)
        if (name.ends_with(one.ending)) return one.type;
    return {};
}

// A result is an object there; a text becomes one.
json::object response_of(std::string_view text) {
    boost::system::error_code failed;
    json::value value = json::parse(text, failed);
    if (!failed && value.is_object()) return std::move(value.get_object());
    return {{"result", text}};
}

}  // namespace

Result<void> Contents::read(const json::object& openai) {
    const json::value* list = member(openai, "messages");
    if (list == nullptr || !list->is_array()) return bad("messages", "must be an array");
    std::size_t index = 0;
    for (const json::value& item : list->get_array()) {
        where_ = "messages." + std::to_string(index++);
        const json::object* message = item.if_object();
        if (message == nullptr) return bad(where_, "must be an object");
        if (auto done = add(*message); !done) return done;
    }
    // There is no request without a turn; instructions alone are the question then.
    if (contents_.empty() && !system_.empty()) turn_of("user") = take_system();
    return {};
}

json::array& Contents::turn_of(const char* role) {
    if (contents_.empty() || text_of(contents_.back().get_object(), "role") != role)
        contents_.push_back(json::object{{"role", role}, {"parts", json::array()}});
    return contents_.back().get_object()["parts"].get_array();
}

Result<void> Contents::add(const json::object& message) {
    std::string_view role = text_of(message, "role");
    if (role == "system" || role == "developer") return add_parts(message, system_);
    if (role == "assistant") return add_assistant(message);
    if (role == "tool" || role == "function") return add_result(message);
    if (role != "user") return bad(where_ + ".role", "must be system, developer, user, assistant or tool");
    return add_parts(message, turn_of("user"));
}

Result<void> Contents::add_parts(const json::object& message, json::array& parts) const {
    const json::value* content = member(message, "content");
    if (content == nullptr) return {};
    if (content->is_string()) {
        parts.push_back(text_part(content->get_string()));
        return {};
    }
    if (!content->is_array()) return bad(where_ + ".content", "must be a string or an array of parts");
    for (const json::value& item : content->get_array()) {
        const json::object* part = item.if_object();
        if (part == nullptr) return bad(where_ + ".content", "parts must be objects");
        if (auto done = add_part(*part, parts); !done) return done;
    }
    return {};
}

Result<void> Contents::add_part(const json::object& part, json::array& parts) const {
    std::string_view type = text_of(part, "type");
    if (type == "text" || type == "refusal") {
        parts.push_back(text_part(text_of(part, type)));
        return {};
    }
    if (type == "image_url" || type == "video_url") return add_media(url_of(part, type), parts);
    if (type == "input_audio") {
        const json::object* audio = object_of(part, "input_audio");
        std::string_view data = audio != nullptr ? text_of(*audio, "data") : std::string_view();
        std::string_view format = audio != nullptr ? text_of(*audio, "format") : std::string_view();
        if (data.empty() || format.empty())
            return bad(where_ + ".content", "input_audio needs data and format");
        json::object inline_data{{"mimeType", "audio/" + std::string(format)}, {"data", data}};
        parts.push_back(json::object{{"inlineData", std::move(inline_data)}});
        return {};
    }
    if (type == "file") {
        const json::object* file = object_of(part, "file");
        std::string_view data = file != nullptr ? text_of(*file, "file_data") : std::string_view();
        if (data.empty())
            return bad(where_ + ".content", "files must come as file_data for this model's provider");
        return add_media(data, parts);
    }
    return bad(where_ + ".content",
               "has a part of type '" + std::string(type) + "', which this model's provider cannot take");
}

Result<void> Contents::add_media(std::string_view url, json::array& parts) const {
    if (auto data = data_url(url)) {
        json::object inline_data{{"mimeType", data->type}, {"data", data->base64}};
        parts.push_back(json::object{{"inlineData", std::move(inline_data)}});
        return {};
    }
    bool is_public = url.starts_with("https://") || url.starts_with("http://") || url.starts_with("gs://");
    if (!is_public) return bad(where_ + ".content", "media must be data: URLs in base64 or public URLs");
    json::object file{{"fileUri", url}};
    if (auto type = type_by_name(url); !type.empty()) file["mimeType"] = type;
    parts.push_back(json::object{{"fileData", std::move(file)}});
    return {};
}

std::string_view Contents::signature_of(const json::object& message, std::string_view id) const {
    const json::value* details = member(message, "reasoning_details");
    if (details == nullptr || !details->is_array()) return {};
    for (const json::value& item : details->get_array()) {
        const json::object* one = item.if_object();
        if (one == nullptr || text_of(*one, "type") != "reasoning.encrypted") continue;
        std::string_view format = text_of(*one, "format");
        if (!format.empty() && format != signature_format) continue;  // of another model
        if (text_of(*one, "id") == id) return text_of(*one, "data");
    }
    return {};
}

Result<void> Contents::add_assistant(const json::object& message) {
    json::array parts;
    if (auto done = add_parts(message, parts); !done) return done;
    if (parts.empty())
        if (std::string_view refusal = text_of(message, "refusal"); !refusal.empty())
            parts.push_back(text_part(refusal));
    // Some clients send "" beside calls; the API takes no empty turn, but an empty part with a signature.
    std::string_view signature = signature_of(message, {});
    if (parts.size() == 1 && parts[0] == json::value(text_part("")) && signature.empty()) parts.clear();
    if (!signature.empty()) {
        if (parts.empty()) parts.push_back(text_part(""));
        parts.back().get_object()["thoughtSignature"] = signature;
    }
    if (auto done = add_calls(message, parts); !done) return done;
    if (parts.empty()) return {};
    json::array& turn = turn_of("model");
    for (json::value& part : parts) turn.push_back(std::move(part));
    return {};
}

Result<void> Contents::add_calls(const json::object& message, json::array& parts) {
    const json::value* calls = member(message, "tool_calls");
    if (calls == nullptr) return {};
    if (!calls->is_array()) return bad(where_ + ".tool_calls", "must be an array");
    bool is_first = true;
    for (const json::value& item : calls->get_array()) {
        const json::object* call = item.if_object();
        const json::object* function = call != nullptr ? object_of(*call, "function") : nullptr;
        if (function == nullptr) return bad(where_ + ".tool_calls", "must be calls of functions");
        std::string_view id = text_of(*call, "id"), name = text_of(*function, "name");
        names_.seen(id, name);
        json::object told{{"name", name}, {"args", arguments_of(text_of(*function, "arguments"))}};
        if (!id.empty()) told["id"] = id;
        json::object part{{"functionCall", std::move(told)}};
        std::string_view signature = id.empty() ? std::string_view() : signature_of(message, id);
        if (signature.empty())  // Google's own form in OpenAI's requests
            if (const json::object* extra = object_of(*call, "extra_content"))
                if (const json::object* google = object_of(*extra, "google"))
                    signature = text_of(*google, "thought_signature");
        // Of calls made together only the first one has a signature.
        if (signature.empty() && is_first && demands_signatures_) signature = no_signature;
        if (!signature.empty()) part["thoughtSignature"] = signature;
        parts.push_back(std::move(part));
        is_first = false;
    }
    return {};
}

Result<void> Contents::add_result(const json::object& message) {
    std::string_view id = text_of(message, "tool_call_id");
    std::string_view name = names_.of(id);
    if (name.empty()) name = text_of(message, "name");
    if (name.empty()) return bad(where_ + ".tool_call_id", "must be that of a call before it");
    json::array said;
    if (auto done = add_parts(message, said); !done) return done;
    std::string text;
    json::array media;
    for (json::value& part : said) {
        if (const json::value* words = part.get_object().if_contains("text"))
            text += words->get_string();
        else
            media.push_back(std::move(part));
    }
    json::object response{{"name", name}, {"response", response_of(text)}};
    if (!id.empty()) response["id"] = id;
    json::array& turn = turn_of("user");
    turn.push_back(json::object{{"functionResponse", std::move(response)}});
    for (json::value& part : media) turn.push_back(std::move(part));
    return {};
}

}  // namespace nebula::gateway::gemini

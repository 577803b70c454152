#include "gateway/tokens/prompt_tokens.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace nebula::gateway {
namespace {

namespace json = boost::json;

constexpr std::size_t depth_max = 128;

bool is_media_part(std::string_view type) {
    return type == "image_url" || type == "input_audio" || type == "file" || type == "video_url";
}

class PromptReader {
   public:
    explicit PromptReader(const tokenizer::Tokenizer& tokenizer)
        : tokenizer_(tokenizer), chat_(tokenizer.chat()) {}

    std::optional<PromptTokens> read(const json::object& request, Endpoint endpoint) {
        if (endpoint == Endpoint::chat) {
            read_chat(request);
        } else {
            for (const char* name : {"prompt", "suffix", "input", "query", "documents"})
                if (const json::value* part = request.if_contains(name)) add_texts(*part);
        }
        if (is_too_large_) return std::nullopt;
        return counted_;
    }

   private:
    void add(std::string_view text) {
        if (is_too_large_) return;
        auto tokens = tokenizer_.count(text);
        if (!tokens) is_too_large_ = true;
        counted_.tokens += tokens.value_or(0);
    }

    void add_member(const json::object& object, const char* name) {
        const json::value* value = object.if_contains(name);
        if (value != nullptr && value->is_string()) add(value->get_string());
    }

    void read_chat(const json::object& request) {
        counted_.tokens += chat_.reply;
        if (const json::value* messages = request.if_contains("messages"); messages && messages->is_array())
            for (const json::value& message : messages->get_array())
                if (message.is_object()) read_message(message.get_object());
        for (const char* name : {"tools", "functions", "response_format"})
            if (const json::value* part = request.if_contains(name); part && !part->is_null())
                add(json::serialize(*part));
    }

    void read_message(const json::object& message) {
        counted_.tokens += chat_.message;
        for (const char* name : {"role", "refusal", "reasoning_content"}) add_member(message, name);
        if (message.contains("name")) {
            counted_.tokens += chat_.name;
            add_member(message, "name");
        }
        if (const json::value* content = message.if_contains("content")) add_content(*content);
        if (const json::value* calls = message.if_contains("tool_calls"); calls && calls->is_array())
            for (const json::value& call : calls->get_array())
                if (const json::object* one = call.if_object()) add_call(*one, "function");
        add_call(message, "function_call");
    }

    void add_call(const json::object& object, const char* name) {
        const json::value* call = object.if_contains(name);
        if (call == nullptr || !call->is_object()) return;
        add_member(call->get_object(), "name");
        add_member(call->get_object(), "arguments");
    }

    void add_content(const json::value& content) {
        if (const json::string* text = content.if_string()) return add(*text);
        if (!content.is_array()) return;
        for (const json::value& part : content.get_array()) {
            const json::object* one = part.if_object();
            if (one == nullptr) continue;
            const json::value* type = one->if_contains("type");
            if (type != nullptr && type->is_string() && is_media_part(type->get_string()))
                counted_.has_media = true;
            add_member(*one, "text");
            add_member(*one, "refusal");
        }
    }

    // Lists of texts, of tokens, or of parts.
    void add_texts(const json::value& value) {
        if (const json::string* text = value.if_string()) {
            add(*text);
        } else if (value.is_number()) {
            ++counted_.tokens;
        } else if (const json::array* list = value.if_array()) {
            for (const json::value& one : *list) add_texts(one);
        } else if (const json::object* object = value.if_object()) {
            for (const char* name : {"text", "title", "content"})
                if (const json::value* part = object->if_contains(name)) add_texts(*part);
            if (object->contains("image") || object->contains("image_url")) counted_.has_media = true;
        }
    }

    const tokenizer::Tokenizer& tokenizer_;
    const tokenizer::ChatOverhead chat_;
    PromptTokens counted_;
    bool is_too_large_ = false;
};

}  // namespace

std::optional<PromptTokens> prompt_tokens(const tokenizer::Tokenizer& tokenizer, Endpoint endpoint,
                                          std::string_view request) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = depth_max;
    json::value value = json::parse(request, failed, {}, options);
    if (failed || !value.is_object()) return std::nullopt;
    return PromptReader(tokenizer).read(value.get_object(), endpoint);
}

}  // namespace nebula::gateway

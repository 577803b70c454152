#include "gateway/chat_request.hpp"

#include <simdjson.h>

#include <algorithm>

#include "base/text.hpp"

namespace nebula::gateway {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr std::size_t model_bytes_max = 256;
// No sane request comes near it, and a provider whose parser recurses would fail everybody at some depth.
constexpr std::int64_t depth_max = 256;

std::unexpected<Error> bad(std::string message, std::string param = {}) {
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

// Occurrences of `c`, counting no further than `enough`. Searching from one to the next is far faster than
// looking at every byte: brackets are rare in prompts.
std::int64_t count_up_to(std::string_view body, char c, std::int64_t enough) {
    std::int64_t count = 0;
    for (std::size_t at = body.find(c); at != std::string_view::npos && count < enough;
         at = body.find(c, at + 1))
        ++count;
    return count;
}

bool is_too_deep(std::string_view body) {
    // Nothing is deeper than it has brackets: for nearly all requests counting them is enough.
    std::int64_t braces = count_up_to(body, '{', depth_max + 1);
    if (braces + count_up_to(body, '[', depth_max + 1) <= depth_max) return false;
    std::int64_t depth = 0;
    for (std::size_t at = 0; at < body.size(); ++at) {
        char c = body[at];
        if (c == '[' || c == '{') {
            if (++depth > depth_max) return true;
        } else if (c == ']' || c == '}') {
            --depth;
        } else if (c == '"') {
            while (++at < body.size() && body[at] != '"')
                if (body[at] == '\\') ++at;
        }
    }
    return false;
}

// One pass over the outer object. Members we act upon may occur once: where they are repeated, we and the
// provider could read different ones.
class Reader {
   public:
    Reader(std::string_view body, Endpoint endpoint) : body_(body), endpoint_(endpoint) {}

    Result<ChatRequest> read() {
        thread_local ondemand::parser parser;
        ondemand::document document;
        simdjson::padded_string_view padded(body_.data(), body_.size(),
                                            body_.size() + simdjson::SIMDJSON_PADDING);
        if (auto error = parser.iterate(padded).get(document)) return malformed(error);
        if (is_too_deep(body_)) return bad("the request body is nested too deeply");
        ondemand::object object;
        if (document.get_object().get(object)) return bad("the request body must be a JSON object");
        request_.object_open = body_.find('{') + 1;
        for (auto field : object) {
            ondemand::field member;
            if (auto error = std::move(field).get(member)) return malformed(error);
            std::string_view name;
            key_at_ = static_cast<std::size_t>(member.key().raw() - 1 - body_.data());
            if (auto error = member.unescaped_key().get(name)) return malformed(error);
            auto done = take(std::string(name), member.value());
            if (!done) return fail(std::move(done.error()));
        }
        // Past the end there is no current location; anything else is more text.
        const char* more = nullptr;
        if (!document.current_location().get(more))
            return bad("the request body has text after the JSON object");
        return finish();
    }

   private:
    using Done = Result<void>;

    static std::unexpected<Error> malformed(simdjson::error_code error) {
        return bad(std::string("the request body is not valid JSON: ") + simdjson::error_message(error));
    }

    // Marks the member as seen; false when it was already.
    bool first_time(std::uint64_t bit) {
        bool fresh = (seen_ & bit) == 0;
        seen_ |= bit;
        return fresh;
    }

    Done take(const std::string& name, ondemand::value value) {
        struct Member {
            std::string_view name;
            Done (Reader::*read)(const std::string&, ondemand::value&);
            unsigned endpoints;  // where it means something to us
        };
        static constexpr unsigned chat = 1u << static_cast<unsigned>(Endpoint::chat);
        static constexpr unsigned text = 1u << static_cast<unsigned>(Endpoint::completions);
        static constexpr unsigned rerank = 1u << static_cast<unsigned>(Endpoint::rerank);
        static constexpr unsigned images = 1u << static_cast<unsigned>(Endpoint::images);
        static constexpr unsigned speech = 1u << static_cast<unsigned>(Endpoint::speech);
        static constexpr unsigned input = 1u << static_cast<unsigned>(Endpoint::embeddings) |
                                          1u << static_cast<unsigned>(Endpoint::moderations);
        static constexpr Member members[] = {
            // at most 64
            {"model", &Reader::read_model, ~0u},
            {"messages", &Reader::read_messages, chat},
            {"stream", &Reader::read_stream, chat | text | images},
            {"stream_options", &Reader::read_stream_options, chat | text},
            {"max_tokens", &Reader::read_max_tokens, chat | text},
            {"max_completion_tokens", &Reader::read_max_completion_tokens, chat},
            {"n", &Reader::read_n, chat | text | images},
            {"tools", &Reader::read_prompt_part, chat},
            {"functions", &Reader::read_prompt_part, chat},
            {"response_format", &Reader::read_prompt_part, chat},
            {"temperature", &Reader::read_temperature, chat | text},
            {"top_p", &Reader::read_number, chat | text},
            {"prompt", &Reader::read_input, text},
            {"suffix", &Reader::read_text, text},
            {"best_of", &Reader::read_best_of, text},
            {"input", &Reader::read_input, input},
            {"query", &Reader::read_query, rerank},
            {"documents", &Reader::read_input, rerank},
            {"prompt", &Reader::read_spoken, images},
            {"size", &Reader::read_look, images},
            {"quality", &Reader::read_look, images},
            {"input", &Reader::read_spoken, speech},
            {"stream_format", &Reader::read_stream_format, speech},
            {"models", &Reader::read_routing, ~0u},
            {"provider", &Reader::read_routing, ~0u},
            {"route", &Reader::read_routing, ~0u},
            {"session_id", &Reader::read_routing, ~0u},
            {"transforms", &Reader::read_routing, ~0u},
            {"prompt_cache_key", &Reader::read_routing, ~0u},
            {"user", &Reader::read_routing, ~0u},
        };
        unsigned here = 1u << static_cast<unsigned>(endpoint_);
        std::uint64_t bit = 1;
        for (const Member& member : members) {
            if (name == member.name && (member.endpoints & here) != 0) {
                if (!first_time(bit)) return bad("'" + name + "' is given more than once", name);
                return (this->*member.read)(name, value);
            }
            bit <<= 1;
        }
        // Unknown members pass through; reading them checks that they are JSON as far as the structure goes.
        std::string_view ignored;
        if (auto error = simdjson::to_json_string(value).get(ignored)) return malformed(error);
        return {};
    }

    Span span_of(std::string_view text) const {
        return {static_cast<std::size_t>(text.data() - body_.data()), text.size()};
    }
    // A scalar's token carries the white space behind it.
    static std::string_view trimmed(std::string_view token) {
        while (!token.empty() && static_cast<unsigned char>(token.back()) <= ' ') token.remove_suffix(1);
        return token;
    }

    static bool is_null(ondemand::value& value) {
        bool null = false;
        return !value.is_null().get(null) && null;
    }

    Done read_model(const std::string& name, ondemand::value& value) {
        std::string_view token = trimmed(value.raw_json_token());
        std::string_view text;
        if (value.get_string().get(text)) return bad("'model' must be a string", name);
        if (text.empty()) return bad("'model' must not be empty", name);
        if (text.size() > model_bytes_max) return bad("'model' is too long", name);
        request_.model = text;
        request_.model_value = span_of(token);
        return {};
    }

    // Who shall answer: for us, not for the provider.
    Done read_routing(const std::string& name, ondemand::value& value) {
        std::string_view json;
        if (auto error = simdjson::to_json_string(value).get(json)) return malformed(error);
        json = trimmed(json);
        auto done = routing::read_member(name, json, request_.routing);
        if (!done || routing::member_of(name) != routing::Member::ours) return done;
        Span where{key_at_, span_of(json).at + json.size() - key_at_};
        if (name == "models") request_.models_member = where;
        request_.routing_members.push_back(where);
        return {};
    }

    Done read_messages(const std::string& name, ondemand::value& value) {
        ondemand::array array;
        if (value.get_array().get(array)) return bad("'messages' must be an array", name);
        std::string_view text;
        if (auto error = array.raw_json().get(text)) return malformed(error);
        if (trim_json(text.substr(1)).starts_with(']')) return bad("'messages' must not be empty", name);
        request_.prompt_bytes += text.size();
        request_.messages_value = span_of(text);
        request_.has_media = has_media(text);
        return {};
    }
    // Media come as parts of a content array. Plain conversations have no second '[' outside their texts, so
    // for them one scan decides.
    static bool has_media(std::string_view messages) {
        std::size_t parts = messages.find('[', 1);
        if (parts == std::string_view::npos) return false;
        std::string_view rest = messages.substr(parts);
        for (std::string_view type : {"\"image_url\"", "\"input_audio\"", "\"file\""})
            if (rest.find(type) != std::string_view::npos) return true;
        return false;
    }
    static std::string_view trim_json(std::string_view text) {
        while (!text.empty() && static_cast<unsigned char>(text.front()) <= ' ') text.remove_prefix(1);
        return text;
    }

    Done read_prompt_part(const std::string& name, ondemand::value& value) {
        std::string_view text;
        if (auto error = simdjson::to_json_string(value).get(text)) return malformed(error);
        char first = text.empty() ? ' ' : text.front();
        bool is_list = name != "response_format";
        if (first != (is_list ? '[' : '{') && first != 'n')
            return bad("'" + name + "' must be an " + (is_list ? "array" : "object"), name);
        request_.prompt_bytes += text.size();
        return {};
    }

    Done read_number(const std::string& name, ondemand::value& value) {
        if (is_null(value)) return {};
        double number = 0;
        if (value.get_double().get(number)) return bad("'" + name + "' must be a number", name);
        return {};
    }

    Done read_temperature(const std::string& name, ondemand::value& value) {
        request_.has_temperature = true;
        return read_number(name, value);
    }

    // The whole prompt of an endpoint that takes one text.
    Done read_spoken(const std::string& name, ondemand::value& value) {
        has_input_ = true;
        std::string_view token = trimmed(value.raw_json_token()), text;
        if (value.get_string().get(text)) return bad("'" + name + "' must be a string", name);
        if (text.empty()) return bad("'" + name + "' must not be empty", name);
        request_.prompt_bytes += token.size();
        request_.characters = std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; });
        return {};
    }

    // What images are priced by.
    Done read_look(const std::string& name, ondemand::value& value) {
        if (is_null(value)) return {};
        std::string_view text;
        if (value.get_string().get(text)) return bad("'" + name + "' must be a string", name);
        (name == "size" ? request_.size : request_.quality) = text.substr(0, look_bytes_max);
        return {};
    }

    Done read_stream_format(const std::string& name, ondemand::value& value) {
        if (is_null(value)) return {};
        std::string_view text;
        if (value.get_string().get(text)) return bad("'" + name + "' must be a string", name);
        if (text != "sse" && text != "audio") return bad("'" + name + "' must be audio or sse", name);
        request_.stream = text == "sse";
        return {};
    }

    Done read_stream(const std::string& name, ondemand::value& value) {
        if (is_null(value)) return {};
        if (value.get_bool().get(request_.stream)) return bad("'stream' must be true or false", name);
        return {};
    }

    Done read_stream_options(const std::string& name, ondemand::value& value) {
        if (is_null(value)) {
            request_.stream_options_value = span_of(trimmed(value.raw_json_token()));
            return {};
        }
        ondemand::object options;
        if (value.get_object().get(options)) return bad("'stream_options' must be an object", name);
        request_.stream_options_is_object = true;
        request_.stream_options_is_empty = true;
        for (auto field : options) {
            ondemand::field member;
            if (auto error = std::move(field).get(member)) return malformed(error);
            request_.stream_options_is_empty = false;
            std::string_view key;
            if (auto error = member.unescaped_key().get(key)) return malformed(error);
            if (key != "include_usage") continue;
            const std::string param = name + ".include_usage";
            if (request_.include_usage_value) return bad("'" + param + "' is given more than once", param);
            auto token = trimmed(member.value().raw_json_token());
            if (token == "null" || token == "false" || token == "true") {
                request_.include_usage = token == "true";
                request_.include_usage_value = span_of(token);
                continue;
            }
            return bad("'" + param + "' must be true or false", param);
        }
        std::string_view text;
        if (options.reset().error()) return bad("'stream_options' must be an object", name);
        if (auto error = options.raw_json().get(text)) return malformed(error);
        request_.stream_options_value = span_of(text);
        return {};
    }

    Done read_count(const std::string& name, ondemand::value& value, std::int64_t max,
                    std::optional<std::int64_t>& out, std::optional<Span>* where) {
        auto token = trimmed(value.raw_json_token());
        if (is_null(value)) return {};
        std::int64_t number = 0;
        if (value.get_int64().get(number)) return bad("'" + name + "' must be a whole number", name);
        if (number < 1 || number > max)
            return bad("'" + name + "' must be between 1 and " + std::to_string(max), name);
        out = number;
        if (where != nullptr) *where = span_of(token);
        return {};
    }
    Done read_max_tokens(const std::string& name, ondemand::value& value) {
        return read_count(name, value, 1'000'000'000, request_.max_tokens, &request_.max_tokens_value);
    }
    Done read_max_completion_tokens(const std::string& name, ondemand::value& value) {
        return read_count(name, value, 1'000'000'000, request_.max_completion_tokens,
                          &request_.max_completion_tokens_value);
    }
    Done read_n(const std::string& name, ondemand::value& value) {
        std::optional<std::int64_t> n;
        auto done = read_count(name, value, endpoint_ == Endpoint::images ? images_max : 128, n, nullptr);
        if (done && n) request_.n = *n;
        return done;
    }

    Done read_best_of(const std::string& name, ondemand::value& value) {
        std::optional<std::int64_t> count;
        auto done = read_count(name, value, 128, count, nullptr);
        if (done && count) best_of_ = *count;
        return done;
    }
    Done read_text(const std::string& name, ondemand::value& value) {
        if (is_null(value)) return {};
        std::string_view token = trimmed(value.raw_json_token()), ignored;
        if (value.get_string().get(ignored)) return bad("'" + name + "' must be a string", name);
        request_.prompt_bytes += token.size();
        return {};
    }
    Done read_query(const std::string& name, ondemand::value& value) {
        has_query_ = true;
        std::string_view text;
        if (auto error = simdjson::to_json_string(value).get(text)) return malformed(error);
        if (!text.starts_with('"') && !text.starts_with('{'))
            return bad("'" + name + "' must be a string", name);
        request_.prompt_bytes += text.size();
        return {};
    }
    // A text, a list of texts or of parts, tokens, or a list of lists of tokens.
    Done read_input(const std::string& name, ondemand::value& value) {
        has_input_ = true;
        ondemand::json_type type;
        if (auto error = value.type().get(type)) return malformed(error);
        std::string_view text;
        if (type == ondemand::json_type::string && name != "documents") {
            request_.prompt_bytes += trimmed(value.raw_json_token()).size();
            if (auto error = value.get_string().get(text)) return malformed(error);
            return {};
        }
        ondemand::array items;
        if (type != ondemand::json_type::array || value.get_array().get(items))
            return bad(
                "'" + name + "' must be " + (name == "documents" ? "an array" : "a string or an array"),
                name);
        if (auto error = items.raw_json().get(text)) return malformed(error);
        if (trim_json(text.substr(1)).starts_with(']')) return bad("'" + name + "' must not be empty", name);
        request_.prompt_bytes += text.size();
        if (name == "documents") {
            std::size_t documents = 0;
            if (auto error = items.reset().error()) return malformed(error);
            if (auto error = items.count_elements().get(documents)) return malformed(error);
            request_.documents = static_cast<std::int64_t>(documents);
        }
        if (endpoint_ != Endpoint::completions) return {};
        char first = trim_json(text.substr(1)).front();
        if (first != '"' && first != '[') return {};  // one prompt in tokens
        std::size_t prompts = 0;
        if (auto error = items.reset().error()) return malformed(error);
        if (auto error = items.count_elements().get(prompts)) return malformed(error);
        if (prompts > prompts_max) return bad("'" + name + "' has too many prompts", name);
        prompts_ = static_cast<std::int64_t>(prompts);
        return {};
    }

    Result<ChatRequest> finish() {
        // Without `model`, the first of `models` is it.
        if (auto& wishes = request_.routing.preferences;
            request_.model.empty() && wishes && !wishes->models.empty()) {
            request_.model = std::move(wishes->models.front());
            wishes->models.erase(wishes->models.begin());
        }
        if (request_.model.empty()) return bad("you must provide a 'model' parameter", "model");
        if (endpoint_ == Endpoint::chat) {
            if ((seen_ & 2u) == 0) return bad("missing required parameter: 'messages'", "messages");
        } else if (!has_input_ || (endpoint_ == Endpoint::rerank && !has_query_)) {
            bool is_prompt = endpoint_ == Endpoint::completions || endpoint_ == Endpoint::images;
            const char* name = is_prompt                       ? "prompt"
                               : endpoint_ != Endpoint::rerank ? "input"
                               : has_query_                    ? "documents"
                                                               : "query";
            return bad(std::string("missing required parameter: '") + name + "'", name);
        }
        request_.n = std::max(request_.n, best_of_) * prompts_;
        if (request_.stream_options_is_object && !request_.stream)
            return bad("'stream_options' is only allowed when 'stream' is true", "stream_options");
        return std::move(request_);
    }

    static constexpr std::size_t prompts_max = 2'048;
    static constexpr std::int64_t images_max = 10;
    static constexpr std::size_t look_bytes_max = 64;

    std::string_view body_;
    Endpoint endpoint_;
    ChatRequest request_;
    std::uint64_t seen_ = 0;
    std::size_t key_at_ = 0;  // of the member being read, with its quote
    std::int64_t best_of_ = 1;
    std::int64_t prompts_ = 1;
    bool has_input_ = false;
    bool has_query_ = false;
};

}  // namespace

std::optional<std::int64_t> ChatRequest::asked_output() const {
    if (max_tokens && max_completion_tokens) return std::min(*max_tokens, *max_completion_tokens);
    return max_tokens ? max_tokens : max_completion_tokens;
}

Result<ChatRequest> parse_request(std::string_view body, Endpoint endpoint) {
    return Reader(body, endpoint).read();
}

Result<ChatRequest> parse_chat_request(std::string_view body) { return parse_request(body, Endpoint::chat); }

}  // namespace nebula::gateway

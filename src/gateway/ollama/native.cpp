#include "gateway/ollama/native.hpp"

#include <simdjson.h>

#include <algorithm>
#include <vector>

#include "base/text.hpp"
#include "gateway/routing/preferences.hpp"

namespace nebula::gateway::ollama {
namespace {

namespace ondemand = simdjson::ondemand;

std::unexpected<Error> bad(std::string param, const char* why) {
    std::string message = param + " " + why;
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

std::string_view trimmed(std::string_view token) {
    while (!token.empty() && static_cast<unsigned char>(token.back()) <= ' ') token.remove_suffix(1);
    return token;
}

class Reader {
   public:
    explicit Reader(std::string_view body) : body_(body) {}

    Result<Native> read() {
        thread_local ondemand::parser parser;
        ondemand::document document;
        ondemand::object object;
        simdjson::padded_string_view padded(body_.data(), body_.size(),
                                            body_.size() + simdjson::SIMDJSON_PADDING);
        if (parser.iterate(padded).get(document) || document.get_object().get(object)) return not_json();
        ChatRequest& request = native_.request;
        request.object_open = body_.find('{') + 1;
        request.stream = true;
        for (auto field : object) {
            ondemand::field member;
            std::string_view name;
            if (std::move(field).get(member) || member.unescaped_key().get(name)) return not_json();
            ondemand::value value = member.value();
            if (name == "model") {
                if (auto done = read_model(value); !done) return fail(std::move(done.error()));
            } else if (name == "stream") {
                if (auto done = read_stream(value); !done) return fail(std::move(done.error()));
            } else if (name == "options") {
                if (auto done = read_options(value); !done) return fail(std::move(done.error()));
            }
        }
        if (request.model.empty()) return bad("model", "is required");
        // Whatever it says can become a prompt; pictures tell nothing by their bytes.
        request.prompt_bytes = body_.size();
        request.has_media = body_.find("\"images\"") != std::string_view::npos;
        return std::move(native_);
    }

   private:
    static std::unexpected<Error> not_json() {
        return fail(Code::invalid_request, "the body must be a JSON object");
    }

    Span span_of(std::string_view text) const {
        return {static_cast<std::size_t>(text.data() - body_.data()), text.size()};
    }
    static bool is_null(ondemand::value& value) {
        bool null = false;
        return !value.is_null().get(null) && null;
    }

    Result<void> read_model(ondemand::value& value) {
        if (!native_.request.model.empty()) return bad("model", "is given more than once");
        std::string_view token = trimmed(value.raw_json_token()), text;
        if (value.get_string().get(text) || text.empty()) return bad("model", "must be a string");
        native_.request.model = text;
        native_.request.model_value = span_of(token);
        return {};
    }

    Result<void> read_stream(ondemand::value& value) {
        if (has_stream_) return bad("stream", "is given more than once");
        has_stream_ = true;
        if (is_null(value)) return {};
        if (value.get_bool().get(native_.request.stream)) return bad("stream", "must be true or false");
        return {};
    }

    Result<void> read_options(ondemand::value& value) {
        if (native_.options) return bad("options", "is given more than once");
        if (is_null(value)) {
            native_.options = span_of(trimmed(value.raw_json_token()));
            return {};
        }
        ondemand::object options;
        if (value.get_object().get(options)) return bad("options", "must be an object");
        native_.options_is_object = native_.options_is_empty = true;
        for (auto field : options) {
            ondemand::field member;
            std::string_view name;
            if (std::move(field).get(member) || member.unescaped_key().get(name)) return not_json();
            native_.options_is_empty = false;
            if (name == "temperature") native_.has_temperature = true;
            if (name != "num_predict") continue;
            if (native_.num_predict) return bad("options.num_predict", "is given more than once");
            ondemand::value count = member.value();
            native_.num_predict = span_of(trimmed(count.raw_json_token()));
            if (is_null(count)) continue;
            std::int64_t tokens = 0;
            if (count.get_int64().get(tokens)) return bad("options.num_predict", "must be a whole number");
            if (tokens > 0) native_.request.max_tokens = tokens;  // -1 and -2 mean as many as there are
        }
        std::string_view text;
        if (options.reset().error() || options.raw_json().get(text)) return not_json();
        native_.options = span_of(text);
        return {};
    }

    std::string_view body_;
    Native native_;
    bool has_stream_ = false;
};

bool is_plain(std::string_view name) {
    return std::ranges::all_of(
        name, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
}

}  // namespace

Result<Native> read_native(std::string_view body) { return Reader(body).read(); }

std::string edit_native(std::string_view body, const Native& native, const Edits& edits) {
    std::vector<Edit> all;
    if (!edits.upstream_model.empty() && edits.upstream_model != native.request.model)
        all.push_back({native.request.model_value, json_string(edits.upstream_model)});
    std::string members;  // that are added to the options
    auto add = [&members](std::string_view name, std::string_view value) {
        members.append(members.empty() ? "\"" : ",\"").append(name).append("\":").append(value);
    };
    if (edits.output_cap && native.request.max_tokens.value_or(*edits.output_cap + 1) > *edits.output_cap) {
        std::string count = std::to_string(*edits.output_cap);
        if (native.num_predict)
            all.push_back({*native.num_predict, count});
        else
            add("num_predict", count);
    }
    if (!edits.temperature.empty() && !native.has_temperature) add("temperature", edits.temperature);
    if (!members.empty() && native.options_is_object) {
        all.push_back({{native.options->at + 1, 0}, members + (native.options_is_empty ? "" : ",")});
    } else if (!members.empty() && native.options) {
        all.push_back({*native.options, "{" + members + "}"});
    } else if (!members.empty()) {
        all.push_back({{native.request.object_open, 0}, R"("options":{)" + members + "},"});
    }
    return apply_edits(body, std::move(all)).joined();
}

bool may_pass(const boost::json::object& body) {
    // The others say how the server is to run, and what comes later may do so, too.
    constexpr std::string_view of_the_answer[] = {"num_keep",
                                                  "seed",
                                                  "num_predict",
                                                  "top_k",
                                                  "top_p",
                                                  "min_p",
                                                  "typical_p",
                                                  "tfs_z",
                                                  "repeat_last_n",
                                                  "temperature",
                                                  "repeat_penalty",
                                                  "presence_penalty",
                                                  "frequency_penalty",
                                                  "mirostat",
                                                  "mirostat_tau",
                                                  "mirostat_eta",
                                                  "penalize_newline",
                                                  "stop"};
    for (const auto& member : body) {
        if (!is_plain(member.key()) || routing::member_of(member.key()) == routing::Member::ours)
            return false;
        if (member.key() == "keep_alive" && !member.value().is_null()) return false;
    }
    const boost::json::value* options = body.if_contains("options");
    if (options == nullptr || options->is_null()) return true;
    if (!options->is_object()) return false;
    for (const auto& option : options->get_object())
        if (std::ranges::find(of_the_answer, std::string_view(option.key())) == std::end(of_the_answer))
            return false;
    return true;
}

}  // namespace nebula::gateway::ollama

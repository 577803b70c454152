// Ollama requests → chat and embeddings requests.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <deque>

#include "base/text.hpp"
#include "gateway/members.hpp"
#include "gateway/ollama/native.hpp"
#include "gateway/ollama/ollama.hpp"

namespace nebula::gateway::ollama {
namespace {

namespace json = boost::json;
using members::text_of;

std::unexpected<Error> bad(std::string param, const std::string& why) {
    std::string message = param + " " + why;
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

Result<json::object> parse_object(std::string_view body, Facts* facts) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 128;
    json::value value = json::parse(body, failed, {}, options);
    if (failed || !value.is_object()) return fail(Code::invalid_request, "the body must be a JSON object");
    if (text_of(value.get_object(), "model").empty()) return bad("model", "is required");
    if (facts != nullptr)
        *facts = {std::string(text_of(value.get_object(), "model")), may_pass(value.get_object())};
    return std::move(value.get_object());
}

// Images come as base64 without their type.
std::string data_url(std::string_view base64) {
    const char* type = base64.starts_with("/9j/")    ? "image/jpeg"
                       : base64.starts_with("R0lG")  ? "image/gif"
                       : base64.starts_with("UklGR") ? "image/webp"
                                                     : "image/png";
    return "data:" + std::string(type) + ";base64," + std::string(base64);
}

json::value content_of(std::string_view text, const json::value* images) {
    if (images == nullptr || !images->is_array() || images->get_array().empty()) return json::value(text);
    json::array parts;
    if (!text.empty()) parts.push_back(json::object{{"type", "text"}, {"text", text}});
    for (const json::value& image : images->get_array())
        if (image.is_string())
            parts.push_back(json::object{{"type", "image_url"},
                                         {"image_url", json::object{{"url", data_url(image.get_string())}}}});
    return parts;
}

// `options`, `format`, `think` and `stream`, which chat and generate share.
Result<void> common(const json::object& from, json::object& out) {
    out["model"] = text_of(from, "model");
    const json::value* stream = from.if_contains("stream");
    out["stream"] = stream == nullptr || !stream->is_bool() || stream->get_bool();
    if (const json::value* options = from.if_contains("options");
        options != nullptr && options->is_object()) {
        const json::object& given = options->get_object();
        for (const char* same : {"temperature", "top_p", "top_k", "min_p", "seed", "stop", "presence_penalty",
                                 "frequency_penalty"})
            if (const json::value* value = given.if_contains(same)) out[same] = *value;
        if (const json::value* count = given.if_contains("num_predict");
            count != nullptr && count->is_int64()) {
            if (count->get_int64() > 0) out["max_tokens"] = *count;
        }
        // -1 means "any" to Ollama.
        if (const json::value* seed = out.if_contains("seed"); seed != nullptr && seed->is_int64())
            if (seed->get_int64() < 0) out.erase("seed");
    }
    if (const json::value* format = from.if_contains("format"); format != nullptr) {
        if (format->is_string() && format->get_string() == "json") {
            out["response_format"] = json::object{{"type", "json_object"}};
        } else if (format->is_object()) {
            json::object schema{{"name", "output"}, {"schema", *format}, {"strict", true}};
            out["response_format"] =
                json::object{{"type", "json_schema"}, {"json_schema", std::move(schema)}};
        } else if (!format->is_null() && !(format->is_string() && format->get_string().empty())) {
            return bad("format", "must be \"json\" or a JSON schema");
        }
    }
    if (const json::value* think = from.if_contains("think"); think != nullptr) {
        if (think->is_bool() && think->get_bool()) out["reasoning_effort"] = "medium";
        if (think->is_string()) out["reasoning_effort"] = *think;
    }
    return {};
}

// Calls have no ids in Ollama's older form: results then belong to the calls in their order.
class Conversation {
   public:
    Result<json::array> read(const json::value* list) {
        if (list == nullptr || !list->is_array()) return bad("messages", "must be an array");
        for (const json::value& item : list->get_array()) {
            const json::object* message = item.if_object();
            std::string_view role = message != nullptr ? text_of(*message, "role") : std::string_view();
            if (role.empty()) return bad("messages", "must be objects with a role");
            json::object out{
                {"role", role},
                {"content", content_of(text_of(*message, "content"), message->if_contains("images"))}};
            if (role == "assistant") add_calls(*message, out);
            if (role == "tool") out["tool_call_id"] = id_of_result(*message);
            messages_.push_back(std::move(out));
        }
        return std::move(messages_);
    }

   private:
    void add_calls(const json::object& message, json::object& out) {
        const json::value* given = message.if_contains("tool_calls");
        if (given == nullptr || !given->is_array() || given->get_array().empty()) return;
        json::array calls;
        for (const json::value& item : given->get_array()) {
            const json::object* call = item.if_object();
            const json::value* function = call != nullptr ? call->if_contains("function") : nullptr;
            if (function == nullptr || !function->is_object()) continue;
            std::string id(text_of(*call, "id"));
            if (id.empty()) id = "call_" + std::to_string(++made_);
            open_.push_back(id);
            const json::value* arguments = function->get_object().if_contains("arguments");
            calls.push_back(json::object{
                {"id", id},
                {"type", "function"},
                {"function",
                 json::object{{"name", text_of(function->get_object(), "name")},
                              {"arguments", arguments != nullptr ? json::serialize(*arguments) : "{}"}}}});
        }
        out["tool_calls"] = std::move(calls);
    }
    std::string id_of_result(const json::object& message) {
        std::string id(text_of(message, "tool_call_id"));
        if (!id.empty()) {
            std::erase(open_, id);
        } else if (!open_.empty()) {
            id = open_.front();
            open_.pop_front();
        }
        return id;
    }

    json::array messages_;
    std::deque<std::string> open_;
    int made_ = 0;
};

}  // namespace

Result<std::string> chat_request(std::string_view body, Facts* facts) {
    auto from = parse_object(body, facts);
    if (!from) return fail(std::move(from.error()));
    json::object out;
    if (auto done = common(*from, out); !done) return fail(std::move(done.error()));
    auto messages = Conversation().read(from->if_contains("messages"));
    if (!messages) return fail(std::move(messages.error()));
    out["messages"] = std::move(*messages);
    if (const json::value* tools = from->if_contains("tools"); tools != nullptr && tools->is_array())
        if (!tools->get_array().empty()) out["tools"] = *tools;  // OpenAI's shape already
    return json::serialize(out);
}

Result<std::string> generate_request(std::string_view body, Facts* facts) {
    auto from = parse_object(body, facts);
    if (!from) return fail(std::move(from.error()));
    for (const char* unable : {"suffix", "template", "raw"}) {
        const json::value* value = from->if_contains(unable);
        bool is_given = value != nullptr && !value->is_null() && *value != json::value("") &&
                        *value != json::value(false);
        if (is_given) return bad(unable, "is not supported: the model's own template is used");
    }
    json::object out;
    if (auto done = common(*from, out); !done) return fail(std::move(done.error()));
    json::array messages;
    if (std::string_view system = text_of(*from, "system"); !system.empty())
        messages.push_back(json::object{{"role", "system"}, {"content", system}});
    json::value content = content_of(text_of(*from, "prompt"), from->if_contains("images"));
    messages.push_back(json::object{{"role", "user"}, {"content", std::move(content)}});
    out["messages"] = std::move(messages);
    return json::serialize(out);
}

Result<std::string> embed_request(std::string_view body, Facts* facts) {
    auto from = parse_object(body, facts);
    if (!from) return fail(std::move(from.error()));
    const json::value* input = from->if_contains("input");
    if (input == nullptr) return bad("input", "is required");
    json::object out{{"model", text_of(*from, "model")}, {"input", *input}};
    if (const json::value* dimensions = from->if_contains("dimensions")) out["dimensions"] = *dimensions;
    return json::serialize(out);
}

Result<std::string> embeddings_request(std::string_view body, Facts* facts) {
    auto from = parse_object(body, facts);
    if (!from) return fail(std::move(from.error()));
    const json::value* prompt = from->if_contains("prompt");
    if (prompt == nullptr || !prompt->is_string()) return bad("prompt", "must be a string");
    return json::serialize(json::object{{"model", text_of(*from, "model")}, {"input", *prompt}});
}

std::optional<Load> read_load(std::string_view body, Kind kind) {
    auto from = parse_object(body, nullptr);
    if (!from) return std::nullopt;
    const json::value* said = from->if_contains(kind == Kind::chat ? "messages" : "prompt");
    bool is_empty = said == nullptr || said->is_null() || *said == json::value("") ||
                    (said->is_array() && said->get_array().empty());
    if (!is_empty) return std::nullopt;
    const json::value* keep = from->if_contains("keep_alive");
    bool is_unload = keep != nullptr &&
                     (*keep == json::value(0) || *keep == json::value("0") || *keep == json::value("0s"));
    return Load{std::string(text_of(*from, "model")), is_unload};
}

}  // namespace nebula::gateway::ollama

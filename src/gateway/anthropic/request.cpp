// Messages request → chat request.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.hpp"
#include "gateway/anthropic/anthropic.hpp"
#include "gateway/members.hpp"

namespace nebula::gateway::anthropic {
namespace {

namespace json = boost::json;
using members::object_of;
using members::text_of;

// Thinking budgets in tokens, as the efforts that chat providers know.
constexpr std::int64_t low_budget_max = 4'096;
constexpr std::int64_t medium_budget_max = 16'384;

std::unexpected<Error> bad(std::string param, const std::string& why) {
    std::string message = param + ": " + why;
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

json::object text_part(std::string_view text) { return {{"type", "text"}, {"text", text}}; }

class Translation {
   public:
    explicit Translation(const json::object& from) : from_(from) {}

    Result<json::object> run() {
        using Step = Result<void> (Translation::*)();
        for (Step step :
             {&Translation::basics, &Translation::system, &Translation::messages, &Translation::tools,
              &Translation::tool_choice, &Translation::thinking, &Translation::output}) {
            auto done = (this->*step)();
            if (!done) return fail(std::move(done.error()));
        }
        out_["messages"] = std::move(messages_);
        return std::move(out_);
    }

   private:
    Result<void> basics() {
        const json::value* model = from_.if_contains("model");
        if (model == nullptr || !model->is_string()) return bad("model", "a string is required");
        const json::value* max_tokens = from_.if_contains("max_tokens");
        if (max_tokens == nullptr || !max_tokens->is_int64() || max_tokens->get_int64() < 1)
            return bad("max_tokens", "a whole number of at least 1 is required");
        out_["model"] = *model;
        out_["max_tokens"] = *max_tokens;
        for (const char* same : {"stream", "temperature", "top_p", "top_k"})
            if (const json::value* value = from_.if_contains(same)) out_[same] = *value;
        if (const json::value* stop = from_.if_contains("stop_sequences");
            stop != nullptr && !stop->is_null()) {
            if (!stop->is_array()) return bad("stop_sequences", "must be an array");
            if (!stop->get_array().empty()) out_["stop"] = *stop;
        }
        if (const json::object* metadata = object_of(from_, "metadata"))
            if (const json::value* user = metadata->if_contains("user_id");
                user != nullptr && user->is_string())
                out_["user"] = *user;
        return {};
    }

    Result<void> system() {
        const json::value* system = from_.if_contains("system");
        if (system == nullptr || system->is_null()) return {};
        auto text = joined_text(*system, "system");
        if (!text) return fail(std::move(text.error()));
        if (!text->empty()) messages_.push_back(json::object{{"role", "system"}, {"content", *text}});
        return {};
    }

    // A string, or text blocks one after the other.
    static Result<std::string> joined_text(const json::value& value, const std::string& where) {
        if (value.is_string()) return std::string(value.get_string());
        if (!value.is_array()) return bad(where, "must be a string or an array of blocks");
        std::string text;
        for (const json::value& item : value.get_array()) {
            const json::object* block = item.if_object();
            if (block == nullptr || text_of(*block, "type") != "text")
                return bad(where, "only text blocks can be given to this model");
            if (!text.empty()) text += "\n\n";
            text += text_of(*block, "text");
        }
        return text;
    }

    Result<void> messages() {
        const json::value* list = from_.if_contains("messages");
        if (list == nullptr || !list->is_array() || list->get_array().empty())
            return bad("messages", "a list of at least one message is required");
        std::size_t index = 0;
        for (const json::value& item : list->get_array()) {
            std::string where = "messages." + std::to_string(index++);
            const json::object* message = item.if_object();
            if (message == nullptr) return bad(where, "must be an object");
            std::string_view role = text_of(*message, "role");
            const json::value* content = message->if_contains("content");
            if (content == nullptr || !(content->is_string() || content->is_array()))
                return bad(where + ".content", "must be a string or an array of blocks");
            Result<void> done;
            if (role == "user")
                done = user(*content, where);
            else if (role == "assistant")
                done = assistant(*content, where);
            else if (role == "system")
                messages_.push_back(json::object{{"role", "system"}, {"content", *content}});
            else
                return bad(where + ".role", "must be user or assistant");
            if (!done) return done;
        }
        return {};
    }

    // Results of tools come first, as messages of their own; what else the turn says follows as one message.
    Result<void> user(const json::value& content, const std::string& where) {
        if (content.is_string()) {
            messages_.push_back(json::object{{"role", "user"}, {"content", content}});
            return {};
        }
        json::array parts;
        for (const json::value& item : content.get_array()) {
            const json::object* block = item.if_object();
            if (block == nullptr) return bad(where + ".content", "blocks must be objects");
            Result<void> done = text_of(*block, "type") == "tool_result" ? tool_result(*block, parts, where)
                                                                         : part(*block, parts, where);
            if (!done) return done;
        }
        if (parts.empty()) return {};
        bool is_text = parts.size() == 1 && text_of(parts[0].get_object(), "type") == "text";
        json::value value = is_text ? parts[0].get_object()["text"] : json::value(std::move(parts));
        messages_.push_back(json::object{{"role", "user"}, {"content", std::move(value)}});
        return {};
    }

    Result<void> tool_result(const json::object& block, json::array& parts, const std::string& where) {
        std::string_view id = text_of(block, "tool_use_id");
        if (id.empty()) return bad(where + ".content", "a tool_result needs its tool_use_id");
        std::string text;
        if (const json::value* content = block.if_contains("content"); content != nullptr) {
            if (content->is_string()) {
                text = content->get_string();
            } else if (content->is_array()) {
                for (const json::value& item : content->get_array()) {
                    const json::object* inner = item.if_object();
                    if (inner == nullptr) return bad(where + ".content", "blocks must be objects");
                    if (text_of(*inner, "type") == "text") {
                        text += text_of(*inner, "text");
                    } else if (auto done = part(*inner, parts, where); !done) {
                        return done;  // tools answer chat models in text; images follow with the turn
                    }
                }
            }
        }
        messages_.push_back(json::object{{"role", "tool"}, {"tool_call_id", id}, {"content", text}});
        return {};
    }

    static Result<void> part(const json::object& block, json::array& parts, const std::string& where) {
        std::string_view type = text_of(block, "type");
        if (type == "text") {
            parts.push_back(text_part(text_of(block, "text")));
            return {};
        }
        const json::object* source = object_of(block, "source");
        std::string_view kind = source != nullptr ? text_of(*source, "type") : std::string_view();
        if (type == "image" && (kind == "base64" || kind == "url")) {
            std::string url = kind == "url" ? std::string(text_of(*source, "url"))
                                            : "data:" + std::string(text_of(*source, "media_type")) +
                                                  ";base64," + std::string(text_of(*source, "data"));
            parts.push_back(json::object{{"type", "image_url"}, {"image_url", json::object{{"url", url}}}});
            return {};
        }
        if (type == "document" && kind == "text") {
            parts.push_back(text_part(text_of(*source, "data")));
            return {};
        }
        if (type == "document" && kind == "base64") {
            std::string_view title = text_of(block, "title");
            std::string data = "data:" + std::string(text_of(*source, "media_type")) + ";base64," +
                               std::string(text_of(*source, "data"));
            json::object file{{"filename", title.empty() ? "document.pdf" : title}, {"file_data", data}};
            parts.push_back(json::object{{"type", "file"}, {"file", std::move(file)}});
            return {};
        }
        return bad(where + ".content", "a block of type '" + std::string(type) +
                                           "' with this source cannot be given to this model");
    }

    Result<void> assistant(const json::value& content, const std::string& where) {
        if (content.is_string()) {
            messages_.push_back(json::object{{"role", "assistant"}, {"content", content}});
            return {};
        }
        std::string text;
        json::array calls;
        for (const json::value& item : content.get_array()) {
            const json::object* block = item.if_object();
            if (block == nullptr) return bad(where + ".content", "blocks must be objects");
            std::string_view type = text_of(*block, "type");
            if (type == "text") {
                text += text_of(*block, "text");
            } else if (type == "tool_use") {
                const json::value* input = block->if_contains("input");
                calls.push_back(json::object{
                    {"id", text_of(*block, "id")},
                    {"type", "function"},
                    {"function",
                     json::object{{"name", text_of(*block, "name")},
                                  {"arguments", input != nullptr ? json::serialize(*input) : "{}"}}}});
            } else if (type != "thinking" && type != "redacted_thinking") {
                return bad(where + ".content",
                           "a block of type '" + std::string(type) + "' cannot be given to this model");
            }
        }
        json::object message{{"role", "assistant"}};
        message["content"] = text.empty() && !calls.empty() ? json::value(nullptr) : json::value(text);
        if (!calls.empty()) message["tool_calls"] = std::move(calls);
        messages_.push_back(std::move(message));
        return {};
    }

    Result<void> tools() {
        const json::value* list = from_.if_contains("tools");
        if (list == nullptr || list->is_null()) return {};
        if (!list->is_array()) return bad("tools", "must be an array");
        json::array tools;
        for (const json::value& item : list->get_array()) {
            const json::object* tool = item.if_object();
            if (tool == nullptr) return bad("tools", "must be objects");
            std::string_view type = text_of(*tool, "type");
            if (!type.empty() && type != "custom")
                return bad("tools", "the server tool '" + std::string(type) + "' is not available here");
            json::object function{{"name", text_of(*tool, "name")}};
            for (auto [theirs, ours] :
                 {std::pair("description", "description"), std::pair("input_schema", "parameters"),
                  std::pair("strict", "strict")})
                if (const json::value* value = tool->if_contains(theirs)) function[ours] = *value;
            tools.push_back(json::object{{"type", "function"}, {"function", std::move(function)}});
        }
        if (!tools.empty()) out_["tools"] = std::move(tools);
        return {};
    }

    Result<void> tool_choice() {
        const json::object* choice = object_of(from_, "tool_choice");
        if (choice == nullptr) return {};
        std::string_view type = text_of(*choice, "type");
        if (type == "auto" || type == "none") {
            out_["tool_choice"] = type;
        } else if (type == "any") {
            out_["tool_choice"] = "required";
        } else if (type == "tool") {
            json::object function{{"name", text_of(*choice, "name")}};
            out_["tool_choice"] = json::object{{"type", "function"}, {"function", std::move(function)}};
        } else {
            return bad("tool_choice", "must be auto, any, none or tool");
        }
        const json::value* single = choice->if_contains("disable_parallel_tool_use");
        if (single != nullptr && single->is_bool() && single->get_bool()) out_["parallel_tool_calls"] = false;
        return {};
    }

    Result<void> thinking() {
        const json::object* thinking = object_of(from_, "thinking");
        if (thinking == nullptr || text_of(*thinking, "type") != "enabled") return {};
        const json::value* budget = thinking->if_contains("budget_tokens");
        std::int64_t tokens = budget != nullptr && budget->is_int64() ? budget->get_int64() : 0;
        if (tokens < 1'024) return bad("thinking.budget_tokens", "must be at least 1024");
        out_["reasoning_effort"] = tokens <= low_budget_max      ? "low"
                                   : tokens <= medium_budget_max ? "medium"
                                                                 : "high";
        return {};
    }

    Result<void> output() {
        const json::object* config = object_of(from_, "output_config");
        if (config == nullptr) return {};
        if (std::string_view effort = text_of(*config, "effort"); !effort.empty())
            out_["reasoning_effort"] = effort;
        const json::object* format = object_of(*config, "format");
        if (format == nullptr) return {};
        if (text_of(*format, "type") != "json_schema" || format->if_contains("schema") == nullptr)
            return bad("output_config.format", "must be a json_schema with its schema");
        json::object schema{{"name", "output"}, {"schema", *format->if_contains("schema")}, {"strict", true}};
        out_["response_format"] = json::object{{"type", "json_schema"}, {"json_schema", std::move(schema)}};
        return {};
    }

    const json::object& from_;
    json::object out_;
    json::array messages_;
};

}  // namespace

namespace {

Result<json::object> parse_object(std::string_view body) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 128;
    json::value value = json::parse(body, failed, {}, options);
    if (failed) return fail(Code::invalid_request, "the request body is not valid JSON");
    if (!value.is_object()) return fail(Code::invalid_request, "the request body must be a JSON object");
    return std::move(value.get_object());
}

}  // namespace

Result<std::string> to_chat_request(std::string_view body) {
    auto object = parse_object(body);
    if (!object) return fail(std::move(object.error()));
    auto chat = Translation(*object).run();
    if (!chat) return fail(std::move(chat.error()));
    return json::serialize(*chat);
}

Result<std::string> to_countable_request(std::string_view body) {
    auto object = parse_object(body);
    if (!object) return fail(std::move(object.error()));
    object->insert_or_assign("max_tokens", 1);
    auto chat = Translation(*object).run();
    if (!chat) return fail(std::move(chat.error()));
    return json::serialize(*chat);
}

}  // namespace nebula::gateway::anthropic

// OpenAI's requests → Ollama's.
#include <boost/json/serialize.hpp>

#include "gateway/providers/ollama/ollama.hpp"
#include "gateway/providers/openai_request.hpp"

namespace nebula::gateway::ollama {
namespace {

namespace json = boost::json;
using namespace openai_request;

// What there is no word for, and what the answer would not be the same without.
Result<void> refuse_unknown(const json::object& from) {
    for (const char* name : {"functions", "function_call", "audio", "web_search_options", "echo"})
        if (const json::value* value = member(from, name); value != nullptr && *value != json::value(false))
            return bad(name, "cannot be given to this model's provider");
    for (const char* name : {"n", "best_of"})
        if (const json::value* count = member(from, name); count != nullptr && *count != json::value(1))
            return bad(name, "must be 1: this model's provider gives one answer");
    return {};
}

json::object options_of(const json::object& from) {
    struct Same {
        const char* openai;
        const char* ollama;
    };
    constexpr Same names[] = {{"temperature", "temperature"},
                              {"top_p", "top_p"},
                              {"top_k", "top_k"},
                              {"min_p", "min_p"},
                              {"seed", "seed"},
                              {"presence_penalty", "presence_penalty"},
                              {"frequency_penalty", "frequency_penalty"},
                              {"repetition_penalty", "repeat_penalty"}};
    json::object out;
    for (const Same& name : names)
        if (const json::value* value = member(from, name.openai)) out[name.ollama] = *value;
    if (json::array stop = stop_list(from); !stop.empty()) out["stop"] = std::move(stop);
    if (auto cap = output_cap(from)) out["num_predict"] = *cap;
    return out;
}

Result<void> common(const json::object& from, json::object& out) {
    if (auto done = refuse_unknown(from); !done) return done;
    out["model"] = text_of(from, "model");
    const json::value* stream = member(from, "stream");
    out["stream"] = stream != nullptr && stream->is_bool() && stream->get_bool();
    if (json::object options = options_of(from); !options.empty()) out["options"] = std::move(options);
    if (const json::object* format = object_of(from, "response_format")) {
        std::string_view type = text_of(*format, "type");
        const json::object* named = object_of(*format, "json_schema");
        const json::value* schema = named != nullptr ? member(*named, "schema") : nullptr;
        if (type == "json_schema" && schema != nullptr && schema->is_object())
            out["format"] = *schema;
        else if (type == "json_object" || type == "json_schema")
            out["format"] = "json";
        else if (type != "text")
            return bad("response_format", "must be text, json_object or json_schema");
    }
    auto reasoning = reasoning_of(from);
    if (!reasoning) return fail(std::move(reasoning.error()));
    if (reasoning->is_off)
        out["think"] = false;
    else if (reasoning->effort == "minimal" || reasoning->effort == "low")
        out["think"] = "low";
    else if (reasoning->effort == "xhigh" || reasoning->effort == "max")
        out["think"] = "max";
    else if (!reasoning->effort.empty())
        out["think"] = reasoning->effort;
    else if (reasoning->is_asked)
        out["think"] = true;
    // Of chat; completions ask for a number of them.
    if (const json::value* logprobs = member(from, "logprobs"); logprobs != nullptr && logprobs->is_bool()) {
        out["logprobs"] = *logprobs;
        if (const json::value* top = member(from, "top_logprobs")) out["top_logprobs"] = *top;
    }
    return {};
}

class Messages {
   public:
    Result<json::array> read(const json::object& from) {
        const json::value* list = member(from, "messages");
        if (list == nullptr || !list->is_array()) return bad("messages", "must be an array");
        std::size_t index = 0;
        for (const json::value& item : list->get_array()) {
            where_ = "messages." + std::to_string(index++);
            const json::object* message = item.if_object();
            if (message == nullptr) return bad(where_, "must be an object");
            if (auto done = add(*message); !done) return fail(std::move(done.error()));
        }
        return std::move(out_);
    }

   private:
    Result<void> add(const json::object& message) {
        std::string_view role = text_of(message, "role");
        json::object out{{"role", role}};
        if (role == "developer") out["role"] = "system";
        if (role == "function") out["role"] = "tool";
        if (auto done = add_content(message, out); !done) return done;
        if (role == "assistant") {
            std::string_view thinking = text_of(message, "reasoning_content");
            if (thinking.empty()) thinking = text_of(message, "reasoning");
            if (!thinking.empty()) out["thinking"] = thinking;
            if (auto done = add_calls(message, out); !done) return done;
        } else if (role == "tool") {
            std::string_view id = text_of(message, "tool_call_id");
            std::string_view name = names_.of(id);
            if (!name.empty()) out["tool_name"] = name;
            if (!id.empty()) out["tool_call_id"] = id;
        } else if (role == "function") {
            out["tool_name"] = text_of(message, "name");
        } else if (role != "system" && role != "developer" && role != "user") {
            return bad(where_ + ".role", "must be system, developer, user, assistant or tool");
        }
        out_.push_back(std::move(out));
        return {};
    }

    Result<void> add_content(const json::object& message, json::object& out) const {
        const json::value* content = member(message, "content");
        if (content == nullptr || content->is_string()) {
            out["content"] = content != nullptr ? *content : json::value("");
            if (content == nullptr)
                if (std::string_view refusal = text_of(message, "refusal"); !refusal.empty())
                    out["content"] = refusal;
            return {};
        }
        std::string where = where_ + ".content";
        if (!content->is_array()) return bad(where, "must be a string or an array of parts");
        std::string text;
        json::array images;
        for (const json::value& item : content->get_array()) {
            const json::object* part = item.if_object();
            std::string_view type = part != nullptr ? text_of(*part, "type") : std::string_view();
            if (type == "text" || type == "refusal") {
                if (!text.empty()) text += '\n';
                text += text_of(*part, type);
            } else if (type == "image_url") {
                auto data = data_url(url_of(*part, "image_url"));
                if (!data) return bad(where, "images must be data: URLs in base64 for this model's provider");
                images.emplace_back(data->base64);
            } else {
                return bad(where, "this model's provider takes texts and images only");
            }
        }
        out["content"] = text;
        if (!images.empty()) out["images"] = std::move(images);
        return {};
    }

    Result<void> add_calls(const json::object& message, json::object& out) {
        const json::value* given = member(message, "tool_calls");
        if (given == nullptr) return {};
        if (!given->is_array()) return bad(where_ + ".tool_calls", "must be an array");
        json::array calls;
        for (const json::value& item : given->get_array()) {
            const json::object* call = item.if_object();
            const json::object* function = call != nullptr ? object_of(*call, "function") : nullptr;
            if (function == nullptr) return bad(where_ + ".tool_calls", "must be calls of functions");
            std::string_view id = text_of(*call, "id"), name = text_of(*function, "name");
            names_.seen(id, name);
            json::object told{{"index", calls.size()},
                              {"name", name},
                              {"arguments", arguments_of(text_of(*function, "arguments"))}};
            calls.push_back(json::object{{"id", id}, {"function", std::move(told)}});
        }
        if (!calls.empty()) out["tool_calls"] = std::move(calls);
        return {};
    }

    json::array out_;
    std::string where_;
    CallNames names_;
};

// Functions are OpenAI's already; that one must be called cannot be said.
Result<void> add_tools(const json::object& from, json::object& out) {
    const json::value* tools = member(from, "tools");
    const json::value* choice = member(from, "tool_choice");
    if (choice != nullptr && *choice == json::value("none")) return {};
    if (choice != nullptr && *choice != json::value("auto"))
        return bad("tool_choice",
                   "must be auto or none: this model's provider cannot be told to call a tool");
    if (tools == nullptr) return {};
    if (!tools->is_array()) return bad("tools", "must be an array");
    for (const json::value& tool : tools->get_array())
        if (!tool.is_object() || text_of(tool.get_object(), "type") != "function")
            return bad("tools", "must be functions for this model's provider");
    if (!tools->get_array().empty()) out["tools"] = *tools;
    return {};
}

}  // namespace

Result<std::string> to_chat(const json::object& from) {
    json::object out;
    if (auto done = common(from, out); !done) return fail(std::move(done.error()));
    auto messages = Messages().read(from);
    if (!messages) return fail(std::move(messages.error()));
    out["messages"] = std::move(*messages);
    if (auto done = add_tools(from, out); !done) return fail(std::move(done.error()));
    return json::serialize(out);
}

Result<std::string> to_generate(const json::object& from) {
    json::object out;
    if (auto done = common(from, out); !done) return fail(std::move(done.error()));
    const json::value* prompt = member(from, "prompt");
    if (prompt != nullptr && prompt->is_array() && prompt->get_array().size() == 1)
        prompt = &prompt->get_array().front();
    if (prompt == nullptr || !prompt->is_string())
        return bad("prompt", "must be one text for this model's provider");
    out["prompt"] = *prompt;
    if (const json::value* suffix = member(from, "suffix")) out["suffix"] = *suffix;
    return json::serialize(out);
}

Result<std::string> to_embed(const json::object& from) {
    auto inputs = embedding_inputs(from);
    if (!inputs) return fail(std::move(inputs.error()));
    json::object out{{"model", text_of(from, "model")}, {"input", std::move(*inputs)}};
    if (const json::value* dimensions = member(from, "dimensions")) out["dimensions"] = *dimensions;
    return json::serialize(out);
}

}  // namespace nebula::gateway::ollama

// Responses request → chat request.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.hpp"
#include "gateway/responses/response_object.hpp"
#include "gateway/responses/responses.hpp"

namespace nebula::gateway::responses {
namespace {

namespace json = boost::json;

std::unexpected<Error> bad(std::string param, const std::string& why) {
    std::string message = param + ": " + why;
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

// Absent and null are the same in this API.
const json::value* given(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && !value->is_null() ? value : nullptr;
}

std::string_view text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string_view(value->get_string())
                                                  : std::string_view();
}

const json::object* object_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr ? value->if_object() : nullptr;
}

json::object text_piece(std::string_view text) { return {{"type", "text"}, {"text", text}}; }

// The conversation: items in, messages out.
class Conversation {
   public:
    void instruct(std::string_view text) {
        if (!text.empty()) messages_.push_back(json::object{{"role", "system"}, {"content", text}});
    }

    Result<void> read(const json::value& input) {
        if (input.is_string()) {
            messages_.push_back(json::object{{"role", "user"}, {"content", input}});
            return {};
        }
        if (!input.is_array()) return bad("input", "must be a string or an array of items");
        std::size_t index = 0;
        for (const json::value& item : input.get_array()) {
            std::string where = "input[" + std::to_string(index++) + "]";
            if (!item.is_object()) return bad(where, "must be an object");
            auto done = read_item(item.get_object(), where);
            if (!done) return done;
        }
        return {};
    }

    Result<json::array> take() {
        flush_media();
        if (messages_.empty()) return bad("input", "a text or at least one item is required");
        return std::move(messages_);
    }

   private:
    Result<void> read_item(const json::object& item, const std::string& where) {
        std::string_view type = text_of(item, "type");
        if (type == "reasoning") return {};  // chat models are not told their earlier thoughts
        if (type == "function_call") return call(item, where);
        if (type == "function_call_output") return call_output(item, where);
        if (type.empty() || type == "message") return message(item, where);
        if (type == "item_reference")
            return bad(where, "item_reference: responses are not stored here; give the item itself");
        return bad(where, "an item of type '" + std::string(type) + "' cannot be given to this model");
    }

    Result<void> message(const json::object& item, const std::string& where) {
        flush_media();
        std::string_view role = text_of(item, "role");
        const json::value* content = given(item, "content");
        if (content == nullptr || !(content->is_string() || content->is_array()))
            return bad(where + ".content", "must be a string or an array of parts");
        if (role == "user") {
            json::array parts;
            if (content->is_array()) {
                if (auto done = add_parts(content->get_array(), where + ".content", parts); !done)
                    return done;
            }
            json::value value = *content;
            if (content->is_array()) {
                bool is_text = parts.size() == 1 && text_of(parts[0].get_object(), "type") == "text";
                value = is_text ? parts[0].get_object()["text"] : json::value(std::move(parts));
            }
            messages_.push_back(json::object{{"role", "user"}, {"content", std::move(value)}});
            return {};
        }
        if (role != "assistant" && role != "system" && role != "developer")
            return bad(where + ".role", "must be user, assistant, system or developer");
        auto text = joined_text(*content, where + ".content");
        if (!text) return fail(std::move(text.error()));
        if (role == "assistant")
            assistant_text(*text);
        else
            messages_.push_back(json::object{{"role", "system"}, {"content", *text}});
        return {};
    }

    // What is said after calls belongs to the turn of these calls: their results must come right behind it.
    void assistant_text(const std::string& text) {
        if (json::object* turn = open_turn()) {
            json::value& content = (*turn)["content"];
            if (content.is_null()) {
                content = text;
                return;
            }
        }
        messages_.push_back(json::object{{"role", "assistant"}, {"content", text}});
    }

    static Result<std::string> joined_text(const json::value& content, const std::string& where) {
        if (content.is_string()) return std::string(content.get_string());
        std::string text;
        for (const json::value& item : content.get_array()) {
            const json::object* part = item.if_object();
            std::string_view type = part != nullptr ? text_of(*part, "type") : std::string_view();
            if (type == "output_text" || type == "input_text" || type == "text")
                text += text_of(*part, "text");
            else if (type == "refusal")
                text += text_of(*part, "refusal");
            else
                return bad(where, "a part of type '" + std::string(type) + "' cannot be given here");
        }
        return text;
    }

    static Result<void> add_parts(const json::array& from, const std::string& where, json::array& parts) {
        for (const json::value& item : from) {
            const json::object* part = item.if_object();
            if (part == nullptr) return bad(where, "parts must be objects");
            if (auto done = add_part(*part, where, parts); !done) return done;
        }
        return {};
    }

    static Result<void> add_part(const json::object& part, const std::string& where, json::array& parts) {
        std::string_view type = text_of(part, "type");
        if (type == "input_text" || type == "output_text" || type == "text") {
            parts.push_back(text_piece(text_of(part, "text")));
            return {};
        }
        if ((type == "input_image" || type == "input_file") && given(part, "file_id") != nullptr)
            return bad(where, "file_id: files are not stored here; give the data itself");
        if (type == "input_image" && !text_of(part, "image_url").empty()) {
            json::object image{{"url", text_of(part, "image_url")}};
            if (std::string_view detail = text_of(part, "detail"); !detail.empty()) image["detail"] = detail;
            parts.push_back(json::object{{"type", "image_url"}, {"image_url", std::move(image)}});
            return {};
        }
        if (type == "input_file" && !text_of(part, "file_data").empty()) {
            std::string_view name = text_of(part, "filename");
            json::object file{{"filename", name.empty() ? "file" : name},
                              {"file_data", text_of(part, "file_data")}};
            parts.push_back(json::object{{"type", "file"}, {"file", std::move(file)}});
            return {};
        }
        if (type == "input_audio" && object_of(part, "input_audio") != nullptr) {
            parts.push_back(part);
            return {};
        }
        return bad(where, "a part of type '" + std::string(type) +
                              "' with this source cannot be given to this model");
    }

    // Calls that follow one another or the words of the same turn are one message of several calls.
    Result<void> call(const json::object& item, const std::string& where) {
        flush_media();
        for (const char* needed : {"call_id", "name"})
            if (text_of(item, needed).empty()) return bad(where + "." + needed, "a string is required");
        const json::value* arguments = item.if_contains("arguments");
        if (arguments == nullptr || !arguments->is_string())
            return bad(where + ".arguments", "a string is required");
        json::object function{{"name", text_of(item, "name")}, {"arguments", *arguments}};
        json::object made{
            {"id", text_of(item, "call_id")}, {"type", "function"}, {"function", std::move(function)}};
        json::object* turn = open_turn();
        if (turn == nullptr) {
            messages_.push_back(json::object{{"role", "assistant"}, {"content", nullptr}});
            turn = open_turn();
        }
        json::value& calls = (*turn)["tool_calls"];
        if (!calls.is_array()) calls = json::array();
        calls.get_array().push_back(std::move(made));
        return {};
    }

    Result<void> call_output(const json::object& item, const std::string& where) {
        std::string_view id = text_of(item, "call_id");
        if (id.empty()) return bad(where + ".call_id", "a string is required");
        const json::value* output = given(item, "output");
        std::string text;
        if (output != nullptr && output->is_string()) {
            text = output->get_string();
        } else if (output != nullptr && output->is_array()) {
            json::array parts;
            if (auto done = add_parts(output->get_array(), where + ".output", parts); !done) return done;
            for (json::value& part : parts) {
                if (text_of(part.get_object(), "type") == "text")
                    text += text_of(part.get_object(), "text");
                else
                    media_.push_back(std::move(part));
            }
        } else {
            return bad(where + ".output", "must be a string or an array of parts");
        }
        messages_.push_back(json::object{{"role", "tool"}, {"tool_call_id", id}, {"content", text}});
        return {};
    }

    // Tools answer chat models in text: their images and files follow when all results of the turn are told.
    void flush_media() {
        if (media_.empty()) return;
        messages_.push_back(json::object{{"role", "user"}, {"content", std::move(media_)}});
        media_ = json::array();
    }

    json::object* open_turn() {
        json::object* last = messages_.empty() ? nullptr : messages_.back().if_object();
        return last != nullptr && text_of(*last, "role") == "assistant" ? last : nullptr;
    }

    json::array messages_;
    json::array media_;
};

class Translation {
   public:
    Translation(const json::object& from, const Memory& memory) : from_(from), memory_(memory) {}

    Result<Translated> run() {
        for (Step step : {&Translation::refuse, &Translation::basics})
            if (auto done = (this->*step)(); !done) return fail(std::move(done.error()));
        Translated done{chat(), echo()};
        const json::value* wanted = given(from_, "store");
        done.stores =
            memory_.is_on && (wanted != nullptr ? *wanted == json::value(true) : memory_.stores_by_default);
        if (done.stores) done.input = input_items();
        return done;
    }

   private:
    using Step = Result<void> (Translation::*)();

    Result<std::string> chat() {
        for (Step step : {&Translation::messages, &Translation::tools, &Translation::tool_choice,
                          &Translation::text, &Translation::reasoning})
            if (auto done = (this->*step)(); !done) return fail(std::move(done.error()));
        return json::serialize(out_);
    }

    // What needs a server that remembers.
    Result<void> refuse() {
        if (given(from_, "previous_response_id") != nullptr && memory_.previous.empty())
            return bad("previous_response_id",
                       "responses are not stored here; send the whole conversation as input");
        if (given(from_, "conversation") != nullptr)
            return bad("conversation",
                       "conversations are not kept here; use previous_response_id or send it as input");
        if (given(from_, "prompt") != nullptr) return bad("prompt", "prompts are not stored here");
        const json::value* background = given(from_, "background");
        if (background != nullptr && *background != json::value(false))
            return bad("background", "responses are not stored here; read the answer or its stream");
        return {};
    }

    Result<void> basics() {
        if (text_of(from_, "model").empty()) return bad("model", "a string is required");
        for (const char* same :
             {"model", "stream", "temperature", "top_p", "parallel_tool_calls", "user", "service_tier",
              "prompt_cache_key", "safety_identifier", "top_k", "min_p", "seed", "stop", "frequency_penalty",
              "presence_penalty", "repetition_penalty"})
            if (const json::value* value = given(from_, same)) out_[same] = *value;
        if (const json::value* cap = given(from_, "max_output_tokens")) {
            if (!cap->is_int64() || cap->get_int64() < 1)
                return bad("max_output_tokens", "must be a whole number of at least 1");
            out_["max_tokens"] = *cap;
        }
        if (const json::value* store = given(from_, "store"); store && !store->is_bool())
            return bad("store", "must be true or false");
        if (const json::value* metadata = given(from_, "metadata"); metadata && !metadata->is_object())
            return bad("metadata", "must be an object");
        return {};
    }

    Result<void> messages() {
        Conversation conversation;
        if (const json::value* instructions = given(from_, "instructions")) {
            if (!instructions->is_string()) return bad("instructions", "must be a string");
            conversation.instruct(instructions->get_string());
        }
        if (!memory_.earlier.empty())
            if (auto done = conversation.read(memory_.earlier); !done) return done;
        if (const json::value* input = given(from_, "input"))
            if (auto done = conversation.read(*input); !done) return done;
        auto list = conversation.take();
        if (!list) return fail(std::move(list.error()));
        out_["messages"] = std::move(*list);
        return {};
    }

    // {"type":"function","name",…} here, {"type":"function","function":{"name",…}} there.
    Result<void> tools() {
        const json::value* list = given(from_, "tools");
        if (list == nullptr) return {};
        if (!list->is_array()) return bad("tools", "must be an array");
        json::array tools;
        for (const json::value& item : list->get_array()) {
            const json::object* tool = item.if_object();
            if (tool == nullptr) return bad("tools", "must be objects");
            std::string_view type = text_of(*tool, "type");
            if (type != "function")
                return bad("tools", "the tool '" + std::string(type) + "' is not available here");
            json::object function;
            for (const char* same : {"name", "description", "parameters", "strict"})
                if (const json::value* value = given(*tool, same)) function[same] = *value;
            tools.push_back(json::object{{"type", "function"}, {"function", std::move(function)}});
        }
        if (!tools.empty()) out_["tools"] = std::move(tools);
        return {};
    }

    static json::object named(std::string_view name) {
        return {{"type", "function"}, {"function", json::object{{"name", name}}}};
    }

    Result<void> tool_choice() {
        const json::value* choice = given(from_, "tool_choice");
        if (choice == nullptr) return {};
        if (choice->is_string()) {
            out_["tool_choice"] = *choice;
            return {};
        }
        const json::object* wanted = choice->if_object();
        std::string_view type = wanted != nullptr ? text_of(*wanted, "type") : std::string_view();
        if (type == "function") {
            out_["tool_choice"] = named(text_of(*wanted, "name"));
            return {};
        }
        const json::value* list = type == "allowed_tools" ? wanted->if_contains("tools") : nullptr;
        if (list == nullptr || !list->is_array())
            return bad("tool_choice", "must be none, auto, required, a function or allowed_tools");
        json::array allowed;
        for (const json::value& item : list->get_array()) {
            const json::object* tool = item.if_object();
            if (tool == nullptr || text_of(*tool, "type") != "function")
                return bad("tool_choice", "only functions are available here");
            allowed.push_back(named(text_of(*tool, "name")));
        }
        json::object tools{{"mode", text_of(*wanted, "mode")}, {"tools", std::move(allowed)}};
        out_["tool_choice"] = json::object{{"type", "allowed_tools"}, {"allowed_tools", std::move(tools)}};
        return {};
    }

    Result<void> text() {
        const json::object* text = object_of(from_, "text");
        if (text == nullptr) return {};
        if (const json::value* verbosity = given(*text, "verbosity")) out_["verbosity"] = *verbosity;
        const json::object* format = object_of(*text, "format");
        if (format == nullptr) return {};
        std::string_view type = text_of(*format, "type");
        if (type == "json_schema") {
            json::object schema;
            for (const char* same : {"name", "description", "schema", "strict"})
                if (const json::value* value = given(*format, same)) schema[same] = *value;
            out_["response_format"] =
                json::object{{"type", "json_schema"}, {"json_schema", std::move(schema)}};
        } else if (type == "json_object") {
            out_["response_format"] = json::object{{"type", "json_object"}};
        } else if (type != "text") {
            return bad("text.format", "must be text, json_object or json_schema");
        }
        return {};
    }

    Result<void> reasoning() {
        if (const json::object* reasoning = object_of(from_, "reasoning"))
            if (const json::value* effort = given(*reasoning, "effort")) out_["reasoning_effort"] = *effort;
        return {};
    }

    std::string echo() const {
        json::object out;
        auto repeat = [&](const char* name, const json::value& otherwise) {
            const json::value* value = given(from_, name);
            out[name] = value != nullptr ? *value : otherwise;
        };
        out["background"] = false;
        repeat("instructions", nullptr);
        repeat("max_output_tokens", nullptr);
        repeat("metadata", json::object());
        repeat("model", nullptr);
        repeat("parallel_tool_calls", true);
        out["previous_response_id"] =
            memory_.previous.empty() ? json::value(nullptr) : json::value(memory_.previous);
        json::object thinking{{"effort", nullptr}, {"summary", nullptr}};
        if (const json::object* reasoning = object_of(from_, "reasoning"))
            if (const json::value* effort = given(*reasoning, "effort")) thinking["effort"] = *effort;
        out["reasoning"] = std::move(thinking);
        repeat("temperature", nullptr);
        json::object text{{"format", json::object{{"type", "text"}}}};
        if (const json::object* wanted = object_of(from_, "text"))
            for (const char* same : {"format", "verbosity"})
                if (const json::value* value = given(*wanted, same)) text[same] = *value;
        out["text"] = std::move(text);
        repeat("tool_choice", "auto");
        repeat("tools", json::array());
        repeat("top_p", nullptr);
        out["truncation"] = "disabled";
        repeat("user", nullptr);
        std::string whole = json::serialize(out);
        return whole.substr(1, whole.size() - 2);
    }

    // As they are listed later: messages whole, with their content in parts.
    json::array input_items() const {
        const json::value* input = given(from_, "input");
        if (input == nullptr) return {};
        json::array items;
        if (input->is_string())
            items.push_back(json::object{{"role", "user"}, {"content", *input}});
        else if (input->is_array())
            items = input->get_array();
        for (json::value& one : items) {
            if (!one.is_object()) continue;
            json::object& item = one.get_object();
            if (text_of(item, "type").empty()) item["type"] = "message";
            if (text_of(item, "type") == "message") complete(item);
        }
        return items;
    }

    static void complete(json::object& message) {
        if (given(message, "status") == nullptr) message["status"] = "completed";
        json::value& content = message["content"];
        if (!content.is_string()) return;
        bool is_answer = text_of(message, "role") == "assistant";
        json::object part{{"type", is_answer ? "output_text" : "input_text"}, {"text", content}};
        if (is_answer) part["annotations"] = json::array();
        content = json::array{std::move(part)};
    }

    const json::object& from_;
    const Memory& memory_;
    json::object out_;
};

}  // namespace

Result<Translated> translate(std::string_view body, const Memory& memory) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 128;
    json::value value = json::parse(body, failed, {}, options);
    if (failed) return fail(Code::invalid_request, "the request body is not valid JSON");
    if (!value.is_object()) return fail(Code::invalid_request, "the request body must be a JSON object");
    return Translation(value.get_object(), memory).run();
}

Result<std::string> to_chat_request(std::string_view body) {
    auto translated = translate(body);
    if (!translated) return fail(std::move(translated.error()));
    return std::move(translated->chat);
}

}  // namespace nebula::gateway::responses

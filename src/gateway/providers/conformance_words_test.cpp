// OpenAI's words, read and written.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "gateway/providers/conformance_support.hpp"

namespace nebula::gateway::conformance {
namespace {

void add_content(const json::value& content, std::string_view role, std::vector<Item>& items) {
    using What = Item::What;
    if (content.is_string()) {
        if (!content.get_string().empty())
            items.push_back({What::text, std::string(role), {}, {}, std::string(content.get_string())});
        return;
    }
    if (!content.is_array()) return;
    for (const json::value& part : content.get_array()) {
        const json::object& one = part.as_object();
        if (text_of(one, "type") == "text")
            items.push_back({What::text, std::string(role), {}, {}, std::string(text_of(one, "text"))});
        if (text_of(one, "type") == "image_url")
            items.push_back({What::image,
                             std::string(role),
                             {},
                             {},
                             std::string(text_of(*object_of(one, "image_url"), "url"))});
    }
}

std::string joined(const json::value& content) {
    std::vector<Item> items;
    add_content(content, "", items);
    std::string text;
    for (const Item& item : items) text += item.text;
    return text;
}

void read_message(const json::object& message, Asked& asked) {
    std::string role(text_of(message, "role"));
    const json::value* content = message.if_contains("content");
    if (role == "system" || role == "developer") {
        asked.system += joined(*content);
    } else if (role == "tool") {
        asked.items.push_back({Item::What::result,
                               "user",
                               std::string(text_of(message, "tool_call_id")),
                               {},
                               joined(*content)});
    } else {
        if (content != nullptr) add_content(*content, role, asked.items);
        const json::array* calls = array_of(message, "tool_calls");
        if (calls == nullptr) return;
        for (const json::value& call : *calls) {
            const json::object& function = *object_of(call.as_object(), "function");
            asked.items.push_back({Item::What::call, role, std::string(text_of(call.as_object(), "id")),
                                   std::string(text_of(function, "name")),
                                   std::string(text_of(function, "arguments"))});
        }
    }
}

json::object usage_value(const Said& said) {
    return {{"prompt_tokens", said.prompt},
            {"completion_tokens", said.output},
            {"total_tokens", said.prompt + said.output},
            {"prompt_tokens_details", json::object{{"cached_tokens", said.cached}}}};
}

}  // namespace

json::value call_value(const Call& call) {
    return json::object{{"id", call.id},
                        {"type", "function"},
                        {"function", json::object{{"name", call.name}, {"arguments", call.arguments}}}};
}

std::vector<std::string> Cutter::cut(std::string_view text) {
    std::vector<std::string> pieces;
    std::string piece;
    for (std::size_t at = 0; at < text.size();) {
        std::size_t length = character_at(text, at);
        piece += text.substr(at, length);
        bool is_end = is_random_ ? random_() % 4 == 0 : text[at] == ' ';
        at += length;
        if (is_end || at == text.size()) pieces.push_back(std::exchange(piece, {}));
    }
    return pieces;
}

Asked read_openai(std::string_view body) {
    Asked asked;
    json::value value = json::parse(body);
    const json::object& request = value.as_object();
    for (const json::value& message : request.at("messages").as_array())
        read_message(message.as_object(), asked);
    if (const json::array* tools = array_of(request, "tools"))
        for (const json::value& tool : *tools) {
            const json::object& function = *object_of(tool.as_object(), "function");
            const json::value* schema = function.if_contains("parameters");
            asked.tools.push_back({std::string(text_of(function, "name")),
                                   std::string(text_of(function, "description")),
                                   schema != nullptr ? json::serialize(*schema) : "{}"});
        }
    asked.tool_choice = text_of(request, "tool_choice");
    if (const json::object* choice = object_of(request, "tool_choice"))
        asked.tool_choice = text_of(*object_of(*choice, "function"), "name");
    for (const char* name : {"max_tokens", "max_completion_tokens"})
        if (request.contains(name)) asked.output_max = count_of(request, name);
    if (request.contains("stop")) {
        if (const json::array* stops = array_of(request, "stop"))
            for (const json::value& stop : *stops) asked.stop.emplace_back(stop.as_string());
        else
            asked.stop.emplace_back(text_of(request, "stop"));
    }
    if (const json::object* format = object_of(request, "response_format"))
        if (const json::object* schema = object_of(*format, "json_schema"))
            asked.schema = json::serialize(schema->at("schema"));
    return asked;
}

std::string write_openai(const Said& said) {
    json::object message{{"role", "assistant"}};
    message["content"] = said.text.empty() ? json::value(nullptr) : json::value(said.text);
    if (!said.thoughts.empty()) message["reasoning_content"] = said.thoughts;
    json::array calls;
    for (const Call& call : said.calls) calls.push_back(call_value(call));
    if (!calls.empty()) message["tool_calls"] = std::move(calls);
    json::object choice{{"index", 0}, {"message", std::move(message)}, {"finish_reason", said.finish}};
    return json::serialize(json::object{{"id", "chatcmpl-1"},
                                        {"object", "chat.completion"},
                                        {"created", 1},
                                        {"model", said.model},
                                        {"choices", json::array{std::move(choice)}},
                                        {"usage", usage_value(said)}});
}

std::vector<std::string> write_openai_chunks(const Said& said, Cutter& cutter) {
    std::vector<std::string> out;
    auto add = [&](json::array choices, bool has_usage) {
        json::object chunk{{"id", "chatcmpl-1"},
                           {"object", "chat.completion.chunk"},
                           {"created", 1},
                           {"model", said.model},
                           {"choices", std::move(choices)}};
        if (has_usage) chunk["usage"] = usage_value(said);
        out.push_back(json::serialize(chunk));
    };
    auto add_delta = [&](json::object delta, json::value finish) {
        json::object choice{{"index", 0}, {"delta", std::move(delta)}, {"finish_reason", std::move(finish)}};
        json::array choices;
        choices.push_back(std::move(choice));
        add(std::move(choices), false);
    };
    add_delta({{"role", "assistant"}, {"content", ""}}, nullptr);
    for (std::string& piece : cutter.cut(said.thoughts)) add_delta({{"reasoning_content", piece}}, nullptr);
    for (std::string& piece : cutter.cut(said.text)) add_delta({{"content", piece}}, nullptr);
    std::int64_t index = 0;
    for (const Call& call : said.calls) {
        json::object first = call_value({call.id, call.name, ""}).as_object();
        first["index"] = index;
        add_delta({{"tool_calls", json::array{first}}}, nullptr);
        for (std::string& piece : cutter.cut(call.arguments)) {
            json::object next{{"index", index}, {"function", json::object{{"arguments", piece}}}};
            json::array list;
            list.push_back(std::move(next));
            add_delta({{"tool_calls", std::move(list)}}, nullptr);
        }
        ++index;
    }
    add_delta({}, json::value(said.finish));
    add({}, true);
    out.emplace_back("[DONE]");
    return out;
}

}  // namespace nebula::gateway::conformance

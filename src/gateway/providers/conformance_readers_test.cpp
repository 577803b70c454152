// What answers and requests say, and whether OpenAI's clients could read them.
#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <set>

#include "gateway/providers/conformance_support.hpp"

namespace nebula::gateway::conformance {
namespace {

// Whitespace between the parts of a turn is the wire's business.
std::string without_breaks(std::string_view text) {
    std::string out;
    for (char c : text)
        if (c != '\n') out += c;
    return out;
}

std::string normal_json(std::string_view text) {
    boost::system::error_code failed;
    json::value value = json::parse(text.empty() ? "{}" : text, failed);  // a call without arguments
    if (failed) return "not JSON: " + std::string(text);
    // Members in any order mean the same.
    std::string out;
    auto write = [&out](auto& self, const json::value& one) -> void {
        if (const json::object* object = one.if_object()) {
            std::vector<std::pair<std::string, const json::value*>> members;
            for (const auto& member : *object) members.emplace_back(member.key(), &member.value());
            std::ranges::sort(members, {}, &std::pair<std::string, const json::value*>::first);
            out += '{';
            for (auto& [name, inner] : members) {
                out += json::serialize(json::string(name)) + ":";
                self(self, *inner);
                out += ',';
            }
            out += '}';
        } else if (const json::array* list = one.if_array()) {
            out += '[';
            for (const json::value& item : *list) {
                self(self, item);
                out += ',';
            }
            out += ']';
        } else {
            out += json::serialize(one);
        }
    };
    write(write, value);
    return out;
}

// One text of a turn, whatever the number and order of its parts; images behind it.
std::string told(const Kind& kind, const std::vector<Item>& items) {
    std::string out, text, images, role;
    auto finish_turn = [&] {
        if (!text.empty()) out += role + " says: " + text + "\n";
        out += images;
        text.clear();
        images.clear();
    };
    for (const Item& item : items) {
        bool is_part = item.what == Item::What::text || item.what == Item::What::image;
        if (item.role != role || !is_part) finish_turn();
        role = item.role;
        if (item.what == Item::What::text) {
            text += without_breaks(item.text);
        } else if (item.what == Item::What::image) {
            images += role + " shows: " + item.text + "\n";
        } else {
            bool is_call = item.what == Item::What::call;
            out += is_call ? "call" : "result";
            if (kind.keeps_call_ids) out += " " + item.id;
            if (is_call) out += " " + item.name;
            out += ": " +
                   (is_call ? normal_json(item.text.empty() ? "{}" : item.text) : without_breaks(item.text)) +
                   "\n";
        }
    }
    finish_turn();
    return out;
}

void read_usage(const json::object& from, Said& said) {
    said.prompt = count_of(from, "prompt_tokens");
    said.output = count_of(from, "completion_tokens");
    EXPECT_EQ(count_of(from, "total_tokens"), said.prompt + said.output);
    const json::object* details = object_of(from, "prompt_tokens_details");
    said.cached = details != nullptr ? std::max<std::int64_t>(0, count_of(*details, "cached_tokens")) : 0;
}

void expect_distinct_ids(const std::vector<Call>& calls) {
    std::set<std::string> ids;
    for (const Call& call : calls) {
        EXPECT_FALSE(call.id.empty());
        EXPECT_TRUE(ids.insert(call.id).second) << "two calls have the id " << call.id;
    }
}

}  // namespace

std::string told(const Kind& kind, const Asked& asked) {
    std::string out = "system: " + without_breaks(asked.system) + "\n" + told(kind, asked.items);
    for (const auto& tool : asked.tools)
        out += "tool " + tool.name + " (" + tool.description + ") " + normal_json(tool.schema) + "\n";
    std::string choice = asked.tool_choice == "auto" || !kind.keeps_tool_choice ? "" : asked.tool_choice;
    out += "choice: " + choice + "\n";
    out += "at most " + (asked.output_max ? std::to_string(*asked.output_max) : "?") + "\n";
    for (const std::string& stop : asked.stop) out += "stop at " + stop + "\n";
    if (!asked.schema.empty()) out += "as " + normal_json(asked.schema) + "\n";
    return out;
}

std::string told(const Kind& kind, const Said& said) {
    std::string out = "thinks: " + said.thoughts + "\nsays: " + said.text + "\n";
    for (const Call& call : said.calls)
        out += "calls " + (kind.keeps_call_ids ? call.id + " " : "") + call.name + " " +
               normal_json(call.arguments) + "\n";
    return out + "ends: " + said.finish + "; " + std::to_string(said.prompt) + " prompt, " +
           std::to_string(said.cached) + " cached, " + std::to_string(said.output) + " output\n";
}

Said read_answer_strictly(const std::string& body) {
    Said said;
    json::value value = json::parse(body);
    const json::object& answer = value.as_object();
    EXPECT_EQ(text_of(answer, "object"), "chat.completion");
    EXPECT_FALSE(text_of(answer, "id").empty());
    EXPECT_GE(count_of(answer, "created"), 0);
    said.model = text_of(answer, "model");
    const json::array& choices = answer.at("choices").as_array();
    EXPECT_EQ(choices.size(), 1u);
    const json::object& choice = choices.at(0).as_object();
    EXPECT_EQ(count_of(choice, "index"), 0);
    said.finish = text_of(choice, "finish_reason");
    const json::object& message = choice.at("message").as_object();
    EXPECT_EQ(text_of(message, "role"), "assistant");
    EXPECT_TRUE(message.at("content").is_string() || message.at("content").is_null());
    said.text = text_of(message, "content");
    said.thoughts = text_of(message, "reasoning_content");
    if (const json::array* calls = array_of(message, "tool_calls")) {
        EXPECT_FALSE(calls->empty());
        for (const json::value& call : *calls) {
            EXPECT_EQ(text_of(call.as_object(), "type"), "function");
            const json::object& function = call.as_object().at("function").as_object();
            said.calls.push_back({std::string(text_of(call.as_object(), "id")),
                                  std::string(text_of(function, "name")),
                                  std::string(text_of(function, "arguments"))});
        }
    }
    expect_distinct_ids(said.calls);
    read_usage(answer.at("usage").as_object(), said);
    return said;
}

void StreamReader::take(std::string_view lines) {
    while (!lines.empty()) {
        std::size_t end = lines.find('\n');
        ASSERT_NE(end, std::string_view::npos) << "a line without its end: " << lines;
        line(lines.substr(0, end));
        lines.remove_prefix(end + 1);
    }
}
Said StreamReader::said() const {
    EXPECT_TRUE(is_done_);
    EXPECT_TRUE(has_usage_);
    expect_distinct_ids(said_.calls);
    return said_;
}

void StreamReader::line(std::string_view text) {
    EXPECT_FALSE(is_done_) << "something behind [DONE]: " << text;
    if (text == "[DONE]") {
        EXPECT_FALSE(said_.finish.empty()) << "[DONE] without a finish reason";
        is_done_ = true;
        return;
    }
    boost::system::error_code failed;
    json::value value = json::parse(text, failed);
    ASSERT_FALSE(failed) << text;
    const json::object& chunk = value.as_object();
    if (const json::object* error = object_of(chunk, "error")) {
        error_ = text_of(*error, "message");
        EXPECT_FALSE(error_.empty());
        return;
    }
    EXPECT_EQ(text_of(chunk, "object"), "chat.completion.chunk");
    EXPECT_FALSE(text_of(chunk, "id").empty());
    if (id_.empty()) id_ = text_of(chunk, "id");
    EXPECT_EQ(text_of(chunk, "id"), id_);
    EXPECT_GE(count_of(chunk, "created"), 0);
    said_.model = text_of(chunk, "model");
    for (const json::value& choice : chunk.at("choices").as_array()) read_choice(choice.as_object());
    if (const json::object* usage = object_of(chunk, "usage")) {
        has_usage_ = true;
        read_usage(*usage, said_);
    }
}

void StreamReader::read_choice(const json::object& choice) {
    EXPECT_EQ(count_of(choice, "index"), 0);
    EXPECT_TRUE(said_.finish.empty()) << "content behind the finish reason";
    const json::object& delta = choice.at("delta").as_object();
    if (!has_role_) EXPECT_EQ(text_of(delta, "role"), "assistant") << "the first delta";
    has_role_ = true;
    said_.text += text_of(delta, "content");
    said_.thoughts += text_of(delta, "reasoning_content");
    if (const json::array* calls = array_of(delta, "tool_calls"))
        for (const json::value& call : *calls) read_call(call.as_object());
    const json::value& finish = choice.at("finish_reason");
    if (finish.is_string()) said_.finish = finish.get_string();
}

void StreamReader::read_call(const json::object& call) {
    auto index = static_cast<std::size_t>(count_of(call, "index"));
    ASSERT_LE(index, said_.calls.size()) << "calls are counted without gaps";
    const json::object& function = call.at("function").as_object();
    if (index == said_.calls.size()) {
        EXPECT_EQ(text_of(call, "type"), "function");
        said_.calls.push_back({std::string(text_of(call, "id")), std::string(text_of(function, "name")), {}});
    }
    said_.calls[index].arguments += text_of(function, "arguments");
}

}  // namespace nebula::gateway::conformance

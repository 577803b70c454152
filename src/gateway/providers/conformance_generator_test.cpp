// Random conversations and answers.
#include <boost/json/serialize.hpp>
#include <cstdio>

#include "gateway/providers/conformance_support.hpp"

namespace nebula::gateway::conformance {

namespace {

std::string escape_of(std::string_view character) {
    static constexpr unsigned lead_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    unsigned code = static_cast<unsigned char>(character[0]) & lead_bits[character.size()];
    for (char c : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3Fu);
    char buffer[16];
    if (code > 0xFFFF) {
        std::snprintf(buffer, sizeof(buffer), "\\u%04x\\u%04X", 0xD800 + ((code - 0x10000) >> 10),
                      0xDC00 + ((code - 0x10000) & 0x3FF));
    } else {
        std::snprintf(buffer, sizeof(buffer), "\\u%04x", code);
    }
    return buffer;
}

// Behind the string that starts at `at` with its quote.
std::size_t string_end(std::string_view text, std::size_t at) {
    for (++at; text[at] != '"'; ++at)
        if (text[at] == '\\') ++at;
    return at + 1;
}

}  // namespace

std::string escaped_randomly(std::string_view text, std::mt19937_64& random) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        if (text[at] != '"') {
            out += text[at++];
            continue;
        }
        std::size_t end = string_end(text, at);
        bool is_key = end < text.size() && text[end] == ':';  // nobody escapes names
        while (at < end) {
            std::size_t length = text[at] != '\\' ? character_at(text, at) : text[at + 1] == 'u' ? 6 : 2;
            bool is_plain = text[at] != '\\' && text[at] != '"';
            std::string_view one = text.substr(at, length);
            out += is_plain && !is_key && random() % 8 == 0 ? escape_of(one) : std::string(one);
            at += length;
        }
    }
    return out;
}

std::string Generator::text(std::size_t words_max) {
    static const char* const words[] = {
        "word", " ",      "\"",   "\\",     "\n",      "\t",     "\x01", "{\"a\":1}", "é",       "東京",
        "🙂🚀", "\u2028", "</s>", "data: ", "\\u0041", "[DONE]", "/",    "\x7f",      "e\u0301", "0"};
    std::string out = "x";
    for (std::size_t i = below(words_max + 1); i > 0; --i) out += words[below(std::size(words))];
    return out;
}
std::string Generator::arguments() {
    json::object object;
    for (std::uint64_t i = below(4); i > 0; --i) {
        json::value value = below(2) == 0 ? json::value(text(5)) : json::value(static_cast<int>(below(1000)));
        if (below(3) == 0) value = json::array{value, json::object{{text(2), value}}};
        object[text(3)] = std::move(value);
    }
    return json::serialize(object);
}
Call Generator::call(const std::string& id) { return {id, "tool_" + std::to_string(below(3)), arguments()}; }

Said Generator::said() {
    Said out;
    if (below(3) == 0) out.thoughts = text(20);
    for (std::uint64_t i = below(4); i > 0; --i) out.calls.push_back(call("call_" + std::to_string(i)));
    if (out.calls.empty() || below(2) == 0) out.text = text(30);
    out.finish = out.calls.empty() ? (below(4) == 0 ? "length" : "stop") : "tool_calls";
    out.prompt = static_cast<std::int64_t>(below(100'000)) + 1;
    out.output = static_cast<std::int64_t>(below(5'000)) + 1;
    return out;
}

std::string Generator::request() {
    json::array messages;
    auto add = [&](const char* role, json::value content) {
        messages.push_back(json::object{{"role", role}, {"content", std::move(content)}});
    };
    if (below(2) == 0) add(below(2) == 0 ? "system" : "developer", json::value(text(9)));
    add("user", content());
    for (std::uint64_t turn = below(6); turn > 0; --turn) {
        if (below(3) == 0) {
            add("user", content());
            continue;
        }
        json::object message{{"role", "assistant"}, {"content", nullptr}};
        std::uint64_t calls = below(4);
        if (calls == 0 || below(2) == 0) message["content"] = text(9);
        json::array list;
        json::array results;
        for (std::uint64_t i = 0; i < calls; ++i) {
            Call one = call("c" + std::to_string(serial_++));
            list.push_back(call_value(one));
            results.push_back(json::object{{"role", "tool"}, {"tool_call_id", one.id}, {"content", text(9)}});
        }
        if (!list.empty()) message["tool_calls"] = std::move(list);
        messages.push_back(std::move(message));
        for (json::value& result : results) messages.push_back(std::move(result));
    }
    add("user", content());
    return json::serialize(
        json::object{{"model", "m"}, {"max_tokens", below(4'000) + 1}, {"messages", std::move(messages)}});
}

json::value Generator::content() {
    if (below(3) != 0) return json::value(text(9));
    json::array parts;
    for (std::uint64_t i = below(3) + 1; i > 0; --i)
        parts.push_back(json::object{{"type", "text"}, {"text", text(9)}});
    return parts;
}

}  // namespace nebula::gateway::conformance

// A rail may change texts and nothing else: whatever it puts in their place, the JSON stays valid and the
// rest of it the client's own bytes. And no text may slip by unseen.
#include "gateway/guardrails/texts.hpp"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <random>

#include "base/text.hpp"

namespace nebula::gateway::guardrails {
namespace {

std::string seen(std::string_view json) {
    std::string all;
    auto edited = edit_texts(json, [&all](std::string_view text, std::string&) {
        all.append(all.empty() ? "" : "|").append(text);
        return false;
    });
    EXPECT_TRUE(edited) << json;
    EXPECT_TRUE(!edited || edited->json == json);
    return all;
}

std::string shouted(std::string_view json) {
    auto edited = edit_texts(json, [](std::string_view text, std::string& instead) {
        instead = "\"" + std::string(text) + "\\";
        return text.find('x') != std::string_view::npos;
    });
    return edited ? edited->json : "wrong";
}

TEST(Texts, EveryTextIsSeenAndNoWordOfTheProtocol) {
    EXPECT_EQ(seen(R"({"model":"m","messages":[{"role":"user","content":"a"},{"role":"user","content":[
        {"type":"text","text":"b"},{"type":"image_url","image_url":{"url":"data:x"}}]}],
        "user":"u","stop":["s"]})"),
              "a|b|u|s");
    EXPECT_EQ(seen(R"({"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[
        {"role":"assistant","content":[
            {"type":"tool_use","id":"t","name":"f","input":{"id":"i","n":{"type":"k"}}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"r"}]}]})"),
              "s|f|i|k|r");
    EXPECT_EQ(
        seen(R"({"contents":[{"role":"user","parts":[{"text":"a"},{"inlineData":{"mimeType":"i","data":"d"}},
        {"functionResponse":{"name":"f","response":{"url":"u"}}}]}]})"),
        "a|f|u");
    EXPECT_EQ(seen(R"({"messages":[{"tool_calls":[{"id":"c","type":"function","function":{"name":"f",
        "arguments":"{\"id\":\"\\u0061b\",\"phone\":4915112345678,\"n\":1}"}}]}]})"),
              "f|ab|4915112345678");
    EXPECT_EQ(seen(R"({"prompt":["a","b"],"suffix":"c"})"), "a|b|c");
    EXPECT_EQ(seen(R"({"query":"q","documents":["d",{"text":"e"}]})"), "q|d|e");
    EXPECT_EQ(seen(R"({"messages":[{"content":"\u00e9\ud83d\ude42\ud800\n\/"}]})"), "é🙂\xEF\xBF\xBD\n/");
}

TEST(Texts, WhatIsReplacedIsEscapedAndNothingElseMoves) {
    EXPECT_EQ(shouted(R"({ "model" : "x" , "messages":[ {"content":"x\n"},{"content":"y"} ] })"),
              R"({ "model" : "x" , "messages":[ {"content":"\"x\n\\"},{"content":"y"} ] })");
    EXPECT_EQ(
        shouted(R"({"messages":[{"tool_calls":[{"function":{"arguments":"{\"a\":\"x\",\"b\":1}"}}]}]})"),
        R"({"messages":[{"tool_calls":[{"function":{"arguments":"{\"a\":\"\\\"x\\\\\",\"b\":1}"}}]}]})");
    EXPECT_EQ(shouted(R"({"messages":[{"tool_calls":[{"function":{"arguments":"{\"a\":x"}}]}]})"),
              R"({"messages":[{"tool_calls":[{"function":{"arguments":"\"{\"a\":x\\"}}]}]})")
        << "arguments that are no JSON are a text";
}

TEST(Texts, ANumberThatIsReplacedBecomesAText) {
    auto edited =
        edit_texts(R"({"messages":[{"content":[{"type":"tool_use","input":{"card":4111111111111111}}]}]})",
                   [](std::string_view, std::string& instead) {
                       instead = "[CARD_1]";
                       return true;
                   });
    ASSERT_TRUE(edited);
    EXPECT_EQ(edited->json,
              R"({"messages":[{"content":[{"type":"tool_use","input":{"card":"[CARD_1]"}}]}]})");
}

TEST(Texts, CountsAndPromptsInTokens) {
    auto leave = [](std::string_view, std::string&) { return false; };
    auto edited = edit_texts(R"({"messages":[{"content":"abc"},{"content":"\u00e9"}]})", leave);
    ASSERT_TRUE(edited);
    EXPECT_EQ(edited->messages, 2u);
    EXPECT_EQ(edited->bytes, 5u);
    EXPECT_FALSE(edited->has_tokens);
    for (const char* tokens : {R"({"prompt":[1,2]})", R"({"input":[[1],[2]]})", R"({"input":[1]})"})
        EXPECT_TRUE(edit_texts(tokens, leave)->has_tokens) << tokens;
    EXPECT_FALSE(edit_texts(R"({"input":"a","dimensions":3})", leave)->has_tokens);
}

TEST(Texts, WhatIsNoJsonIsRefused) {
    auto leave = [](std::string_view, std::string&) { return false; };
    for (const char* wrong :
         {"", "{", "{\"a\"}", "{\"a\":}", "[1,]", "{\"a\":1,}", "\"a", "{} {}", "nul", "{\"a\":\"b\\"})
        EXPECT_FALSE(edit_texts(wrong, leave)) << wrong;
    EXPECT_FALSE(edit_texts(std::string(1'000, '['), leave));
}

// Random documents, random replacements: always valid, and equal but for the texts.
TEST(Texts, MaskingKeepsJsonValid) {
    std::mt19937 random(11);
    auto pick = [&random](std::size_t count) { return random() % count; };
    const std::string texts[] = {
        "x", "\"", "\\", "\n", "🙂", "é", std::string(1, '\x01'), "{\"a\":\"x\"}", "4111111111111111", ""};
    const char* names[] = {"content", "text", "arguments", "input", "role", "x\"y", "parts"};
    std::function<std::string(int)> make = [&](int depth) -> std::string {
        auto string = [&] {
            std::string text;
            for (std::size_t k = pick(4); k > 0; --k) text += texts[pick(std::size(texts))];
            return json_string(text);
        };
        if (depth == 0 || pick(3) == 0) return pick(4) == 0 ? "12345678" : string();
        std::string out;
        bool is_object = pick(2) == 0;
        for (std::size_t k = pick(4); k > 0; --k) {
            if (!out.empty()) out += ", ";
            if (is_object) out += json_string(names[pick(std::size(names))]) + ": ";
            out += make(depth - 1);
        }
        return is_object ? "{" + out + "}" : "[" + out + "]";
    };
    for (int round = 0; round < 2'000; ++round) {
        std::string document = "{\"messages\":" + make(5) + "}";
        auto edited = edit_texts(document, [&](std::string_view, std::string& instead) {
            instead = texts[pick(std::size(texts))];
            return pick(2) == 0;
        });
        ASSERT_TRUE(edited) << document;
        boost::system::error_code problem;
        boost::json::parse(edited->json, problem);
        ASSERT_FALSE(problem) << document << "\n" << edited->json;
        if (!edited->is_changed) EXPECT_EQ(edited->json, document);
    }
}

}  // namespace
}  // namespace nebula::gateway::guardrails

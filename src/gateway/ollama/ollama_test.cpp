#include "gateway/ollama/ollama.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace nebula::gateway::ollama {
namespace {

namespace json = boost::json;

// Ollama's clients stream unless told otherwise, keep their knobs in `options` and have calls without ids.
TEST(OllamaChat, BecomesTheSameChatRequest) {
    struct Row {
        const char* from;
        const char* to;
    };
    const Row rows[] = {
        {R"({"model":"m","messages":[{"role":"user","content":"hi"}]})",
         R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]})"},
        {R"({"model":"m","stream":false,"format":"json","think":true,
             "options":{"temperature":0.5,"num_predict":9,"seed":-1,"stop":["x"],"num_ctx":4096},
             "messages":[{"role":"user","content":"what","images":["/9j/AAAA"]}]})",
         R"({"model":"m","stream":false,"temperature":0.5,"stop":["x"],"max_tokens":9,"reasoning_effort":"medium",
             "response_format":{"type":"json_object"},"messages":[{"role":"user","content":[
               {"type":"text","text":"what"},
               {"type":"image_url","image_url":{"url":"data:image/jpeg;base64,/9j/AAAA"}}]}]})"},
        {R"({"model":"m","stream":false,"format":{"type":"object"},"messages":[{"role":"user","content":"go"},
               {"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}},
                                                               {"function":{"name":"g","arguments":{}}}]},
               {"role":"tool","content":"one","tool_name":"f"},
               {"role":"tool","content":"two","tool_name":"g"}]})",
         R"({"model":"m","stream":false,"response_format":{"type":"json_schema",
               "json_schema":{"name":"output","schema":{"type":"object"},"strict":true}},
             "messages":[{"role":"user","content":"go"},
               {"role":"assistant","content":"","tool_calls":[
                 {"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
                 {"id":"call_2","type":"function","function":{"name":"g","arguments":"{}"}}]},
               {"role":"tool","content":"one","tool_call_id":"call_1"},
               {"role":"tool","content":"two","tool_call_id":"call_2"}]})"},
    };
    for (const Row& row : rows) {
        auto chat = chat_request(row.from);
        ASSERT_TRUE(chat.has_value()) << row.from;
        EXPECT_EQ(json::parse(*chat), json::parse(row.to)) << *chat;
    }
}

// Schemas may be nested deeper than the parser's own default.
TEST(OllamaChat, TakesDeepSchemas) {
    std::string schema = "{}";
    for (int i = 0; i < 100; ++i) schema = R"({"properties":)" + schema + "}";
    std::string body = R"({"model":"m","messages":[{"role":"user","content":"hi"}],"format":)" + schema + "}";
    FakeClock clock;
    EXPECT_TRUE(make_edge(Kind::chat, clock)->request(body).has_value());
}

// A prompt is a conversation of one turn; what bypasses the model's template cannot be done by a chat model.
TEST(OllamaGenerate, IsAConversationOfOneTurn) {
    auto chat = generate_request(R"({"model":"m","system":"s","prompt":"p","raw":false,"suffix":""})");
    ASSERT_TRUE(chat.has_value());
    EXPECT_EQ(json::parse(*chat),
              json::parse(R"({"model":"m","stream":true,"messages":[{"role":"system","content":"s"},
                             {"role":"user","content":"p"}]})"));
    for (const char* unable : {R"({"model":"m","prompt":"p","raw":true})",
                               R"({"model":"m","prompt":"p","suffix":"x"})", R"({"prompt":"p"})", R"([])"})
        EXPECT_FALSE(generate_request(unable).has_value()) << unable;
}

// Each line is a whole object; the last one carries calls, reason and counts.
TEST(OllamaStream, IsLinesWithTheCountsLast) {
    FakeClock clock;
    auto edge = make_edge(Kind::chat, clock);
    ASSERT_TRUE(edge->request(R"({"model":"m","messages":[{"role":"user","content":"hi"}]})").has_value());
    std::string out;
    for (
        const char* chunk :
        {R"({"model":"other","choices":[{"delta":{"role":"assistant","content":""}}]})",
         R"({"choices":[{"delta":{"reasoning":"hm"}}]})",
         R"({"choices":[{"delta":{"content":"a\n\u00e9"}}]})",
         R"({"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\""}}]}}]})",
         R"({"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]})",
         R"({"choices":[{"delta":{},"finish_reason":"length"}]})"})
        ASSERT_TRUE(edge->chunk(chunk, out));
    out += edge->end({.input = 7, .cached = 0, .output = 3});
    std::vector<json::object> lines;
    for (std::size_t at = 0; at < out.size(); at = out.find('\n', at) + 1)
        lines.push_back(json::parse(out.substr(at, out.find('\n', at) - at)).as_object());
    ASSERT_EQ(lines.size(), 3u) << out;
    EXPECT_EQ(lines[0].at("message").at("thinking"), "hm");
    EXPECT_EQ(lines[1].at("message").at("content"), "a\n\u00e9");
    EXPECT_EQ(lines[1].at("done"), false);
    EXPECT_EQ(lines[2].at("done"), true);
    EXPECT_EQ(lines[2].at("done_reason"), "length");
    EXPECT_EQ(lines[2].at("prompt_eval_count"), 7);
    EXPECT_EQ(lines[2].at("eval_count"), 3);
    EXPECT_EQ(lines[2].at("model"), "m");
    EXPECT_EQ(lines[2].at("message").at("tool_calls").at(0).at("function").at("arguments"),
              json::parse(R"({"a":1})"));
}

// Providers cut arguments anywhere, even within a character; a stream that is taken over by another provider
// tells nothing of the first one's calls.
TEST(OllamaStream, PutsCallsTogetherBeforeItReadsThem) {
    FakeClock clock;
    auto edge = make_edge(Kind::chat, clock);
    ASSERT_TRUE(edge->request(R"({"model":"m","messages":[{"role":"user","content":"hi"}]})").has_value());
    std::string out;
    auto call = [](const char* arguments) {
        return R"({"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":")" +
               std::string(arguments) + R"("}}]}}]})";
    };
    ASSERT_TRUE(edge->chunk(call(R"({\"lost\":1})"), out));
    edge->restart();
    ASSERT_TRUE(edge->chunk(call(R"({\"a\":\"\ud83d)"), out));
    ASSERT_TRUE(edge->chunk(call(R"(\ude00\"})"), out));
    EXPECT_EQ(out, "");
    json::value line = json::parse(edge->end({}));
    ASSERT_EQ(line.at("message").at("tool_calls").as_array().size(), 1u);
    EXPECT_EQ(line.at("message").at("tool_calls").at(0).at("function").at("arguments").at("a"), "\U0001F600");
}

// Vectors only, in the order of the inputs.
TEST(OllamaEmbed, TellsTheVectors) {
    FakeClock clock;
    auto edge = make_edge(Kind::embed, clock);
    ASSERT_TRUE(edge->request(R"({"model":"m","input":["a","b"]})").has_value());
    auto answer =
        edge->answer(R"({"data":[{"embedding":[0.5]},{"embedding":[0.25]}],"usage":{"prompt_tokens":4}})");
    ASSERT_TRUE(answer.has_value());
    json::value value = json::parse(*answer);
    EXPECT_EQ(value.at("embeddings"), json::parse("[[0.5],[0.25]]"));
    EXPECT_EQ(value.at("prompt_eval_count"), 4);
}

}  // namespace
}  // namespace nebula::gateway::ollama

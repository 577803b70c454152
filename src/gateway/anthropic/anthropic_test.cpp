#include "gateway/anthropic/anthropic.hpp"

#include "gateway/token_count.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace nebula::gateway::anthropic {
namespace {

namespace json = boost::json;

std::string normal(std::string_view text) { return json::serialize(json::parse(text)); }

// What a Messages request says must reach a chat model with the same meaning.
TEST(MessagesRequest, BecomesTheSameChatRequest) {
    struct Row {
        const char* from;
        const char* to;
    };
    const Row rows[] = {
        {R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]})",
         R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]})"},
        {R"({"model":"m","max_tokens":5,"system":[{"type":"text","text":"a"},{"type":"text","text":"b"}],
             "stop_sequences":["x"],"temperature":0.5,"top_k":3,"stream":true,"metadata":{"user_id":"u"},
             "messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{}}]}]})",
         R"({"model":"m","max_tokens":5,"stream":true,"temperature":0.5,"top_k":3,"stop":["x"],"user":"u",
             "messages":[{"role":"system","content":"a\n\nb"},{"role":"user","content":"hi"}]})"},
        {R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":[
              {"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}},
              {"type":"text","text":"what"}]}]})",
         R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":[
              {"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}},
              {"type":"text","text":"what"}]}]})"},
        {R"({"model":"m","max_tokens":5,"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],
             "tool_choice":{"type":"any","disable_parallel_tool_use":true},
             "messages":[{"role":"user","content":"go"},
               {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},
                 {"type":"text","text":"ok"},{"type":"tool_use","id":"t1","name":"f","input":{"a":1}},
                 {"type":"tool_use","id":"t2","name":"f","input":{}}]},
               {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"one"},
                 {"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"two"}]},
                 {"type":"text","text":"and now"}]}]})",
         R"({"model":"m","max_tokens":5,
             "tools":[{"type":"function","function":{"name":"f","description":"d",
               "parameters":{"type":"object"}}}],
             "tool_choice":"required","parallel_tool_calls":false,
             "messages":[{"role":"user","content":"go"},
               {"role":"assistant","content":"ok","tool_calls":[
                 {"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
                 {"id":"t2","type":"function","function":{"name":"f","arguments":"{}"}}]},
               {"role":"tool","tool_call_id":"t1","content":"one"},
               {"role":"tool","tool_call_id":"t2","content":"two"},
               {"role":"user","content":"and now"}]})"},
        {R"({"model":"m","max_tokens":5,"thinking":{"type":"enabled","budget_tokens":2048},
             "output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}},
             "messages":[{"role":"user","content":"hi"}]})",
         R"({"model":"m","max_tokens":5,"reasoning_effort":"low","response_format":{"type":"json_schema",
             "json_schema":{"name":"output","schema":{"type":"object"},"strict":true}},
             "messages":[{"role":"user","content":"hi"}]})"},
    };
    for (const Row& row : rows) {
        auto chat = to_chat_request(row.from);
        ASSERT_TRUE(chat.has_value()) << row.from << chat.error().message;
        json::value got = json::parse(*chat), wanted = json::parse(row.to);
        EXPECT_EQ(got, wanted) << normal(*chat) << "\n" << normal(row.to);
    }
}

// What cannot be expressed must be refused by name: a block that vanished would change the question.
TEST(MessagesRequest, RefusesWhatAChatModelCannotTake) {
    struct Row {
        const char* from;
        const char* param;
    };
    const Row rows[] = {
        {"{", ""},
        {"[]", ""},
        {R"({"max_tokens":5,"messages":[{"role":"user","content":"hi"}]})", "model"},
        {R"({"model":"m","messages":[{"role":"user","content":"hi"}]})", "max_tokens"},
        {R"({"model":"m","max_tokens":0,"messages":[{"role":"user","content":"hi"}]})", "max_tokens"},
        {R"({"model":"m","max_tokens":5})", "messages"},
        {R"({"model":"m","max_tokens":5,"messages":[]})", "messages"},
        {R"({"model":"m","max_tokens":5,"messages":[{"role":"robot","content":"x"}]})", "messages.0.role"},
        {R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":7}]})", "messages.0.content"},
        {R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":[{"type":"hologram"}]}]})",
         "messages.0.content"},
        {R"({"model":"m","max_tokens":5,"tools":[{"type":"web_search_20250305","name":"w"}],
             "messages":[{"role":"user","content":"x"}]})",
         "tools"},
        {R"({"model":"m","max_tokens":5,"thinking":{"type":"enabled","budget_tokens":9},
             "messages":[{"role":"user","content":"x"}]})",
         "thinking.budget_tokens"},
    };
    for (const Row& row : rows) {
        auto chat = to_chat_request(row.from);
        ASSERT_FALSE(chat.has_value()) << row.from;
        EXPECT_EQ(chat.error().code, Code::invalid_request) << row.from;
        EXPECT_EQ(chat.error().param, row.param) << row.from;
    }
}

// Schemas may be nested deeper than the parser's own default; what was accepted must be countable too.
TEST(MessagesRequest, TakesDeepSchemas) {
    std::string schema;
    for (int i = 0; i < 100; ++i) schema += R"({"properties":)";
    schema += "{}" + std::string(100, '}');
    std::string body = R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}],)"
                       R"("tools":[{"name":"f","input_schema":)" +
                       schema + "}]}";
    EXPECT_TRUE(to_chat_request(body).has_value());
    auto countable = to_countable_request(body);
    ASSERT_TRUE(countable.has_value());
    EXPECT_GT(estimate_prompt(*countable), 300);
}

// Blocks, stop reason and usage are what Anthropic's clients act upon; cached tokens are outside
// input_tokens.
TEST(Message, TellsTextToolsReasoningAndUsage) {
    auto message = to_message(
        R"({"id":"x","model":"m","choices":[{"finish_reason":"tool_calls","message":{"role":"assistant",
            "reasoning_content":"why","content":"text","tool_calls":[{"id":"c1","type":"function",
            "function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"c2","type":"function",
            "function":{"name":"g","arguments":"not json"}}]}}],
            "usage":{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3}}})",
        "msg_1");
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(json::parse(*message),
              json::parse(R"({"id":"msg_1","type":"message","role":"assistant","model":"m",
        "content":[{"type":"thinking","thinking":"why","signature":""},{"type":"text","text":"text"},
          {"type":"tool_use","id":"c1","name":"f","input":{"a":1}},
          {"type":"tool_use","id":"c2","name":"g","input":{"arguments":"not json"}}],
        "stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":7,"output_tokens":4,
          "cache_creation_input_tokens":0,"cache_read_input_tokens":3,"service_tier":"standard"}})"));
    EXPECT_FALSE(to_message(R"({"choices":[]})", "x").has_value());
    EXPECT_FALSE(to_message("garbage", "x").has_value());
}

std::string stream(const std::vector<const char*>& chunks) {
    auto edge = make_edge(RequestId{1});
    (void)edge->request(R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]})");
    std::string out;
    for (const char* chunk : chunks)
        if (!edge->chunk(chunk, out)) return "refused";
    return out + edge->end({.input = 10, .cached = 3, .output = 4});
}

std::vector<std::string> names(const std::string& events) {
    std::vector<std::string> names;
    for (std::size_t at = events.find("event: "); at != std::string::npos;
         at = events.find("event: ", at + 1))
        names.push_back(events.substr(at + 7, events.find('\n', at) - at - 7));
    return names;
}

// Clients keep a strict state machine: start, blocks one after the other, delta with the stop reason, stop.
TEST(MessageStream, KeepsTheOrderOfEvents) {
    std::string events = stream({
        R"({"id":"x","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]})",
        R"({"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]})",
        R"({"choices":[{"index":0,"delta":{"content":"a \"quoted\" \u00e9"}}]})",
        R"({"choices":[{"index":0,"delta":{"content":"b"}}]})",
        R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}}]})",
        R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}}]})",
        R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c2","function":{"name":"g","arguments":"{}"}}]}}]})",
        R"({"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]})",
        R"({"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4}})",
    });
    const std::vector<std::string> expected = {
        "message_start",       "content_block_start", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop",  "content_block_start",
        "content_block_delta", "content_block_stop",  "message_delta",       "message_stop"};
    EXPECT_EQ(names(events), expected) << events;
    EXPECT_NE(events.find(R"("delta":{"type":"text_delta","text":"a \"quoted\" \u00e9"})"),
              std::string::npos);
    EXPECT_NE(events.find(R"("partial_json":"{\"a\"")"), std::string::npos);
    EXPECT_NE(events.find(R"("stop_reason":"tool_use")"), std::string::npos);
    EXPECT_NE(events.find(R"("usage":{"input_tokens":7,"cache_read_input_tokens":3)"), std::string::npos);
    for (std::size_t at = events.find("data: "); at != std::string::npos;
         at = events.find("data: ", at + 1)) {
        boost::system::error_code failed;
        (void)json::parse(events.substr(at + 6, events.find('\n', at) - at - 6), failed);
        EXPECT_FALSE(failed) << events.substr(at, 200);
    }
}

// Pieces of a call whose block is closed cannot be told: better no answer than arguments in the wrong call.
TEST(MessageStream, RefusesInterleavedCalls) {
    EXPECT_EQ(
        stream({R"({"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f"}}]}}]})",
                R"({"choices":[{"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"g"}}]}}]})",
                R"({"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]})"}),
        "refused");
    EXPECT_EQ(stream({"garbage"}), "refused");
}

// Nothing of a stream that another provider took over may be seen in the one that is told.
TEST(MessageStream, StartsAnewWithAnotherProvider) {
    auto edge = make_edge(RequestId{1});
    std::string lost, out;
    ASSERT_TRUE(edge->chunk(R"({"choices":[{"delta":{"content":"lost"},"finish_reason":"length"}]})", lost));
    edge->restart();
    ASSERT_TRUE(edge->chunk(R"({"choices":[{"delta":{"content":"told"}}]})", out));
    out += edge->end({});
    const std::vector<std::string> expected = {"message_start",       "content_block_start",
                                               "content_block_delta", "content_block_stop",
                                               "message_delta",       "message_stop"};
    EXPECT_EQ(names(out), expected);
    EXPECT_NE(out.find(R"("stop_reason":"end_turn")"), std::string::npos);
    EXPECT_NE(out.find(R"("index":0)"), std::string::npos);
}

// An empty answer is still a message: clients wait for its start and its stop.
TEST(MessageStream, OfNothingStartsAndStops) {
    const std::vector<std::string> expected = {"message_start", "message_delta", "message_stop"};
    EXPECT_EQ(names(stream({R"({"choices":[{"delta":{},"finish_reason":"stop"}]})"})), expected);
}

}  // namespace
}  // namespace nebula::gateway::anthropic

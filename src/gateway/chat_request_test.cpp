#include "gateway/chat_request.hpp"

#include <gtest/gtest.h>

namespace nebula::gateway {
namespace {

std::string padded(std::string text) {
    text.reserve(text.size() + 64);
    return text;
}

std::string edited(const std::string& body, const Edits& edits) {
    auto request = parse_chat_request(body);
    if (!request) return "error: " + request.error().message;
    auto out = edit_chat_request(body, *request, edits);
    std::string text;
    for (auto piece : out.pieces) text += piece;
    return text;
}

// Every member that the gateway acts upon refuses the wrong type and names itself.
TEST(ChatRequest, WrongMembersAreNamed) {
    struct Row {
        const char* body;
        const char* param;
    };
    const Row rows[] = {
        {R"([])", ""},
        {R"("x")", ""},
        {R"()", ""},
        {R"({)", ""},
        {R"({"model":"m","messages":[{}]} x)", ""},
        {R"({"messages":[{}]})", "model"},
        {R"({"model":7,"messages":[{}]})", "model"},
        {R"({"model":"","messages":[{}]})", "model"},
        {R"({"model":"m"})", "messages"},
        {R"({"model":"m","messages":"hi"})", "messages"},
        {R"({"model":"m","messages":[ ]})", "messages"},
        {R"({"model":"m","model":"n","messages":[{}]})", "model"},
        {R"({"model":"m","mod\u0065l":"n","messages":[{}]})", "model"},
        {R"({"model":"m","messages":[{}],"stream":"yes"})", "stream"},
        {R"({"model":"m","messages":[{}],"stream":true,"stream_options":[]})", "stream_options"},
        {R"({"model":"m","messages":[{}],"stream_options":{}})", "stream_options"},
        {R"({"model":"m","messages":[{}],"stream":true,"stream_options":{"include_usage":1}})",
         "stream_options.include_usage"},
        {R"({"model":"m","messages":[{}],"max_tokens":0})", "max_tokens"},
        {R"({"model":"m","messages":[{}],"max_tokens":1.5})", "max_tokens"},
        {R"({"model":"m","messages":[{}],"max_completion_tokens":-1})", "max_completion_tokens"},
        {R"({"model":"m","messages":[{}],"n":129})", "n"},
        {R"({"model":"m","messages":[{}],"temperature":"hot"})", "temperature"},
        {R"({"model":"m","messages":[{}],"tools":{}})", "tools"},
        {R"({"model":"m","messages":[{}],"response_format":[]})", "response_format"},
    };
    for (const Row& row : rows) {
        auto request = parse_chat_request(padded(row.body));
        ASSERT_FALSE(request.has_value()) << row.body;
        EXPECT_EQ(request.error().code, Code::invalid_request) << row.body;
        EXPECT_EQ(request.error().param, row.param) << row.body;
    }
}

// Null is OpenAI's "not given" for optional members.
TEST(ChatRequest, NullMeansAbsent) {
    auto request = parse_chat_request(padded(
        R"({"model":"m","messages":[{}],"max_tokens":null,"stream":null,"stream_options":null,"n":null,"tools":null,"temperature":null})"));
    ASSERT_TRUE(request.has_value()) << request.error().message;
    EXPECT_FALSE(request->stream);
    EXPECT_FALSE(request->asked_output().has_value());
    EXPECT_EQ(request->n, 1);
}

TEST(ChatRequest, ReadsWhatItNeedsAndSkipsTheRest) {
    auto request = parse_chat_request(padded(
        R"({"x":{"model":"inner"},"model":"a\/b:c","messages":[{"role":"user","content":"hé"}],"stream":true,)"
        R"("stream_options":{"include_usage":true},"max_tokens":5,"max_completion_tokens":9,"n":2,"unknown":[1,{"a":[]}]})"));
    ASSERT_TRUE(request.has_value()) << request.error().message;
    EXPECT_EQ(request->model, "a/b:c");
    EXPECT_TRUE(request->stream);
    EXPECT_TRUE(request->include_usage);
    EXPECT_EQ(request->n, 2);
    EXPECT_EQ(request->asked_output(), 5);
}

// Untouched bodies travel as the client's bytes; edits change exactly their member.
TEST(ChatRequest, EditsTouchOnlyTheirMember) {
    struct Row {
        const char* body;
        Edits edits;
        const char* expected;
    };
    const Row rows[] = {
        {R"({ "model" : "m" , "messages":[{}] })", {}, R"({ "model" : "m" , "messages":[{}] })"},
        {R"({ "model" : "m" , "messages":[{}] })",
         {.upstream_model = "up/\"x"},
         R"({ "model" : "up/\"x" , "messages":[{}] })"},
        {R"({"model":"m","stream":true,"messages":[{}]})",
         {.ask_for_usage = true},
         R"({"stream_options":{"include_usage":true},"model":"m","stream":true,"messages":[{}]})"},
        {R"({"model":"m","stream":true,"stream_options":null,"messages":[{}]})",
         {.ask_for_usage = true},
         R"({"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{}]})"},
        {R"({"model":"m","stream":true,"stream_options":{ },"messages":[{}]})",
         {.ask_for_usage = true},
         R"({"model":"m","stream":true,"stream_options":{"include_usage":true },"messages":[{}]})"},
        {R"({"model":"m","stream":true,"stream_options":{"a":1},"messages":[{}]})",
         {.ask_for_usage = true},
         R"({"model":"m","stream":true,"stream_options":{"include_usage":true,"a":1},"messages":[{}]})"},
        {R"({"model":"m","stream":true,"stream_options":{"include_usage": false },"messages":[{}]})",
         {.ask_for_usage = true},
         R"({"model":"m","stream":true,"stream_options":{"include_usage": true },"messages":[{}]})"},
        {R"({"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{}]})",
         {.ask_for_usage = true},
         R"({"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{}]})"},
        {R"({"model":"m","messages":[{}],"max_tokens":100})",
         {.output_cap = 7},
         R"({"model":"m","messages":[{}],"max_tokens":7})"},
        {R"({"model":"m","messages":[{}],"max_tokens":5,"max_completion_tokens":100})",
         {.output_cap = 7},
         R"({"model":"m","messages":[{}],"max_tokens":5,"max_completion_tokens":7})"},
        {R"({"model":"m","messages":[{}]})",
         {.output_cap = 7},
         R"({"max_tokens":7,"model":"m","messages":[{}]})"},
    };
    for (const Row& row : rows) EXPECT_EQ(edited(padded(row.body), row.edits), row.expected);
}

// What the worst case is made of: each endpoint has its own members for the prompt and for the number of
// answers.
TEST(Requests, OfEveryEndpointAreMeasured) {
    struct Row {
        Endpoint endpoint;
        const char* body;
        std::size_t prompt_bytes;
        std::int64_t n;
    };
    const Row rows[] = {
        {Endpoint::completions, R"({"model":"m","prompt":"hello"})", 7, 1},
        {Endpoint::completions, R"({"model":"m","prompt":["a","b","c"],"n":2})", 13, 6},
        {Endpoint::completions, R"({"model":"m","prompt":[[1,2],[3]],"n":1,"best_of":4})", 11, 8},
        {Endpoint::completions, R"({"model":"m","prompt":[11,22,33],"suffix":"end"})", 15, 1},
        {Endpoint::embeddings, R"({"model":"m","input":"hello"})", 7, 1},
        {Endpoint::embeddings, R"({"model":"m","input":["a","b"],"n":9,"stream":"x"})", 9, 1},
        {Endpoint::moderations, R"({"model":"m","input":[{"type":"text","text":"x"}]})", 28, 1},
        {Endpoint::rerank, R"({"model":"m","query":"q","documents":["a",{"text":"b"}]})", 21, 1},
    };
    for (const Row& row : rows) {
        std::string body = padded(row.body);
        auto request = parse_request(body, row.endpoint);
        ASSERT_TRUE(request.has_value()) << row.body << request.error().message;
        EXPECT_EQ(request->prompt_bytes, row.prompt_bytes) << row.body;
        EXPECT_EQ(request->n, row.n) << row.body;
        EXPECT_FALSE(request->stream) << row.body;
    }
}

// A missing or wrong prompt is the client's mistake and must be named, not sent to a provider.
TEST(Requests, WithoutTheirPromptAreRefusedByName) {
    struct Row {
        Endpoint endpoint;
        const char* body;
        const char* param;
    };
    const Row rows[] = {
        {Endpoint::completions, R"({"model":"m"})", "prompt"},
        {Endpoint::completions, R"({"model":"m","prompt":[]})", "prompt"},
        {Endpoint::completions, R"({"model":"m","prompt":7})", "prompt"},
        {Endpoint::completions, R"({"model":"m","messages":[{}]})", "prompt"},
        {Endpoint::completions, R"({"model":"m","prompt":"a","best_of":0})", "best_of"},
        {Endpoint::embeddings, R"({"model":"m"})", "input"},
        {Endpoint::embeddings, R"({"model":"m","input":{}})", "input"},
        {Endpoint::embeddings, R"({"model":"m","input":"a","input":"b"})", "input"},
        {Endpoint::rerank, R"({"model":"m","documents":["a"]})", "query"},
        {Endpoint::rerank, R"({"model":"m","query":"a"})", "documents"},
        {Endpoint::rerank, R"({"model":"m","query":"a","documents":"b"})", "documents"},
        {Endpoint::rerank, R"({"model":"m","query":7,"documents":["b"]})", "query"},
    };
    for (const Row& row : rows) {
        std::string body = padded(row.body);
        auto request = parse_request(body, row.endpoint);
        ASSERT_FALSE(request.has_value()) << row.body;
        EXPECT_EQ(request.error().param, row.param) << row.body;
    }
}

// A temperature that the model sets must not contradict one of the client's, not even a null.
TEST(ChatRequest, GetsTheModelsTemperatureWhereItNamesNone) {
    auto edited = [](std::string body) {
        body.reserve(body.size() + 64);
        auto request = parse_chat_request(body);
        Edits edits;
        edits.temperature = "0.7";
        return edit_chat_request(body, *request, edits).joined();
    };
    EXPECT_EQ(edited(R"({"model":"m","messages":[1]})"), R"({"temperature":0.7,"model":"m","messages":[1]})");
    for (const char* own : {R"({"model":"m","messages":[1],"temperature":0})",
                            R"({"model":"m","messages":[1],"temperature":null})"})
        EXPECT_EQ(edited(own), own);
}

}  // namespace
}  // namespace nebula::gateway

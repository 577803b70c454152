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

}  // namespace
}  // namespace nebula::gateway

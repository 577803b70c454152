#include "gateway/completion.hpp"

#include <gtest/gtest.h>

#include "gateway/gateway.hpp"

namespace nebula::gateway {
namespace {

using Kind = Completion::Kind;
using State = ReportedUsage::State;
constexpr UsageBounds bounds{1000, 500};

// A stream's truth hangs on what each event is taken for.
TEST(Completion, TellsEventsApart) {
    struct Row {
        const char* data;
        Kind kind;
        bool has_content, has_finish;
        std::size_t content_bytes;
    };
    const Row rows[] = {
        {"", Kind::comment, false, false, 0},
        {"[DONE]", Kind::done, false, false, 0},
        {"[DONE", Kind::malformed, false, false, 0},
        {"garbage", Kind::malformed, false, false, 0},
        {"{}", Kind::malformed, false, false, 0},
        {"[]", Kind::malformed, false, false, 0},
        {R"({"choices":7})", Kind::malformed, false, false, 0},
        {R"({"choices":[7]})", Kind::malformed, false, false, 0},
        {R"({"error":{"message":"late"}})", Kind::error, false, false, 0},
        {R"({"error":"text"})", Kind::error, false, false, 0},
        {R"({"error":null,"choices":[]})", Kind::chunk, false, false, 0},
        {R"({"choices":[{"delta":{"role":"assistant","content":""}}]})", Kind::chunk, false, false, 0},
        {R"({"choices":[{"delta":{"content":"hé"}}]})", Kind::chunk, true, false, 3},
        {R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})", Kind::chunk, true, false, 2},
        {R"({"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]}}]})",
         Kind::chunk, true, false, 3},
        {R"({"choices":[{"delta":{},"finish_reason":"stop"}]})", Kind::chunk, false, true, 0},
        {R"({"choices":[{"delta":{},"finish_reason":null}]})", Kind::chunk, false, false, 0},
        {R"({"choices":[{"delta":{"content":"x"})", Kind::malformed, false, false, 0},
    };
    for (const Row& row : rows) {
        Completion chunk = read_chunk(row.data, bounds);
        EXPECT_EQ(chunk.kind, row.kind) << row.data;
        EXPECT_EQ(chunk.has_content, row.has_content) << row.data;
        EXPECT_EQ(chunk.has_finish, row.has_finish) << row.data;
        EXPECT_EQ(chunk.content_bytes, row.content_bytes) << row.data;
    }
}

// A provider's figures become money: what cannot be true is refused rather than billed.
TEST(Completion, RefusesUsageThatCannotBeTrue) {
    struct Row {
        const char* usage;
        State state;
        billing::TokenUsage expected;
    };
    const Row rows[] = {
        {"null", State::absent, {}},
        {"{}", State::absent, {}},
        {R"({"prompt_tokens":10,"completion_tokens":20})", State::good, {10, 0, 20}},
        {R"({"prompt_tokens":10})", State::good, {10, 0, 0}},
        {R"({"prompt_tokens":0,"completion_tokens":0})", State::good, {0, 0, 0}},
        {R"({"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}})",
         State::good,
         {10, 4, 2}},
        {R"({"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":40}})",
         State::good,
         {10, 10, 2}},
        {R"({"prompt_tokens":10,"completion_tokens":9,"prompt_tokens_details":{"audio_tokens":1,"cached_tokens":4,
             "cache_write_tokens":5},"completion_tokens_details":{"reasoning_tokens":7,"audio_tokens":0}})",
         State::good,
         {10, 4, 9, 5, 7}},
        {R"({"completion_tokens_details":null,"prompt_tokens":10,"completion_tokens":9,
             "prompt_tokens_details":{"cache_creation_tokens":3}})",
         State::good,
         {10, 0, 9, 3}},
        {R"({"input_tokens":10,"output_tokens":9,"input_tokens_details":{"cached_tokens":2},
             "output_tokens_details":{"reasoning_tokens":1}})",
         State::good,
         {10, 2, 9, 0, 1}},
        {R"({"prompt_tokens":10,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":8,
             "cache_write_tokens":8},"completion_tokens_details":{"reasoning_tokens":30}})",
         State::good,
         {10, 8, 9, 2, 9}},
        {R"({"prompt_tokens":10,"completion_tokens":9,"prompt_tokens_details":[1],"completion_tokens_details":7})",
         State::good,
         {10, 0, 9}},
        {R"({"prompt_tokens":10,"completion_tokens":9,"prompt_tokens_details":{"cache_write_tokens":1001}})",
         State::refused,
         {}},
        {R"({"prompt_tokens":10,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":"4"}})",
         State::refused,
         {}},
        {R"({"prompt_tokens":10,"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":501}})",
         State::refused,
         {}},
        {R"({"input_tokens":10,"output_tokens":501})", State::refused, {}},
        {R"({"prompt_tokens":-1,"completion_tokens":2})", State::refused, {}},
        {R"({"prompt_tokens":1,"completion_tokens":-2})", State::refused, {}},
        {R"({"prompt_tokens":1001,"completion_tokens":2})", State::refused, {}},
        {R"({"prompt_tokens":1,"completion_tokens":501})", State::refused, {}},
        {R"({"prompt_tokens":1,"completion_tokens":1e12})", State::refused, {}},
        {R"({"prompt_tokens":"7","completion_tokens":2})", State::refused, {}},
        {R"({"prompt_tokens":1.5,"completion_tokens":2})", State::refused, {}},
        {R"({"prompt_tokens":99999999999999999999,"completion_tokens":2})", State::refused, {}},
        {R"("many")", State::refused, {}},
    };
    for (const Row& row : rows) {
        std::string body = R"({"choices":[],"usage":)" + std::string(row.usage) + "}";
        Completion chunk = read_chunk(body, bounds);
        ASSERT_EQ(
            chunk.kind == Kind::chunk || std::string_view(row.usage).find("9999") != std::string_view::npos,
            true)
            << body;
        if (chunk.kind != Kind::chunk)
            continue;  // a number beyond 64 bits is not JSON to the parser: malformed
        EXPECT_EQ(chunk.usage.state, row.state) << body;
        EXPECT_EQ(chunk.usage.usage.input, row.expected.input) << body;
        EXPECT_EQ(chunk.usage.usage.cached, row.expected.cached) << body;
        EXPECT_EQ(chunk.usage.usage.output, row.expected.output) << body;
        EXPECT_EQ(chunk.usage.usage.cache_write, row.expected.cache_write) << body;
        EXPECT_EQ(chunk.usage.usage.reasoning, row.expected.reasoning) << body;
    }
}

TEST(Completion, AnAnswerNeedsAChoice) {
    EXPECT_EQ(read_answer(R"({"choices":[]})", bounds).kind, Kind::malformed);
    auto answer = read_answer(
        R"({"choices":[{"message":{"content":"four"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}})",
        bounds);
    EXPECT_EQ(answer.kind, Kind::chunk);
    EXPECT_EQ(answer.content_bytes, 4u);
    EXPECT_EQ(answer.usage.state, State::good);
}

// The estimate is never below what providers send: one token per event.
TEST(Completion, EstimatesFromBytesAndEvents) {
    EXPECT_EQ(estimate_tokens(0, 0), 0);
    EXPECT_EQ(estimate_tokens(5, 0), 2);
    EXPECT_EQ(estimate_tokens(5, 4), 4);
}

// Clients choose exception classes by status and read type, param and code.
TEST(OpenAiError, HasTheShapeThatClientsExpect) {
    auto refused = openai_error(
        {.code = Code::rate_limited, .message = "slow \"down\"", .param = "tokens", .retry_after_ms = 1500},
        RequestId{1});
    EXPECT_EQ(refused.status, 429);
    EXPECT_EQ(
        refused.body,
        R"({"error":{"message":"slow \"down\"","type":"tokens","param":null,"code":"rate_limit_exceeded"}})");
    ASSERT_EQ(refused.headers.size(), 2u);
    EXPECT_EQ(refused.headers[0].second, "2");
    auto missing = openai_error({.code = Code::not_found, .message = "no", .param = "model"}, RequestId{1});
    EXPECT_EQ(
        missing.body,
        R"({"error":{"message":"no","type":"invalid_request_error","param":"model","code":"model_not_found"}})");
}

// A 200 with an answer of another endpoint's shape is a provider's failure, and each reports usage its own
// way.
TEST(Completion, KnowsTheAnswersOfEveryEndpoint) {
    constexpr UsageBounds input_only{1000, 0};
    struct Row {
        Endpoint endpoint;
        const char* body;
        Kind kind;
        std::int64_t input;
    };
    const Row rows[] = {
        {Endpoint::embeddings,
         R"({"data":[{"embedding":[0.5]}],"usage":{"prompt_tokens":8,"total_tokens":8}})", Kind::chunk, 8},
        {Endpoint::embeddings, R"({"choices":[],"usage":{"prompt_tokens":8}})", Kind::malformed, 8},
        {Endpoint::embeddings, R"({"data":7})", Kind::malformed, 0},
        {Endpoint::rerank, R"({"results":[{"index":0,"relevance_score":0.9}],"usage":{"total_tokens":12}})",
         Kind::chunk, 12},
        {Endpoint::rerank, R"({"results":[],"usage":{"total_tokens":5000}})", Kind::chunk, 0},
        {Endpoint::moderations, R"({"id":"x","results":[{"flagged":false}]})", Kind::chunk, 0},
        {Endpoint::rerank, R"({"error":{"message":"no"}})", Kind::error, 0},
    };
    for (const Row& row : rows) {
        Completion answer = read_answer(row.body, input_only, row.endpoint);
        EXPECT_EQ(answer.kind, row.kind) << row.body;
        if (row.kind == Kind::chunk) EXPECT_EQ(answer.usage.usage.input, row.input) << row.body;
    }
    Completion text = read_answer(
        R"({"choices":[{"text":"four","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}})",
        bounds, Endpoint::completions);
    EXPECT_EQ(text.kind, Kind::chunk);
    EXPECT_EQ(text.content_bytes, 4u);
    EXPECT_TRUE(text.has_finish);
}

}  // namespace
}  // namespace nebula::gateway

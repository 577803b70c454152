// An answer's texts come in pieces, choices and calls mixed; a token across two of them would be a count that
// no tokenizer gives.
#include "gateway/tokens/answer_tokens.hpp"

#include <gtest/gtest.h>

#include <cstdio>

#include "async/async.hpp"
#include "async/task_group.hpp"
#include "gateway/completion.hpp"
#include "gateway/tokens/counting.hpp"

namespace nebula::gateway {
namespace {

// All bytes, and "ab", "abab", "cd".
std::shared_ptr<const tokenizer::Tokenizer> small() {
    std::string vocab, sign;
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
        bool is_itself = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        char text[16];
        std::snprintf(text, sizeof text, "\"\\u%04x\":%d,", is_itself ? byte : next++, byte);
        vocab += text;
    }
    std::string file =
        R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"type":"BPE",)"
        R"("vocab":{)" +
        vocab + R"("ab":256,"abab":257,"cd":258},"merges":["a b","ab ab","c d"]}})";
    auto read = tokenizer::Tokenizer::parse(file, "small");
    EXPECT_TRUE(read) << read.error().message;
    return *read;
}

constexpr UsageBounds bounds{1'000, 1'000, 0};

std::optional<std::int64_t> tokens_of(std::initializer_list<std::string_view> chunks) {
    AnswerTokens tokens(small(), 1'000'000);
    for (std::string_view chunk : chunks)
        EXPECT_EQ(read_chunk(chunk, bounds, &tokens).kind, Completion::Kind::chunk);
    return tokens.count();
}

TEST(AnswerTokens, JoinsPiecesOfOneTextAndNoOthers) {
    // "abab" in one choice is one token, wherever it is cut.
    EXPECT_EQ(tokens_of({R"({"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]})",
                         R"({"choices":[{"index":0,"delta":{"content":"a"}}]})",
                         R"({"choices":[{"index":0,"delta":{"content":"bab"}}]})"}),
              1);
    // The same pieces of two choices are "ab" twice and "a", "b".
    EXPECT_EQ(
        tokens_of(
            {R"({"choices":[{"index":0,"delta":{"content":"ab"}},{"index":1,"delta":{"content":"ab"}}]})"}),
        2);
    // The number may stand behind the text, or nowhere.
    EXPECT_EQ(tokens_of({R"({"choices":[{"delta":{"content":"ab"},"index":1}]})",
                         R"({"choices":[{"delta":{"content":"ab"},"index":1}]})"}),
              1);
    EXPECT_EQ(tokens_of({R"({"choices":[{"text":"ab"}]})", R"({"choices":[{"text":"ab"}]})"}), 1);
    // Thoughts and words are texts of their own; thoughts told under both names were thought once.
    EXPECT_EQ(
        tokens_of(
            {R"({"choices":[{"index":0,"delta":{"reasoning_content":"ab","reasoning":"ab","content":"ab"}}]})"}),
        2);
    EXPECT_EQ(tokens_of({R"({"choices":[]})"}), 0);
}

TEST(AnswerTokens, CountsEachCallOfATool) {
    EXPECT_EQ(
        tokens_of(
            {R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"x","function":{"name":"cd","arguments":"a"}}]}}]})",
             R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"b"}}]}}]})",
             R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"name":"cd","arguments":"ab"}}]}}]})"}),
        4);
}

// Neither a provider's flood of choices nor one endless word may take memory.
TEST(AnswerTokens, GivesUpAtItsBounds) {
    AnswerTokens many(small(), 100);
    for (std::size_t i = 0; i <= AnswerTokens::lanes_max; ++i) {
        many.choice(static_cast<std::int64_t>(i));
        many.text(AnswerTokens::Part::content, "a");
        many.end_choice();
    }
    EXPECT_EQ(many.count(), std::nullopt);
    AnswerTokens wide(small(), 100);
    wide.text(AnswerTokens::Part::content, std::string(101, 'a'));
    EXPECT_EQ(wide.count(), std::nullopt);
    AnswerTokens held(small(), 16 * 1024);
    for (int round = 0; round < 100; ++round) {
        for (std::int64_t choice = 0; choice < 100; ++choice) {
            held.choice(choice);
            held.text(AnswerTokens::Part::content, std::string(15 * 1024, 'x'));
            held.end_choice();
            ASSERT_LE(held.held_bytes(), AnswerTokens::held_bytes_max + 16 * 1024);
        }
    }
    EXPECT_EQ(held.count(), std::nullopt);
}

TEST(Counting, CountsSmallTextsHereLargeOnesElsewhereAndHugeOnesNot) {
    metrics::Registry registry;
    Counting counting(registry);
    auto prompt = [&](std::size_t bytes) {
        std::string body = R"({"input":")" + std::string(bytes, '-') + R"("})";
        auto counted = sync_wait(counting.prompt(small(), Endpoint::embeddings, body));
        return counted ? counted->tokens : -1;
    };
    EXPECT_EQ(prompt(100), 100);
    EXPECT_EQ(prompt(100'000), 100'000);
    EXPECT_EQ(prompt(Counting::bytes_max), -1);
    std::string answer = R"({"choices":[{"index":0,"message":{"content":"abab abab"}}]})";
    EXPECT_EQ(sync_wait(counting.answer(small(), Endpoint::chat, answer)), 3);
    EXPECT_EQ(sync_wait(counting.answer(small(), Endpoint::chat, "{}")), std::nullopt);
    auto told = [&](const char* result) {
        return registry
            .counter("nebula_token_counts_total", "Texts to be counted by a model's vocabulary.",
                     {{"result", result}})
            .value();
    };
    EXPECT_EQ(told("exact"), 3u);
    EXPECT_EQ(told("skipped"), 2u);
}

Async<void> count_one(Counting& counting, Counting::Tokens vocabulary, std::string_view request) {
    (void)co_await counting.prompt(std::move(vocabulary), Endpoint::completions, request);
}

// Whoever sends large prompts faster than one thread counts them gets estimates, and holds up nobody.
TEST(Counting, EstimatesWhatTheQueueHasNoRoomFor) {
    constexpr std::size_t asked = 8 * Counting::queue_max;
    metrics::Registry registry;
    Counting counting(registry);
    std::string request = R"({"prompt":")";
    for (int i = 0; i < 32 * 1024; ++i) request += "ab";  // merging takes far longer than asking
    request += R"("})";
    SystemClock clock;
    IoThreads threads(clock, 1);
    {
        TaskGroup group("counts");
        auto vocabulary = small();
        for (std::size_t i = 0; i < asked; ++i)
            group.spawn(threads[0], count_one(counting, vocabulary, request));
    }
    auto told = [&](const char* result) {
        return registry.counter("nebula_token_counts_total", "", {{"result", result}}).value();
    };
    EXPECT_GE(told("exact"), Counting::queue_max) << "those that had room";
    EXPECT_GT(told("skipped"), 0u) << "the queue is bounded";
    EXPECT_EQ(told("exact") + told("skipped"), asked);
}

TEST(PromptTokens, CountsTextsAndWhatTemplatesWriteAroundThem) {
    auto vocabulary = small();
    auto count = [&](Endpoint endpoint, std::string_view body) {
        auto counted = prompt_tokens(*vocabulary, endpoint, body);
        return counted ? counted->tokens : -1;
    };
    constexpr auto chat = Endpoint::chat;
    // 3 for the reply, 3 and the role for each message.
    EXPECT_EQ(count(chat, R"({"messages":[{"role":"ab","content":"abab"}]})"), 3 + 3 + 1 + 1);
    EXPECT_EQ(
        count(chat, R"({"messages":[{"role":"ab","name":"cd","content":[{"type":"text","text":"abab"}]}]})"),
        3 + 3 + 1 + 1 + 1 + 1);
    EXPECT_EQ(
        count(chat,
              R"({"messages":[{"role":"ab","content":null,"tool_calls":[{"id":"zzzz","type":"function",)"
              R"("function":{"name":"cd","arguments":"ab"}}]}]})"),
        3 + 3 + 1 + 2);
    EXPECT_EQ(count(chat, R"({"messages":[],"tools":[ "ab" ]})"), 3 + 5) << "as compact JSON";
    EXPECT_EQ(count(Endpoint::completions, R"({"prompt":["abab","cd"],"suffix":"ab"})"), 3);
    EXPECT_EQ(count(Endpoint::completions, R"({"prompt":[[1,2,3],[4]]})"), 4) << "tokens";
    EXPECT_EQ(count(Endpoint::embeddings, R"({"input":"abab"})"), 1);
    EXPECT_EQ(count(Endpoint::rerank, R"({"query":"ab","documents":["cd",{"text":"ab"}]})"), 3);
    EXPECT_EQ(count(chat, "nonsense"), -1);
    auto seen = prompt_tokens(
        *vocabulary, chat,
        R"({"messages":[{"role":"ab","content":[{"type":"image_url","image_url":{"url":"x"}}]}]})");
    EXPECT_TRUE(seen && seen->has_media);
}

}  // namespace
}  // namespace nebula::gateway

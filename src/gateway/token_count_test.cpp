#include "gateway/token_count.hpp"

#include <gtest/gtest.h>

namespace nebula::gateway {
namespace {

struct Row {
    const char* text;
    std::int64_t tokens;  // of OpenAI's o200k vocabulary
};

// An estimate that is too low lets a prompt in that does not fit; one that is far too high keeps out what
// does. The counts are those of a common vocabulary.
TEST(EstimateText, IsRatherTooHighThanTooLow) {
    const Row rows[] = {
        {"hello world", 2},
        {"The quick brown fox jumps over the lazy dog.", 10},
        {"It was the best of times, it was the worst of times, it was the age of wisdom", 19},
        {"1234567890", 4},
        {"你好，世界", 3},
        {"Привет, мир", 4},
    };
    for (const Row& row : rows) {
        EXPECT_GE(estimate_text(row.text), row.tokens) << row.text;
        EXPECT_LE(estimate_text(row.text), 3 * row.tokens + 1) << row.text;
    }
    EXPECT_EQ(estimate_text(""), 0);
    EXPECT_GT(estimate_text("\xFF\xC3"), 0) << "half a character is still something";
}

// Pictures cost what their model says, not a token for each letter of their encoding.
TEST(EstimatePrompt, CountsTextsAndToolsButNoData) {
    std::string data(40'000, 'A');
    std::int64_t plain =
        estimate_prompt(R"({"model":"m","messages":[{"role":"user","content":"look at this"}]})");
    EXPECT_GE(plain, 7 + 3);
    EXPECT_LE(plain, 14);
    std::string with_image =
        R"({"messages":[{"role":"user","content":[{"type":"text","text":"look at this"},)"
        R"({"type":"image_url","image_url":{"url":"data:image/png;base64,)" +
        data + R"("}}]}]})";
    EXPECT_EQ(estimate_prompt(with_image), plain);
    EXPECT_GT(
        estimate_prompt(R"({"messages":[],"tools":[{"type":"function","function":{"name":"weather"}}]})"),
        10);
}

}  // namespace
}  // namespace nebula::gateway

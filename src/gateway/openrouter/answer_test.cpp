#include "gateway/openrouter/answer.hpp"

#include <gtest/gtest.h>

namespace nebula::gateway::openrouter {
namespace {

Receipt receipt() {
    Receipt one;
    one.provider = "fake";
    one.model = "m";
    one.upstream_id = "chatcmpl-1";
    one.request_id = "req_1";
    one.usage.input = 7;
    one.usage.cached = 2;
    one.usage.output = 3;
    one.usage.reasoning = 1;
    one.charge = Nanos{13'000};
    one.is_reported = true;
    one.created = 5;
    return one;
}

// Numbers that a provider wrote (probabilities, large integers) must come out digit by digit.
TEST(WithCost, KeepsTheProvidersBytesAndAddsOurs) {
    EXPECT_EQ(
        with_cost(R"({ "id":"a", "choices":[{"logprob":-0.10000000000000001,"n":12345678901234567890}],
                             "usage":{"prompt_tokens":7,"x":{"y":1.50}} })",
                  receipt()),
        R"({"id":"a","choices":[{"logprob":-0.10000000000000001,"n":12345678901234567890}],"provider":"fake",)"
        R"("system_fingerprint":null,"usage":{"prompt_tokens":7,"x":{"y":1.50},"cost":0.000013,"is_byok":false,)"
        R"("cost_details":{"upstream_inference_cost":null,"upstream_inference_prompt_cost":0,)"
        R"("upstream_inference_completions_cost":0}}})");
}

// A provider that tells costs of its own (another gateway) tells them to us, not to our customer.
TEST(WithCost, SaysWhatWeCharge) {
    std::string told = with_cost(
        R"({"provider":"other","system_fingerprint":"fp","usage":{"cost":9,"is_byok":true}})", receipt());
    EXPECT_EQ(told,
              R"({"system_fingerprint":"fp","provider":"fake","usage":{"cost":0.000013,"is_byok":false,)"
              R"("cost_details":{"upstream_inference_cost":null,"upstream_inference_prompt_cost":0,)"
              R"("upstream_inference_completions_cost":0}}})");
}

TEST(WithCost, TellsTheBilledUsageWhereNoneCanBeBelieved) {
    Receipt one = receipt();
    one.is_reported = false;
    const char* own =
        R"("usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,"prompt_tokens_details":)"
        R"({"cached_tokens":2,"cache_write_tokens":0},"completion_tokens_details":{"reasoning_tokens":1},"cost":0.000013,"is_byok":false,)"
        R"("cost_details":{"upstream_inference_cost":null,"upstream_inference_prompt_cost":0,)"
        R"("upstream_inference_completions_cost":0}}})";
    EXPECT_TRUE(with_cost(R"({"id":"a","usage":{"prompt_tokens":-1}})", one).ends_with(own));
    EXPECT_EQ(
        usage_chunk("", one),
        std::string(
            R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"m","choices":[],)"
            R"("provider":"fake",)") +
            own);
    one.is_byok = true;
    one.upstream_cost = Nanos{260'000};
    one.upstream_prompt_cost = Nanos{60'000};
    EXPECT_TRUE(with_cost(R"({"id":"a","usage":{"prompt_tokens":-1}})", one)
                    .contains(R"("is_byok":true,"cost_details":{"upstream_inference_cost":0.00026,)"
                              R"("upstream_inference_prompt_cost":0.00006,)"
                              R"("upstream_inference_completions_cost":0.0002})"));
    one = receipt();
    one.is_reported = false;
    one.has_output = false;
    EXPECT_EQ(
        with_cost(R"({"id":"a"})", one),
        R"({"id":"a","provider":"fake","usage":{"prompt_tokens":7,"total_tokens":10,"prompt_tokens_details":)"
        R"({"cached_tokens":2,"cache_write_tokens":0},"cost":0.000013,"is_byok":false,)"
        R"("cost_details":{"upstream_inference_cost":null,"upstream_inference_prompt_cost":0,)"
        R"("upstream_inference_completions_cost":0}}})");
}

// OpenRouter's clients read `reasoning`; most servers say `reasoning_content`. A text that speaks of the name
// must not be touched.
TEST(Thoughts, StandUnderOpenRoutersName) {
    struct Case {
        const char* json;
        const char* told;  // null: as it was
    };
    for (const Case& c : {
             Case{R"({"delta":{"reasoning_content":"hm","content":null}})",
                  R"({"delta":{"reasoning":"hm","content":null}})"},
             Case{R"([{"reasoning_content" : "a"},{"reasoning_content":"b"}])",
                  R"([{"reasoning" : "a"},{"reasoning":"b"}])"},
             Case{R"({"reasoning_content":"say \"reasoning_content\": x"})",
                  R"({"reasoning":"say \"reasoning_content\": x"})"},
             Case{R"({"content":"reasoning_content"})", nullptr},
             Case{R"({"content":"\"reasoning_content\": 1"})", nullptr},
             Case{R"({"reasoning":"hm","reasoning_content":"hm"})", nullptr},
             Case{R"({"content":"none"})", nullptr},
         }) {
        EXPECT_EQ(tells_thoughts(c.json), c.told != nullptr) << c.json;
        if (c.told != nullptr) EXPECT_EQ(with_thoughts(c.json), c.told);
    }
}

}  // namespace
}  // namespace nebula::gateway::openrouter

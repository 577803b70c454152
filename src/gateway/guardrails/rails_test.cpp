// What the rails make of requests and answers: in shadow nothing but a count, enforced exactly what they say,
// and the same for an answer in pieces as for a whole one.
#include "gateway/guardrails/rails.hpp"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <random>

#include "base/text.hpp"
#include "gateway/guardrails/ask.hpp"
#include "gateway/guardrails/output.hpp"

namespace nebula::gateway::guardrails {
namespace {

namespace json = boost::json;

GuardrailSettings words(std::string action, std::string apply_to = "input", std::string mode = "enforce") {
    GuardrailSettings settings;
    settings.name = action + apply_to + mode;
    settings.mode = std::move(mode);
    settings.apply_to = std::move(apply_to);
    settings.action = std::move(action);
    settings.words = {"secret"};
    return settings;
}

GuardrailSettings personal(bool reversible) {
    GuardrailSettings settings;
    settings.name = "personal";
    settings.kind = "pii";
    settings.mode = "enforce";
    settings.action = "mask";
    settings.reversible = reversible;
    return settings;
}

struct Bench {
    explicit Bench(std::vector<GuardrailSettings> settings)
        : rails(settings, metrics, problems), all(rails.of("m", "key_1")) {
        EXPECT_TRUE(problems.empty()) << problems.front();
    }
    Judged judge(std::string_view body) {
        auto judged = judge_input(all, body, placeholders, matched);
        EXPECT_TRUE(judged);
        return std::move(*judged);
    }
    metrics::Registry metrics;
    std::vector<std::string> problems;
    Rails rails;
    std::vector<const Rail*> all, matched;
    Placeholders placeholders;
};

std::string asking(std::string_view text) {
    return R"({"model":"m","messages":[{"role":"user","content":)" + json_string(text) + "}]}";
}

TEST(Rails, BlockMaskAndLogInShadowAndEnforced) {
    struct Row {
        const char *action, *mode;
        bool is_refused;
        const char* after;
    };
    for (const Row& row : {Row{"block", "enforce", true, "my secret is"},
                           {"block", "shadow", false, "my secret is"},
                           {"mask", "enforce", false, "my [removed] is"},
                           {"mask", "shadow", false, "my secret is"},
                           {"log", "enforce", false, "my secret is"}}) {
        Bench bench({words(row.action, "input", row.mode)});
        Judged judged = bench.judge(asking("my secret is"));
        EXPECT_EQ(judged.refusal.has_value(), row.is_refused) << row.action << row.mode;
        EXPECT_EQ(judged.texts.json, asking(row.after));
        EXPECT_EQ(bench.matched.size(), 1u);
        if (judged.refusal) EXPECT_EQ(judged.refusal->excerpt, "secret is");
    }
}

TEST(Rails, NothingForbiddenChangesNothing) {
    Bench bench({words("mask"), personal(true)});
    Judged judged = bench.judge(asking("all \\u00fcber fine \n"));
    EXPECT_EQ(judged.texts.json, asking("all \\u00fcber fine \n"));
    EXPECT_TRUE(bench.matched.empty());
    EXPECT_TRUE(bench.placeholders.empty());
}

TEST(Rails, LimitsCountTextAndMessagesUpToTheirEdge) {
    GuardrailSettings settings;
    settings.name = "size";
    settings.kind = "limits";
    settings.mode = "enforce";
    settings.prompt_bytes_max = 5;
    settings.messages_max = 1;
    Bench bench({settings});
    EXPECT_FALSE(bench.judge(asking("12345")).refusal);
    EXPECT_EQ(bench.judge(asking("123456")).refusal->reason, "prompt_bytes_max");
    EXPECT_EQ(bench.judge(R"({"messages":[{"content":"1"},{"content":"2"}]})").refusal->reason,
              "messages_max");
}

TEST(Rails, WhatNobodyCanReadIsRefused) {
    Bench bench({words("mask")});
    EXPECT_EQ(bench.judge(R"({"prompt":[1,2,3]})").refusal->reason, "unreadable");
    Bench shadow({words("mask", "input", "shadow")});
    EXPECT_FALSE(shadow.judge(R"({"prompt":[1,2,3]})").refusal);
}

TEST(Rails, ApplyToTheirModelsAndKeys) {
    GuardrailSettings settings = words("block");
    settings.models = {"gpt*", "exact"};
    settings.keys = {"key_1"};
    metrics::Registry metrics;
    std::vector<std::string> problems;
    Rails rails({settings}, metrics, problems);
    EXPECT_EQ(rails.of("gpt-5", "key_1").size(), 1u);
    EXPECT_EQ(rails.of("exact", "key_1").size(), 1u);
    EXPECT_EQ(rails.of("exactly", "key_1").size(), 0u);
    EXPECT_EQ(rails.of("gpt-5", "key_2").size(), 0u);
}

TEST(Rails, EveryMistakeInTheFileIsNamed) {
    auto wrong = [](auto change) {
        GuardrailSettings settings = words("block");
        change(settings);
        metrics::Registry metrics;
        std::vector<std::string> problems;
        Rails rails({settings}, metrics, problems);
        return problems.size() == 1 && problems[0].starts_with("guardrail '" + settings.name + "'");
    };
    EXPECT_FALSE(wrong([](GuardrailSettings&) {}));
    EXPECT_TRUE(wrong([](GuardrailSettings& s) { s.words.clear(); }));
    EXPECT_TRUE(wrong([](GuardrailSettings& s) { s.patterns = {"("}; }));
    EXPECT_TRUE(wrong([](GuardrailSettings& s) { s.kind = "limits"; }));
    EXPECT_TRUE(wrong([](GuardrailSettings& s) { s.kind = "hook", s.url = "nowhere"; }));
    EXPECT_TRUE(wrong([](GuardrailSettings& s) {
        s.kind = "hook", s.url = "http://127.0.0.1:1", s.secret_env = "NEBULA_TEST_NO_SUCH_SECRET";
    }));
    EXPECT_TRUE(wrong([](GuardrailSettings& s) { s.kind = "moderation"; }));
    EXPECT_TRUE(wrong([](GuardrailSettings& s) { s.kind = "pii", s.reversible = true; }));
    metrics::Registry metrics;
    std::vector<std::string> problems;
    Rails twice({words("block"), words("block")}, metrics, problems);
    EXPECT_EQ(problems.size(), 1u);
}

TEST(Placeholders, TheSameTextGetsTheSameNameAndNamesOfTheClientStayItsOwn) {
    Bench bench({personal(true)});
    Judged judged =
        bench.judge(asking("[EMAIL_1] a@example.com, b@example.com, a@example.com, 4111111111111111"));
    EXPECT_EQ(judged.texts.json, asking("[EMAIL_1] [EMAIL_2], [EMAIL_3], [EMAIL_2], [CARD_1]"));
    EXPECT_EQ(bench.placeholders.meaning("[EMAIL_2]"), "a@example.com");
    EXPECT_EQ(bench.placeholders.meaning("[EMAIL_1]"), "");
}

TEST(Placeholders, WhatIsNotReversibleHasNoWayBack) {
    Bench bench({personal(false)});
    EXPECT_EQ(bench.judge(asking("a@example.com")).texts.json, asking("[EMAIL_1]"));
    EXPECT_TRUE(bench.placeholders.empty());
}

std::string chunk(std::string_view text, bool is_last = false) {
    return R"({"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":)" +
           json_string(text) + R"(},"finish_reason":)" + (is_last ? "\"stop\"" : "null") + "}]}";
}

struct Told {
    std::string text, arguments, reason;
};

Told tell(OutputGuard& guard, const std::vector<std::string>& chunks) {
    std::string lines;
    for (const std::string& one : chunks) EXPECT_TRUE(guard.chunk(one, lines)) << one;
    guard.finish(lines);
    Told told;
    for (std::string_view line : split(lines, '\n')) {
        if (line.empty()) continue;
        json::value value = json::parse(line);
        const json::object& choice = value.at("choices").at(0).as_object();
        EXPECT_TRUE(told.reason.empty()) << "nothing follows the end: " << line;
        const json::object& delta = choice.at("delta").as_object();
        if (delta.contains("content") && delta.at("content").is_string())
            told.text += delta.at("content").as_string();
        if (delta.contains("tool_calls"))
            for (const json::value& call : delta.at("tool_calls").as_array())
                told.arguments += call.at("function").at("arguments").as_string();
        if (choice.at("finish_reason").is_string()) told.reason = choice.at("finish_reason").as_string();
    }
    return told;
}

std::string whole_text(OutputGuard& guard, std::string_view text, std::string& reason) {
    auto answer = guard.answer(R"({"choices":[{"index":0,"message":{"role":"assistant","content":)" +
                               json_string(text) + R"(},"finish_reason":"stop"}]})");
    EXPECT_TRUE(answer);
    json::value value = json::parse(*answer);
    reason = value.at("choices").at(0).at("finish_reason").as_string();
    return std::string(value.at("choices").at(0).at("message").at("content").as_string());
}

TEST(OutputGuard, AStreamCutAnywhereReadsAsTheWholeAnswer) {
    std::mt19937 random(3);
    auto pick = [&random](std::size_t count) { return random() % count; };
    for (bool is_blocking : {false, true}) {
        GuardrailSettings output = personal(false);
        output.apply_to = "output";
        GuardrailSettings named = personal(true);
        named.name = "named";
        Bench bench({named, output, words(is_blocking ? "block" : "mask", "output"), words("log", "both")});
        bench.judge(asking("ada@example.com"));
        const std::string parts[] = {"secret", "sec", "ret ",          " ",  "[EMAIL_1]",
                                     "[EMAIL", "_1]", "b@example.com", "🙂", "x"};
        for (int round = 0; round < 300; ++round) {
            std::string text;
            std::vector<std::string> chunks;
            for (std::size_t k = pick(20); k > 0; --k) {
                chunks.push_back(chunk(parts[pick(std::size(parts))]));
                text += json::parse(chunks.back()).at("choices").at(0).at("delta").at("content").as_string();
            }
            chunks.push_back(chunk("", true));
            OutputGuard streaming(bench.all, bench.placeholders, bench.matched);
            OutputGuard whole(bench.all, bench.placeholders, bench.matched);
            Told told = tell(streaming, chunks);
            std::string reason;
            EXPECT_EQ(told.text, whole_text(whole, text, reason)) << text;
            EXPECT_EQ(told.reason, reason);
        }
    }
}

TEST(OutputGuard, AMatchOverChunksEndsTheChoice) {
    Bench bench({words("block", "output")});
    OutputGuard guard(bench.all, bench.placeholders, bench.matched);
    Told told = tell(guard, {chunk("it is a sec"), chunk("ret, so"), chunk(" there"), chunk("", true)});
    EXPECT_EQ(told.text, "it is a ");
    EXPECT_EQ(told.reason, "content_filter");
    EXPECT_EQ(bench.matched.size(), 1u);
}

TEST(OutputGuard, ArgumentsAreJudgedWholeAndStayJson) {
    Bench bench({personal(true)});
    bench.judge(asking("ada@example.com"));
    auto call = [](std::string_view arguments, bool is_last = false) {
        return R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":)" +
               json_string(arguments) + R"(}}]},"finish_reason":)" + (is_last ? "\"tool_calls\"" : "null") +
               "}]}";
    };
    OutputGuard guard(bench.all, bench.placeholders, bench.matched);
    Told told = tell(guard, {call(R"({"to":"[EMA)"), call(R"(IL_1]","n")"), call(":1}"), chunk("", true)});
    EXPECT_EQ(told.arguments, R"({"to":"ada@example.com","n":1})");
    guard.restart();
    std::string lines;
    EXPECT_FALSE(guard.chunk(call(std::string(OutputGuard::arguments_bytes_max + 1, 'x')), lines))
        << "bounded";
}

TEST(OutputGuard, AStreamThatNeverFinishesStillTellsWhatWasHeldBack) {
    Bench bench({words("mask", "output")});
    OutputGuard guard(bench.all, bench.placeholders, bench.matched);
    Told told = tell(guard, {chunk("one two")});
    EXPECT_EQ(told.text, "one two");
}

TEST(OutputGuard, WhatIsNoChunkCannotBeJudged) {
    Bench bench({words("mask", "output")});
    OutputGuard guard(bench.all, bench.placeholders, bench.matched);
    std::string lines;
    for (const char* wrong : {"", "[]", "{}", R"({"choices":1})", R"({"choices":[1]})"})
        EXPECT_FALSE(guard.chunk(wrong, lines));
    for (std::size_t k = 0; k <= OutputGuard::channels_max; ++k) {
        bool is_good = guard.chunk(
            R"({"choices":[{"index":)" + std::to_string(k) + R"(,"delta":{"content":"a"}}]})", lines);
        EXPECT_EQ(is_good, k < OutputGuard::channels_max);
    }
}

TEST(Hooks, SayAndReadWhatIsDocumented) {
    std::string body = hook_request({.request_id = "req_1",
                                     .account = "acc_1",
                                     .key = "key_1",
                                     .model = "m",
                                     .endpoint = "chat",
                                     .stage = "request",
                                     .body = R"({"a":1})"});
    EXPECT_EQ(
        body,
        R"({"request_id":"req_1","account":"acc_1","key":"key_1","model":"m","endpoint":"chat","stage":"request",)"
        R"("stream":false,"body":{"a":1}})");
    EXPECT_EQ(hook_signature(Secret("key"), Time(std::chrono::seconds(1)), "x"),
              "t=1,v1=fc4913c41a7bf793267e2a384f3261c9436ec2cd097bd745e7b0d99113f510ec");
    EXPECT_EQ(read_hook_answer(R"({"action":"allow"})")->action, HookAnswer::Action::allow);
    EXPECT_EQ(read_hook_answer(R"({"action":"block","message":"no"})")->message, "no");
    EXPECT_EQ(read_hook_answer(R"({"action":"replace","body":{"b":2}})")->body, R"({"b":2})");
    for (const char* wrong : {"", "[]", "{}", R"({"action":"maybe"})", R"({"action":"replace"})",
                              R"({"action":"replace","body":1})"})
        EXPECT_FALSE(read_hook_answer(wrong)) << wrong;
}

TEST(Moderation, AsksForAllTextsAndReadsTheFlaggedCategories) {
    auto request = moderation_request("guard", asking("hello \"you\""), 1'000);
    ASSERT_TRUE(request);
    EXPECT_EQ(*request, R"({"model":"guard","input":["hello \"you\""]})");
    EXPECT_EQ(moderation_request("guard", asking(std::string(1'000, 'x')), 1'000).error().code,
              Code::payload_too_large);
    EXPECT_EQ(*flagged_categories(R"({"results":[{"flagged":false,"categories":{"hate":true}}]})"), "");
    EXPECT_EQ(*flagged_categories(
                  R"({"results":[{"flagged":true,"categories":{"hate":true,"x":false}},{"flagged":true}]})"),
              "hate");
    EXPECT_EQ(*flagged_categories(R"({"results":[{"flagged":true}]})"), "flagged");
    for (const char* wrong : {"", "{}", R"({"results":[]})", R"({"results":[{}]})"})
        EXPECT_FALSE(flagged_categories(wrong));
}

}  // namespace
}  // namespace nebula::gateway::guardrails

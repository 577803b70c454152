// What a provider's Responses API says is only metered, logged and cached in chat's words; a count or an end
// that is read wrongly is money, and a broken stream that looks whole is a lie.
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/completion.hpp"
#include "gateway/providers/conformance.hpp"
#include "gateway/providers/openai/responses.hpp"

namespace nebula::gateway::openai {
namespace {

namespace json = boost::json;
using conformance::Said;

json::object usage_of(const Said& said) {
    return {{"input_tokens", said.prompt},
            {"input_tokens_details", json::object{{"cached_tokens", said.cached}}},
            {"output_tokens", said.output},
            {"total_tokens", said.prompt + said.output}};
}

json::object thoughts_item(const Said& said) {
    return {{"id", "rs_1"},
            {"type", "reasoning"},
            {"summary", json::array{json::object{{"type", "summary_text"}, {"text", said.thoughts}}}}};
}
json::object message_item(const Said& said) {
    json::object part{{"type", "output_text"}, {"text", said.text}, {"annotations", json::array()}};
    json::array content;
    content.push_back(std::move(part));
    return {{"id", "msg_1"}, {"type", "message"}, {"role", "assistant"}, {"content", std::move(content)}};
}
json::object call_item(const conformance::Call& call, std::string_view arguments) {
    return {{"id", "fc_" + call.id},
            {"type", "function_call"},
            {"call_id", call.id},
            {"name", call.name},
            {"arguments", arguments}};
}

json::object response_of(const Said& said, const char* status) {
    bool is_short = said.finish == "length";
    json::array output;
    if (!said.thoughts.empty()) output.push_back(thoughts_item(said));
    if (!said.text.empty()) output.push_back(message_item(said));
    for (const auto& call : said.calls) output.push_back(call_item(call, call.arguments));
    json::object response{{"id", "resp_1"},
                          {"object", "response"},
                          {"model", said.model},
                          {"status", is_short ? "incomplete" : status},
                          {"output", std::move(output)},
                          {"usage", usage_of(said)}};
    response["incomplete_details"] =
        is_short ? json::value(json::object{{"reason", "max_output_tokens"}}) : json::value(nullptr);
    return response;
}

class ResponsesKind final : public conformance::Kind {
   public:
    ResponsesKind() { translates_requests = false; }
    std::unique_ptr<Translator> make() const override { return make_responses_translator("req_1", Time{}); }
    conformance::Asked read(std::string_view) const override { return {}; }
    std::string answer(const Said& said) const override {
        return json::serialize(response_of(said, "completed"));
    }

    std::vector<std::string> events(const Said& said, conformance::Cutter& cutter) const override {
        std::vector<std::string> out;
        auto add = [&out](std::string type, json::object event) {
            event["type"] = std::move(type);
            event["sequence_number"] = out.size();
            out.push_back(json::serialize(event));
        };
        json::object begun{{"id", "resp_1"}, {"model", said.model}, {"status", "in_progress"}};
        add("response.created", {{"response", begun}});
        add("response.in_progress", {{"response", begun}});
        int index = 0;
        auto add_item = [&](json::object start, const json::object& whole, const std::string& delta,
                            std::string_view text) {
            add("response.output_item.added", {{"output_index", index}, {"item", std::move(start)}});
            for (std::string& piece : cutter.cut(text))
                add(delta, {{"output_index", index}, {"delta", piece}});
            add("response.output_item.done", {{"output_index", index++}, {"item", whole}});
        };
        if (!said.thoughts.empty())
            add_item({{"type", "reasoning"}}, thoughts_item(said), "response.reasoning_summary_text.delta",
                     said.thoughts);
        if (!said.text.empty())
            add_item({{"type", "message"}}, message_item(said), "response.output_text.delta", said.text);
        for (const auto& call : said.calls) {
            // Some servers tell arguments only with the whole item.
            bool is_late = call.arguments == "{}";
            add_item(call_item(call, ""), call_item(call, call.arguments),
                     "response.function_call_arguments.delta",
                     is_late ? std::string_view() : std::string_view(call.arguments));
        }
        json::object response = response_of(said, "completed");
        std::string type = said.finish == "length" ? "response.incomplete" : "response.completed";
        add(type, {{"response", std::move(response)}});
        return out;
    }

    std::string error_event(std::string_view message) const override {
        return json::serialize(json::object{
            {"type", "response.failed"},
            {"response", json::object{{"status", "failed"}, {"error", json::object{{"message", message}}}}}});
    }
};

TEST(ResponsesProvider, KeepsAnswers) { conformance::check_answers(ResponsesKind()); }
TEST(ResponsesProvider, KeepsStreams) { conformance::check_streams(ResponsesKind()); }
TEST(ResponsesProvider, NeverTakesABrokenStreamForAWholeOne) {
    conformance::check_broken_streams(ResponsesKind());
}
TEST(ResponsesProvider, KeepsWhateverIsSaid) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) conformance::check_random(ResponsesKind(), seed);
}

// Nobody else's requests are sent there.
TEST(ResponsesProvider, RefusesRequestsInOtherWords) {
    auto body =
        ResponsesKind().make()->request(R"({"model":"m","messages":[{"role":"user","content":"x"}]})");
    ASSERT_FALSE(body.has_value());
    EXPECT_EQ(body.error().code, Code::invalid_request);
}

// What is no whole answer is none, whatever its status line said.
TEST(ResponsesProvider, TakesOnlyEndedResponses) {
    for (const char* status : {"failed", "in_progress", "queued", "cancelled", ""}) {
        std::string body = R"({"object":"response","output":[],"status":")" + std::string(status) + R"("})";
        auto answer = ResponsesKind().make()->answer(body);
        ASSERT_FALSE(answer.has_value()) << body;
        EXPECT_EQ(answer.error().code, Code::upstream_failed);
    }
}

// An error may stand alone, in either of its two forms, or be what became of the response.
TEST(ResponsesProvider, KnowsEveryFormOfAnError) {
    for (const char* event :
         {R"({"type":"error","code":"server_error","message":"no \"room\""})",
          R"({"type":"error","error":{"type":"server_error","message":"no \"room\""}})",
          R"({"type":"response.failed","response":{"error":{"message":"no \"room\""}}})"}) {
        std::string lines;
        ASSERT_TRUE(ResponsesKind().make()->event(event, lines));
        EXPECT_EQ(read_chunk(std::string_view(lines).substr(0, lines.size() - 1), {}).error_message,
                  R"(no "room")")
            << event;
    }
}

// Every use of a hosted tool is paid for, in whole answers and in streams; a client is told of it at once.
TEST(ResponsesProvider, CountsUsesOfHostedTools) {
    auto translator = ResponsesKind().make();
    std::string lines;
    for (const char* event :
         {R"({"type":"response.created","response":{"id":"r"}})",
          R"({"type":"response.output_item.added","output_index":0,"item":{"type":"web_search_call"}})",
          R"({"type":"response.web_search_call.searching","output_index":0})"})
        ASSERT_TRUE(translator->event(event, lines));
    EXPECT_TRUE(translator->has_begun());
    EXPECT_EQ(translator->tool_calls(), 0);
    for (
        const char* event :
        {R"({"type":"response.output_item.done","output_index":0,"item":{"type":"web_search_call"}})",
         R"({"type":"response.output_item.done","output_index":1,"item":{"type":"mcp_call"}})",
         R"({"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","name":"f"}})"})
        ASSERT_TRUE(translator->event(event, lines));
    EXPECT_EQ(translator->tool_calls(), 2);

    auto whole = ResponsesKind().make();
    ASSERT_TRUE(whole->answer(R"({"status":"completed","output":[{"type":"code_interpreter_call"},)"
                              R"({"type":"message","content":[]},{"type":"custom_tool_call","name":"n"}]})"));
    EXPECT_EQ(whole->tool_calls(), 1);
}

// Counts that cannot be true must reach whoever meters as what they are; nothing told is nothing reported.
TEST(ResponsesProvider, PassesCountsOnAsTheyWereTold) {
    using State = ReportedUsage::State;
    constexpr UsageBounds bounds{1'000, 1'000};
    struct Row {
        const char* usage;
        State state;
    };
    for (const Row& row : {Row{R"({"input_tokens":7,"output_tokens":3})", State::good},
                           {R"({"input_tokens":-7,"output_tokens":3})", State::refused},
                           {R"({"input_tokens":7,"output_tokens":1e15})", State::refused},
                           {R"({"input_tokens":"7","output_tokens":3})", State::refused},
                           {R"({"input_tokens":7,"output_tokens":[3]})", State::refused},
                           {"null", State::absent},
                           {"{}", State::absent}}) {
        std::string response = R"({"status":"completed","output":[],"usage":)" + std::string(row.usage) + "}";
        auto answer = ResponsesKind().make()->answer(response);
        ASSERT_TRUE(answer.has_value());
        EXPECT_EQ(read_answer(*answer, bounds).usage.state, row.state) << *answer;
        std::string lines;
        ASSERT_TRUE(ResponsesKind().make()->event(
            R"({"type":"response.completed","response":)" + response + "}", lines));
        ReportedUsage told;
        for (std::size_t at = 0; at < lines.size(); at = lines.find('\n', at) + 1) {
            Completion chunk =
                read_chunk(std::string_view(lines).substr(at, lines.find('\n', at) - at), bounds);
            if (chunk.usage.state != State::absent) told = chunk.usage;
        }
        EXPECT_EQ(told.state, row.state) << lines;
    }
}

// What a cache was written with costs its own price.
TEST(ResponsesProvider, TellsCachedAndWrittenTokens) {
    std::string lines;
    ASSERT_TRUE(ResponsesKind().make()->event(
        R"({"type":"response.completed","response":{"usage":{"input_tokens":10,"output_tokens":4,)"
        R"("input_tokens_details":{"cached_tokens":3,"cache_write_tokens":5},)"
        R"("output_tokens_details":{"reasoning_tokens":2}}}})",
        lines));
    std::size_t at = lines.find("{\"id\"", lines.find("\"finish_reason\":\"stop\""));
    Completion chunk = read_chunk(std::string_view(lines).substr(at, lines.find('\n', at) - at), {100, 100});
    EXPECT_EQ(chunk.usage.usage.cached, 3);
    EXPECT_EQ(chunk.usage.usage.cache_write, 5);
    EXPECT_EQ(chunk.usage.usage.reasoning, 2);
}

// Pieces of calls that were never told, and calls without a name, are a provider's failure; what the API may
// add later is passed over.
TEST(ResponsesProvider, RefusesEventsOutOfOrder) {
    for (const char* event :
         {R"({"type":"response.function_call_arguments.delta","output_index":3,"delta":"x"})",
          R"({"type":"response.output_item.added","output_index":0,"item":{"type":"function_call"}})",
          R"({"type":"response.output_text.delta","delta":"\x"})",
          R"({"type":"response.completed","response":{"output":[{"a":tru}]}})",
          R"({"type":"response.output_text.delta","delta":"x"} more)", R"({"delta":"x"})", R"({"type":7})",
          "[DONE]"}) {
        std::string lines;
        EXPECT_FALSE(ResponsesKind().make()->event(event, lines)) << event;
    }
    std::string lines;
    EXPECT_TRUE(ResponsesKind().make()->event(R"({"type":"keepalive","sequence_number":3})", lines));
    EXPECT_TRUE(lines.empty());
}

}  // namespace
}  // namespace nebula::gateway::openai

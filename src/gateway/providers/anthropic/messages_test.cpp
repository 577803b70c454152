#include "gateway/providers/anthropic/messages.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/anthropic/anthropic.hpp"
#include "gateway/completion.hpp"
#include "gateway/providers/conformance.hpp"

namespace nebula::gateway::anthropic {
namespace {

namespace json = boost::json;
using conformance::Asked;
using conformance::Item;
using conformance::Said;

std::string event_type(std::string_view finish) {
    return finish == "length" ? "max_tokens" : finish == "tool_calls" ? "tool_use" : "end_turn";
}

json::object usage_of(const Said& said) {
    return {{"input_tokens", said.prompt - said.cached},
            {"cache_read_input_tokens", said.cached},
            {"cache_creation_input_tokens", 0},
            {"output_tokens", said.output}};
}

// The other side of the wire: what a Messages server reads and writes.
class MessagesKind final : public conformance::Kind {
   public:
    std::unique_ptr<Translator> make() const override {
        return provider().translate(Endpoint::chat, "chatcmpl-x", {});
    }

    // Our own edge for Messages clients is the reader: it was tested with Anthropic's.
    Asked read(std::string_view body) const override {
        auto chat = to_chat_request(body);
        EXPECT_TRUE(chat.has_value()) << body;
        expect_alternating(body);
        return chat ? conformance::read_openai(*chat) : Asked{};
    }

    std::string answer(const Said& said) const override {
        json::array content;
        if (!said.thoughts.empty())
            content.push_back(
                json::object{{"type", "thinking"}, {"thinking", said.thoughts}, {"signature", "s"}});
        if (!said.text.empty()) content.push_back(json::object{{"type", "text"}, {"text", said.text}});
        for (const auto& call : said.calls)
            content.push_back(json::object{{"type", "tool_use"},
                                           {"id", call.id},
                                           {"name", call.name},
                                           {"input", json::parse(call.arguments)}});
        return json::serialize(json::object{{"id", "msg_1"},
                                            {"type", "message"},
                                            {"role", "assistant"},
                                            {"model", said.model},
                                            {"content", std::move(content)},
                                            {"stop_reason", event_type(said.finish)},
                                            {"stop_sequence", nullptr},
                                            {"usage", usage_of(said)}});
    }

    std::vector<std::string> events(const Said& said, conformance::Cutter& cutter) const override {
        std::vector<std::string> out;
        auto add = [&out](json::object event) { out.push_back(json::serialize(event)); };
        json::object usage = usage_of(said);
        usage["output_tokens"] = 1;
        add({{"type", "message_start"},
             {"message",
              json::object{{"id", "msg_1"}, {"type", "message"}, {"model", said.model}, {"usage", usage}}}});
        add({{"type", "ping"}});
        int index = 0;
        auto add_block = [&](json::object start, const char* type, const char* name, std::string_view text) {
            add({{"type", "content_block_start"}, {"index", index}, {"content_block", std::move(start)}});
            for (std::string& piece : cutter.cut(text))
                add({{"type", "content_block_delta"},
                     {"index", index},
                     {"delta", json::object{{"type", type}, {name, piece}}}});
            add({{"type", "content_block_stop"}, {"index", index++}});
        };
        if (!said.thoughts.empty())
            add_block({{"type", "thinking"}, {"thinking", ""}}, "thinking_delta", "thinking", said.thoughts);
        if (!said.text.empty()) add_block({{"type", "text"}, {"text", ""}}, "text_delta", "text", said.text);
        for (const auto& call : said.calls) {
            // The API sends no pieces of an empty object.
            std::string_view pieces = call.arguments == "{}" ? "" : std::string_view(call.arguments);
            add_block({{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", json::object()}},
                      "input_json_delta", "partial_json", pieces);
        }
        add({{"type", "message_delta"},
             {"delta", json::object{{"stop_reason", event_type(said.finish)}, {"stop_sequence", nullptr}}},
             {"usage", json::object{{"output_tokens", said.output}}}});
        add({{"type", "message_stop"}});
        return out;
    }

    std::string error_event(std::string_view message) const override {
        return json::serialize(json::object{
            {"type", "error"}, {"error", json::object{{"type", "overloaded_error"}, {"message", message}}}});
    }

   private:
    static void expect_alternating(std::string_view body) {
        json::value request = json::parse(body);
        std::string_view last;
        for (const json::value& turn : request.at("messages").as_array()) {
            std::string_view role = turn.at("role").as_string();
            EXPECT_NE(role, last) << body;
            last = role;
            if (!turn.at("content").is_array()) continue;
            bool is_behind = false;
            for (const json::value& block : turn.at("content").as_array()) {
                bool is_result = block.at("type").as_string() == "tool_result";
                EXPECT_FALSE(is_behind && is_result) << "a result behind other blocks: " << body;
                is_behind = is_behind || !is_result;
            }
        }
    }
};

TEST(MessagesProvider, KeepsRequests) { conformance::check_requests(MessagesKind()); }
TEST(MessagesProvider, KeepsAnswers) { conformance::check_answers(MessagesKind()); }
TEST(MessagesProvider, KeepsStreams) { conformance::check_streams(MessagesKind()); }
TEST(MessagesProvider, NeverTakesABrokenStreamForAWholeOne) {
    conformance::check_broken_streams(MessagesKind());
}
TEST(MessagesProvider, KeepsWhateverIsSaid) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) conformance::check_random(MessagesKind(), seed);
}

std::string translated(std::string_view chat) {
    Telling telling;
    auto body = to_messages_request(chat, telling);
    return body ? *body : "refused: " + body.error().param;
}

std::string with(std::string_view members, std::string_view cap = "100") {
    return R"({"model":"m","max_tokens":)" + std::string(cap) +
           R"(,"messages":[{"role":"user","content":"hi"}])" + (members.empty() ? "" : ",") +
           std::string(members) + "}";
}

// The members that have another name, place or range there.
TEST(MessagesRequestOut, TellsEachMemberInTheApisWords) {
    struct Row {
        std::string from, to;
    };
    const std::string hi = R"("messages":[{"role":"user","content":"hi"}])";
    const Row rows[] = {
        {with(
             R"("temperature":0.5,"top_p":0.9,"top_k":3,"user":"u","seed":1,"logit_bias":{},"frequency_penalty":1)"),
         R"({"model":"m","max_tokens":100,"metadata":{"user_id":"u"},)" + hi +
             R"(,"temperature":0.5,"top_p":0.9,"top_k":3})"},
        {with(R"("temperature":1.7)"), R"({"model":"m","max_tokens":100,)" + hi + R"(,"temperature":1})"},
        {with(R"("max_completion_tokens":50,"stream":true,"stream_options":{"include_usage":true})"),
         R"({"model":"m","max_tokens":50,"stream":true,)" + hi + "}"},
        {with(R"("response_format":{"type":"json_object"},"tool_choice":"required","n":1,"logprobs":false)"),
         R"({"model":"m","max_tokens":100,)" + hi + "}"},
        {with(
             R"("parallel_tool_calls":false,"tools":[{"type":"function","function":{"name":"f","strict":true}}])"),
         R"({"model":"m","max_tokens":100,)" + hi +
             R"(,"tools":[{"name":"f","input_schema":{"properties":{},"type":"object"},"strict":true}],)"
             R"("tool_choice":{"type":"auto","disable_parallel_tool_use":true}})"},
        {R"({"model":"m","max_tokens":9,"messages":[{"role":"system","content":[{"type":"text","text":"a",
             "cache_control":{"type":"ephemeral"}}]},{"role":"user","content":[{"type":"file","file":{
             "filename":"a.pdf","file_data":"data:application/pdf;base64,QUJD"}}]}]})",
         R"({"model":"m","max_tokens":9,"system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}],
             "messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64",
             "media_type":"application/pdf","data":"QUJD"},"title":"a.pdf"}]}]})"},
        {R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":
             [{"id":"functions.f:0","type":"function","function":{"name":"f","arguments":"no json"}}]},
             {"role":"tool","tool_call_id":"functions.f:0","content":[{"type":"image_url",
             "image_url":{"url":"data:image/png;base64,QUJD"}}]}]})",
         R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[
             {"type":"tool_use","id":"functions_f_0","name":"f","input":{"arguments":"no json"}}]},
             {"role":"user","content":[{"type":"tool_result","tool_use_id":"functions_f_0",
            "content":[{"type":"image",
             "source":{"type":"base64","media_type":"image/png","data":"QUJD"}}]}]}]})"},
    };
    for (const Row& row : rows)
        EXPECT_EQ(json::parse(translated(row.from)), json::parse(row.to)) << translated(row.from);
}

// A budget must fit below the cap that was paid for, and the API refuses thoughts beside forced tools,
// sampling, and turns whose thoughts are gone.
TEST(MessagesRequestOut, ThinksWithinTheCap) {
    struct Row {
        std::string from;
        std::int64_t budget;  // 0: does not think
    };
    const char* const tool = R"("tools":[{"type":"function","function":{"name":"f"}}],)";
    const Row rows[] = {
        {with(R"("reasoning_effort":"low")", "100000"), 4'096},
        {with(R"("reasoning_effort":"medium")", "100000"), 16'384},
        {with(R"("reasoning":{"effort":"high"})", "100000"), 32'768},
        {with(R"("reasoning":{"max_tokens":5000})", "100000"), 5'000},
        {with(R"("reasoning":{"enabled":true})", "100000"), 16'384},
        {with(R"("reasoning":{"enabled":false},"reasoning_effort":"low")", "100000"), 0},
        {with(R"("reasoning_effort":"high")", "4000"), 3'000},
        {with(R"("reasoning_effort":"high")", "1200"), 0},
        {with(R"("reasoning_effort":"none")", "100000"), 0},
        {with(std::string(tool) + R"("tool_choice":"required","reasoning_effort":"low")", "100000"), 0},
        {with(std::string(tool) + R"("tool_choice":"auto","reasoning_effort":"low")", "100000"), 4'096},
    };
    for (const Row& row : rows) {
        json::value body = json::parse(translated(row.from));
        const json::value* thinking = body.as_object().if_contains("thinking");
        EXPECT_EQ(thinking != nullptr ? thinking->at("budget_tokens").as_int64() : 0, row.budget) << row.from;
        if (thinking != nullptr) EXPECT_FALSE(body.as_object().contains("temperature"));
    }
    std::string sampled = translated(with(R"("reasoning_effort":"low","temperature":0,"top_k":2)", "9000"));
    EXPECT_EQ(sampled.find("temperature"), std::string::npos) << sampled;
}

// Signed thoughts must come back as they were, or the API refuses the conversation; unsigned ones must not.
TEST(MessagesRequestOut, SendsSignedThoughtsBack) {
    auto conversation = [](std::string_view details) {
        return R"({"model":"m","max_tokens":9000,"reasoning_effort":"low","messages":[{"role":"user","content":"x"},
            {"role":"assistant","content":null,"reasoning_content":"unsigned","reasoning_details":)" +
               std::string(details) +
               R"(,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"c","content":"y"}]})";
    };
    auto blocks = [&](std::string_view details) {
        json::value body = json::parse(translated(conversation(details)));
        json::array content = body.at("messages").at(1).at("content").as_array();
        content.pop_back();
        std::string out = body.as_object().contains("thinking") ? "thinks " : "";
        return out + json::serialize(content);
    };
    EXPECT_EQ(
        blocks(R"([{"type":"reasoning.text","text":"t","signature":"s","index":0},
                         {"type":"reasoning.encrypted","data":"d","index":1}])"),
        R"(thinks [{"type":"thinking","thinking":"t","signature":"s"},{"type":"redacted_thinking","data":"d"}])");
    // As they were streamed: pieces of one index.
    EXPECT_EQ(
        blocks(
            R"([{"type":"reasoning.text","text":"t","index":0},{"type":"reasoning.text","text":"u","index":0},
                         {"type":"reasoning.text","signature":"s","index":0},
                         {"type":"reasoning.text","text":"v","signature":"w","index":1}])"),
        R"(thinks [{"type":"thinking","thinking":"tu","signature":"s"},)"
        R"({"type":"thinking","thinking":"v","signature":"w"}])");
    EXPECT_EQ(blocks(R"([{"type":"reasoning.text","text":"t"}])"), "[]");
    EXPECT_EQ(blocks(R"([{"type":"reasoning.summary","summary":"t"},7,null])"), "[]");
}

// What would change the answer without a word is refused by name.
TEST(MessagesRequestOut, RefusesWhatTheApiCannotDo) {
    struct Row {
        std::string from;
        const char* param;
    };
    auto say = [](std::string_view message) {
        return R"({"model":"m","max_tokens":9,"messages":[)" + std::string(message) + "]}";
    };
    const Row rows[] = {
        {with(R"("n":2)"), "n"},
        {with(R"("logprobs":true)"), "logprobs"},
        {with(R"("functions":[])"), "functions"},
        {with(R"("modalities":["text","audio"])"), "modalities"},
        {with(R"("tools":[{"type":"web_search"}])"), "tools"},
        {with(R"("tool_choice":{"type":"allowed_tools"})"), "tool_choice"},
        {with(R"("response_format":{"type":"grammar"})"), "response_format"},
        {with(R"("stop":7)"), "stop"},
        {R"({"model":"m","messages":[{"role":"user","content":"x"}]})", "max_tokens"},
        {say(R"({"role":"system","content":"only"})"), "messages"},
        {say(R"({"role":"user","content":""})"), "messages"},
        {say(R"({"role":"robot","content":"x"})"), "messages.0.role"},
        {say(R"({"role":"user","content":7})"), "messages.0.content"},
        {say(R"({"role":"user","content":[{"type":"input_audio"}]})"), "messages.0.content"},
        {say(R"({"role":"user","content":[{"type":"image_url","image_url":{"url":"ftp://x"}}]})"),
         "messages.0.content"},
        {say(R"({"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]})"), "messages.0.content"},
        {say(R"({"role":"user","content":"x"},{"role":"tool","content":"y"})"), "messages.1.tool_call_id"},
    };
    for (const Row& row : rows)
        EXPECT_EQ(translated(row.from), "refused: " + std::string(row.param)) << row.from;
}

// Signatures and redacted thoughts reach the client, since it must send them back.
TEST(MessagesAnswerIn, TellsSignedThoughts) {
    const char* const message =
        R"({"id":"msg_1","type":"message","model":"m","stop_reason":"refusal","content":[
        {"type":"thinking","thinking":"t","signature":"s"},{"type":"redacted_thinking","data":"d"},
        {"type":"server_tool_use","id":"x","name":"y","input":{}},{"type":"text","text":"a"},
            {"type":"text","text":"b"}],
        "usage":{"input_tokens":10,"cache_read_input_tokens":5,"cache_creation_input_tokens":2,
            "output_tokens":9,
        "output_tokens_details":{"thinking_tokens":4}}})";
    auto answer = to_chat_answer(message, {}, "x", 7);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(json::parse(*answer),
              json::parse(R"({"id":"msg_1","object":"chat.completion","created":7,"model":"m",
        "choices":[{"index":0,"message":{"role":"assistant","content":"ab","refusal":null,
            "reasoning_content":"t",
        "reasoning_details":[
          {"type":"reasoning.text","text":"t","signature":"s","format":"anthropic-claude-v1","index":0},
          {"type":"reasoning.encrypted","data":"d","format":"anthropic-claude-v1","index":1}]},
        "logprobs":null,"finish_reason":"content_filter"}],
        "usage":{"prompt_tokens":17,"completion_tokens":9,"total_tokens":26,
          "prompt_tokens_details":{"cached_tokens":5,"cache_write_tokens":2},
          "completion_tokens_details":{"reasoning_tokens":4}}})"))
        << *answer;
    auto quiet = to_chat_answer(message, {.tells_reasoning = false}, "x", 7);
    ASSERT_TRUE(quiet.has_value());
    EXPECT_EQ(quiet->find("reasoning_content"), std::string::npos);
    EXPECT_EQ(quiet->find("reasoning_details"), std::string::npos);
}

TEST(MessagesAnswerIn, KnowsEveryStopReason) {
    for (auto [theirs, ours] :
         {std::pair("end_turn", "stop"), std::pair("stop_sequence", "stop"), std::pair("pause_turn", "stop"),
          std::pair("max_tokens", "length"), std::pair("model_context_window_exceeded", "length"),
          std::pair("tool_use", "tool_calls"), std::pair("refusal", "content_filter"),
          std::pair("new_one", "stop")})
        EXPECT_STREQ(finish_reason(theirs), ours) << theirs;
}

// Usage that cannot be true must reach the metering as such: it refuses it and estimates.
TEST(MessagesAnswerIn, NonsenseInUsageIsRefusedByTheMetering) {
    const UsageBounds bounds{1'000, 1'000};
    for (const char* usage :
         {R"({"input_tokens":"7","output_tokens":3})", R"({"input_tokens":-7,"output_tokens":3})",
          R"({"input_tokens":7,"output_tokens":1e15})", R"({"input_tokens":7,"output_tokens":-5})"}) {
        std::string text = usage;
        auto answer = to_chat_answer(
            R"({"type":"message","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn","usage":)" +
                text + "}",
            {}, "x", 1);
        ASSERT_TRUE(answer.has_value());
        EXPECT_EQ(read_answer(*answer, bounds).usage.state, ReportedUsage::State::refused) << *answer;

        EventReader reader("x", 1);
        std::string lines;
        ASSERT_TRUE(reader.read(R"({"type":"message_start","message":{"usage":)" + text + "}}", {}, lines));
        lines.clear();
        ASSERT_TRUE(
            reader.read(R"({"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":)" + text + "}",
                        {}, lines));
        std::string_view report = std::string_view(lines).substr(lines.find('\n') + 1);
        report.remove_suffix(1);
        EXPECT_EQ(read_chunk(report, bounds).usage.state, ReportedUsage::State::refused) << lines;
    }
}

// A stream without usage at its end has none: the count of the start is of the first token only.
TEST(MessagesStreamIn, AStartAloneIsNoReport) {
    EventReader reader("x", 1);
    std::string lines;
    ASSERT_TRUE(reader.read(
        R"({"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}})", {}, lines));
    ASSERT_TRUE(reader.read(R"({"type":"message_delta","delta":{"stop_reason":"end_turn"}})", {}, lines));
    ASSERT_TRUE(reader.read(R"({"type":"message_stop"})", {}, lines));
    EXPECT_EQ(lines.find("usage"), std::string::npos) << lines;
    EXPECT_TRUE(lines.ends_with("[DONE]\n"));
}

// Signatures and redacted blocks come as details of the block that they belong to.
TEST(MessagesStreamIn, TellsSignedThoughts) {
    EventReader reader("x", 1);
    std::string lines;
    for (
        const char* event :
        {R"({"type":"message_start","message":{"id":"msg_1","model":"m"}})",
         R"({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}})",
         R"({"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"t"}})",
         R"({"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}})",
         R"({"type":"content_block_stop","index":0})",
         R"({"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"d"}})",
         R"({"type":"content_block_stop","index":1})"})
        ASSERT_TRUE(reader.read(event, {}, lines)) << event;
    json::array deltas;
    for (std::size_t at = 0; at < lines.size(); at = lines.find('\n', at) + 1)
        deltas.push_back(
            json::parse(lines.substr(at, lines.find('\n', at) - at)).at("choices").at(0).at("delta"));
    EXPECT_EQ(json::value(deltas), json::parse(R"([{"role":"assistant","content":""},
        {"reasoning_content":"t","reasoning_details":[
          {"type":"reasoning.text","text":"t","format":"anthropic-claude-v1","index":0}]},
        {"reasoning_details":[{"type":"reasoning.text","signature":"s","format":"anthropic-claude-v1",
            "index":0}]},
        {"reasoning_details":[{"type":"reasoning.encrypted","data":"d","format":"anthropic-claude-v1",
            "index":1}]}])"))
        << lines;
}

// Pieces of a block that is not open, calls without a name and broken escapes are a provider's failure.
TEST(MessagesStreamIn, RefusesEventsOutOfOrder) {
    const std::string start = R"({"type":"message_start","message":{"id":"i","model":"m"}})";
    const std::string open =
        R"({"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}})";
    for (const char* event :
         {R"({"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"x"}})",
          R"({"type":"content_block_stop","index":3})", R"({"type":"message_stop"})",
          R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\x"}})",
          R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}} more)",
          R"({"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"x"}})"}) {
        EventReader reader("x", 1);
        std::string lines;
        ASSERT_TRUE(reader.read(start, {}, lines) && reader.read(open, {}, lines));
        EXPECT_FALSE(reader.read(event, {}, lines)) << event;
    }
    // What the API may add later is passed over.
    EventReader reader("x", 1);
    std::string lines;
    ASSERT_TRUE(reader.read(start, {}, lines));
    lines.clear();
    EXPECT_TRUE(reader.read(R"({"type":"something_new","delta":{"text":"x"}})", {}, lines));
    EXPECT_TRUE(lines.empty());
}

}  // namespace
}  // namespace nebula::gateway::anthropic

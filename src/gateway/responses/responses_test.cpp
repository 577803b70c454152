#include "gateway/responses/responses.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace nebula::gateway::responses {
namespace {

namespace json = boost::json;

std::string normal(std::string_view text) { return json::serialize(json::parse(text)); }

struct Row {
    const char* from;
    const char* to;
};

void expect_rows(std::span<const Row> rows) {
    for (const Row& row : rows) {
        auto chat = to_chat_request(row.from);
        ASSERT_TRUE(chat.has_value()) << row.from << chat.error().message;
        EXPECT_EQ(json::parse(*chat), json::parse(row.to)) << normal(*chat) << "\n" << normal(row.to);
    }
}

// What a Responses request says must reach a chat model with the same meaning.
TEST(ResponsesRequest, BecomesTheSameChatRequest) {
    const Row rows[] = {
        {R"({"model":"m","input":"hi"})", R"({"model":"m","messages":[{"role":"user","content":"hi"}]})"},
        {R"({"model":"m","instructions":"be brief","input":"hi","stream":true,"max_output_tokens":50,
             "temperature":0.5,"top_p":null,"store":true,"metadata":{"a":"b"},"previous_response_id":null,
             "background":false,"include":["reasoning.encrypted_content"],"truncation":"auto","user":"u",
             "reasoning":{"effort":"high","summary":"auto"},"stream_options":{"include_obfuscation":false}})",
         R"({"model":"m","stream":true,"max_tokens":50,"temperature":0.5,"user":"u","reasoning_effort":"high",
             "messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}]})"},
        {R"({"model":"m","input":[{"role":"developer","content":"d"},
              {"type":"message","role":"user","content":[{"type":"input_text","text":"only text"}]},
              {"role":"user","content":[{"type":"input_text","text":"look"},
                {"type":"input_image","image_url":"data:image/png;base64,QUJD","detail":"low"},
                {"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,QUJD"}]}]})",
         R"({"model":"m","messages":[{"role":"system","content":"d"},{"role":"user","content":"only text"},
              {"role":"user","content":[{"type":"text","text":"look"},
                {"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD","detail":"low"}},
                {"type":"file",
                 "file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,QUJD"}}]}]})"},
        {R"({"model":"m","input":"x","parallel_tool_calls":false,"tool_choice":{"type":"function","name":"f"},
             "tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object"},
                       "strict":true}],
             "text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true},
                     "verbosity":"low"}})",
         R"({"model":"m","messages":[{"role":"user","content":"x"}],"parallel_tool_calls":false,
             "tool_choice":{"type":"function","function":{"name":"f"}},
             "tools":[{"type":"function","function":{"name":"f","description":"d",
                       "parameters":{"type":"object"},"strict":true}}],"verbosity":"low",
             "response_format":{"type":"json_schema",
               "json_schema":{"name":"n","schema":{"type":"object"},"strict":true}}})"},
        {R"({"model":"m","input":"x","text":{"format":{"type":"json_object"}},"tool_choice":
              {"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}})",
         R"({"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"},
             "tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto",
               "tools":[{"type":"function","function":{"name":"f"}}]}}})"},
    };
    expect_rows(rows);
}

// A turn of a chat model is one message: words, all its calls, then all results, and only then other things.
TEST(ResponsesRequest, PutsCallsAndResultsIntoTurns) {
    const Row rows[] = {
        {R"({"model":"m","input":[{"role":"user","content":"go"},
              {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"x"},
              {"type":"message","id":"msg_1","role":"assistant","status":"completed",
               "content":[{"type":"output_text","text":"ok","annotations":[]}]},
              {"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{\"a\":1}"},
              {"type":"function_call","call_id":"c2","name":"g","arguments":"{}"},
              {"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"one"},
                {"type":"input_image","image_url":"http://x/y.png"}]},
              {"type":"function_call_output","call_id":"c2","output":"two"},
              {"role":"user","content":"and now"}]})",
         R"({"model":"m","messages":[{"role":"user","content":"go"},
              {"role":"assistant","content":"ok","tool_calls":[
                {"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
                {"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}]},
              {"role":"tool","tool_call_id":"c1","content":"one"},
              {"role":"tool","tool_call_id":"c2","content":"two"},
              {"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x/y.png"}}]},
              {"role":"user","content":"and now"}]})"},
        {R"({"model":"m","input":[{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},
              {"role":"assistant","content":"said behind the call"},
              {"type":"function_call_output","call_id":"c1","output":"one"}]})",
         R"({"model":"m","messages":[{"role":"assistant","content":"said behind the call","tool_calls":[
                {"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},
              {"role":"tool","tool_call_id":"c1","content":"one"}]})"},
    };
    expect_rows(rows);
}

// What cannot be expressed must be refused by name: an item that vanished would change the question.
TEST(ResponsesRequest, RefusesWhatAChatModelCannotTake) {
    const Row rows[] = {
        {"{", ""},
        {"[]", ""},
        {R"({"input":"x"})", "model"},
        {R"({"model":"m"})", "input"},
        {R"({"model":"m","input":[]})", "input"},
        {R"({"model":"m","input":7})", "input"},
        {R"({"model":"m","input":["x"]})", "input[0]"},
        {R"({"model":"m","input":"x","previous_response_id":"resp_1"})", "previous_response_id"},
        {R"({"model":"m","input":"x","conversation":"conv_1"})", "conversation"},
        {R"({"model":"m","input":"x","background":true})", "background"},
        {R"({"model":"m","prompt":{"id":"p"}})", "prompt"},
        {R"({"model":"m","input":"x","max_output_tokens":0})", "max_output_tokens"},
        {R"({"model":"m","input":"x","tools":[{"type":"web_search"}]})", "tools"},
        {R"({"model":"m","input":"x","tool_choice":{"type":"file_search"}})", "tool_choice"},
        {R"({"model":"m","input":"x","text":{"format":{"type":"grammar"}}})", "text.format"},
        {R"({"model":"m","input":[{"type":"item_reference","id":"msg_1"}]})", "input[0]"},
        {R"({"model":"m","input":[{"type":"web_search_call","id":"ws_1"}]})", "input[0]"},
        {R"({"model":"m","input":[{"role":"robot","content":"x"}]})", "input[0].role"},
        {R"({"model":"m","input":[{"role":"user"}]})", "input[0].content"},
        {R"({"model":"m","input":[{"role":"user","content":[{"type":"hologram"}]}]})", "input[0].content"},
        {R"({"model":"m","input":[{"role":"user","content":[{"type":"input_image","file_id":"file_1"}]}]})",
         "input[0].content"},
        {R"({"model":"m","input":[{"type":"function_call","name":"f","arguments":"{}"}]})",
         "input[0].call_id"},
        {R"({"model":"m","input":[{"type":"function_call_output","call_id":"c"}]})", "input[0].output"},
    };
    for (const Row& row : rows) {
        auto chat = to_chat_request(row.from);
        ASSERT_FALSE(chat.has_value()) << row.from;
        EXPECT_EQ(chat.error().code, Code::invalid_request) << row.from;
        EXPECT_EQ(chat.error().param, row.to) << row.from;
    }
}

class Responses : public testing::Test {
   protected:
    std::unique_ptr<ClientEdge> edge(const char* request = R"({"model":"m","input":"hi"})") {
        auto made = make_edge(RequestId{1}, clock);
        EXPECT_TRUE(made->request(request).has_value());
        clock.advance(std::chrono::seconds(2));
        return made;
    }

    struct Event {
        std::string name;
        json::object data;
    };
    // Each event names its type twice, and every data line is JSON.
    static std::vector<Event> events_of(const std::string& text) {
        std::vector<Event> events;
        for (std::size_t at = 0; at < text.size();) {
            std::size_t line = text.find('\n', at), end = text.find("\n\n", at);
            if (end == std::string::npos || !text.substr(at).starts_with("event: ") ||
                !text.substr(line + 1).starts_with("data: ")) {
                ADD_FAILURE() << text.substr(at, 200);
                return events;
            }
            std::string data = text.substr(line + 7, end - line - 7);
            boost::system::error_code failed;
            json::value value = json::parse(data, failed);
            EXPECT_FALSE(failed) << data;
            if (failed) return events;
            events.push_back({text.substr(at + 7, line - at - 7), value.as_object()});
            EXPECT_EQ(events.back().data.at("type").as_string(), events.back().name.c_str());
            EXPECT_EQ(events.back().data.at("sequence_number"), std::int64_t(events.size()) - 1);
            at = end + 2;
        }
        return events;
    }

    std::vector<Event> stream(const std::vector<const char*>& chunks) {
        auto it = edge();
        std::string out;
        for (const char* chunk : chunks)
            if (!it->chunk(chunk, out)) return {};
        return events_of(out + it->end({.input = 10, .cached = 3, .output = 4}));
    }

    static std::vector<std::string> names(const std::vector<Event>& events) {
        std::vector<std::string> names;
        for (const Event& event : events) names.push_back(event.name.substr(event.name.find('.') + 1));
        return names;
    }

    FakeClock clock;
};

// The whole object: clients read members of it that the model has nothing to do with.
TEST_F(Responses, AnswerIsTheWholeObject) {
    auto it = edge(R"({"model":"m","input":"hi","instructions":"i","temperature":0.5,"store":true,
                       "metadata":{"k":"v"},"max_output_tokens":9,"reasoning":{"effort":"low"},
                       "tools":[{"type":"function","name":"f"}],"text":{"format":{"type":"json_object"}}})");
    auto answer = it->answer(
        R"({"id":"x","model":"other","choices":[{"finish_reason":"tool_calls","message":{"role":"assistant",
            "reasoning_content":"why","content":"te\"xt","tool_calls":[{"id":"c1","type":"function",
            "function":{"name":"f","arguments":"{\"a\":1}"}}]}}],
            "usage":{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3},
                     "completion_tokens_details":{"reasoning_tokens":2}}})");
    ASSERT_TRUE(answer.has_value());
    std::string id = RequestId{1}.text().substr(4);
    json::value wanted = json::parse(R"({"id":"resp_ID","object":"response","created_at":1767225600,
        "completed_at":1767225602,"status":"completed","error":null,"incomplete_details":null,
        "instructions":"i","max_output_tokens":9,"model":"m","parallel_tool_calls":true,
        "previous_response_id":null,"background":false,
        "output":[{"type":"reasoning","id":"rs_ID_0","status":"completed","summary":[],
            "content":[{"type":"reasoning_text","text":"why"}]},
          {"type":"message","id":"msg_ID_1","role":"assistant","status":"completed",
            "content":[{"type":"output_text","text":"te\"xt","annotations":[],"logprobs":[]}]},
          {"type":"function_call","id":"fc_ID_2","call_id":"c1","name":"f","arguments":"{\"a\":1}",
            "status":"completed"}],
        "reasoning":{"effort":"low","summary":null},"store":false,"temperature":0.5,
        "text":{"format":{"type":"json_object"}},"tool_choice":"auto",
        "tools":[{"type":"function","name":"f"}],"top_p":null,"truncation":"disabled",
        "metadata":{"k":"v"},"user":null,
        "usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":3,"cache_write_tokens":0},
          "output_tokens":4,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":14}})");
    std::string text = json::serialize(wanted);
    for (std::size_t at = text.find("ID"); at != std::string::npos; at = text.find("ID", at))
        text.replace(at, 2, id);
    EXPECT_EQ(json::parse(*answer), json::parse(text)) << *answer;
    EXPECT_FALSE(it->answer(R"({"choices":[]})").has_value());
    EXPECT_FALSE(it->answer("garbage").has_value());
}

// An answer that was cut must not look like a whole one.
TEST_F(Responses, AnswerSaysWhyItIsIncomplete) {
    const Row rows[] = {{"length", "max_output_tokens"}, {"content_filter", "content_filter"}};
    for (const Row& row : rows) {
        std::string chat = R"({"choices":[{"finish_reason":")" + std::string(row.from) +
                           R"(","message":{"content":"half"}}]})";
        auto answer = edge()->answer(chat);
        ASSERT_TRUE(answer.has_value());
        json::value value = json::parse(*answer);
        EXPECT_EQ(value.at("status"), "incomplete");
        EXPECT_EQ(value.at("incomplete_details").at("reason"), row.to);
        EXPECT_EQ(value.at("output").at(0).at("status"), "incomplete");
        EXPECT_TRUE(value.at("completed_at").is_null());
    }
}

// Accumulators of clients fail when a delta comes before what it belongs to was added.
TEST_F(Responses, StreamKeepsTheOrderOfEvents) {
    auto events = stream({
        R"({"id":"x","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]})",
        R"({"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]})",
        R"({"choices":[{"index":0,"delta":{"content":"a \"quoted\" \u00e9 \ud83d\ude00"}}]})",
        R"({"choices":[{"index":0,"delta":{"content":"b"}}]})",
        R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}}]})",
        R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}}]})",
        R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]})",
        R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c2","function":{"name":"g","arguments":"{}"}}]}}]})",
        R"({"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]})",
        R"({"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"completion_tokens_details":{"reasoning_tokens":1}}})",
    });
    const std::vector<std::string> expected = {"created",
                                               "in_progress",
                                               "output_item.added",
                                               "content_part.added",
                                               "reasoning_text.delta",
                                               "reasoning_text.done",
                                               "content_part.done",
                                               "output_item.done",
                                               "output_item.added",
                                               "content_part.added",
                                               "output_text.delta",
                                               "output_text.delta",
                                               "output_text.done",
                                               "content_part.done",
                                               "output_item.done",
                                               "output_item.added",
                                               "function_call_arguments.delta",
                                               "function_call_arguments.delta",
                                               "function_call_arguments.done",
                                               "output_item.done",
                                               "output_item.added",
                                               "function_call_arguments.delta",
                                               "function_call_arguments.done",
                                               "output_item.done",
                                               "completed"};
    ASSERT_EQ(names(events), expected);
    EXPECT_EQ(events[0].data.at("response").at("status"), "in_progress");
    EXPECT_EQ(events[12].data.at("text"), "a \"quoted\" \u00e9 \U0001F600b");
    EXPECT_EQ(events[18].data.at("arguments"), R"({"a":1})");
    const json::value& response = events.back().data.at("response");
    EXPECT_EQ(response.at("status"), "completed");
    ASSERT_EQ(response.at("output").as_array().size(), 4u);
    for (std::size_t at : {7u, 14u, 19u, 23u}) {
        std::size_t index = events[at].data.at("output_index").to_number<std::size_t>();
        EXPECT_EQ(response.at("output").at(index), events[at].data.at("item"));
    }
    EXPECT_EQ(response.at("output").at(3).at("call_id"), "c2");
    EXPECT_EQ(response.at("usage"), json::parse(R"({"input_tokens":10,
        "input_tokens_details":{"cached_tokens":3,"cache_write_tokens":0},"output_tokens":4,
        "output_tokens_details":{"reasoning_tokens":1},"total_tokens":14})"));
}

// Ends that are no ends have other names; nothing at all is still a response.
TEST_F(Responses, StreamEndsAsTheModelEnded) {
    auto cut = stream({R"({"choices":[{"delta":{"content":"half"}}]})",
                       R"({"choices":[{"delta":{},"finish_reason":"length"}]})"});
    ASSERT_FALSE(cut.empty());
    EXPECT_EQ(cut.back().name, "response.incomplete");
    EXPECT_EQ(cut.back().data.at("response").at("output").at(0).at("status"), "incomplete");
    const std::vector<std::string> nothing = {"created", "in_progress", "completed"};
    EXPECT_EQ(names(stream({R"({"choices":[{"delta":{},"finish_reason":"stop"}]})"})), nothing);
}

// A client must learn that the rest is missing: by the error, and by the response that failed.
TEST_F(Responses, BrokenStreamEndsInAnErrorAndAFailedResponse) {
    auto it = edge();
    std::string out;
    ASSERT_TRUE(it->chunk(R"({"choices":[{"delta":{"content":"half"}}]})", out));
    out += it->broken({.code = Code::upstream_failed, .message = "the \"rest\" is missing"});
    auto events = events_of(out);
    ASSERT_GE(events.size(), 2u);
    EXPECT_EQ(events[events.size() - 2].name, "error");
    EXPECT_EQ(events[events.size() - 2].data.at("message"), "the \"rest\" is missing");
    EXPECT_EQ(events.back().name, "response.failed");
    EXPECT_EQ(events.back().data.at("response").at("status"), "failed");
    EXPECT_EQ(events.back().data.at("response").at("error").at("code"), "server_error");
}

// The stream of a provider that failed before anything was sent leaves no trace in the next one's.
TEST_F(Responses, StreamStartsAnewWithAnotherProvider) {
    auto it = edge();
    std::string lost, out;
    ASSERT_TRUE(it->chunk(R"({"choices":[{"delta":{"content":"lost"},"finish_reason":"length"}]})", lost));
    it->restart();
    ASSERT_TRUE(it->chunk(R"({"choices":[{"delta":{"content":"told"}}]})", out));
    auto events = events_of(out + it->end({}));
    ASSERT_FALSE(events.empty());
    EXPECT_EQ(events.front().name, "response.created");
    EXPECT_EQ(events.back().name, "response.completed");
    EXPECT_EQ(events.back().data.at("response").at("output").at(0).at("content").at(0).at("text"), "told");
}

}  // namespace
}  // namespace nebula::gateway::responses

// What passes through must be what the client wrote but for the few edits, and must never name what lies in
// the operator's account at the provider: any customer could name another's.
#include "gateway/responses/native.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

namespace nebula::gateway::responses {
namespace {

namespace json = boost::json;

std::string edited(std::string_view body, const Edits& edits = {}, std::string_view earlier = {}) {
    auto native = read_native(body);
    if (!native) return "refused: " + native.error().param;
    return edit_native(body, *native, edits, earlier);
}

struct Row {
    std::string from, to;
};

// Model, cap, temperature and store are set where they stand; members about routing vanish with their commas.
TEST(ResponsesNative, EditsInPlace) {
    Edits edits{.upstream_model = "u\"p", .output_cap = 50, .temperature = "0.7"};
    const Row rows[] = {
        {R"({"model":"m","input":"x","store":true,"temperature":null,"max_output_tokens":80})",
         R"({"model":"u\"p","input":"x","store":false,"temperature":null,"max_output_tokens":50})"},
        {R"({"model":"m","store":null,"temperature":1,"max_output_tokens":null})",
         R"({"model":"u\"p","store":false,"temperature":1,"max_output_tokens":50})"},
        {R"({"temperature":1,"max_output_tokens":20,"store":false,"model":"m"})",
         R"({"temperature":1,"max_output_tokens":20,"store":false,"model":"u\"p"})"},
        {R"({"provider":{"only":["a"]}, "models":["b"],"temperature":1,"max_output_tokens":2,"store":false,"model":"m","session_id":"s"})",
         R"({"temperature":1,"max_output_tokens":2,"store":false,"model":"u\"p"})"},
    };
    for (const Row& row : rows) EXPECT_EQ(edited(row.from, edits), row.to);
    EXPECT_EQ(
        edited(
            R"({"provider":{}, "models":["b"],"store":false,"model":"m","previous_response_id":"r","route":"f"})",
            {.keeps_routing = true}),
        R"({"provider":{}, "store":false,"model":"m","route":"f"})");
    // What is not there is put in front; in which order does not matter.
    std::string added = edited(R"({"model":"m"})", edits);
    json::object expected{
        {"model", "u\"p"}, {"store", false}, {"max_output_tokens", 50}, {"temperature", 0.7}};
    EXPECT_EQ(json::parse(added), json::value(expected)) << added;
}

// A conversation is put in front of the input, whatever form that has; thoughts that only a store could
// resolve are taken out.
TEST(ResponsesNative, SendsTheConversationWhole) {
    const std::string head = R"({"store":false,"model":"m")";
    const std::string earlier = R"({"role":"user","content":"a"},{"role":"assistant","content":"b"})";
    const Row rows[] = {
        {R"(,"input":"x","previous_response_id":"resp_1"})",
         R"(,"input":[)" + earlier + R"(,{"role":"user","content":"x"}]})"},
        {R"(,"previous_response_id":"resp_1","input": [ {"role":"user"} ]})",
         R"(,"input": [)" + earlier + R"(, {"role":"user"} ]})"},
        {R"(,"input":[]})", R"(,"input":[)" + earlier + "]}"},
        {R"(,"input":[{"type":"reasoning","id":"rs_1"}]})", R"(,"input":[)" + earlier + "]}"},
        {R"(,"input":null})", ""},
    };
    for (const Row& row : rows)
        if (!row.to.empty()) EXPECT_EQ(edited(head + row.from, {}, earlier), head + row.to);
    json::value alone = json::parse(edited(head + "}", {}, earlier));
    EXPECT_EQ(alone.at("input").as_array().size(), 2u);

    EXPECT_EQ(edited(head + R"(,"input":[{"type":"reasoning","encrypted_content":""},{"role":"user"},)"
                            R"({"type":"reasoning","encrypted_content":"s"},{"type":"reasoning"}]})"),
              head + R"(,"input":[{"role":"user"},{"type":"reasoning","encrypted_content":"s"}]})");
}

// Ids that only we know, or that only a store of the provider would, are not sent; others may be needed.
TEST(ResponsesNative, SendsStoredItemsWithoutOurIds) {
    json::value items = json::parse(
        R"([{"id":"msg_1_in0","type":"message","role":"user","content":[]},{"id":"rs_1","type":"reasoning"},)"
        R"({"id":"rs_2","type":"reasoning","encrypted_content":"s"},{"id":"ws_1","type":"web_search_call"},)"
        R"({"id":"fc_1","type":"function_call","call_id":"c"},7])");
    EXPECT_EQ(items_to_send(items.as_array()),
              R"({"type":"message","role":"user","content":[]},{"type":"reasoning","encrypted_content":"s"},)"
              R"({"id":"ws_1","type":"web_search_call"},{"type":"function_call","call_id":"c"})");
}

TEST(ResponsesNative, RefusesWhatLiesInTheOperatorsAccount) {
    const Row rows[] = {
        {R"("input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}])", "input[0]"},
        {R"("input":[{"role":"user","content":[{"file_id":"f","type":"input_image"}]}])", "input[0]"},
        {R"("input":[{"role":"user","content":[{"fi\u006ce_id":"f","type":"inpu\u0074_file"}]}])",
         "input[0]"},
        {R"("input":[{"role":"user","content":[{"type":"input_file","type":"text","file_id":"f"}]}])",
         "input[0]"},
        {R"("input":["x",{"type":"item_reference","id":"msg_1"}])", "input"},
        {R"("input":[{"type":"item_reference","id":"msg_1"}])", "input[0]"},
        {R"("input":[{"id":"msg_1"}])", "input[0]"},
        {R"("input":[{"type":null,"id":"msg_1"}])", "input[0]"},
        {R"("input":[{"type":"message","type":"item_reference","id":"msg_1"}])", "input[0]"},
        {R"("input":[{"type":"code_interpreter_call","container_id":"c"}])", "input[0]"},
        {R"("input":[{"type":"computer_call_output","output":{"type":"computer_screenshot","file_id":"f"}}])",
         "input[0]"},
        {R"("tools":[{"type":"code_interpreter","container":"cntr_1"}])", "tools"},
        {R"("tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["f"]}}])", "tools"},
        {R"("tools":[{"type":"image_generation","input_image_mask":{"file_id":"f"}}])", "tools"},
        {R"("tools":[{"type":"function","type":"web_search"}])", "tools"},
        {R"("tools":[{}])", "tools"},
        {R"("tools":["web_search"])", "tools"},
        {R"("tools":[],"tools":[{"type":"web_search"}])", "tools"},
        {R"("t\u006fols":[],"tools":[])", "tools"},
        {R"("store":false,"st\u006fre":true)", "store"},
        {R"("conversation":"conv_1")", "conversation"},
        {R"("prompt":{"id":"p"})", "prompt"},
        {R"("background":true)", "background"},
        {R"("stream":"yes")", "stream"},
        {R"("max_output_tokens":0)", "max_output_tokens"},
        {R"("max_output_tokens":1.5)", "max_output_tokens"},
        {R"("max_tool_calls":1000)", "max_tool_calls"},
        {R"("input":7)", "input"},
    };
    for (const Row& row : rows) EXPECT_EQ(edited(R"({"model":"m",)" + row.from + "}"), "refused: " + row.to);
    for (const char* body : {"", "[]", "7", "{}", R"({"model":7})", R"({"model":""})"})
        EXPECT_THAT(edited(body), testing::StartsWith("refused: ")) << body;
}

// Functions may have parameters of any name, and what a model quoted may be told again.
TEST(ResponsesNative, LetsHarmlessNamesPass) {
    for (
        const char* members :
        {R"("tools":[{"type":"function","name":"f","parameters":{"properties":{"file_id":{"type":"string"}},)"
         R"("examples":[{"file_id":"x"}],"required":["file_id"]}}])",
         R"("input":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"t",)"
         R"("annotations":[{"type":"container_file_citation","file_id":"f","container_id":"c"}]}]}])",
         R"("tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":[]}}])",
         R"("input":[{"type":"function_call","call_id":"c","name":"f","arguments":"{\"file_id\":\"x\"}"}])",
         R"("conversation":null,"prompt":null,"background":false)"}) {
        std::string body = R"({"store":false,"model":"m",)" + std::string(members) + "}";
        auto native = read_native(body);
        ASSERT_TRUE(native.has_value()) << body << native.error().message;
        if (native->hosted.empty()) EXPECT_EQ(edit_native(body, *native, {}, {}), body);
    }
}

// Tools that are not known to run at the client run at the provider; how often is bounded, and held.
TEST(ResponsesNative, FindsHostedTools) {
    auto native = read_native(
        R"({"model":"m","tools":[{"type":"function"},{"type":"web_search_2025_08_26"},{"type":"brand_new"}],)"
        R"("input":[{"role":"user"},{"type":"tool_search_output","tools":[]},{"type":"web_search_call"}]})");
    ASSERT_TRUE(native.has_value());
    EXPECT_THAT(native->hosted,
                testing::ElementsAre("web_search_2025_08_26", "brand_new", "tool_search_output"));
    EXPECT_EQ(native->request.tool_calls_max, tool_calls_default);
    EXPECT_EQ(edited(R"({"model":"m","store":false,"tools":[{"type":"mcp"}],"max_tool_calls":null})"),
              R"({"model":"m","store":false,"tools":[{"type":"mcp"}],"max_tool_calls":10})");
    EXPECT_EQ(edited(R"({"model":"m","store":false,"tools":[{"type":"mcp"}],"max_tool_calls":3})"),
              R"({"model":"m","store":false,"tools":[{"type":"mcp"}],"max_tool_calls":3})");
    auto plain = read_native(R"({"model":"m","tools":[{"type":"custom"},{"type":"local_shell"}]})");
    ASSERT_TRUE(plain.has_value());
    EXPECT_TRUE(plain->hosted.empty());
    EXPECT_EQ(plain->request.tool_calls_max, 0);
}

// Bytes say little about the tokens of pictures and files: the context bounds them.
TEST(ResponsesNative, FindsMedia) {
    auto has_media = [](const std::string& part) {
        auto native = read_native(R"({"model":"m","input":[{"role":"user","content":[)" + part + "]}]}");
        return native && native->request.has_media;
    };
    EXPECT_FALSE(has_media(R"({"type":"input_text","text":"\"input_image\" \u00e9"})"));
    EXPECT_TRUE(has_media(R"({"type":"input_image","image_url":"data:image/png;base64,AA=="})"));
    EXPECT_TRUE(has_media(R"({"type":"inp\u0075t_image"})"));
    EXPECT_TRUE(has_media(R"({"type":"input_file","file_url":"https://example.org/a.pdf"})"));
}

// The response says that it is ours; everything else of it stays as it is.
TEST(ResponsesNative, MarksResponses) {
    Marks marks{.id = "resp_ours", .is_stored = true, .previous = "resp_before"};
    auto whole = mark_response(
        R"({ "id":"resp_theirs","n":1.50,"previous_response_id": null,"output":[{"id":"msg_1","store":7}],"store":false})",
        false, marks);
    ASSERT_TRUE(whole.has_value());
    EXPECT_EQ(
        whole->json,
        R"({ "id":"resp_ours","n":1.50,"previous_response_id": "resp_before","output":[{"id":"msg_1","store":7}],"store":true})");
    EXPECT_EQ(whole->object, whole->json);

    auto event = mark_response(
        R"({"type":"response.created","response":{"id":"resp_theirs"},"sequence_number":0})", true, marks);
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(event->type, "response.created");
    json::value told = json::parse(event->json);
    EXPECT_EQ(told.at("response").at("id"), "resp_ours");
    EXPECT_EQ(told.at("response").at("store"), true);
    EXPECT_EQ(told.at("sequence_number"), 0);
    EXPECT_EQ(json::parse(event->object), told.at("response"));

    auto empty = mark_response(R"({"response":{}})", true, {.id = "r", .is_stored = false, .previous = {}});
    ASSERT_TRUE(empty.has_value());
    EXPECT_EQ(empty->json, R"({"response":{"id":"r","store":false,"previous_response_id":null}})");
    for (const char* none : {"", "{", "[]", R"({"type":"x"})", R"({"response":7})"})
        EXPECT_FALSE(mark_response(none, true, marks)) << none;
}

}  // namespace
}  // namespace nebula::gateway::responses

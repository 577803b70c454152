#include "gateway/routing/preferences.hpp"

#include <gtest/gtest.h>

#include "gateway/chat_request.hpp"

namespace nebula::gateway::routing {
namespace {

std::string padded(std::string text) {
    text.reserve(text.size() + 64);
    return text;
}

Result<ChatRequest> parse(const std::string& members) {
    static std::string body;
    body = padded(R"({"model":"m","messages":[{"role":"user","content":"hi"}])" + members + "}");
    return parse_chat_request(body);
}

// A provider of OpenAI's API refuses members it does not know, so ours must be gone wherever they stood, and
// what is left must still be the client's own bytes.
TEST(RoutingMembers, LeaveNoTraceWhereverTheyStand) {
    struct Row {
        const char* body;
        const char* sent;
    };
    for (
        const Row& row : std::initializer_list<Row>{
            {R"({"provider":{"zdr":true},"model":"m","messages":[1]})", R"({"model":"m","messages":[1]})"},
            {R"({"model":"m","provider":{},"messages":[1]})", R"({"model":"m","messages":[1]})"},
            {R"({"model":"m","messages":[1],"models":["b"]})", R"({"model":"m","messages":[1]})"},
            {R"({"model":"m","messages":[1] , "models" : ["b"] , "route":null,"session_id":"s" })",
             R"({"model":"m","messages":[1] })"},
            {R"({"route":"fallback","session_id":"x","model":"m","transforms":[],"messages":[1],"user":"u"})",
             R"({"model":"m","messages":[1],"user":"u"})"},
            {R"({ "provider":null, "messages":[1], "models":["m"], "x":1})",
             R"({"model":"m", "messages":[1], "x":1})"},
            {R"({"models":["m"],"messages":[1]})", R"({"model":"m","messages":[1]})"},
        }) {
        std::string body = padded(row.body);
        auto request = parse_chat_request(body);
        ASSERT_TRUE(request) << row.body << ": " << request.error().message;
        EXPECT_EQ(edit_chat_request(body, *request, {}).joined(), row.sent) << row.body;
    }
}

// Another router further on may use the wishes, but never the names of our models.
TEST(RoutingMembers, ReachARouterThatAsksForThem) {
    std::string body = padded(R"({"model":"m","models":["b"],"provider":{"zdr":true},"messages":[1]})");
    auto request = parse_chat_request(body);
    ASSERT_TRUE(request);
    EXPECT_EQ(edit_chat_request(body, *request, {.keeps_routing = true}).joined(),
              R"({"model":"m","provider":{"zdr":true},"messages":[1]})");
}

// Other edits are made at the same places.
TEST(RoutingMembers, GoTogetherWithOtherEdits) {
    std::string body = padded(R"({"provider":{},"model":"m","messages":[1],"stream":true,"models":["b"]})");
    auto request = parse_chat_request(body);
    ASSERT_TRUE(request);
    EXPECT_EQ(
        edit_chat_request(body, *request, {"up", false, true, 5}).joined(),
        R"({"stream_options":{"include_usage":true},"max_tokens":5,"model":"up","messages":[1],"stream":true})");
}

TEST(RoutingMembers, AreReadInEveryForm) {
    auto request =
        parse(R"(,"models":["b","c"],"provider":{"order":["x","y/turbo"],"only":["x"],"ignore":["z"],
        "allow_fallbacks":false,"require_parameters":true,"data_collection":"deny","zdr":true,
        "quantizations":["fp8"],"sort":{"by":"throughput","partition":"none"},
        "preferred_min_throughput":{"p50":20,"p90":5.5},"preferred_max_latency":2,
        "max_price":{"prompt":1,"completion":"0.25","request":1e-3,"image":"0","audio":2},
        "new_member":{"a":[1]}})");
    ASSERT_TRUE(request) << request.error().message;
    const Preferences& wants = *request->routing.preferences;
    EXPECT_EQ(wants.models, (std::vector<std::string>{"b", "c"}));
    EXPECT_EQ(wants.order, (std::vector<std::string>{"x", "y/turbo"}));
    EXPECT_EQ(wants.only.size() + wants.ignore.size() + wants.quantizations.size(), 3u);
    EXPECT_FALSE(wants.allow_fallbacks);
    EXPECT_TRUE(wants.require_parameters && wants.deny_data_collection && wants.zdr && wants.across_models);
    EXPECT_EQ(wants.sort, Sort::throughput);
    EXPECT_EQ(wants.min_throughput.p90, 5.5);
    EXPECT_EQ(wants.max_latency.p50, 2);
    EXPECT_EQ(wants.max_input_per_m->value, 1'000'000'000);
    EXPECT_EQ(wants.max_output_per_m->value, 250'000'000);
    EXPECT_EQ(wants.max_request->value, 1'000'000);
    EXPECT_EQ(wants.max_image->value, 0);
    EXPECT_EQ(wants.max_audio->value, 2'000'000'000);
    EXPECT_EQ(parse(R"(,"provider":{"sort":"price"})")->routing.preferences->sort, Sort::price);
    EXPECT_FALSE(parse(R"(,"provider":{"order":null},"models":null)")->routing.preferences->has_wishes());
    EXPECT_EQ(parse(R"(,"user":"somebody","stop":"x")")->routing.preferences, nullptr)
        << "what says nothing about routes must cost nothing";
}

// A wish that is read wrongly sends data where it must not go.
TEST(RoutingMembers, WrongOnesAreNamed) {
    struct Row {
        const char* members;
        const char* param;
    };
    for (const Row& row : std::initializer_list<Row>{
             {R"("models":"b")", "models"},
             {R"("models":[1])", "models"},
             {R"("models":[""])", "models"},
             {R"("models":["1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g","h"])", "models"},
             {R"("provider":"x")", "provider"},
             {R"("provider":{"order":"x"})", "provider.order"},
             {R"("provider":{"only":[{}]})", "provider.only"},
             {R"("provider":{"zdr":"yes"})", "provider.zdr"},
             {R"("provider":{"zdr":true,"zdr":false})", "provider.zdr"},
             {R"("provider":{"data_collection":"maybe"})", "provider.data_collection"},
             {R"("provider":{"sort":"speed"})", "provider.sort"},
             {R"("provider":{"sort":{"by":"price","partition":"all"}})", "provider.sort.partition"},
             {R"("provider":{"max_price":{"prompt":"cheap"}})", "provider.max_price.prompt"},
             {R"("provider":{"max_price":{"prompt":-1}})", "provider.max_price.prompt"},
             {R"("provider":{"max_price":{"tokens":1}})", "provider.max_price.tokens"},
             {R"("provider":{"preferred_max_latency":{"p42":1}})", "provider.preferred_max_latency.p42"},
             {R"("provider":{"preferred_min_throughput":"fast"})", "provider.preferred_min_throughput"},
             {R"("provider":{"enforce_distillable_text":true})", "provider.enforce_distillable_text"},
             {R"("provider":{},"provider":{})", "provider"},
             {R"("route":"random")", "route"},
             {R"("session_id":7)", "session_id"},
         }) {
        auto request = parse("," + std::string(row.members));
        ASSERT_FALSE(request) << row.members;
        EXPECT_EQ(request.error().param, row.param) << row.members;
        EXPECT_EQ(request.error().code, Code::invalid_request);
    }
}

TEST(RoutingMembers, AreFoundInOtherApisBodies) {
    EXPECT_EQ(find_members(R"({"model":"m","prompt":"x"})")->preferences, nullptr);
    auto found = find_members(R"({"prompt":"\"provider\"","session_id":"s","provider":{"zdr":true}})");
    ASSERT_TRUE(found);
    EXPECT_TRUE(found->preferences->zdr);
    EXPECT_NE(found->session, 0u);
    EXPECT_FALSE(find_members(R"({"provider":7})"));
}

TEST(RoutingMembers, NamesOfParametersAreThoseThatAreUsed) {
    EXPECT_EQ(parameters_of(
                  R"({"model":"m","temperature":1,"seed":null,"response_format":{"type":"json_schema"}})"),
              (std::vector<std::string>{"temperature", "response_format", "structured_outputs"}));
}

// Tags of Ollama look like variants; only known words are taken for them.
TEST(Variants, AreTheKnownWordsOnly) {
    EXPECT_EQ(variant_of("a/b:nitro")->sort, Sort::throughput);
    EXPECT_EQ(variant_of("a/b:floor")->model, "a/b");
    EXPECT_TRUE(variant_of("b:free")->is_free);
    EXPECT_TRUE(variant_of("llama3:8b")->model.empty());
    EXPECT_TRUE(variant_of("plain")->model.empty());
    EXPECT_FALSE(variant_of("a/b:online"));
}

// The same beginning must lead to the same replica, whatever follows it.
TEST(Prefix, EndsWithTheFirstMessageOfAUser) {
    auto hash = [](std::string text) { return hash_of_prefix(padded(std::move(text))); };
    std::string system = R"({"role":"system","content":"be brief"})",
                ask = R"({"content":[{"type":"text"}],"role":"user"})";
    auto first = hash("[" + system + "," + ask + "]");
    EXPECT_NE(first, 0u);
    EXPECT_EQ(first, hash("[" + system + ", " + ask + R"(,{"role":"assistant","content":"x"}])"));
    EXPECT_NE(first, hash("[" + ask + "]"));
    EXPECT_NE(first, hash("[" + system + R"(,{"role":"user","content":"other"}])"));
}

}  // namespace
}  // namespace nebula::gateway::routing

// Passing an Ollama request through: what is read and changed must be what the provider reads, and nothing
// else.
#include "gateway/ollama/native.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "gateway/ollama/api.hpp"

namespace nebula::gateway::ollama {
namespace {

namespace json = boost::json;

// The reader looks a little beyond the end.
struct Padded {
    explicit Padded(std::string_view text) : size(text.size()), bytes(text) { bytes.append(64, '\0'); }
    std::string_view view() const { return {bytes.data(), size}; }
    std::size_t size;
    std::string bytes;
};

std::string edited(const char* body, std::string_view model, std::optional<std::int64_t> cap,
                   std::string_view temperature = {}) {
    Padded padded(body);
    auto native = read_native(padded.view());
    if (!native) return native.error().param;
    Edits edits;
    edits.upstream_model = model;
    edits.output_cap = cap;
    edits.temperature = temperature;
    return edit_native(padded.view(), *native, edits);
}

// A byte that changed without need would break what a client signed or cached; a cap that was not lowered is
// not paid for.
TEST(OllamaNative, ChangesTheModelAndALoweredCapAndNothingElse) {
    EXPECT_EQ(edited(R"({ "model" : "m" ,"x":1 })", "m", {}), R"({ "model" : "m" ,"x":1 })");
    EXPECT_EQ(edited(R"({ "x":1,"model" : "m" })", "up\"m", {}), R"({ "x":1,"model" : "up\"m" })");
    EXPECT_EQ(edited(R"({"model":"m"})", "m", 5), R"({"options":{"num_predict":5},"model":"m"})");
    EXPECT_EQ(edited(R"({"model":"m","options":null})", "m", 5),
              R"({"model":"m","options":{"num_predict":5}})");
    EXPECT_EQ(edited(R"({"model":"m","options":{ }})", "m", 5),
              R"({"model":"m","options":{"num_predict":5 }})");
    EXPECT_EQ(edited(R"({"options":{"seed":1},"model":"m"})", "u", 5),
              R"({"options":{"num_predict":5,"seed":1},"model":"u"})");
    EXPECT_EQ(edited(R"({"model":"m","options":{"num_predict": 9 ,"seed":1}})", "m", 5),
              R"({"model":"m","options":{"num_predict": 5 ,"seed":1}})");
    for (const char* all : {"-1", "-2", "0", "null"})
        EXPECT_EQ(
            edited((R"({"model":"m","options":{"num_predict":)" + std::string(all) + "}}").c_str(), "m", 5),
            R"({"model":"m","options":{"num_predict":5}})")
            << all;
    EXPECT_EQ(edited(R"({"model":"m","options":{"num_predict":3}})", "m", 5),
              R"({"model":"m","options":{"num_predict":3}})")
        << "a lower cap stays";
    // A model may have a temperature of its own for those who name none.
    EXPECT_EQ(edited(R"({"model":"m"})", "m", 5, "0.3"),
              R"({"options":{"num_predict":5,"temperature":0.3},"model":"m"})");
    EXPECT_EQ(edited(R"({"model":"m","options":{"seed":1}})", "m", {}, "0.3"),
              R"({"model":"m","options":{"temperature":0.3,"seed":1}})");
    EXPECT_EQ(edited(R"({"model":"m","options":{"temperature":1}})", "m", {}, "0.3"),
              R"({"model":"m","options":{"temperature":1}})");
}

// Where a member is repeated, we and the provider could read different ones.
TEST(OllamaNative, RefusesByNameWhatCouldBeReadInTwoWays) {
    EXPECT_EQ(edited(R"({"model":"m","model":"n"})", "m", {}), "model");
    EXPECT_EQ(edited(R"({"model":"m","mod\u0065l":"n"})", "m", {}), "model");
    EXPECT_EQ(edited(R"({"model":"m","stream":true,"stream":false})", "m", {}), "stream");
    EXPECT_EQ(edited(R"({"model":"m","options":{},"options":{}})", "m", {}), "options");
    EXPECT_EQ(edited(R"({"model":"m","options":{"num_predict":1,"num_predict":2}})", "m", {}),
              "options.num_predict");
    EXPECT_EQ(edited(R"({"model":"m","options":{"num_predict":"many"}})", "m", {}), "options.num_predict");
    EXPECT_EQ(edited(R"({"model":7})", "m", {}), "model");
    EXPECT_EQ(edited(R"({"stream":false})", "m", {}), "model");
    EXPECT_EQ(edited("[]", "m", {}), "");
}

TEST(OllamaNative, KnowsStreamCapAndWhatCannotBeCounted) {
    Padded body(
        R"({"model":"m","options":{"num_predict":7},"messages":[{"role":"user","content":"x","images":["AA"]}]})");
    auto native = read_native(body.view());
    ASSERT_TRUE(native.has_value());
    EXPECT_TRUE(native->request.stream) << "the default";
    EXPECT_EQ(native->request.max_tokens, 7);
    EXPECT_TRUE(native->request.has_media);
    EXPECT_EQ(native->request.prompt_bytes, body.size);
    Padded whole(R"({"model":"m","stream":false})");
    EXPECT_FALSE(read_native(whole.view())->request.stream);
}

// How the server runs is its operator's: a customer must not unload a model or have it loaded anew with more
// memory. And Ollama takes names in any case, so one that only it reads must not reach it.
TEST(OllamaNative, PassesNothingThatSaysHowTheServerRuns) {
    for (const char* passes :
         {R"({"model":"m"})", R"({"model":"m","keep_alive":null,"options":null,"raw":true})",
          R"({"model":"m","options":{"temperature":1,"mirostat":2,"num_predict":-1}})"})
        EXPECT_TRUE(may_pass(json::parse(passes).as_object())) << passes;
    for (const char* stays :
         {R"({"model":"m","keep_alive":0})", R"({"model":"m","keep_alive":"-1"})",
          R"({"model":"m","options":[]})", R"({"model":"m","options":{"num_ctx":1}})",
          R"({"model":"m","options":{"num_gpu":0}})", R"({"model":"m","options":{"Num_Ctx":1}})",
          R"({"model":"m","options":{"later_option":1}})", R"({"model":"m","Model":"n"})",
          R"({"model":"m","\u017ftream":false})", R"({"model":"m","Keep_Alive":0})"})
        EXPECT_FALSE(may_pass(json::parse(stays).as_object())) << stays;
}

TEST(OllamaEdge, IsNativeOnlyWhereTheRequestMayPass) {
    FakeClock clock;
    auto edge = make_edge(Kind::generate, clock);
    (void)edge->request(R"({"model":"m","prompt":"p"})");
    EXPECT_EQ(edge->wire(), Wire::ollama);
    EXPECT_EQ(edge->native_path(), "/api/generate");
    auto held = make_edge(Kind::chat, clock);
    (void)held->request(R"({"model":"m","messages":[{"role":"user","content":"p"}],"keep_alive":"1h"})");
    EXPECT_EQ(held->wire(), Wire::openai);
    auto unable = make_edge(Kind::generate, clock);
    EXPECT_FALSE(unable->request(R"({"model":"m","prompt":"p","raw":true})").has_value());
    EXPECT_EQ(unable->wire(), Wire::ollama) << "its own provider may be able";
    auto old = make_edge(Kind::embeddings, clock);
    (void)old->request(R"({"model":"m","prompt":"p"})");
    EXPECT_EQ(old->wire(), Wire::openai);
}

// Clients load a model before they talk to it; that must not cost a generation.
TEST(OllamaLoad, IsARequestWithoutAPrompt) {
    FakeClock clock;
    struct Row {
        const char* body;
        Kind kind;
        bool is_load, is_unload = false;
    };
    const Row rows[] = {
        {R"({"model":"m"})", Kind::generate, true},
        {R"({"model":"m","prompt":"","keep_alive":"5m"})", Kind::generate, true},
        {R"({"model":"m","messages":[]})", Kind::chat, true},
        {R"({"model":"m","messages":[],"keep_alive":0})", Kind::chat, true, true},
        {R"({"model":"m","prompt":"x"})", Kind::generate, false},
        {R"({"model":"m","messages":[{"role":"user","content":""}]})", Kind::chat, false},
        {R"({"prompt":""})", Kind::generate, false},
        {"[]", Kind::chat, false},
    };
    for (const Row& row : rows) {
        auto load = read_load(row.body, row.kind);
        ASSERT_EQ(load.has_value(), row.is_load) << row.body;
        if (!load) continue;
        json::value told = json::parse(loaded(*load, row.kind, clock));
        EXPECT_EQ(told.at("model"), "m");
        EXPECT_EQ(told.at("done"), true);
        EXPECT_EQ(told.at("done_reason"), row.is_unload ? "unload" : "load");
        EXPECT_TRUE(told.as_object().contains(row.kind == Kind::chat ? "message" : "response"));
    }
}

TEST(OllamaEmbeddings, TellTheOneVectorOfTheOlderForm) {
    FakeClock clock;
    auto edge = make_edge(Kind::embeddings, clock);
    auto request = edge->request(R"({"model":"m","prompt":"p"})");
    ASSERT_TRUE(request.has_value());
    EXPECT_EQ(json::parse(*request), json::parse(R"({"model":"m","input":"p"})"));
    auto answer = edge->answer(R"({"data":[{"embedding":[0.5,1]}],"usage":{"prompt_tokens":4}})");
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(json::parse(*answer), json::parse(R"({"embedding":[0.5,1]})"));
    EXPECT_FALSE(edge->answer(R"({"data":[]})").has_value());
    EXPECT_FALSE(make_edge(Kind::embeddings, clock)->request(R"({"model":"m","prompt":["p"]})").has_value());
}

// The page at / belongs to browsers, everybody else asks whether this is an Ollama.
TEST(OllamaBanner, IsForEverybodyButBrowsers) {
    auto expects = [](std::initializer_list<http::Header> headers) {
        http::RequestHead head;
        head.headers = std::span(headers.begin(), headers.size());
        return expects_banner(head);
    };
    EXPECT_TRUE(expects({}));
    EXPECT_TRUE(expects({{"accept", "*/*"}}));
    EXPECT_TRUE(expects({{"accept", "application/json"}}));
    EXPECT_FALSE(expects({{"accept", "text/html,application/xhtml+xml,*/*;q=0.8"}}));
    EXPECT_FALSE(expects({{"accept", "TEXT/HTML"}}));
}

}  // namespace
}  // namespace nebula::gateway::ollama

// The checks.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/providers/conformance_support.hpp"

namespace nebula::gateway::conformance {
namespace {

const std::vector<std::string>& requests() {
    static const std::string tools =
        R"("tools":[{"type":"function","function":{"name":"weather","description":"of a city",)"
        R"("parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}},)"
        R"({"type":"function","function":{"name":"clock","description":"",)"
        R"("parameters":{"type":"object","properties":{}}}}],)";
    static const std::string head = R"({"model":"m","max_tokens":64,)";
    static const std::vector<std::string> all = {
        head + R"("messages":[{"role":"user","content":"hi"}]})",
        head +
            R"("messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"h\u00e9 \ud83d\ude42"}]})",
        head + R"("messages":[{"role":"developer","content":[{"type":"text","text":"one"}]},)"
               R"({"role":"system","content":"two"},{"role":"user","content":"hi"}]})",
        head + R"("messages":[{"role":"user","content":"a"},{"role":"user","content":"b"},)"
               R"({"role":"assistant","content":"c"},{"role":"assistant","content":"d"},)"
               R"({"role":"user","content":"e"}]})",
        head + R"("stop":"END","messages":[{"role":"user","content":"hi"}]})",
        head + R"("stop":["a","b"],"stream":true,"messages":[{"role":"user","content":"hi"}]})",
        R"({"model":"m","max_completion_tokens":32,"messages":[{"role":"user","content":"hi"}]})",
        head + R"("messages":[{"role":"user","content":[{"type":"text","text":"what is it?"},)"
               R"({"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}]})",
        head + tools + R"("messages":[{"role":"user","content":"weather?"}]})",
        head + tools + R"("tool_choice":"auto","messages":[{"role":"user","content":"weather?"}]})",
        head + tools + R"("tool_choice":"required","messages":[{"role":"user","content":"weather?"}]})",
        head + tools + R"("tool_choice":"none","messages":[{"role":"user","content":"weather?"}]})",
        head + tools +
            R"("tool_choice":{"type":"function","function":{"name":"clock"}},)"
            R"("messages":[{"role":"user","content":"time?"}]})",
        head + tools +
            R"("messages":[{"role":"user","content":"both?"},{"role":"assistant","content":"One moment.",)"
            R"("tool_calls":[{"id":"c1","type":"function","function":{"name":"weather",)"
            R"("arguments":"{\"city\":\"Paris \\\"FR\\\"\",\"n\":1.5}"}},)"
            R"({"id":"c2","type":"function","function":{"name":"clock","arguments":"{}"}}]},)"
            R"({"role":"tool","tool_call_id":"c1","content":"sunny"},)"
            R"({"role":"tool","tool_call_id":"c2","content":[{"type":"text","text":"noon"}]},)"
            R"({"role":"user","content":"and now?"}]})",
        head + R"("messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,)"
               R"("tool_calls":[{"id":"c1","type":"function","function":{"name":"clock","arguments":""}}]},)"
               R"({"role":"tool","tool_call_id":"c1","content":""}]})",
        head + R"("response_format":{"type":"json_schema","json_schema":{"name":"city","strict":true,)"
               R"("schema":{"type":"object","properties":{"city":{"type":"string"}},)"
               R"("required":["city"],"additionalProperties":false}}},)"
               R"("messages":[{"role":"user","content":"where?"}]})",
    };
    return all;
}

const char* const image_url_request =
    R"({"model":"m","max_tokens":64,"messages":[{"role":"user","content":[{"type":"text","text":"what is it?"},)"
    R"({"type":"image_url","image_url":{"url":"https://example.org/cat.png","detail":"low"}}]}]})";

std::vector<Said> answers(const Kind& kind) {
    Call weather{"call_1", "weather", R"({"city":"Paris \"FR\"","n":[1,2.5,null,true]})"};
    Call clock{"call_2", "clock", "{}"};
    std::vector<Said> all = {
        {.text = "It is noon."},
        {.thoughts = "let me think", .text = "It is noon.", .output = 6},
        {.calls = {weather}, .finish = "tool_calls"},
        {.text = "One moment.", .calls = {weather, clock}, .finish = "tool_calls"},
        {.thoughts = "use the tools", .calls = {weather, weather, clock}, .finish = "tool_calls"},
        {.text = "half an", .finish = "length"},
        {.text = "quote \" backslash \\ line\nend\ttab \x01 é 東京 🙂", .prompt = 1'000, .output = 20},
    };
    // The same call twice has two ids.
    all[4].calls[1].id = "call_3";
    if (kind.tells_cached) all.push_back({.text = "cheap", .prompt = 100, .cached = 90});
    return all;
}

Said through_stream(const Kind& kind, const std::vector<std::string>& events) {
    auto translator = kind.make();
    StreamReader reader;
    for (const std::string& event : events) {
        std::string lines;
        EXPECT_TRUE(translator->event(event, lines)) << event;
        reader.take(lines);
    }
    if (!kind.ends_with_done) reader.take("[DONE]\n");
    return reader.said();
}

void expect_same_request(const Kind& kind, const std::string& request) {
    auto body = kind.make()->request(request);
    ASSERT_TRUE(body.has_value()) << request << "\n" << body.error().message;
    EXPECT_EQ(told(kind, kind.read(*body)), told(kind, read_openai(request))) << request << "\n" << *body;
}

}  // namespace

void check_requests(const Kind& kind) {
    for (const std::string& request : requests()) {
        // Where a choice cannot be told, a refusal is as good as leaving it out.
        bool has_choice = request.find("\"tool_choice\":") != std::string::npos;
        if (kind.keeps_tool_choice || !has_choice) expect_same_request(kind, request);
    }
    if (kind.keeps_image_urls) expect_same_request(kind, image_url_request);
    for (const char* none : {"", "{", "[]", "7", R"({"model":"m"})"}) {
        auto body = kind.make()->request(none);
        ASSERT_FALSE(body.has_value()) << none;
        EXPECT_EQ(body.error().code, Code::invalid_request) << none;
    }
}

void check_answers(const Kind& kind) {
    for (const Said& said : answers(kind)) {
        auto answer = kind.make()->answer(kind.answer(said));
        ASSERT_TRUE(answer.has_value()) << kind.answer(said) << answer.error().detail;
        Said got = read_answer_strictly(*answer);
        EXPECT_EQ(told(kind, got), told(kind, said)) << *answer;
        EXPECT_EQ(got.model, said.model);
    }
    for (const char* none : {"", "{", "[]", "7", "{}", R"({"choices":7})", "<html>"}) {
        auto answer = kind.make()->answer(none);
        ASSERT_FALSE(answer.has_value()) << none << " became " << *answer;
        EXPECT_EQ(answer.error().code, Code::upstream_failed);
    }
}

void check_streams(const Kind& kind) {
    for (const Said& said : answers(kind)) {
        Cutter cutter;
        auto events = kind.events(said, cutter);
        Said got = through_stream(kind, events);
        EXPECT_EQ(told(kind, got), told(kind, said));
        EXPECT_EQ(got.model, said.model);
    }
}

void check_broken_streams(const Kind& kind) {
    for (const Said& said : answers(kind)) {
        Cutter cutter;
        auto events = kind.events(said, cutter);
        auto translator = kind.make();
        StreamReader reader;
        for (std::size_t at = 0; at + 1 < events.size(); ++at) {
            std::string lines;
            ASSERT_TRUE(translator->event(events[at], lines)) << events[at];
            reader.take(lines);
            bool looks_whole = kind.ends_with_done ? reader.is_done() : reader.has_finish();
            EXPECT_FALSE(looks_whole) << "whole without its last event, at " << events[at];
        }
    }
    for (const char* nonsense : {"{", "[]", "7", "\"text\"", "{\"a\":"}) {
        std::string lines;
        EXPECT_FALSE(kind.make()->event(nonsense, lines)) << nonsense << " became " << lines;
    }
    std::string error = kind.error_event("the engine \"A\" is overloaded");
    if (error.empty()) return;
    Cutter cutter;
    auto events = kind.events({.text = "half of"}, cutter);
    events.resize(2);
    events.push_back(error);
    auto translator = kind.make();
    StreamReader reader;
    for (const std::string& event : events) {
        std::string lines;
        ASSERT_TRUE(translator->event(event, lines)) << event;
        reader.take(lines);
    }
    EXPECT_FALSE(reader.is_done());
    EXPECT_EQ(reader.error(), "the engine \"A\" is overloaded");
}

void check_random(const Kind& kind, std::uint64_t seed, int rounds) {
    Generator generator(seed);
    for (int round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
        SCOPED_TRACE("seed " + std::to_string(seed) + ", round " + std::to_string(round));
        std::string request = generator.request();
        if (kind.translates_requests) expect_same_request(kind, request);
        Said said = generator.said();
        auto answer = kind.make()->answer(escaped_randomly(kind.answer(said), generator.random()));
        ASSERT_TRUE(answer.has_value());
        EXPECT_EQ(told(kind, read_answer_strictly(*answer)), told(kind, said)) << *answer;
        Cutter cutter(generator.below(1'000'000'000));
        auto events = kind.events(said, cutter);
        for (std::string& event : events)
            if (event.starts_with('{')) event = escaped_randomly(event, generator.random());
        EXPECT_EQ(told(kind, through_stream(kind, events)), told(kind, said));
    }
}

namespace {

// A provider that speaks OpenAI's API already: the suite must find nothing to complain about, or it measures
// itself.
class Same final : public Translator {
   public:
    Result<std::string> request(std::string_view body) override {
        boost::system::error_code failed;
        json::value value = json::parse(body, failed);
        if (failed || !value.is_object() || !value.get_object().contains("messages"))
            return fail(Code::invalid_request, "no request");
        return std::string(body);
    }
    Result<std::string> answer(std::string_view body) override {
        boost::system::error_code failed;
        json::value value = json::parse(body, failed);
        const json::array* choices =
            failed || !value.is_object() ? nullptr : array_of(value.get_object(), "choices");
        if (choices == nullptr || choices->empty()) return fail(Code::upstream_failed, "no answer");
        return std::string(body);
    }
    bool event(std::string_view data, std::string& lines) override {
        boost::system::error_code failed;
        if (data != "[DONE]" && (!json::parse(data, failed).is_object() || failed)) return false;
        lines.append(data).append("\n");
        return true;
    }
};

class SameKind final : public Kind {
   public:
    std::unique_ptr<Translator> make() const override { return std::make_unique<Same>(); }
    Asked read(std::string_view body) const override { return read_openai(body); }
    std::string answer(const Said& said) const override { return write_openai(said); }
    std::vector<std::string> events(const Said& said, Cutter& cutter) const override {
        return write_openai_chunks(said, cutter);
    }
    std::string error_event(std::string_view message) const override {
        return json::serialize(json::object{{"error", json::object{{"message", message}}}});
    }
};

TEST(Conformance, FindsNothingInOpenAisOwnWords) {
    SameKind kind;
    check_requests(kind);
    check_answers(kind);
    check_streams(kind);
    check_broken_streams(kind);
    check_random(kind, 1);
}

}  // namespace
}  // namespace nebula::gateway::conformance

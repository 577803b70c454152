// Ollama's own API behind OpenAI's: the suite of all kinds, and what is Ollama's alone.
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/completion.hpp"
#include "gateway/providers/conformance_support.hpp"
#include "gateway/providers/ollama/ollama.hpp"

namespace nebula::gateway::ollama {
namespace {

using namespace conformance;

std::unique_ptr<Translator> make(Endpoint endpoint = Endpoint::chat) {
    return provider().translate(endpoint, "req_1", Time());
}

class OllamaKind final : public Kind {
   public:
    OllamaKind() {
        keeps_image_urls = false;
        keeps_tool_choice = false;
        tells_cached = false;
    }
    std::unique_ptr<Translator> make() const override { return ollama::make(); }

    Asked read(std::string_view body) const override {
        Asked asked;
        json::value value = json::parse(body);
        const json::object& request = value.as_object();
        for (const json::value& item : request.at("messages").as_array())
            read_message(item.as_object(), asked);
        if (const json::array* tools = array_of(request, "tools"))
            for (const json::value& tool : *tools) {
                const json::object& function = *object_of(tool.as_object(), "function");
                asked.tools.push_back({std::string(text_of(function, "name")),
                                       std::string(text_of(function, "description")),
                                       json::serialize(function.at("parameters"))});
            }
        if (const json::object* options = object_of(request, "options")) {
            if (options->contains("num_predict")) asked.output_max = count_of(*options, "num_predict");
            if (const json::array* stops = array_of(*options, "stop"))
                for (const json::value& stop : *stops) asked.stop.emplace_back(stop.as_string());
        }
        if (const json::object* format = object_of(request, "format"))
            asked.schema = json::serialize(*format);
        return asked;
    }

    std::string answer(const Said& said) const override {
        json::object message{{"role", "assistant"}, {"content", said.text}};
        if (!said.thoughts.empty()) message["thinking"] = said.thoughts;
        if (!said.calls.empty()) message["tool_calls"] = calls_of(said);
        return line(said, std::move(message), true);
    }

    std::vector<std::string> events(const Said& said, Cutter& cutter) const override {
        std::vector<std::string> out;
        auto add = [&](json::object message) { out.push_back(line(said, std::move(message), false)); };
        for (std::string& piece : cutter.cut(said.thoughts))
            add({{"role", "assistant"}, {"content", ""}, {"thinking", piece}});
        for (std::string& piece : cutter.cut(said.text)) add({{"role", "assistant"}, {"content", piece}});
        if (!said.calls.empty())
            add({{"role", "assistant"}, {"content", ""}, {"tool_calls", calls_of(said)}});
        out.push_back(line(said, {{"role", "assistant"}, {"content", ""}}, true));
        return out;
    }

    std::string error_event(std::string_view message) const override {
        return json::serialize(json::object{{"error", message}});
    }

   private:
    static void read_message(const json::object& message, Asked& asked) {
        std::string role(text_of(message, "role"));
        std::string text(text_of(message, "content"));
        if (role == "system") {
            asked.system += text;
            return;
        }
        if (role == "tool") {
            asked.items.push_back(
                {Item::What::result, "user", std::string(text_of(message, "tool_call_id")), {}, text});
            return;
        }
        if (!text.empty()) asked.items.push_back({Item::What::text, role, {}, {}, text});
        if (const json::array* images = array_of(message, "images"))
            for (const json::value& image : *images)
                asked.items.push_back({Item::What::image,
                                       role,
                                       {},
                                       {},
                                       "data:image/png;base64," + std::string(image.as_string())});
        if (const json::array* calls = array_of(message, "tool_calls"))
            for (const json::value& call : *calls) {
                const json::object& function = *object_of(call.as_object(), "function");
                asked.items.push_back({Item::What::call, role, std::string(text_of(call.as_object(), "id")),
                                       std::string(text_of(function, "name")),
                                       json::serialize(function.at("arguments").as_object())});
            }
    }
    static json::array calls_of(const Said& said) {
        json::array calls;
        for (const Call& call : said.calls)
            calls.push_back(json::object{
                {"id", call.id},
                {"function", json::object{{"name", call.name}, {"arguments", json::parse(call.arguments)}}}});
        return calls;
    }
    static std::string line(const Said& said, json::object message, bool is_done) {
        json::object out{{"model", said.model},
                         {"created_at", "2026-01-01T00:00:00Z"},
                         {"message", std::move(message)},
                         {"done", is_done}};
        if (is_done) {
            out["done_reason"] = said.finish == "length" ? "length" : "stop";
            out["prompt_eval_count"] = said.prompt;
            out["eval_count"] = said.output;
        }
        return json::serialize(out);
    }
};

TEST(OllamaProvider, KeepsTheMeaningOfRequests) { check_requests(OllamaKind()); }
TEST(OllamaProvider, KeepsTheMeaningOfAnswers) { check_answers(OllamaKind()); }
TEST(OllamaProvider, KeepsTheMeaningOfStreams) { check_streams(OllamaKind()); }
TEST(OllamaProvider, TellsBrokenStreamsApart) { check_broken_streams(OllamaKind()); }
TEST(OllamaProvider, KeepsTheMeaningOfAnything) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) check_random(OllamaKind(), seed);
}

// Every knob has its name and its place; what has none is not sent.
TEST(OllamaProvider, GetsEveryKnobItKnows) {
    struct Row {
        const char* from;
        const char* to;
    };
    const Row rows[] = {
        {R"("temperature":0.5,"top_p":0.9,"top_k":3,"min_p":0.1,"seed":7,"stop":"x","max_tokens":9,
            "max_completion_tokens":8,"presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.1,
            "user":"u","logit_bias":{"1":2})",
         R"("stream":false,"options":{"temperature":0.5,"top_p":0.9,"top_k":3,"min_p":0.1,"seed":7,
            "presence_penalty":1,"frequency_penalty":-1,"repeat_penalty":1.1,"stop":["x"],"num_predict":8})"},
        {R"("stream":true,"response_format":{"type":"json_object"},"reasoning_effort":"high")",
         R"("stream":true,"format":"json","think":"high")"},
        {R"("reasoning_effort":"minimal","response_format":{"type":"text"})",
         R"("stream":false,"think":"low")"},
        {R"("reasoning_effort":"none")", R"("stream":false,"think":false)"},
        {R"("reasoning":{"effort":"xhigh","exclude":true})", R"("stream":false,"think":"max")"},
        {R"("reasoning":{"enabled":true})", R"("stream":false,"think":true)"},
        {R"("logprobs":true,"top_logprobs":3)", R"("stream":false,"logprobs":true,"top_logprobs":3)"},
        {R"("tool_choice":"none","tools":[{"type":"function","function":{"name":"f"}}])",
         R"("stream":false)"},
    };
    for (const Row& row : rows) {
        std::string tail = R"("model":"m","messages":[{"role":"user","content":"hi"}]})";
        auto body = make()->request(std::string("{") + row.from + "," + tail);
        ASSERT_TRUE(body.has_value()) << row.from << body.error().message;
        EXPECT_EQ(json::parse(*body), json::parse(std::string("{") + row.to + "," + tail)) << *body;
    }
}

// A part that vanished would change the question; the refusal names what to change.
TEST(OllamaProvider, RefusesByNameWhatItCannotSay) {
    struct Row {
        const char* members;
        const char* param;
    };
    const Row rows[] = {
        {R"("n":2)", "n"},
        {R"("functions":[])", "functions"},
        {R"("tool_choice":"required","tools":[])", "tool_choice"},
        {R"("tool_choice":{"type":"function","function":{"name":"f"}})", "tool_choice"},
        {R"("tools":[{"type":"custom","custom":{"name":"f"}}])", "tools"},
        {R"("response_format":{"type":"grammar"})", "response_format"},
        {R"("reasoning_effort":"enormous")", "reasoning_effort"},
        {R"("messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/a.png"}}]}])",
         "messages.0.content"},
        {R"("messages":[{"role":"user","content":"x"},{"role":"user","content":[{"type":"input_audio"}]}])",
         "messages.1.content"},
        {R"("messages":[{"role":"robot","content":"x"}])", "messages.0.role"},
    };
    for (const Row& row : rows) {
        std::string_view members = row.members;
        bool has_messages = members.find("\"messages\"") != std::string_view::npos;
        std::string body = R"({"model":"m",)" + std::string(members) +
                           (has_messages ? "}" : R"(,"messages":[{"role":"user","content":"x"}]})");
        auto told = make()->request(body);
        ASSERT_FALSE(told.has_value()) << body;
        EXPECT_EQ(told.error().code, Code::invalid_request);
        EXPECT_EQ(told.error().param, row.param) << body;
    }
}

// Older versions give calls no ids; OpenAI's clients need one each to answer them.
TEST(OllamaProvider, MakesIdsOfCallsThatHaveNone) {
    std::string lines;
    auto translator = make();
    const char* call = R"({"model":"m","message":{"role":"assistant","content":"",
        "tool_calls":[{"function":{"name":"f","arguments":{"a":1}}},{"function":{"name":"f"}}]},
        "done":false})";
    ASSERT_TRUE(translator->event(call, lines));
    ASSERT_TRUE(translator->event(R"({"model":"m","message":{"role":"assistant","content":""},"done":true,)"
                                  R"("done_reason":"stop","prompt_eval_count":5,"eval_count":2})",
                                  lines));
    ASSERT_TRUE(translator->event(call, lines)) << "nothing follows the end";
    StreamReader reader;
    reader.take(lines);
    Said said = reader.said();
    ASSERT_EQ(said.calls.size(), 2u);
    EXPECT_EQ(said.calls[0].arguments, R"({"a":1})");
    EXPECT_EQ(said.calls[1].arguments, "{}");
    EXPECT_EQ(said.finish, "tool_calls");
}

// A prompt that nobody counted must not be charged as one of no tokens, nor an absurd count be believed.
TEST(OllamaProvider, TellsOnlyCountsThatWereGiven) {
    auto usage = [](const char* counts) {
        std::string lines;
        EXPECT_TRUE(make()->event(R"({"model":"m","message":{"role":"assistant","content":"x"},"done":true)" +
                                      std::string(counts) + "}",
                                  lines));
        ReportedUsage found;
        for (std::size_t at = 0; at < lines.size();) {
            std::size_t end = lines.find('\n', at);
            Completion chunk = read_chunk(std::string_view(lines).substr(at, end - at), {100, 100});
            EXPECT_NE(chunk.kind, Completion::Kind::malformed) << lines;
            if (chunk.usage.state != ReportedUsage::State::absent) found = chunk.usage;
            at = end + 1;
        }
        return found;
    };
    EXPECT_EQ(usage("").state, ReportedUsage::State::absent);
    EXPECT_EQ(usage(R"(,"eval_count":4)").state, ReportedUsage::State::absent);
    EXPECT_EQ(usage(R"(,"prompt_eval_count":5)").usage.input, 5);
    EXPECT_EQ(usage(R"(,"prompt_eval_count":5,"eval_count":4)").usage.output, 4);
    for (const char* absurd : {"-1", "1e300", "\"many\"", "99999999999999999999", "101"})
        EXPECT_EQ(usage((R"(,"prompt_eval_count":5,"eval_count":)" + std::string(absurd)).c_str()).state,
                  ReportedUsage::State::refused)
            << absurd;
}

TEST(OllamaProvider, TellsLogprobsAsTheyAre) {
    std::string lines;
    ASSERT_TRUE(make()->event(
        R"({"model":"m","message":{"content":"hi"},"done":false,"logprobs":[{"token":"hi","logprob":-0.5,"bytes":[104,105],"top_logprobs":[]}]})",
        lines));
    json::value chunk = json::parse(lines);
    EXPECT_EQ(chunk.at("choices").at(0).at("logprobs").at("content").at(0).at("logprob"), -0.5);
    lines.clear();
    EXPECT_FALSE(make()->event(R"({"message":{"content":"hi"},"logprobs":[{"token":}]})", lines));
}

// Thoughts that the client does not want are thought, and not told.
TEST(OllamaProvider, HidesThoughtsWhenAsked) {
    auto translator = make();
    ASSERT_TRUE(translator->request(
        R"({"model":"m","reasoning":{"exclude":true},"messages":[{"role":"user","content":"x"}]})"));
    std::string lines;
    ASSERT_TRUE(translator->event(R"({"message":{"content":"","thinking":"hm"},"done":false})", lines));
    EXPECT_EQ(lines, "");
}

// Completions are prompts without a conversation.
TEST(OllamaProvider, ServesCompletions) {
    auto translator = make(Endpoint::completions);
    auto body =
        translator->request(R"({"model":"m","prompt":["p"],"suffix":"s","max_tokens":5,"logprobs":2})");
    ASSERT_TRUE(body.has_value()) << body.error().message;
    EXPECT_EQ(json::parse(*body), json::parse(R"({"model":"m","stream":false,"prompt":"p","suffix":"s",
                                                  "options":{"num_predict":5}})"));
    EXPECT_FALSE(make(Endpoint::completions)->request(R"({"model":"m","prompt":["p","q"]})").has_value());
    EXPECT_FALSE(make(Endpoint::completions)->request(R"({"model":"m","prompt":[1,2]})").has_value());
    auto answer = translator->answer(
        R"({"model":"m","response":"words","done":true,"done_reason":"length","prompt_eval_count":3,"eval_count":2})");
    ASSERT_TRUE(answer.has_value());
    json::value told = json::parse(*answer);
    EXPECT_EQ(told.at("object"), "text_completion");
    EXPECT_EQ(told.at("choices").at(0).at("text"), "words");
    EXPECT_EQ(told.at("choices").at(0).at("finish_reason"), "length");
    std::string lines;
    auto stream = make(Endpoint::completions);
    ASSERT_TRUE(stream->event(R"({"model":"m","response":"wor","done":false})", lines));
    EXPECT_EQ(json::parse(lines).at("choices").at(0).at("text"), "wor");
    ASSERT_TRUE(stream->event(R"({"model":"m","response":"","done":true,"done_reason":"stop"})", lines));
    EXPECT_TRUE(lines.ends_with("[DONE]\n"));
}

// Vectors keep their digits as numbers, and are 32-bit floats in little endian as base64.
TEST(OllamaProvider, ServesEmbeddings) {
    auto as_numbers = make(Endpoint::embeddings);
    auto body = as_numbers->request(R"({"model":"m","input":"a","dimensions":2,"user":"u"})");
    ASSERT_TRUE(body.has_value());
    EXPECT_EQ(json::parse(*body), json::parse(R"({"model":"m","input":["a"],"dimensions":2})"));
    const char* vectors = R"({"model":"m","embeddings":[[0.1, -2e-3],[1,2]],"prompt_eval_count":4})";
    auto numbers = as_numbers->answer(vectors);
    ASSERT_TRUE(numbers.has_value());
    EXPECT_NE(numbers->find("[0.1, -2e-3]"), std::string::npos) << *numbers;
    EXPECT_EQ(json::parse(*numbers).at("usage"), json::parse(R"({"prompt_tokens":4,"total_tokens":4})"));

    auto as_base64 = make(Endpoint::embeddings);
    ASSERT_TRUE(
        as_base64->request(R"({"model":"m","input":["a","b"],"encoding_format":"base64"})").has_value());
    auto texts = as_base64->answer(R"({"model":"m","embeddings":[[1,-2],[0.5]]})");
    ASSERT_TRUE(texts.has_value());
    json::value told = json::parse(*texts);
    EXPECT_EQ(told.at("data").at(0).at("embedding"), "AACAPwAAAMA=");
    EXPECT_EQ(told.at("data").at(1).at("embedding"), "AAAAPw==");
    EXPECT_FALSE(told.as_object().contains("usage"));

    for (const char* refused : {R"({"model":"m","input":[1,2]})", R"({"model":"m","input":[]})",
                                R"({"model":"m","input":"a","encoding_format":"hex"})", R"({"model":"m"})"})
        EXPECT_FALSE(make(Endpoint::embeddings)->request(refused).has_value()) << refused;
    for (const char* none : {R"({"model":"m","embeddings":[]})", R"({"embeddings":[["a"]]})",
                             R"({"embeddings":[[]]})", R"({"error":"x"})", R"({"embeddings":[[1]]} x)", "{}"})
        EXPECT_FALSE(make(Endpoint::embeddings)->answer(none).has_value()) << none;
}

TEST(OllamaProvider, KnowsItsPathsAndErrors) {
    catalog::Provider at;
    at.path = "/base";
    EXPECT_EQ(provider().target(at, "m", Endpoint::chat, true), "/base/api/chat");
    EXPECT_EQ(provider().target(at, "m", Endpoint::completions, true), "/base/api/generate");
    EXPECT_EQ(provider().target(at, "m", Endpoint::embeddings, false), "/base/api/embed");
    EXPECT_FALSE(provider().serves(Endpoint::rerank));
    EXPECT_EQ(provider().error_message(R"({"error":"model 'x' not found"})"), "model 'x' not found");
    EXPECT_EQ(provider().error_message("<html>"), "");
    std::string headers;
    provider().add_headers(at, Secret("k"), headers);
    EXPECT_EQ(headers, "authorization: Bearer k\r\n");
}

}  // namespace
}  // namespace nebula::gateway::ollama

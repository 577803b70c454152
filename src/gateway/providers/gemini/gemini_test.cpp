// Google's Gemini API behind OpenAI's: the suite of all kinds, and what is Gemini's alone.
#include "gateway/providers/gemini/gemini.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <map>

#include "gateway/completion.hpp"
#include "gateway/providers/conformance_support.hpp"

namespace nebula::gateway::gemini {
namespace {

using namespace conformance;

std::unique_ptr<Translator> make(Endpoint endpoint = Endpoint::chat) {
    return provider().translate(endpoint, "req_1", Time());
}

class GeminiKind final : public Kind {
   public:
    GeminiKind() { ends_with_done = false; }
    std::unique_ptr<Translator> make() const override { return gemini::make(); }

    Asked read(std::string_view body) const override {
        Asked asked;
        json::value value = json::parse(body);
        const json::object& request = value.as_object();
        if (const json::object* system = object_of(request, "systemInstruction"))
            for (const json::value& part : *array_of(*system, "parts"))
                asked.system += text_of(part.as_object(), "text");
        std::string last;
        for (const json::value& item : request.at("contents").as_array()) {
            const json::object& content = item.as_object();
            std::string role(text_of(content, "role"));
            EXPECT_NE(role, last) << "turns alternate: " << body;
            last = role;
            EXPECT_FALSE(array_of(content, "parts")->empty()) << body;
            for (const json::value& part : *array_of(content, "parts"))
                read_part(part.as_object(), role == "model" ? "assistant" : "user", asked);
        }
        read_tools(request, asked);
        if (const json::object* config = object_of(request, "generationConfig")) {
            if (config->contains("maxOutputTokens")) asked.output_max = count_of(*config, "maxOutputTokens");
            if (const json::array* stops = array_of(*config, "stopSequences"))
                for (const json::value& stop : *stops) asked.stop.emplace_back(stop.as_string());
            if (const json::object* schema = object_of(*config, "responseJsonSchema"))
                asked.schema = json::serialize(*schema);
        }
        return asked;
    }

    std::string answer(const Said& said) const override {
        json::array parts;
        if (!said.thoughts.empty()) parts.push_back(json::object{{"text", said.thoughts}, {"thought", true}});
        if (!said.text.empty()) parts.push_back(json::object{{"text", said.text}});
        for (const Call& call : said.calls) parts.push_back(part_of(call));
        return event(said, std::move(parts), true);
    }

    std::vector<std::string> events(const Said& said, Cutter& cutter) const override {
        std::vector<std::string> out;
        auto add = [&](json::object part) {
            json::array parts;
            parts.push_back(std::move(part));
            out.push_back(event(said, std::move(parts), false));
        };
        for (std::string& piece : cutter.cut(said.thoughts)) add({{"text", piece}, {"thought", true}});
        for (std::string& piece : cutter.cut(said.text)) add({{"text", piece}});
        for (const Call& call : said.calls) add(part_of(call));
        json::array last;
        last.push_back(json::object{{"text", ""}});
        out.push_back(event(said, std::move(last), true));
        return out;
    }

    std::string error_event(std::string_view message) const override {
        return json::serialize(json::object{
            {"error", json::object{{"code", 503}, {"message", message}, {"status", "UNAVAILABLE"}}}});
    }

   private:
    static void read_part(const json::object& part, const std::string& role, Asked& asked) {
        if (const json::object* call = object_of(part, "functionCall")) {
            asked.items.push_back({Item::What::call, role, std::string(text_of(*call, "id")),
                                   std::string(text_of(*call, "name")),
                                   json::serialize(call->at("args").as_object())});
        } else if (const json::object* result = object_of(part, "functionResponse")) {
            asked.items.push_back({Item::What::result,
                                   role,
                                   std::string(text_of(*result, "id")),
                                   {},
                                   std::string(text_of(*object_of(*result, "response"), "result"))});
            EXPECT_FALSE(text_of(*result, "name").empty());
        } else if (const json::object* data = object_of(part, "inlineData")) {
            asked.items.push_back({Item::What::image,
                                   role,
                                   {},
                                   {},
                                   "data:" + std::string(text_of(*data, "mimeType")) + ";base64," +
                                       std::string(text_of(*data, "data"))});
        } else if (const json::object* file = object_of(part, "fileData")) {
            asked.items.push_back({Item::What::image, role, {}, {}, std::string(text_of(*file, "fileUri"))});
        } else {
            asked.items.push_back({Item::What::text, role, {}, {}, std::string(text_of(part, "text"))});
        }
    }
    static void read_tools(const json::object& request, Asked& asked) {
        if (const json::array* tools = array_of(request, "tools"))
            for (const json::value& tool : *array_of(tools->at(0).as_object(), "functionDeclarations")) {
                const json::object& function = tool.as_object();
                asked.tools.push_back({std::string(text_of(function, "name")),
                                       std::string(text_of(function, "description")),
                                       json::serialize(function.at("parametersJsonSchema"))});
            }
        const json::object* config = object_of(request, "toolConfig");
        if (config == nullptr) return;
        const json::object& calling = config->at("functionCallingConfig").as_object();
        static const std::map<std::string, std::string, std::less<>> words = {
            {"AUTO", "auto"}, {"ANY", "required"}, {"NONE", "none"}};
        asked.tool_choice = words.find(text_of(calling, "mode"))->second;
        if (const json::array* names = array_of(calling, "allowedFunctionNames"))
            asked.tool_choice = names->at(0).as_string();
    }
    static json::object part_of(const Call& call) {
        json::object function{{"id", call.id}, {"name", call.name}, {"args", json::parse(call.arguments)}};
        return {{"functionCall", std::move(function)}};
    }
    static std::string event(const Said& said, json::array parts, bool is_last) {
        json::object candidate{{"content", json::object{{"role", "model"}, {"parts", std::move(parts)}}}};
        std::int64_t output = is_last ? said.output : 1;
        json::object usage{{"promptTokenCount", said.prompt}, {"totalTokenCount", said.prompt + output}};
        if (said.cached > 0) usage["cachedContentTokenCount"] = said.cached;
        // Thoughts are counted beside the answer.
        usage["candidatesTokenCount"] = said.thoughts.empty() ? output : output - 1;
        if (!said.thoughts.empty()) usage["thoughtsTokenCount"] = 1;
        if (is_last) candidate["finishReason"] = said.finish == "length" ? "MAX_TOKENS" : "STOP";
        candidate["index"] = 0;
        json::array candidates;
        candidates.push_back(std::move(candidate));
        return json::serialize(json::object{{"candidates", std::move(candidates)},
                                            {"usageMetadata", std::move(usage)},
                                            {"modelVersion", said.model},
                                            {"responseId", "r1"}});
    }
};

TEST(GeminiProvider, KeepsTheMeaningOfRequests) { check_requests(GeminiKind()); }
TEST(GeminiProvider, KeepsTheMeaningOfAnswers) { check_answers(GeminiKind()); }
TEST(GeminiProvider, KeepsTheMeaningOfStreams) { check_streams(GeminiKind()); }
TEST(GeminiProvider, TellsBrokenStreamsApart) { check_broken_streams(GeminiKind()); }
TEST(GeminiProvider, KeepsTheMeaningOfAnything) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) check_random(GeminiKind(), seed);
}

std::string hello(const std::string& members, const char* model = "gemini-2.5-flash") {
    return R"({"model":")" + std::string(model) + "\"," + members +
           R"(,"messages":[{"role":"user","content":"hi"}]})";
}

// Every knob has its name and its place in generationConfig.
TEST(GeminiProvider, GetsEveryKnobItKnows) {
    struct Row {
        const char* from;
        const char* config;
        const char* model = "gemini-2.5-flash";
    };
    const Row rows[] = {
        {R"("temperature":0.5,"top_p":0.9,"top_k":3,"n":2,"seed":7,"stop":"x","max_tokens":9,
            "max_completion_tokens":8,"presence_penalty":1,"frequency_penalty":-1,"user":"u","store":true)",
         R"({"temperature":0.5,"topP":0.9,"topK":3,"candidateCount":2,"seed":7,"presencePenalty":1,
             "frequencyPenalty":-1,"maxOutputTokens":8,"stopSequences":["x"]})"},
        {R"("n":1,"logprobs":true,"top_logprobs":3)", R"({"responseLogprobs":true,"logprobs":3})"},
        {R"("response_format":{"type":"json_object"})", R"({"responseMimeType":"application/json"})"},
        {R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}})",
         R"({"responseMimeType":"application/json","responseJsonSchema":{"type":"object"}})"},
        {R"("reasoning_effort":"low")",
         R"({"thinkingConfig":{"includeThoughts":true,"thinkingBudget":1024}})"},
        {R"("reasoning_effort":"none")", R"({"thinkingConfig":{"thinkingBudget":0}})"},
        {R"("reasoning":{"effort":"high","exclude":true})", R"({"thinkingConfig":{"thinkingBudget":24576}})"},
        {R"("reasoning":{"enabled":true})", R"({"thinkingConfig":{"includeThoughts":true}})"},
        {R"("reasoning_effort":"medium")",
         R"({"thinkingConfig":{"includeThoughts":true,"thinkingLevel":"medium"}})", "gemini-3-flash-preview"},
        {R"("reasoning_effort":"max")",
         R"({"thinkingConfig":{"includeThoughts":true,"thinkingLevel":"high"}})", "models/gemini-3.5-pro"},
        {R"("reasoning_effort":"none")", R"({"thinkingConfig":{"thinkingLevel":"minimal"}})",
         "gemini-12-flash"},
        {R"("reasoning":{"max_tokens":77})",
         R"({"thinkingConfig":{"includeThoughts":true,"thinkingBudget":77}})", "gemini-3-flash"},
    };
    for (const Row& row : rows) {
        auto body = make()->request(hello(row.from, row.model));
        ASSERT_TRUE(body.has_value()) << row.from << body.error().message;
        EXPECT_EQ(json::parse(*body).at("generationConfig"), json::parse(row.config)) << *body;
    }
}

TEST(GeminiProvider, TellsWhichFunctionsMayBeCalled) {
    struct Row {
        const char* choice;
        const char* config;
    };
    const Row rows[] = {
        {R"("required")", R"({"mode":"ANY"})"},
        {R"("none")", R"({"mode":"NONE"})"},
        {R"({"type":"function","function":{"name":"f"}})", R"({"mode":"ANY","allowedFunctionNames":["f"]})"},
        {R"({"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[
             {"type":"function","function":{"name":"f"}}]}})",
         R"({"mode":"VALIDATED","allowedFunctionNames":["f"]})"},
    };
    for (const Row& row : rows) {
        auto body =
            make()->request(hello(R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":)" +
                                  std::string(row.choice)));
        ASSERT_TRUE(body.has_value()) << row.choice;
        EXPECT_EQ(json::parse(*body).at("toolConfig").at("functionCallingConfig"), json::parse(row.config));
    }
}

TEST(GeminiProvider, RefusesByNameWhatItCannotSay) {
    struct Row {
        const char* members;
        const char* param;
    };
    const Row rows[] = {
        {R"("functions":[])", "functions"},
        {R"("logit_bias":{"1":1})", "logit_bias"},
        {R"("modalities":["text","audio"])", "modalities"},
        {R"("tools":[{"type":"custom","custom":{"name":"f"}}])", "tools"},
        {R"("tool_choice":"sometimes")", "tool_choice"},
        {R"("response_format":{"type":"grammar"})", "response_format"},
    };
    for (const Row& row : rows) {
        auto body = make()->request(hello(row.members));
        ASSERT_FALSE(body.has_value()) << row.members;
        EXPECT_EQ(body.error().code, Code::invalid_request);
        EXPECT_EQ(body.error().param, row.param);
    }
    for (const char* message :
         {R"({"role":"robot","content":"x"})", R"({"role":"user","content":[{"type":"hologram"}]})",
          R"({"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]})",
          R"({"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]})",
          R"({"role":"tool","tool_call_id":"nobody","content":"x"})", "7"}) {
        auto body = make()->request(R"({"model":"m","messages":[)" + std::string(message) + "]}");
        ASSERT_FALSE(body.has_value()) << message;
        EXPECT_TRUE(body.error().param.starts_with("messages.0")) << body.error().param;
    }
}

// Everything that chat clients attach has a form: data inline, public URLs by reference.
TEST(GeminiProvider, TakesMedia) {
    auto body = make()->request(R"({"model":"m","messages":[{"role":"user","content":[
        {"type":"image_url","image_url":{"url":"https://x/cat.JPG?size=1"}},
        {"type":"image_url","image_url":{"url":"https://x/cat"}},
        {"type":"video_url","video_url":{"url":"data:video/mp4;base64,QUJD"}},
        {"type":"input_audio","input_audio":{"data":"QUJD","format":"wav"}},
        {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,QUJD"}}]}]})");
    ASSERT_TRUE(body.has_value()) << body.error().message;
    EXPECT_EQ(json::parse(*body).at("contents").at(0).at("parts"), json::parse(R"([
        {"fileData":{"fileUri":"https://x/cat.JPG?size=1","mimeType":"image/jpeg"}},
        {"fileData":{"fileUri":"https://x/cat"}},
        {"inlineData":{"mimeType":"video/mp4","data":"QUJD"}},
        {"inlineData":{"mimeType":"audio/wav","data":"QUJD"}},
        {"inlineData":{"mimeType":"application/pdf","data":"QUJD"}}])"));
}

// Gemini 3 refuses calls of earlier turns without the signature that it gave them. It travels as a detail of
// the reasoning and returns to the part that it came with.
TEST(GeminiProvider, CarriesSignaturesThereAndBack) {
    std::string lines;
    auto translator = make();
    ASSERT_TRUE(
        translator->event(R"({"candidates":[{"content":{"parts":[{"text":"well","thoughtSignature":"c2ln"},
        {"functionCall":{"name":"f","args":{}},"thoughtSignature":"Y2FsbA=="},
        {"functionCall":{"name":"f","args":{"b":2}}}]},"finishReason":"STOP"}]})",
                          lines));
    json::array details, calls;
    for (std::size_t at = 0; at < lines.size();) {
        std::size_t end = lines.find('\n', at);
        json::value chunk = json::parse(std::string_view(lines).substr(at, end - at));
        const json::object& delta = chunk.at("choices").at(0).at("delta").as_object();
        if (const json::array* some = array_of(delta, "reasoning_details"))
            for (const json::value& one : *some) details.push_back(one);
        if (const json::array* some = array_of(delta, "tool_calls"))
            for (const json::value& one : *some) calls.push_back(one);
        at = end + 1;
    }
    ASSERT_EQ(details.size(), 2u) << lines;
    ASSERT_EQ(calls.size(), 2u);
    EXPECT_EQ(
        details[0],
        json::parse(R"({"type":"reasoning.encrypted","data":"c2ln","format":"google-gemini-v1","index":0})"));
    EXPECT_EQ(details[1].at("id"), calls[0].at("id"));

    json::object said{
        {"role", "assistant"}, {"content", "well"}, {"tool_calls", calls}, {"reasoning_details", details}};
    json::array messages{json::object{{"role", "user"}, {"content", "x"}}, said};
    auto body =
        make()->request(json::serialize(json::object{{"model", "gemini-3-pro"}, {"messages", messages}}));
    ASSERT_TRUE(body.has_value()) << body.error().message;
    json::value request = json::parse(*body);
    const json::array& parts = request.at("contents").at(1).at("parts").as_array();
    ASSERT_EQ(parts.size(), 3u);
    EXPECT_EQ(parts[0].at("thoughtSignature"), "c2ln");
    EXPECT_EQ(parts[1].at("thoughtSignature"), "Y2FsbA==");
    EXPECT_FALSE(parts[2].as_object().contains("thoughtSignature"));
}

// Calls that another model made, or whose signatures the client lost, have the one that Google documents for
// that.
TEST(GeminiProvider, ExcusesMissingSignatures) {
    auto signature = [](const char* model, const char* extra) {
        std::string call = R"({"id":"c","type":"function","function":{"name":"f","arguments":"{}"})" +
                           std::string(extra) + "}";
        auto body = make()->request(
            R"({"model":")" + std::string(model) +
            R"(","messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,)"
            R"("reasoning_details":[{"type":"reasoning.encrypted","data":"x","id":"c","format":"openai-responses-v1"}],)"
            R"("tool_calls":[)" +
            call + "]}]}");
        json::value value = json::parse(*body);
        const json::object& part = value.at("contents").at(1).at("parts").at(0).as_object();
        return std::string(text_of(part, "thoughtSignature"));
    };
    EXPECT_EQ(signature("gemini-3-pro", ""), "skip_thought_signature_validator");
    EXPECT_EQ(signature("gemini-2.5-pro", ""), "");
    EXPECT_EQ(signature("gemini-3-pro", R"(,"extra_content":{"google":{"thought_signature":"Zw=="}})"),
              "Zw==");
}

// A result that is an object stays one; a text becomes one.
TEST(GeminiProvider, TellsResultsAsObjects) {
    auto response = [](const char* content) {
        auto body = make()->request(
            R"({"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant",)"
            R"("tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},)"
            R"({"role":"tool","tool_call_id":"c","content":)" +
            json::serialize(json::string(content)) + "}]}");
        return json::parse(*body)
            .at("contents")
            .at(2)
            .at("parts")
            .at(0)
            .at("functionResponse")
            .at("response");
    };
    EXPECT_EQ(response(R"({"city":"Paris"})"), json::parse(R"({"city":"Paris"})"));
    EXPECT_EQ(response("[1]"), json::parse(R"({"result":"[1]"})"));
    EXPECT_EQ(response("sunny"), json::parse(R"({"result":"sunny"})"));
}

std::string finish_of(const char* reason) {
    auto answer = make()->answer(R"({"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":")" +
                                 std::string(reason) + R"("}],"usageMetadata":{"promptTokenCount":1}})");
    if (!answer) return "invalid";
    json::value value = json::parse(*answer);
    EXPECT_EQ(value.at("choices").at(0).at("native_finish_reason"), reason);
    return std::string(value.at("choices").at(0).at("finish_reason").as_string());
}

// An end that is neither the model's nor a filter's must not look like a good one.
TEST(GeminiProvider, KnowsWhyAnAnswerEnded) {
    EXPECT_EQ(finish_of("STOP"), "stop");
    EXPECT_EQ(finish_of("MAX_TOKENS"), "length");
    for (const char* filter :
         {"SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "BLOCKLIST", "IMAGE_SAFETY"})
        EXPECT_EQ(finish_of(filter), "content_filter") << filter;
    for (const char* failure :
         {"MALFORMED_FUNCTION_CALL", "OTHER", "LANGUAGE", "UNEXPECTED_TOOL_CALL", "NEW_WORD"})
        EXPECT_EQ(finish_of(failure), "error") << failure;
}

// A blocked prompt has no candidate, and is an answer all the same: somebody must be told why.
TEST(GeminiProvider, TellsThatAPromptWasBlocked) {
    const char* blocked =
        R"({"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":9}})";
    auto answer = make()->answer(blocked);
    ASSERT_TRUE(answer.has_value());
    json::value value = json::parse(*answer);
    EXPECT_EQ(value.at("choices").at(0).at("finish_reason"), "content_filter");
    EXPECT_NE(value.at("choices").at(0).at("message").at("refusal").as_string().find("PROHIBITED_CONTENT"),
              std::string::npos);
    EXPECT_EQ(value.at("usage").at("prompt_tokens"), 9);
    std::string lines;
    ASSERT_TRUE(make()->event(blocked, lines));
    EXPECT_NE(lines.find(R"("finish_reason":"content_filter")"), std::string::npos) << lines;
    EXPECT_NE(lines.find(R"("prompt_tokens":9)"), std::string::npos);
    EXPECT_FALSE(make()->answer(R"({"candidates":[{"content":{"parts":[{"text":"x"}]}}]})").has_value())
        << "a piece is no answer";
}

TEST(GeminiProvider, CountsThoughtsAsOutputAndToolPromptsAsPrompt) {
    auto answer =
        make()->answer(R"({"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}],
        "usageMetadata":{"promptTokenCount":10,"toolUsePromptTokenCount":5,"candidatesTokenCount":7,
        "thoughtsTokenCount":20,"cachedContentTokenCount":4,"totalTokenCount":42}})");
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(json::parse(*answer).at("usage"), json::parse(R"({"prompt_tokens":15,"completion_tokens":27,
        "total_tokens":42,"prompt_tokens_details":{"cached_tokens":4},
        "completion_tokens_details":{"reasoning_tokens":20}})"));
    for (const char* absurd : {"-3", "1e300", "\"many\"", "99999999999999999999"}) {
        auto told =
            make()->answer(R"({"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}],
            "usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":)" +
                           std::string(absurd) + R"(,"thoughtsTokenCount":2}})");
        ASSERT_TRUE(told.has_value()) << absurd;
        EXPECT_EQ(read_answer(*told, {100, 100}).usage.state, ReportedUsage::State::refused) << *told;
    }
}

// Several answers come side by side, each with its own end; usage is whole with the last of them.
TEST(GeminiProvider, KeepsSeveralAnswersApart) {
    auto translator = make();
    ASSERT_TRUE(translator->request(hello(R"("n":2)")));
    std::string lines;
    for (
        const char* event :
        {R"({"candidates":[{"content":{"parts":[{"text":"a"}]},"index":0},{"content":{"parts":[{"text":"b"}]},"index":1}]})",
         R"({"candidates":[{"index":1,"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1}})",
         R"({"candidates":[{"content":{"parts":[{"text":"c"}]},"finishReason":"MAX_TOKENS"}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":3}})"})
        ASSERT_TRUE(translator->event(event, lines));
    std::string texts[2], ends[2];
    std::int64_t output = 0;
    for (std::size_t at = 0; at < lines.size();) {
        std::size_t end = lines.find('\n', at);
        json::value chunk = json::parse(std::string_view(lines).substr(at, end - at));
        for (const json::value& choice : chunk.at("choices").as_array()) {
            auto index = static_cast<std::size_t>(choice.at("index").as_int64());
            texts[index] += text_of(choice.at("delta").as_object(), "content");
            ends[index] += text_of(choice.as_object(), "finish_reason");
        }
        if (const json::object* usage = object_of(chunk.as_object(), "usage"))
            output = count_of(*usage, "completion_tokens");
        at = end + 1;
    }
    EXPECT_EQ(texts[0], "ac");
    EXPECT_EQ(texts[1], "b");
    EXPECT_EQ(ends[0], "length");
    EXPECT_EQ(ends[1], "stop");
    EXPECT_EQ(output, 3);
}

TEST(GeminiProvider, TellsLogprobsInOpenAisForm) {
    auto answer = make()->answer(R"({"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP",
        "logprobsResult":{"topCandidates":[{"candidates":[{"token":"hi","logProbability":-0.5},
        {"token":"ho","logProbability":-2}]}],
        "chosenCandidates":[{"token":"hi","tokenId":7,"logProbability":-0.5}]}}]})");
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(json::parse(*answer).at("choices").at(0).at("logprobs").at("content"),
              json::parse(R"([{"token":"hi","logprob":-0.5,"bytes":null,"top_logprobs":[
                  {"token":"hi","logprob":-0.5,"bytes":null},{"token":"ho","logprob":-2,"bytes":null}]}])"));
}

TEST(GeminiProvider, ServesEmbeddings) {
    auto translator = make(Endpoint::embeddings);
    auto body = translator->request(
        R"({"model":"embed","input":["a","b"],"dimensions":2,"encoding_format":"base64"})");
    ASSERT_TRUE(body.has_value());
    EXPECT_EQ(json::parse(*body), json::parse(R"({"requests":[
        {"model":"models/embed","content":{"parts":[{"text":"a"}]},"outputDimensionality":2},
        {"model":"models/embed","content":{"parts":[{"text":"b"}]},"outputDimensionality":2}]})"));
    auto answer = translator->answer(R"({"embeddings":[{"values":[1,-2]},{"values":[0.5,0]}],
        "usageMetadata":{"promptTokenCount":4}})");
    ASSERT_TRUE(answer.has_value());
    json::value told = json::parse(*answer);
    EXPECT_EQ(told.at("model"), "embed");
    EXPECT_EQ(told.at("data").at(0).at("embedding"), "AACAPwAAAMA=");
    EXPECT_EQ(told.at("usage").at("prompt_tokens"), 4);
    EXPECT_FALSE(make(Endpoint::embeddings)->request(R"({"model":"m","input":[[1,2]]})").has_value());
    for (const char* none : {"{}", R"({"embeddings":[{}]})", R"({"embeddings":[{"values":["x"]}]})",
                             R"({"embeddings":[]})", R"({"error":{"message":"x"}})"})
        EXPECT_FALSE(make(Endpoint::embeddings)->answer(none).has_value()) << none;
}

TEST(GeminiProvider, KnowsItsPathsAndErrors) {
    catalog::Provider at;
    EXPECT_EQ(provider().target(at, "gemini-2.5-flash", Endpoint::chat, false),
              "/v1beta/models/gemini-2.5-flash:generateContent");
    EXPECT_EQ(provider().target(at, "models/g", Endpoint::chat, true),
              "/v1beta/models/g:streamGenerateContent?alt=sse");
    EXPECT_EQ(provider().target(at, "a/b?c#d", Endpoint::embeddings, false),
              "/v1beta/models/a%2Fb%3Fc%23d:batchEmbedContents");
    at.path = "/v1";
    EXPECT_EQ(provider().target(at, "g", Endpoint::chat, false), "/v1/models/g:generateContent");
    EXPECT_FALSE(provider().serves(Endpoint::completions));
    std::string headers;
    provider().add_headers(at, Secret("k"), headers);
    EXPECT_EQ(headers, "x-goog-api-key: k\r\n");
    EXPECT_EQ(
        provider().error_message(R"({"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}})"),
        "bad");
    EXPECT_EQ(provider().error_message(R"([{"error":{"message":"bad"}}])"), "bad");
    EXPECT_EQ(provider().error_message("<html>"), "");
    // A wrong key is no fault of the customer's request.
    EXPECT_TRUE(provider().is_about_us(R"({"error":{"code":400,"message":"API key not valid.",
        "status":"INVALID_ARGUMENT","details":[{"@type":"x","reason":"API_KEY_INVALID"}]}})"));
    EXPECT_TRUE(provider().is_about_us(R"([{"error":{"status":"FAILED_PRECONDITION"}}])"));
    EXPECT_FALSE(
        provider().is_about_us(R"({"error":{"status":"INVALID_ARGUMENT","details":[{"reason":"X"}]}})"));
    EXPECT_FALSE(provider().is_about_us("<html>"));
}

}  // namespace
}  // namespace nebula::gateway::gemini

// Image APIs of other clouds, JSON instead of forms, the first text API: what their clients send and expect,
// member by member.
#include <gtest/gtest.h>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/clock.hpp"
#include "gateway/media/form_request.hpp"
#include "gateway/media/images_edge.hpp"
#include "gateway/media/json_upload.hpp"
#include "gateway/media/media_lists.hpp"
#include "gateway/platform/text_edge.hpp"

namespace nebula::gateway::media {
namespace {

namespace json = boost::json;

json::object object(std::string_view text) { return json::parse(text).as_object(); }

TEST(ImagesEdge, TellsThePlatformsRequestInOpenAisWords) {
    FakeClock clock;
    auto edge = make_images_edge(ImageApi::platform, clock);
    auto asked = edge->request(
        R"({"model_name":"m","prompt":"p","num_images":2,"width":512,"height":768,)"
        R"("num_steps":25,"guidance_scale":4.5,"seed":-1,"negative_prompt":null,"image":"aGk="})");
    ASSERT_TRUE(asked) << asked.error().message;
    EXPECT_EQ(
        object(*asked),
        object(R"({"model":"m","prompt":"p","n":2,"size":"512x768","num_steps":25,"guidance_scale":4.5,)"
               R"("seed":-1,"negative_prompt":null,"image":"aGk=","response_format":"b64_json"})"));
    clock.advance(std::chrono::milliseconds(1'500));
    auto told = edge->answer(R"({"created":1,"data":[{"b64_json":"aGk="}]})");
    ASSERT_TRUE(told) << told.error().message;
    EXPECT_EQ(
        object(*told),
        object(
            R"({"model":"m","object":"list","data":[{"timings":{"inference":1.5},"index":0,"b64_json":"aGk="}],)"
            R"("message":"Image generated successfully","status":"success"})"));
    for (auto [body, param] : {std::pair{R"({"model":"m","prompt":"p","width":512})", "height"},
                               {R"({"model":"m","prompt":"p","width":0,"height":1})", "width"},
                               {R"({"model":"m","prompt":"p","stream":true})", "stream"}}) {
        auto refused = make_images_edge(ImageApi::platform, clock)->request(body);
        ASSERT_FALSE(refused) << body;
        EXPECT_EQ(refused.error().param, param) << body;
    }
}

TEST(ImagesEdge, AnswersAsOpenRouterAndTheFirstTextDo) {
    FakeClock clock;
    auto router = make_images_edge(ImageApi::openrouter, clock);
    auto asked =
        router->request(R"({"model":"m","prompt":"p","output_format":"webp","provider":{"sort":"price"}})");
    ASSERT_TRUE(asked);
    EXPECT_EQ(object(*asked), object(R"({"model":"m","prompt":"p","output_format":"webp"})"));
    auto told = router->answer(R"({"created":7,"data":[{"b64_json":"aGk="}],"usage":{"input_tokens":1}})");
    ASSERT_TRUE(told);
    EXPECT_EQ(object(*told), object(R"({"created":7,"data":[{"b64_json":"aGk=","media_type":"image/webp"}],)"
                                    R"("usage":{"input_tokens":1}})"));
    auto old = make_images_edge(ImageApi::old_text, clock);
    ASSERT_TRUE(old->request(R"({"model":"m","prompt":"p","n":1,"size":"256x256","style":"artistic"})"));
    auto said = old->answer(R"({"created":7,"data":[{"url":"http://x/1.png"}]})");
    ASSERT_TRUE(said);
    EXPECT_EQ(object(*said), object(R"({"status":"success","data":{"images":[{"url":"http://x/1.png"}],)"
                                    R"("usage":{"images_generated":1,"resolution":"256x256"}}})"));
}

TEST(TextEdge, IsAChatWithDefaultsOfItsOwn) {
    auto edge = platform::make_text_edge(platform::TextKind::text);
    auto asked = edge->request(R"({"model":"m","prompt":"hi","stop":["x"],"stream":true})");
    ASSERT_TRUE(asked);
    EXPECT_EQ(object(*asked),
              object(R"({"model":"m","stop":["x"],"stream":true,"messages":[{"role":"user","content":"hi"}],)"
                     R"("max_tokens":256,"temperature":0.7})"));
    auto told = edge->answer(R"({"choices":[{"message":{"content":"ho"}}],"usage":{"total_tokens":3}})");
    ASSERT_TRUE(told);
    EXPECT_EQ(*told, R"({"status":"success","data":{"text":"ho","usage":{"total_tokens":3}}})");
    std::string out;
    ASSERT_TRUE(edge->chunk(R"({"choices":[{"index":0,"delta":{"content":"h\u00f6"}}]})", out));
    ASSERT_TRUE(edge->chunk(R"({"choices":[{"index":0,"delta":{},"finish_reason":"length"}]})", out));
    EXPECT_EQ(out + edge->end({}),
              "data: {\"text\":\"h\\u00f6\",\"finish_reason\":null}\n\n"
              "data: {\"text\":\"\",\"finish_reason\":\"length\"}\n\ndata: [DONE]\n\n");
    EXPECT_EQ(edge->request(R"({"model":"m"})").error().param, "prompt");
}

TEST(TextEdge, TakesImagesInEveryForm) {
    auto parts_of = [](const char* image) {
        auto edge = platform::make_text_edge(platform::TextKind::vision);
        auto asked = edge->request(std::string(R"({"model":"m","prompt":"what?","detail":"low","image":)") +
                                   image + "}");
        EXPECT_TRUE(asked) << image;
        json::object chat = object(asked.value_or("{}"));
        EXPECT_EQ(chat["max_tokens"], 300);
        EXPECT_FALSE(chat.contains("image"));
        return json::serialize(chat["messages"].as_array()[0].as_object()["content"]);
    };
    const std::string text = R"([{"type":"text","text":"what?"},)";
    auto one = [](const std::string& url) {
        return R"({"type":"image_url","image_url":{"url":")" + url + R"(","detail":"low"}})";
    };
    EXPECT_EQ(parts_of(R"("http://x/a.png")"), text + one("http://x/a.png") + "]");
    EXPECT_EQ(parts_of(R"({"data":"aGk=","type":"image/png"})"),
              text + one("data:image/png;base64,aGk=") + "]");
    EXPECT_EQ(parts_of(R"([{"url":"http://x"},{"data":"aGk=","type":"webp"}])"),
              text + one("http://x") + "," + one("data:image/webp;base64,aGk=") + "]");
    for (const char* bad : {"[]", "1", "{}", R"([{"type":"png"}])"}) {
        auto edge = platform::make_text_edge(platform::TextKind::vision);
        EXPECT_FALSE(edge->request(std::string(R"({"model":"m","prompt":"x","image":)") + bad + "}")) << bad;
    }
}

TEST(JsonUpload, BecomesTheFormThatMeansTheSame) {
    auto upload =
        form_of_json(R"({"model":"m","input_audio":{"data":"UklGRg==","format":"wav"},"language":"en",)"
                     R"("temperature":0.5,"timestamp_granularities":["word"],"provider":{}})",
                     RequestId{7});
    ASSERT_TRUE(upload) << upload.error().message;
    auto request = parse_form_request(upload->form, upload->content_type, Endpoint::transcriptions);
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(request->model, "m");
    EXPECT_EQ(request->seconds, 1);
    EXPECT_TRUE(upload->form.contains("\r\n\r\nRIFF\r\n"));
    EXPECT_TRUE(upload->form.contains("name=\"timestamp_granularities[]\"\r\n\r\nword\r\n"));
    EXPECT_TRUE(upload->form.contains("filename=\"audio.wav\""));
    for (auto [body, param] : {std::pair{R"({"model":"m"})", "input_audio"},
                               {R"({"input_audio":{"format":"wav"}})", "input_audio.data"},
                               {R"({"input_audio":{"data":"a","format":"wav"}})", "input_audio.data"},
                               {R"({"input_audio":{"data":"****","format":"wav"}})", "input_audio.data"},
                               {R"({"input_audio":{"data":"UklG","format":"w\r\n"}})", "input_audio.format"},
                               {R"({"a\"b":1,"input_audio":{"data":"UklG","format":"wav"}})", "a\"b"}}) {
        auto refused = form_of_json(body, RequestId{7});
        ASSERT_FALSE(refused) << body;
        EXPECT_EQ(refused.error().param, param) << body;
    }
}

TEST(NovitaModels, ArePagedAndFiltered) {
    catalog::Snapshot snapshot;
    for (const char* id : {"a/xl", "b/chat", "c/Flux", "d/xl-2"}) {
        auto model = std::make_shared<catalog::Model>();
        model->id = id;
        model->endpoints = {std::string_view(id).contains("chat") ? "chat" : "images"};
        snapshot.models.push_back(std::move(model));
    }
    auto names = [&](std::string_view query) {
        auto body = novita_models(snapshot, http::Params::parse(query));
        if (!body) return std::string("refused: ") + body.error().param;
        json::object list = object(*body);
        std::string text;
        for (const json::value& model : list["models"].as_array())
            text += std::string(model.as_object().at("sd_name").as_string()) + " ";
        return text + std::string(list["pagination"].as_object()["next_cursor"].as_string());
    };
    EXPECT_EQ(names(""), "a/xl c/Flux d/xl-2 ");
    EXPECT_EQ(names("pagination.limit=2"), "a/xl c/Flux c_2");
    EXPECT_EQ(names("pagination.limit=2&pagination.cursor=c_2"), "d/xl-2 ");
    EXPECT_EQ(names("pagination.limit=1&pagination.cursor=c_0&filter.query=XL"), "a/xl c_1");
    EXPECT_EQ(names("pagination.limit=1&pagination.cursor=c_1&filter.query=XL"), "d/xl-2 ");
    EXPECT_EQ(names("filter.types=lora"), "");
    EXPECT_EQ(names("filter.visibility=private"), "");
    EXPECT_EQ(names("pagination.limit=101"), "refused: pagination.limit");
    EXPECT_EQ(names("pagination.cursor=x"), "refused: pagination.cursor");
}

}  // namespace
}  // namespace nebula::gateway::media

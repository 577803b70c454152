// What images and sound are charged by stands in their requests, files and answers: read wrongly, somebody
// pays for what he did not get, or gets what he did not pay for.
#include <gtest/gtest.h>

#include <simdjson.h>

#include <string>

#include "gateway/completion.hpp"
#include "gateway/media/audio_length.hpp"
#include "gateway/media/form_request.hpp"
#include "gateway/media/media.hpp"

namespace nebula::gateway::media {
namespace {

std::string padded(std::string text) {
    text.reserve(text.size() + simdjson::SIMDJSON_PADDING);
    return text;
}

Result<ChatRequest> parse(const std::string& json, Endpoint endpoint) {
    std::string body = padded(json);
    return parse_request(body, endpoint);
}

TEST(MediaRequest, CountsImagesAndCharacters) {
    auto images =
        parse(R"({"model":"m","prompt":"a \u00e9 nebula","n":4,"stream":true,"seed":[1]})", Endpoint::images);
    ASSERT_TRUE(images) << images.error().message;
    EXPECT_EQ(images->n, 4);
    EXPECT_TRUE(images->stream);
    auto speech = parse(
        R"({"model":"m","input":"Gr\u00f6\u00dfe \ud83d\ude42","voice":{"id":"x"},"stream_format":"sse"})",
        Endpoint::speech);
    ASSERT_TRUE(speech) << speech.error().message;
    EXPECT_EQ(speech->characters, 7);
    EXPECT_TRUE(speech->stream);
    auto rank = parse(R"({"model":"m","query":"q","documents":["a",{"text":"b"},"c"]})", Endpoint::rerank);
    ASSERT_TRUE(rank) << rank.error().message;
    EXPECT_EQ(rank->documents, 3);
}

TEST(MediaRequest, NamesWhatIsWrong) {
    const struct {
        Endpoint endpoint;
        const char* body;
        const char* param;
    } cases[] = {
        {Endpoint::images, R"({"model":"m"})", "prompt"},
        {Endpoint::images, R"({"model":"m","prompt":"x","n":11})", "n"},
        {Endpoint::images, R"({"model":"m","prompt":"x","n":1,"n":2})", "n"},
        {Endpoint::images, R"({"model":"m","prompt":["x"]})", "prompt"},
        {Endpoint::speech, R"({"model":"m","voice":"x"})", "input"},
        {Endpoint::speech, R"({"model":"m","input":"x","input":"y"})", "input"},
        {Endpoint::speech, R"({"model":"m","input":"x","stream_format":"ogg"})", "stream_format"},
        {Endpoint::speech, R"({"input":"x"})", "model"},
    };
    for (const auto& c : cases) {
        auto request = parse(c.body, c.endpoint);
        ASSERT_FALSE(request) << c.body;
        EXPECT_EQ(request.error().param, c.param) << c.body;
    }
}

// The model's new name stands without quotes and everything else stays where it is.
TEST(MediaRequest, ReplacesTheModelWithinAForm) {
    std::string form =
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\"model\"\r\n"
        "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nours\r\n--b--\r\n";
    auto request = parse_form_request(form, "multipart/form-data; boundary=b", Endpoint::transcriptions);
    ASSERT_TRUE(request) << request.error().message;
    Edits edits;
    edits.upstream_model = "their \"name\"";
    std::string told = edit_chat_request(form, *request, edits).joined();
    std::string wanted = form;
    wanted.replace(wanted.find("ours"), 4, "their \"name\"");
    EXPECT_EQ(told, wanted);
}

std::string little(std::uint32_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xFF);
    return text;
}

std::string wav(std::uint32_t rate, std::uint32_t channels, std::uint32_t bits, std::size_t bytes,
                std::uint32_t byte_rate, std::uint32_t claimed) {
    return "RIFF" + little(0, 4) + "WAVE" + "LIST" + little(3, 4) + "abc" + '\0' + "fmt " + little(16, 4) +
           little(1, 2) + little(channels, 2) + little(rate, 4) + little(byte_rate, 4) + little(4, 2) +
           little(bits, 2) + "data" + little(claimed, 4) + std::string(bytes, 'x');
}

// Players count samples; a file that claims otherwise must not play for less.
TEST(AudioLength, CountsTheBytesOfWav) {
    EXPECT_EQ(seconds_of(wav(8'000, 1, 16, 32'000, 16'000, 32'000)), 2);
    EXPECT_EQ(seconds_of(wav(8'000, 1, 16, 32'001, 16'000, 32'001)), 3);
    EXPECT_EQ(seconds_of(wav(8'000, 1, 16, 32'000, 16'000, 0)), 2) << "a streamed file claims nothing";
    EXPECT_EQ(seconds_of(wav(8'000, 1, 16, 32'000, 4'000'000'000, 2)), 2) << "a byte rate that is a lie";
    EXPECT_EQ(seconds_of(wav(0, 0, 0, 32'000, 0, 32'000)), 33) << "no rate at all: the lowest";
    EXPECT_EQ(seconds_of(wav(8'000, 1, 12, 32'000, 4'000'000'000, 2)), 2) << "12 bits take two bytes";
    EXPECT_EQ(seconds_of(wav(0xFFFFFFFF, 0xFFFF, 0xFFFF, 32'000, 3'200, 2)), 10) << "the most there can be";
}

// 128 kbit/s at 44.1 kHz: 417 bytes a frame of 26 ms.
TEST(AudioLength, WalksTheFramesOfMp3) {
    std::string frame = "\xFF\xFB\x90" + std::string(1, '\0') + std::string(413, 'x');
    std::string file = "ID3\x04" + std::string(4, '\0') + std::string("\x01\x00", 2) + std::string(128, 'i');
    for (int i = 0; i < 100; ++i) file += frame;
    EXPECT_EQ(seconds_of(file), 3);  // 2.61 s
    EXPECT_EQ(seconds_of(file + "TAG" + std::string(125, ' ')), 3);
    EXPECT_EQ(seconds_of(file + std::string(10'512, 'x')), 13) << "what is no frame counts, too";
}

TEST(AudioLength, IsNeverBelowWhatTheLowestRateNeeds) {
    EXPECT_EQ(seconds_of(""), 1);
    EXPECT_EQ(seconds_of(std::string(10'000, 'o')), 10);
    EXPECT_EQ(seconds_of("OggS" + std::string(9'997, 'o')), 11);
    for (std::size_t cut = 0; cut < 70; ++cut)
        EXPECT_GE(seconds_of(wav(8'000, 1, 16, 40, 16'000, 40).substr(0, cut)), 1);
}

TEST(MediaAnswer, CountsImagesThatAreThere) {
    UsageBounds bounds{100, 1'000};
    auto read = [&](const std::string& body) { return read_answer(body, bounds, Endpoint::images); };
    Completion three =
        read(R"({"created":1,"data":[{"b64_json":"aGk="},{"url":"http://x"},{"b64_json":null,"url":"y"},{}],)"
             R"("usage":{"input_tokens":5,"output_tokens":900,"total_tokens":905}})");
    EXPECT_EQ(three.kind, Completion::Kind::chunk);
    EXPECT_EQ(three.images, 3);
    EXPECT_EQ(three.usage.state, ReportedUsage::State::good);
    EXPECT_EQ(three.usage.usage.output, 900);
    for (const char* none : {R"({"data":[]})", R"({"data":[{}]})", R"({"data":{}})", R"({"created":1})",
                             R"([])", R"({"data":[1]})", R"({"data":[{"url":"x"}])"})
        EXPECT_EQ(read(none).kind, Completion::Kind::malformed) << none;
    EXPECT_EQ(read(R"({"error":{"message":"no"}})").kind, Completion::Kind::error);
}

TEST(MediaAnswer, ReadsSecondsInEveryForm) {
    UsageBounds bounds{100, 1'000, 60};
    auto seconds = [&](const std::string& body) {
        Completion answer = read_answer(body, bounds, Endpoint::transcriptions);
        EXPECT_EQ(answer.kind, Completion::Kind::chunk) << body;
        return answer.usage.seconds;
    };
    EXPECT_EQ(seconds(R"({"text":"","usage":{"type":"duration","seconds":3}})"), 3);
    EXPECT_EQ(seconds(R"({"text":"x","duration":3.01})"), 4);
    EXPECT_EQ(seconds(R"({"duration":"3.01","text":"x"})"), 4);
    EXPECT_EQ(seconds(R"({"text":"x","duration":3.5,"usage":{"type":"duration","seconds":4}})"), 4);
    EXPECT_EQ(seconds(R"({"usage":{"type":"duration","seconds":4},"text":"x","duration":3.5})"), 4);
    for (const char* lie :
         {R"({"text":"x","duration":61})", R"({"text":"x","duration":-1})",
          R"({"text":"x","duration":"long"})", R"({"text":"x","duration":null})", R"({"text":"x"})"})
        EXPECT_EQ(seconds(lie), 0) << lie;
    EXPECT_EQ(read_answer(R"({"text":1})", bounds, Endpoint::transcriptions).kind,
              Completion::Kind::malformed);
}

TEST(MediaEvent, KnowsTheLastOfAnImageOrText) {
    UsageBounds bounds{100, 1'000, 60};
    Completion partial =
        read_media_event(R"({"type":"image_generation.partial_image","b64_json":"aGk="})", bounds);
    EXPECT_TRUE(partial.has_content);
    EXPECT_FALSE(partial.has_finish);
    Completion whole = read_media_event(
        R"({"b64_json":"aGk=","usage":{"input_tokens":1,"output_tokens":2},"type":"image_edit.completed"})",
        bounds);
    EXPECT_TRUE(whole.has_finish);
    EXPECT_EQ(whole.images, 1);
    EXPECT_EQ(whole.usage.usage.output, 2);
    Completion text =
        read_media_event(R"({"type":"transcript.text.done","text":"x","usage":{"seconds":3}})", bounds);
    EXPECT_TRUE(text.has_finish);
    EXPECT_EQ(text.images, 0);
    EXPECT_EQ(text.usage.seconds, 3);
    EXPECT_EQ(read_media_event(R"({"type":"error","code":"x"})", bounds).kind, Completion::Kind::error);
    EXPECT_EQ(read_media_event(R"({"type":"x","error":{"message":"m"}})", bounds).error_message, "m");
    EXPECT_EQ(read_media_event("[DONE]", bounds).kind, Completion::Kind::done);
    for (const char* bad : {"[]", "{", R"({"type":1})", R"({"type":"x"} more)"})
        EXPECT_EQ(read_media_event(bad, bounds).kind, Completion::Kind::malformed) << bad;
}

TEST(MediaAnswer, TellsTextAndSoundFromErrors) {
    EXPECT_TRUE(is_text_answer(Endpoint::transcriptions, "text/plain; charset=utf-8"));
    EXPECT_TRUE(is_text_answer(Endpoint::translations, "Text/VTT"));
    EXPECT_FALSE(is_text_answer(Endpoint::transcriptions, "application/json"));
    EXPECT_FALSE(is_text_answer(Endpoint::transcriptions, "text/html"));
    EXPECT_FALSE(is_text_answer(Endpoint::images, "text/plain"));
    EXPECT_TRUE(is_sound("audio/mpeg"));
    EXPECT_TRUE(is_sound("application/octet-stream"));
    EXPECT_FALSE(is_sound("application/json; charset=utf-8"));
    EXPECT_FALSE(is_sound("text/event-stream"));
}

}  // namespace
}  // namespace nebula::gateway::media

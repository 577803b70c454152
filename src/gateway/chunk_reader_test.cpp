#include "gateway/chunk_reader.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace nebula::gateway {
namespace {

class Journal final : public ChunkSink {
   public:
    void model(std::string_view raw) override { add("model", raw); }
    void text(std::string_view raw, bool is_reasoning) override {
        add(is_reasoning ? "reasoning" : "text", raw);
    }
    bool call(std::int64_t index, std::string_view id, std::string_view name,
              std::string_view arguments) override {
        add("call " + std::to_string(index), std::string(id) + std::string(name) + std::string(arguments));
        return true;
    }
    void finished(std::string_view reason) override { add("finished", reason); }
    void reasoning_tokens(std::int64_t count) override { add("reasoning_tokens", std::to_string(count)); }

    std::vector<std::string> said;

   private:
    void add(const std::string& what, std::string_view value) {
        said.push_back(what + " " + std::string(value));
    }
};

using Said = std::vector<std::string>;

Said read_all(const std::vector<std::string>& chunks) {
    ChunkReader reader;
    Journal journal;
    for (const std::string& chunk : chunks)
        if (!reader.read(chunk, journal)) journal.said.push_back("refused");
    return journal.said;
}

std::string call(const char* piece) {
    return R"({"choices":[{"delta":{"tool_calls":[)" + std::string(piece) + "]}}]}";
}

// Texts go out as they came in: what is no JSON string must not get through undecoded.
TEST(ChunkReader, LetsOnlyStringsOfJsonThrough) {
    auto text = [](std::string_view raw) {
        return R"({"choices":[{"delta":{"content":")" + std::string(raw) + R"("}}]})";
    };
    for (const char* good : {R"(a\n\"\\\/\b\f\r\t)", R"(\u00e9\uD83D)", "é"})
        EXPECT_EQ(read_all({text(good)}), Said{"text \"" + std::string(good) + "\""});
    for (const char* bad : {R"(\q)", R"(\u12)", R"(\u12g4)", R"(a\x41)", "line\nbreak"})
        EXPECT_EQ(read_all({text(bad)}).back(), "refused") << bad;
    for (const char* bad : {R"({"index":0,"id":"\q","function":{"name":"f"}})",
                            R"({"index":0,"id":"a","function":{"name":"\q"}})",
                            R"({"index":0,"id":"a","function":{"name":"f","arguments":"\q"}})"})
        EXPECT_EQ(read_all({call(bad)}).back(), "refused") << bad;
}

// Pieces of one call share an index. Providers that number every call 0 tell calls apart by their ids only;
// were they taken for pieces, the arguments of one call would run into another's.
TEST(ChunkReader, TellsCallsApartByIndexAndId) {
    const Said two = {R"(call 0 "a""f""{}")", R"(call 1 "b""g""{}")"};
    EXPECT_EQ(read_all({call(R"({"index":0,"id":"a","function":{"name":"f","arguments":"{}"}})"),
                        call(R"({"index":0,"id":"b","function":{"name":"g","arguments":"{}"}})")}),
              two);
    EXPECT_EQ(read_all({call(R"({"id":"a","function":{"name":"f","arguments":"{}"}})"),
                        call(R"({"id":"b","function":{"name":"g","arguments":"{}"}})")}),
              two);
    EXPECT_EQ(read_all({call(R"({"index":5,"id":"a","function":{"name":"f","arguments":"{}"}})"),
                        call(R"({"index":9,"id":"b","function":{"name":"g","arguments":"{}"}})")}),
              two);
    // The id may come with every piece, late, empty or not at all.
    const Said one = {R"(call 0 "a""f""{")", R"(call 0 "a""}")"};
    EXPECT_EQ(read_all({call(R"({"index":0,"id":"a","function":{"name":"f","arguments":"{"}})"),
                        call(R"({"index":0,"id":"a","function":{"arguments":"}"}})")}),
              one);
    const Said late = {R"(call 0 "f""{")", R"(call 0 "a""}")", R"(call 0 """ ")"};
    EXPECT_EQ(read_all({call(R"({"index":0,"function":{"name":"f","arguments":"{"}})"),
                        call(R"({"index":0,"id":"a","function":{"arguments":"}"}})"),
                        call(R"({"index":0,"id":"","function":{"arguments":" "}})")}),
              late);
}

// A stream of a hostile provider cannot make us remember calls without end.
TEST(ChunkReader, BoundsTheNumberOfCalls) {
    std::vector<std::string> chunks;
    for (int i = 0; i <= 1024; ++i)
        chunks.push_back(call((R"({"index":)" + std::to_string(i) + R"(,"function":{"name":"f"}})").c_str()));
    EXPECT_EQ(read_all(chunks).back(), "refused");
}

// Told last, sometimes with null in its place before.
TEST(ChunkReader, FindsReasoningTokens) {
    EXPECT_EQ(
        read_all(
            {R"({"choices":[],"usage":null})", R"({"choices":[],"usage":{"prompt_tokens":1}})",
             R"({"choices":[],"usage":{"completion_tokens_details":{"reasoning_tokens":null}}})",
             R"({"choices":[],"usage":{"completion_tokens_details":{"reasoning_tokens":5}},"model":"m"})"}),
        (Said{"reasoning_tokens 5", R"(model "m")"}));
}

}  // namespace
}  // namespace nebula::gateway

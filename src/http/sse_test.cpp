#include "http/sse.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace nebula::http {
namespace {

std::vector<std::string> split(const std::vector<std::string_view>& pieces, bool* pending = nullptr) {
    SseSplitter splitter;
    std::vector<std::string> events;
    for (std::string_view piece : pieces) {
        std::string memory(piece);  // gone after this turn, as a network buffer is
        EXPECT_TRUE(splitter.push(memory));
        for (auto event = splitter.next(); !event.empty(); event = splitter.next())
            events.emplace_back(event);
    }
    if (pending != nullptr) *pending = splitter.pending();
    return events;
}

const std::string_view mixed =
    "\xEF\xBB\xBF"
    "data: one\n\n"
    "event: x\r\ndata: two\r\n\r\n"
    "data: three\r\r"
    ": comment\n\r\n"
    "data: four\r\n\n"
    "\n"
    "data: [DONE]\n\n";
const std::vector<std::string> mixed_events = {
    "\xEF\xBB\xBF"
    "data: one\n\n",
    "event: x\r\ndata: two\r\n\r\n",
    "data: three\r\r",
    ": comment\n\r\n",
    "data: four\r\n\n",
    "\n",
    "data: [DONE]\n\n"};

// Networks cut anywhere, also inside a line end: the events must not depend on it.
TEST(SseSplitter, FindsTheSameEventsWhereverTheStreamIsCut) {
    EXPECT_EQ(split({mixed}), mixed_events);
    for (std::size_t i = 0; i <= mixed.size(); ++i) {
        EXPECT_EQ(split({mixed.substr(0, i), mixed.substr(i)}), mixed_events) << i;
        for (std::size_t j = i; j <= mixed.size(); ++j)
            EXPECT_EQ(split({mixed.substr(0, i), mixed.substr(i, j - i), mixed.substr(j)}), mixed_events);
    }
    std::vector<std::string_view> bytes;
    for (std::size_t i = 0; i < mixed.size(); ++i) bytes.push_back(mixed.substr(i, 1));
    EXPECT_EQ(split(bytes), mixed_events);
}

// What arrives whole must not be copied: the common case is one event per read.
TEST(SseSplitter, GivesViewsIntoThePieceForWholeEvents) {
    std::string piece = "data: a\n\ndata: b\n\n";
    SseSplitter splitter;
    ASSERT_TRUE(splitter.push(piece));
    EXPECT_EQ(splitter.next().data(), piece.data());
    EXPECT_EQ(splitter.next().data(), piece.data() + 9);
    EXPECT_TRUE(splitter.next().empty());
    EXPECT_FALSE(splitter.pending());
}

// A stream that stops inside an event was cut, and the caller has to be able to tell.
TEST(SseSplitter, TellsACutStreamFromACompleteOne) {
    bool pending = false;
    split({"data: a\n\ndata: b\n"}, &pending);
    EXPECT_TRUE(pending);
    split({"data: a\n\n", "data: b\n\n"}, &pending);
    EXPECT_FALSE(pending);
    split({"data: a\r\r"}, &pending);
    EXPECT_FALSE(pending);
}

// An upstream that never ends an event must not fill our memory.
TEST(SseSplitter, RefusesAnEventBeyondItsLimit) {
    SseSplitter splitter(16);
    EXPECT_TRUE(splitter.push("data: 0123456"));
    EXPECT_TRUE(splitter.push("89\n"));
    EXPECT_FALSE(splitter.push("x"));
    EXPECT_FALSE(splitter.push("\n\n"));
    EXPECT_TRUE(splitter.next().empty());
    EXPECT_TRUE(splitter.pending());
    SseSplitter exact(9);
    EXPECT_TRUE(exact.push("data: a\n\ndata: b\n\n"));
    SseSplitter whole(8);
    EXPECT_FALSE(whole.push("data: a\n\n"));
    SseSplitter second(9);
    EXPECT_TRUE(second.push("data: a\n\ndata: bb\n\n"));
    EXPECT_EQ(second.next(), "data: a\n\n");
    EXPECT_TRUE(second.next().empty());
    EXPECT_FALSE(second.push("data: c\n\n"));
}

// The rules of the event-stream format: one space dropped, several data lines joined, other fields ignored.
TEST(SseData, JoinsDataLinesAndIgnoresTheRest) {
    struct Row {
        std::string_view event, data, name;
    };
    const Row rows[] = {
        {"data: {\"a\":1}\n\n", "{\"a\":1}", ""},
        {"data:x\r\n\r\n", "x", ""},
        {"data:  two spaces\n\n", " two spaces", ""},
        {"event: message\ndata: x\n\n", "x", "message"},
        {"data: a\ndata: b\n\n", "a\nb", ""},
        {"data: a\rdata\rdata:c\r\r", "a\n\nc", ""},
        {": ping\n\n", "", ""},
        {"database: x\n\n", "", ""},
        {"\n", "", ""},
        {"\xEF\xBB\xBF"
         "data: bom\n\n",
         "bom", ""},
        {"event: a\nevent:b\nid: 3\nretry: 1\n\n", "", "b"},
    };
    for (const Row& row : rows) {
        std::string scratch;
        EXPECT_EQ(sse_data(row.event, scratch), row.data) << row.event;
        EXPECT_EQ(sse_event_name(row.event), row.name) << row.event;
    }
}

}  // namespace
// Ollama and others stream a JSON object a line; pieces of the network end anywhere.
TEST(LineSplitter, PutsLinesTogetherFromPiecesOfAnySize) {
    std::string text = "{\"a\":1}\n\r\n{\"b\":2}\r\n{\"c\":3}\n{\"d\"";
    for (std::size_t size = 1; size <= text.size(); ++size) {
        LineSplitter splitter;
        std::vector<std::string> lines;
        for (std::size_t at = 0; at < text.size(); at += size) {
            std::string piece = text.substr(at, size);
            ASSERT_TRUE(splitter.push(piece));
            for (auto line = splitter.next(); !line.empty(); line = splitter.next()) lines.emplace_back(line);
        }
        EXPECT_EQ(lines, (std::vector<std::string>{"{\"a\":1}\n", "{\"b\":2}\r\n", "{\"c\":3}\n"})) << size;
        EXPECT_TRUE(splitter.pending());
    }
}

TEST(LineSplitter, RefusesALineThatNeverEnds) {
    LineSplitter splitter(10);
    EXPECT_TRUE(splitter.push("12345"));
    EXPECT_TRUE(splitter.next().empty());
    EXPECT_FALSE(splitter.push("678901"));
}

}  // namespace nebula::http

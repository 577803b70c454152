// The instruments themselves: a benchmark whose meter is wrong is worse than none.

#include <csignal>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "common/histogram.hpp"
#include "common/http_message.hpp"
#include "common/payload.hpp"
#include "load/runner.hpp"
#include "load/stream_check.hpp"
#include "upstream/server.hpp"

namespace nebula::bench {
namespace {

// Every figure of the report is a quantile; the promised error bound must hold over all magnitudes.
TEST(BenchHistogram, ReportsQuantilesWithinTwoPercentAtEveryMagnitude) {
    for (std::uint64_t value = 1; value < 1'000'000'000'000; value = value * 7 / 3 + 1) {
        Histogram histogram;
        histogram.add(value);
        histogram.add(value * 4);
        std::uint64_t median = histogram.quantile(0.5);
        EXPECT_GE(median, value);
        EXPECT_LE(static_cast<double>(median), static_cast<double>(value) * 1.02 + 1) << value;
        EXPECT_EQ(histogram.quantile(1), value * 4);
    }
}

// p99 of a known distribution; an off-by-one in the rank would shift every tail we publish.
TEST(BenchHistogram, FindsTheNinetyNinthPercentileOfAThousandKnownValues) {
    Histogram histogram;
    for (std::uint64_t value = 1; value <= 1000; ++value) histogram.add(value * 1000);
    EXPECT_NEAR(static_cast<double>(histogram.quantile(0.99)), 990'000, 16'000);
    EXPECT_NEAR(static_cast<double>(histogram.quantile(0.5)), 500'000, 9'000);
    EXPECT_EQ(histogram.max(), 1'000'000u);
}

std::string read_all(std::string_view wire, std::size_t step, MessageReader& reader) {
    std::string body;
    for (std::size_t at = 0; at < wire.size() && reader.state() != MessageReader::State::failed; at += step) {
        std::string_view part = wire.substr(at, step);
        while (!part.empty() && reader.state() != MessageReader::State::done) {
            std::string_view piece;
            part.remove_prefix(reader.next(part, piece));
            body.append(piece);
        }
    }
    return body;
}

// TCP cuts anywhere; the body must not depend on where.
TEST(BenchMessageReader, ReadsTheSameBodyHoweverTheBytesAreCut) {
    std::string chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n";
    std::string counted = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nhello, world";
    for (std::size_t step = 1; step <= chunked.size(); ++step) {
        for (const std::string& wire : {chunked, counted}) {
            MessageReader reader(MessageReader::Kind::response);
            EXPECT_EQ(read_all(wire, step, reader), "hello, world") << step;
            EXPECT_EQ(reader.state(), MessageReader::State::done);
        }
    }
}

// The events are compared byte for byte, so the shared builders must agree with their own description.
TEST(BenchPayload, BuildsBodiesOfTheDocumentedSizes) {
    EXPECT_EQ(completion_body().size(), 610u);
    std::string event = content_event(7, 123'456'789'012);
    EXPECT_EQ(event.size(), event_bytes);
    EXPECT_TRUE(is_exact_content_event(event));
    ASSERT_TRUE(find_stamp(event));
    EXPECT_EQ(find_stamp(event)->number, 7u);
    EXPECT_EQ(find_stamp(event)->written_ns, 123'456'789'012);
    EXPECT_FALSE(find_stamp(role_event()));
    RequestShape shape{.is_streaming = true, .wants_usage = true, .tokens = 33, .body_bytes = 28'672};
    std::string body = request_body(shape);
    EXPECT_EQ(body.size(), 28'672u);
    EXPECT_TRUE(read_request(body).is_streaming && read_request(body).wants_usage);
    EXPECT_EQ(read_request(body).tokens, 33u);
}

std::string whole_stream(std::uint32_t events) {
    std::string text = role_event();
    for (std::uint32_t i = 0; i < events; ++i) text += content_event(i, 1000);
    return text + finish_event() + usage_event(events) + done_event();
}

Results check_stream(const std::string& text, std::size_t step, bool& complete) {
    Results results;
    results.is_measuring = true;
    StreamCheck check;
    check.start({.is_streaming = true, .wants_usage = true, .tokens = 3});
    for (std::size_t at = 0; at < text.size(); at += step) {
        check.feed(std::string_view(text).substr(at, step), 3000, results);
    }
    complete = check.is_complete();
    return results;
}

// A good stream must pass at every cut, or the report would blame the proxy for the network.
TEST(BenchStreamCheck, AcceptsAGoodStreamHoweverItIsCut) {
    std::string text = whole_stream(3);
    for (std::size_t step = 1; step <= text.size(); step += 3) {
        bool complete = false;
        Results results = check_stream(text, step, complete);
        EXPECT_TRUE(complete) << step;
        EXPECT_EQ(results.frames, 3u);
        EXPECT_EQ(results.altered_events, 0u);
        EXPECT_NEAR(static_cast<double>(results.frame_delay.quantile(0.5)), 2000, 40);
    }
}

// What a broken proxy does: lose an event, lose the end, rewrite a member.
TEST(BenchStreamCheck, NoticesMissingAndRewrittenEvents) {
    bool complete = true;
    std::string lost =
        role_event() + content_event(0, 1) + content_event(2, 1) + finish_event() + usage_event(3);
    check_stream(lost + done_event(), 64, complete);
    EXPECT_FALSE(complete);
    std::string cut = whole_stream(3);
    check_stream(cut.substr(0, cut.size() - done_event().size()), 64, complete);
    EXPECT_FALSE(complete);
    std::string rewritten = whole_stream(3);
    rewritten.replace(rewritten.find("chatcmpl"), 8, "CHATCMPL");
    EXPECT_EQ(check_stream(rewritten, 64, complete).altered_events, 1u);
    EXPECT_TRUE(complete);
}

LoadOptions quick(std::uint16_t port) {
    LoadOptions options;
    options.port = port;
    options.connections = 8;
    options.warmup_s = 0.02;
    options.duration_s = 0.1;
    options.shape.tokens = 256;
    return options;
}

// Both programs against each other: with nothing in between, nothing may be missing, altered or late for
// ever.
TEST(BenchPrograms, MeasureTheFakeUpstreamWithoutASingleDifference) {
    catch_stop_signals();
    UpstreamServer server({.interval_ns = 1'000'000});
    std::thread thread([&server] { server.run(); });
    auto ignore = [](const char*) {};

    LoadOptions json = quick(server.port());
    Results closed = LoadRunner(json, ignore).run();
    EXPECT_GT(closed.requests, 100u);
    EXPECT_EQ(closed.error_count() + closed.altered_bodies, 0u);

    json.rate = 2000;
    Results open = LoadRunner(json, ignore).run();
    EXPECT_GT(open.requests + open.unfinished, 120u);  // 200 are due

    LoadOptions stream = quick(server.port());
    stream.shape = {.is_streaming = true, .wants_usage = true, .tokens = 10};
    Results streams = LoadRunner(stream, ignore).run();
    EXPECT_GT(streams.requests, 8u);
    EXPECT_GT(streams.frames, 100u);
    EXPECT_EQ(streams.error_count() + streams.altered_events + streams.broken_streams, 0u);

    stream.abort_ratio = 0.5;
    Results leaving = LoadRunner(stream, ignore).run();
    EXPECT_GT(leaving.aborted, 4u);
    EXPECT_EQ(leaving.error_count() + leaving.broken_streams, 0u);

    LoadOptions idle = quick(server.port());
    idle.is_idle = true;
    idle.connections = 300;
    Results held = LoadRunner(idle, ignore).run();
    EXPECT_EQ(held.connections_held, 300u);
    EXPECT_EQ(held.connections_alive, 300u);

    std::raise(SIGTERM);
    thread.join();
}

}  // namespace
}  // namespace nebula::bench

#include "telemetry/telemetry.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

namespace nebula::telemetry {
namespace {

constexpr std::string_view example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

// A trace that is read wrongly ties our spans to somebody else's.
TEST(TraceParentText, IsReadByTheLetter) {
    auto parent = parse_traceparent(example);
    ASSERT_TRUE(parent.has_value());
    EXPECT_TRUE(parent->is_sampled);
    EXPECT_EQ(parent->span, 0x00f067aa0ba902b7u);
    EXPECT_EQ(traceparent_text(*parent), example);
    auto quiet = parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
    ASSERT_TRUE(quiet.has_value());
    EXPECT_FALSE(quiet->is_sampled);
    // A later version may go on behind a dash.
    EXPECT_TRUE(
        parse_traceparent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what").has_value());
}

TEST(TraceParentText, IsRefusedOtherwise) {
    for (std::string_view text : {
             "",
             "00",
             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
             "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
             "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
             "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
             "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
             "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01what",
             "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
         })
        EXPECT_FALSE(parse_traceparent(text).has_value()) << text;
}

// Collectors refuse a batch for one malformed span, so names from outside must not break it.
TEST(SpanTextTest, IsJsonWhateverItIsTold) {
    auto parent = parse_traceparent(example);
    SpanText span(parent->trace, 1, parent->span, "chat \"x\"\n\xFF", SpanText::Kind::client,
                  from_micros(1'700'000'000'000'001), from_micros(1'700'000'000'500'000));
    span.text("a", "quote \" and \x01")
        .text("empty", "")
        .number("n", -5)
        .flag("f", true)
        .texts("list", "one");
    span.event(from_micros(1'700'000'000'000'002), "first_token");
    auto value = boost::json::parse(span.take(true, "why \"not\""));
    EXPECT_EQ(value.at("spanId"), "0000000000000001");
    EXPECT_EQ(value.at("parentSpanId"), "00f067aa0ba902b7");
    EXPECT_EQ(value.at("startTimeUnixNano"), "1700000000000001000");
    EXPECT_EQ(value.at("attributes").as_array().size(), 4u);
    EXPECT_EQ(value.at("attributes").at(1).at("value").at("intValue"), "-5");
    EXPECT_EQ(value.at("events").at(0).at("name"), "first_token");
    EXPECT_EQ(value.at("status").at("code"), 2);
    SpanText plain(parent->trace, 2, 0, "x", SpanText::Kind::server, Time(), Time());
    value = boost::json::parse(plain.take(false));
    EXPECT_FALSE(value.as_object().contains("parentSpanId"));
    EXPECT_EQ(value.at("status"), boost::json::object());
}

}  // namespace
}  // namespace nebula::telemetry

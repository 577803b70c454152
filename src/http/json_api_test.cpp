#include "http/json_api.hpp"

#include <gtest/gtest.h>

#include "http/dialects.hpp"

namespace nebula::http {
namespace {

Fields fields(json::object object) { return Fields(std::move(object)); }

// Clients send forms and queries in every encoding a browser knows.
TEST(Params, DecodesEscapesAndPlusAndKeepsMalformedOnes) {
    auto params = Params::parse("a=1&b=x+y%20z&c=%zz&d&e=%F0%9F%8C%8C");
    EXPECT_EQ(params.get("a"), "1");
    EXPECT_EQ(params.get("b"), "x y z");
    EXPECT_EQ(params.get("c"), "%zz");
    EXPECT_EQ(params.get("d"), "");
    EXPECT_EQ(params.get("e"), "\xF0\x9F\x8C\x8C");
    EXPECT_FALSE(params.has("f"));
}

// Paging parameters come from clients: out of range must name the field, absent must fall back.
TEST(Params, ReadsWholeNumbersWithinBounds) {
    auto params = Params::parse("limit=10&offset=-1&page=x&size=");
    EXPECT_EQ(params.integer("limit", 5, 1, 100).value(), 10);
    EXPECT_EQ(params.integer("none", 5, 1, 100).value(), 5);
    EXPECT_EQ(params.integer("size", 5, 1, 100).value(), 5);
    EXPECT_EQ(params.integer("offset", 0, 0, 100).error().param, "offset");
    EXPECT_EQ(params.integer("page", 1, 1, 100).error().param, "page");
}

// The first mistake is what the client is told, whatever is read afterwards.
TEST(Fields, KeepTheFirstMistake) {
    auto read = fields({{"a", 1}, {"b", "x"}});
    EXPECT_EQ(read.text("a"), "");
    EXPECT_EQ(read.integer("b", 0, 9), 0);
    EXPECT_EQ(read.error().error().param, "a");
}

// null means absent: clients of typed languages send every member they know.
TEST(Fields, TakeNullAsAbsent) {
    auto read = fields({{"a", nullptr}});
    EXPECT_FALSE(read.has("a"));
    EXPECT_EQ(read.text_or("a", "fallback"), "fallback");
    EXPECT_EQ(read.credits_or_none("a"), std::nullopt);
    EXPECT_TRUE(read.error().has_value());
}

// Money never goes through floating point: numbers are read by their digits.
TEST(Fields, ReadCreditsByTheirDigits) {
    auto read = fields({{"text", "0.100000001"}, {"whole", 25}, {"too_fine", "0.0000000001"}});
    EXPECT_EQ(read.credits("text").value, 100'000'001);
    EXPECT_EQ(read.credits("whole").value, 25'000'000'000);
    EXPECT_TRUE(read.error().has_value());
    read.credits("too_fine");
    EXPECT_EQ(read.error().error().param, "too_fine");
}

// A misspelt member must not be ignored where it would change what is bought or allowed.
TEST(Fields, RefuseMembersThatAreNotKnown) {
    auto read = fields({{"name", "x"}, {"bugdet", 5}});
    read.only({"name", "budget"});
    EXPECT_EQ(read.error().error().param, "bugdet");
}

// Times arrive as ISO 8601 with and without fraction and offset, or as UNIX seconds.
TEST(Times, ParseEveryFormThatClientsSend) {
    using namespace std::chrono;
    Time noon = sys_days(2026y / November / 21) + hours(12);
    EXPECT_EQ(parse_iso8601("2026-11-21T12:00:00Z"), noon);
    EXPECT_EQ(parse_iso8601("2026-11-21T12:00:00.25Z"), noon + milliseconds(250));
    EXPECT_EQ(parse_iso8601("2026-11-21T14:00:00+02:00"), noon);
    EXPECT_EQ(parse_iso8601("2026-11-21"), noon - hours(12));
    for (const char* bad : {"", "2026", "2026-13-01", "2026-02-30", "2026-11-21T25:00:00Z", "2026-11-21Tx",
                            "2026-11-21T12:00:00+2", "2026-11-21T12:00:00Zx"})
        EXPECT_EQ(parse_iso8601(bad), std::nullopt) << bad;
    EXPECT_EQ(fields({{"t", 1'795'262'400}}).time_or_none("t"), Time(seconds(1'795'262'400)));
}

// The platform writes Eastern time and calls it EST all year.
TEST(Times, AreEasternWithDaylightTime) {
    EXPECT_EQ(eastern_text(*parse_iso8601("2024-10-29T18:19:32Z")), "EST 2024-10-29 14:19:32");
    EXPECT_EQ(eastern_text(*parse_iso8601("2024-11-04T15:11:50Z")), "EST 2024-11-04 10:11:50");
    EXPECT_EQ(eastern_text(*parse_iso8601("2024-03-10T06:59:59Z")), "EST 2024-03-10 01:59:59");
    EXPECT_EQ(eastern_text(*parse_iso8601("2024-03-10T07:00:00Z")), "EST 2024-03-10 03:00:00");
}

// Every dialect must answer every code with a status its clients act upon, and valid JSON.
TEST(Dialects, AnswerEveryCodeWithTheirOwnShape) {
    for (int code = 0; code <= static_cast<int>(Code::internal); ++code) {
        Error error{static_cast<Code>(code), "say \"why\"", "field"};
        for (auto dialect : {platform_error, novita_error, credits_error, openrouter_error}) {
            Response response = dialect(error, RequestId{7});
            EXPECT_GE(response.status, 400) << code;
            EXPECT_NE(response.body.find(R"(say \"why\")"), std::string::npos) << response.body;
        }
    }
    EXPECT_EQ(novita_error({Code::unauthenticated, "x"}, RequestId{7}).status, 403);
    EXPECT_EQ(credits_error({Code::upstream_failed, "x"}, RequestId{7}).status, 500);
}

}  // namespace
}  // namespace nebula::http

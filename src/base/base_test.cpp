#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <thread>

#include "base/check.hpp"
#include "base/clock.hpp"
#include "base/crypto.hpp"
#include "base/ids.hpp"
#include "base/log.hpp"
#include "base/metrics.hpp"
#include "base/nanos.hpp"
#include "base/secret.hpp"
#include "base/text.hpp"

namespace nebula {
namespace {

constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max();

// Money enters as text; anything that is not exactly a decimal amount must be refused rather than guessed.
TEST(Nanos, ParsesDecimalTextExactly) {
    struct Row {
        const char* text;
        std::optional<std::int64_t> expected;
    };
    const Row rows[] = {
        {"0", 0},
        {"10", 10'000'000'000},
        {"0.20", 200'000'000},
        {"-3.5", -3'500'000'000},
        {"0.000000001", 1},
        {"-0.000000001", -1},
        {"007", 7'000'000'000},
        {"-0", 0},
        {"9200000000", 9'200'000'000'000'000'000},
        {"9200000000.999999999", 9'200'000'000'999'999'999},
        {"9200000001", {}},
        {"99999999999999999999", {}},
        {"0.0000000001", {}},
        {"", {}},
        {"-", {}},
        {".5", {}},
        {"5.", {}},
        {"+1", {}},
        {" 1", {}},
        {"1 ", {}},
        {"1e3", {}},
        {"1,5", {}},
        {"--1", {}},
        {"1.2.3", {}},
        {"0x1", {}},
        {"1_000", {}},
        {"1.-5", {}},
        {"NaN", {}},
    };
    for (const Row& row : rows) {
        auto parsed = Nanos::parse(row.text);
        ASSERT_EQ(parsed.has_value(), row.expected.has_value()) << row.text;
        if (parsed) EXPECT_EQ(parsed->value, *row.expected) << row.text;
    }
}

// What users see on bills must be exact, and parse back to the same amount.
TEST(Nanos, PrintsExactlyAndReadsBack) {
    struct Row {
        std::int64_t value;
        const char* text;
    };
    const Row rows[] = {
        {0, "0"},
        {9'994'000'000, "9.9940"},
        {123'456, "0.000123456"},
        {-3'500'000'000, "-3.5000"},
        {1, "0.000000001"},
        {-1, "-0.000000001"},
        {10'000'000'000, "10.0000"},
        {123'450'000, "0.12345"},
    };
    for (const Row& row : rows) {
        EXPECT_EQ(Nanos{row.value}.text(), row.text);
        EXPECT_EQ(Nanos::parse(row.text), Nanos{row.value}) << row.text;
    }
    EXPECT_EQ(Nanos{std::numeric_limits<std::int64_t>::min()}.text(), "-9223372036.854775808");
}

// Lists of models and JSON numbers want as few digits as there are, and all of them.
TEST(Nanos, ShortTextsAreExact) {
    struct Row {
        std::int64_t value;
        const char* text;
        const char* of_one;
    };
    const Row rows[] = {
        {0, "0", "0"},
        {350'000'000, "0.35", "0.00000035"},
        {10'000'000'000, "10", "0.00001"},
        {1, "0.000000001", "0.000000000000001"},
        {-3'500'000'000, "-3.5", "-0.0000035"},
        {1'000'000'000'000'000, "1000000", "1"},
        {std::numeric_limits<std::int64_t>::min(), "-9223372036.854775808", "-9223.372036854775808"},
    };
    for (const Row& row : rows) {
        EXPECT_EQ(Nanos{row.value}.short_text(), row.text);
        EXPECT_EQ(price_of_one(Nanos{row.value}), row.of_one);
    }
}

// A price is rounded up once per record: never to zero, never twice.
TEST(Nanos, RoundsUpOnceAndSaturates) {
    EXPECT_EQ(round_up(price(0, Nanos{200'000'000})), Nanos{0});
    EXPECT_EQ(round_up(price(1, Nanos{1})), Nanos{1});
    EXPECT_EQ(round_up(price(1'000'000, Nanos{1})), Nanos{1});
    EXPECT_EQ(round_up(price(1'000'001, Nanos{1})), Nanos{2});
    EXPECT_EQ(round_up(price(1, Nanos{600'000}) + price(1, Nanos{400'000})), Nanos{1});
    EXPECT_EQ(round_up(price(17, Nanos{200'000'000})), Nanos{3'400});
    EXPECT_EQ(round_up(price(largest, Nanos{largest})), Nanos{largest});
}

// An overflowing sum is a defect and must never wrap into somebody's balance.
TEST(Nanos, RefusesToOverflow) {
    EXPECT_EQ(Nanos{5} + Nanos{-7}, Nanos{-2});
    EXPECT_EQ(Nanos{largest - 1} + Nanos{1}, Nanos{largest});
    log::set_level(log::Level::off);
    EXPECT_THROW(Nanos{largest} + Nanos{1}, CheckFailed);
    EXPECT_THROW(Nanos{-largest} - Nanos{2}, CheckFailed);
    log::set_level(log::Level::info);
}

// Ids are stored as numbers and shown as text; both orders must agree and the text must come back.
TEST(Ids, RoundTripAndKeepTheirOrder) {
    for (std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{31}, std::uint64_t{32},
                                std::uint64_t{1} << 62, static_cast<std::uint64_t>(largest)}) {
        AccountId id{value};
        EXPECT_EQ(AccountId::parse(id.text()), id);
        EXPECT_EQ(AccountId::from_db(id.db()), id);
    }
    FakeClock clock;
    std::string last;
    std::uint64_t last_value = 0;
    for (int i = 0; i < 10'000; ++i) {
        if (i % 100 == 0) clock.advance(std::chrono::milliseconds(1));
        auto id = RequestId::next(clock);
        ASSERT_GT(id.value, last_value);
        std::string text = id.text();
        ASSERT_GT(text, last);
        last = std::move(text);
        last_value = id.value;
    }
}

// Ids arrive in paths: everything that is not exactly one of ours is refused.
TEST(Ids, RefuseMalformedText) {
    std::string good = AccountId{12345}.text();
    for (const std::string& bad :
         {std::string(), good + "0", good.substr(0, good.size() - 1), "key" + good.substr(3),
          "acc-" + good.substr(4), "acc_" + std::string(13, 'u'), "acc_8" + good.substr(5),
          "acc_" + std::string(13, 'z'), "ACC" + good.substr(3), "acc_" + std::string(12, '0') + "A",
          std::string("acc_\0 00000000000", 17)})
        EXPECT_FALSE(AccountId::parse(bad)) << bad;
}

// Two threads must never get the same id, even within one millisecond.
TEST(Ids, AreUniqueAcrossThreads) {
    FakeClock clock;
    std::vector<std::vector<std::uint64_t>> made(4);
    {
        std::vector<std::jthread> threads;
        for (auto& mine : made)
            threads.emplace_back([&mine, &clock] {
                for (int i = 0; i < 5'000; ++i) mine.push_back(next_id_value(clock));
            });
    }
    std::set<std::uint64_t> all;
    for (const auto& mine : made) all.insert(mine.begin(), mine.end());
    EXPECT_EQ(all.size(), 20'000u);
}

// Client text goes into JSON bodies and log lines; broken UTF-8 or controls there would break the reader.
TEST(Text, EscapesControlsAndReplacesInvalidUtf8) {
    struct Row {
        std::string_view text;
        const char* expected;
    };
    const Row rows[] = {
        {"plain", R"("plain")"},
        {"a\"b\\c", R"("a\"b\\c")"},
        {"\n\r\t", R"("\n\r\t")"},
        {std::string_view("\0\x1f\x7f", 3), R"("\u0000\u001f\u007f")"},
        {"ä€😀", "\"ä€😀\""},
        {"\xff", "\"\xEF\xBF\xBD\""},
        {"\xC3", "\"\xEF\xBF\xBD\""},                                                  // cut
        {"\xC0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},                                  // overlong
        {"\xE0\x80\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},                  // overlong
        {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},                  // surrogate
        {"\xF4\x90\x80\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},  // beyond U+10FFFF
        {"\xC3(", "\"\xEF\xBF\xBD(\""},
    };
    for (const Row& row : rows) EXPECT_EQ(json_string(row.text), row.expected);
}

// Small helpers that header parsing leans on.
TEST(Text, SplitsTrimsAndParses) {
    EXPECT_THAT(split("a,,b", ','), testing::ElementsAre("a", "", "b"));
    EXPECT_THAT(split("", ','), testing::ElementsAre(""));
    EXPECT_EQ(trim(" \t a b \t"), "a b");
    EXPECT_TRUE(equals_ignore_case("Content-Type", "content-tYPE"));
    EXPECT_FALSE(equals_ignore_case("a", "ab"));
    EXPECT_EQ(parse_int<int>("-12"), -12);
    for (const char* bad : {"", " 1", "1 ", "+1", "1.0", "99999999999", "0x1"})
        EXPECT_FALSE(parse_int<int>(bad));
}

// The scraper reads exactly this form; a histogram's buckets are cumulative.
TEST(Metrics, PrintPrometheusText) {
    metrics::Registry registry;
    registry.counter("nebula_requests_total", "Requests.", {{"code", "200"}}).add(3);
    registry.gauge("nebula_open", "Open \"things\".", {{"name", "a\"b"}}).set(-2);
    registry.gauge_callback("nebula_queue", "Queue.", [] { return std::int64_t{7}; });
    auto& histogram = registry.histogram("nebula_seconds", "Time.");
    histogram.observe_us(100);
    histogram.observe_us(101);
    histogram.observe_us(200'000'000);
    std::string text = registry.prometheus_text();
    EXPECT_THAT(text, testing::HasSubstr("# HELP nebula_requests_total Requests.\n"
                                         "# TYPE nebula_requests_total counter\n"
                                         "nebula_requests_total{code=\"200\"} 3\n"));
    EXPECT_THAT(text, testing::HasSubstr("nebula_open{name=\"a\\\"b\"} -2\n"));
    EXPECT_THAT(text, testing::HasSubstr("nebula_queue 7\n"));
    EXPECT_THAT(text, testing::HasSubstr("nebula_seconds_bucket{le=\"0.000100\"} 1\n"
                                         "nebula_seconds_bucket{le=\"0.000250\"} 2\n"));
    EXPECT_THAT(text, testing::HasSubstr("nebula_seconds_bucket{le=\"100.000000\"} 2\n"
                                         "nebula_seconds_bucket{le=\"+Inf\"} 3\n"
                                         "nebula_seconds_sum 200.000201\nnebula_seconds_count 3\n"));
    EXPECT_EQ(&registry.gauge("nebula_open", "", {{"name", "a\"b"}}),
              &registry.gauge("nebula_open", "", {{"name", "a\"b"}}));
}

std::vector<std::string>& captured_lines() {
    static std::vector<std::string> lines;
    return lines;
}

class LogTest : public testing::Test {
   protected:
    LogTest() {
        captured_lines().clear();
        log::set_sink_for_test([](std::string_view line) { captured_lines().emplace_back(line); });
    }
    ~LogTest() override {
        log::set_sink_for_test(nullptr);
        log::set_level(log::Level::info);
    }
};

// Every line must be one JSON object whatever the values hold.
TEST_F(LogTest, WritesOneJsonObjectPerLine) {
    LOG_INFO("thing \"done\"", {"text", "a\nb"}, {"count", 3}, {"is_set", true},
             {"long", std::string(2000, 'x')});
    LOG_DEBUG("invisible");
    ASSERT_EQ(captured_lines().size(), 1u);
    const std::string& line = captured_lines()[0];
    EXPECT_THAT(line,
                testing::MatchesRegex(R"(\{"time":"[0-9T:.-]+Z","level":"info","message":"thing .*\})"));
    EXPECT_THAT(line, testing::HasSubstr(R"("text":"a\nb","count":3,"is_set":true,"long":"xxx)"));
    EXPECT_LT(line.size(), 700u);
    EXPECT_EQ(line.find('\n'), std::string::npos);
}

// A hot error path must not fill the disk; what was suppressed is admitted with the next line.
TEST_F(LogTest, LimitsOneCallSite) {
    log::Site site;
    for (int i = 0; i < 1000; ++i) log::write(site, log::Level::warn, "again", {});
    // The second may change once meanwhile.
    EXPECT_GE(captured_lines().size(), 20u);
    EXPECT_LE(captured_lines().size(), 41u);
    site.window = 0;
    log::write(site, log::Level::warn, "again", {});
    EXPECT_THAT(captured_lines().back(), testing::HasSubstr("\"suppressed\":"));
}

// Wrong digests would lock every key out; published vectors pin them.
TEST(Crypto, GivesKnownAnswers) {
    EXPECT_EQ(to_hex(sha256("abc").bytes),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(to_hex(sha256("").bytes), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(crc32("123456789"), 0xCBF43926u);
    EXPECT_TRUE(constant_time_equal("same", "same"));
    EXPECT_FALSE(constant_time_equal("same", "samf"));
    EXPECT_FALSE(constant_time_equal("same", "same "));
}

// Keys come from here: right length, right alphabet, no repetition.
TEST(Crypto, MakesRandomText) {
    std::set<std::string> seen;
    for (int i = 0; i < 1000; ++i) {
        std::string text = random_base62(22);
        ASSERT_THAT(text, testing::MatchesRegex("[0-9A-Za-z]{22}"));
        ASSERT_TRUE(seen.insert(text).second);
    }
}

// A password must verify against its own hash only, and no two hashes of it may look alike.
TEST(Crypto, HashesPasswords) {
    std::string encoded = hash_password("correct horse");
    EXPECT_TRUE(encoded.starts_with("$argon2id$"));
    EXPECT_TRUE(verify_password("correct horse", encoded));
    EXPECT_FALSE(verify_password("wrong horse", encoded));
    EXPECT_FALSE(verify_password("correct horse", "garbage"));
    EXPECT_NE(hash_password("correct horse"), encoded);
}

// A secret has one way out, and a moved-from one keeps nothing.
TEST(SecretTest, GivesItsTextOnlyOnRequest) {
    Secret secret("text");
    Secret moved = std::move(secret);
    EXPECT_EQ(moved.reveal(), "text");
    EXPECT_TRUE(secret.empty());  // NOLINT(bugprone-use-after-move): that is what is tested
    static_assert(!std::is_convertible_v<Secret, std::string>);
    static_assert(!std::is_convertible_v<Secret, std::string_view>);
}

// Times appear in logs and APIs.
TEST(ClockTest, PrintsIso8601) {
    FakeClock clock;
    clock.advance(std::chrono::microseconds(1'234'567));
    EXPECT_EQ(to_iso8601(clock.now()), "2026-01-01T00:00:01.234Z");
    EXPECT_EQ(from_micros(to_micros(clock.now())), clock.now());
}

// A failed check names itself; the caller turns it into a 500 of that request only.
TEST(Check, ThrowsWithItsReason) {
    log::set_level(log::Level::off);
    EXPECT_THROW(CHECK(1 == 2, "numbers differ"), CheckFailed);
    log::set_level(log::Level::info);
    EXPECT_NO_THROW(CHECK(1 == 1, "numbers agree"));
}

// Paths and queries come encoded; what is no escape must not be eaten, or two names would be one.
TEST(Text, PercentDecodingKeepsWhatIsNoEscape) {
    struct Case {
        const char* text;
        const char* path;
        const char* query;
    };
    for (const Case& c :
         {Case{"", "", ""}, Case{"a%2Fb", "a/b", "a/b"}, Case{"a+b", "a+b", "a b"}, Case{"%2b", "+", "+"},
          Case{"100%", "100%", "100%"}, Case{"%4", "%4", "%4"}, Case{"%zz", "%zz", "%zz"},
          Case{"%%41", "%A", "%A"}, Case{"%C3%A4", "\xC3\xA4", "\xC3\xA4"}}) {
        EXPECT_EQ(percent_decoded(c.text), c.path) << c.text;
        EXPECT_EQ(percent_decoded(c.text, Plus::space), c.query) << c.text;
    }
}

}  // namespace
}  // namespace nebula

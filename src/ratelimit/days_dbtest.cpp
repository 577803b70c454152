#include <gmock/gmock.h>

#include "ratelimit/nodes_fixture.hpp"

namespace nebula::ratelimit {
namespace {

using namespace std::chrono_literals;

class RateDays : public LimiterFixture {
   public:
    static Check account(std::int64_t rpd, std::uint64_t id = 7) {
        return {{Kind::account, id}, {.rpm = 0, .rpd = rpd}};
    }
    static int admitted(Process& process, const Check& check, int requests) {
        int count = 0;
        for (int i = 0; i < requests; ++i) count += process.request(check).admitted ? 1 : 0;
        return count;
    }
    std::int64_t taken() { return number("SELECT COALESCE(SUM(taken), 0) FROM rate_days"); }
};
NEBULA_BOTH_ENGINES(RateDays);

// A restart must not forgive a day: what was used stays used, to the request.
TEST_P(RateDays, SurviveARestartExactly) {
    for (int used = 0; used < 100; used += 25) {
        Process process(test_db(), clock, false);
        EXPECT_EQ(admitted(process, account(100), 25), 25);
        process.limiter->stop();
        EXPECT_EQ(taken(), used + 25);
    }
    Process process(test_db(), clock, false);
    Standing refused = process.request(account(100));
    EXPECT_FALSE(refused.admitted);
    EXPECT_FALSE(refused.needs_share);
    EXPECT_STREQ(refused.unit, "requests per day");
    EXPECT_EQ(refused.remaining_day, 0);
    EXPECT_EQ(refused.retry_after_ms, 24 * 3'600'000);
    clock.advance(24h);
    EXPECT_EQ(process.request(account(100)).remaining_day, 99);
}

// A crash loses the rest of a block at most, and never lets more in.
TEST_P(RateDays, ACrashLosesABlockAtMost) {
    int total = 0;
    for (int crash = 0; crash < 3; ++crash) {
        Process process(test_db(), clock, false);
        total += admitted(process, account(500), 70);
        process.db.cut = true;  // nothing is given back
    }
    EXPECT_EQ(total, 210);
    EXPECT_GE(taken(), 210);
    EXPECT_LE(taken(), 210 + 3 * 63);
    Process process(test_db(), clock, false);
    total += admitted(process, account(500), 500);
    EXPECT_LE(total, 500);
    EXPECT_GE(total, 500 - 3 * 63);
}

// Processes take turns with blocks that shrink, so that the last requests are not stuck with one of them.
TEST_P(RateDays, ManyThreadsAdmitExactlyTheLimit) {
    Process process(test_db(), clock, false);
    std::atomic<int> count{0};
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) threads.emplace_back([&] { count += admitted(process, account(300), 150); });
    threads.clear();
    EXPECT_EQ(count.load(), 300);
    EXPECT_EQ(taken(), 300);
}

// When the database is away nobody can tell what is left: refused, for the moment only.
TEST_P(RateDays, ARequestIsRefusedWhileTheDatabaseIsAway) {
    Process process(test_db(), clock, false);
    process.db.cut = true;
    Standing refused = process.request(account(10));
    EXPECT_FALSE(refused.admitted);
    EXPECT_LE(refused.retry_after_ms, 1'000);
    process.db.cut = false;
    clock.advance(1s);
    EXPECT_TRUE(process.request(account(10)).admitted);
}

// Old days would pile up for ever.
TEST_P(RateDays, OldDaysAreForgotten) {
    Process process(test_db(), clock, false);
    for (int day = 0; day < 5; ++day, clock.advance(24h)) EXPECT_TRUE(process.request(account(10)).admitted);
    EXPECT_LE(number("SELECT COUNT(*) FROM rate_days"), 2);
}

// Several nodes share a day without knowing of each other's use.
TEST(RateDaysNodes, TogetherAdmitExactlyTheLimit) {
    log::set_sink_for_test([](std::string_view) {});
    store::TestDb test_db = store::TestDb::make(store::Engine::postgres);
    ASSERT_TRUE(test_db.db().migrate(all_migrations()).has_value());
    FakeClock clock;
    Process one(test_db, clock), two(test_db, clock);
    Check check = RateDays::account(200);
    int count = 0;
    for (int i = 0; i < 100; ++i) {
        count += one.request(check).admitted ? 1 : 0;
        count += two.request(check).admitted ? 1 : 0;
    }
    EXPECT_GE(count, 190);
    one.limiter->stop();  // its unused block is there for the other
    clock.advance(10s);
    for (int i = 0; i < 100; ++i) count += two.request(check).admitted ? 1 : 0;
    EXPECT_EQ(count, 200);
    log::set_sink_for_test(nullptr);
}

}  // namespace
}  // namespace nebula::ratelimit

#include "ratelimit/ratelimit.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <random>
#include <thread>
#include <vector>

#include "base/log.hpp"

namespace nebula::ratelimit {
namespace {

using namespace std::chrono_literals;

struct RateLimit : testing::Test {
    FakeClock clock;
    metrics::Registry metrics;
    LimitSettings settings;
    RateLimiter limiter{settings, clock, metrics};

    Check key(std::int64_t rpm, std::int64_t tpm, std::uint64_t id = 7) {
        return {{Kind::key, id}, {.rpm = rpm, .tpm = tpm}};
    }
    Standing take(const Check& check, std::int64_t tokens = 0) { return limiter.take(&check, 1, tokens); }
    bool text_has(const std::string& line) {
        return metrics.prometheus_text().find(line) != std::string::npos;
    }
};

// The contract in one place: the limit, what is left, who refused and when to come back.
TEST_F(RateLimit, RefusesAboveTheLimitAndSaysWhenToComeBack) {
    Check check = key(2, 0);
    Standing first = take(check);
    EXPECT_TRUE(first.admitted);
    EXPECT_EQ(first.limit_requests, 2);
    EXPECT_EQ(first.remaining_requests, 1);
    EXPECT_EQ(first.limit_tokens, -1);
    clock.advance(10s);
    EXPECT_EQ(take(check).remaining_requests, 0);

    Standing refused = take(check);
    EXPECT_FALSE(refused.admitted);
    EXPECT_STREQ(refused.scope, "key");
    EXPECT_FALSE(refused.tokens);
    EXPECT_EQ(refused.retry_after_ms, 51'000);     // the first use leaves
    EXPECT_EQ(refused.reset_requests_ms, 61'000);  // the last use leaves
    EXPECT_TRUE(text_has("nebula_ratelimit_refused_total{scope=\"key\",by=\"requests\"} 1"));

    clock.advance(std::chrono::milliseconds(refused.retry_after_ms) - 1ms);
    EXPECT_FALSE(take(check).admitted);
    clock.advance(1ms);
    EXPECT_TRUE(take(check).admitted);
    EXPECT_FALSE(take(check).admitted);
}

// A request that can never fit must not be told to come back: clients would loop.
TEST_F(RateLimit, RefusesTooManyTokensForTheWholeLimitWithoutARetryTime) {
    Standing refused = take(key(10, 100), 101);
    EXPECT_FALSE(refused.admitted);
    EXPECT_TRUE(refused.tokens);
    EXPECT_EQ(refused.retry_after_ms, 0);
    EXPECT_EQ(refused.remaining_tokens, 100);
    EXPECT_EQ(refused.remaining_requests, 10);
    EXPECT_TRUE(take(key(10, 100), 100).admitted);
}

// The wait counts as many expiries as the request needs, not just the first.
TEST_F(RateLimit, WaitsForEnoughTokensToExpire) {
    Check check = key(0, 100);
    EXPECT_TRUE(take(check, 40).admitted);
    clock.advance(5s);
    EXPECT_TRUE(take(check, 60).admitted);
    EXPECT_EQ(take(check, 40).retry_after_ms, 56'000);
    EXPECT_EQ(take(check, 41).retry_after_ms, 61'000);
}

// A refused request must not eat the limits of the subjects that would have let it through.
TEST_F(RateLimit, TakesFromEverySubjectOrFromNone) {
    Check checks[] = {
        key(5, 0), {{Kind::account, 7}, {.rpm = 1, .tpm = 0}}, {{Kind::ip, 7}, {.rpm = 9, .tpm = 0}}};
    EXPECT_TRUE(limiter.take(checks, 3, 0).admitted);
    for (int i = 0; i < 3; ++i) {
        Standing refused = limiter.take(checks, 3, 0);
        EXPECT_FALSE(refused.admitted);
        EXPECT_FALSE(refused.taken);
        EXPECT_STREQ(refused.scope, "account");
        EXPECT_EQ(refused.limit_requests, 1);
    }
    EXPECT_EQ(take(checks[0]).remaining_requests, 3);
}

// Headers show one set of numbers: the subject that will refuse first.
TEST_F(RateLimit, StandingShowsTheTightestSubject) {
    Check checks[] = {key(100, 1000), {{Kind::account, 1}, {.rpm = 200, .tpm = 500}}};
    Standing standing = limiter.take(checks, 2, 10);
    EXPECT_EQ(standing.limit_requests, 100);
    EXPECT_EQ(standing.remaining_requests, 99);
    EXPECT_EQ(standing.limit_tokens, 500);
    EXPECT_EQ(standing.remaining_tokens, 490);
}

// A limit can be watched before it bites: the count is what enforcing would have refused.
TEST_F(RateLimit, ShadowModeCountsAndRefusesNothing) {
    settings.shadow = true;
    RateLimiter shadow(settings, clock, metrics);
    Check check = key(1, 0);
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(shadow.take(&check, 1, 0).admitted);
    EXPECT_TRUE(text_has("nebula_ratelimit_shadow_refused_total{scope=\"key\",by=\"requests\"} 3"));
    EXPECT_TRUE(text_has("nebula_ratelimit_refused_total{scope=\"key\",by=\"requests\"} 0"));
}

// Estimates hold back more than a request uses; what it did not use must be free again at once, and what it
// used beyond must count.
TEST_F(RateLimit, CorrectionsGiveBackAndAdd) {
    Check check = key(0, 100);
    Ticks taken = clock.ticks();
    EXPECT_TRUE(take(check, 100).admitted);
    clock.advance(20s);
    limiter.correct(&check, 1, -70, taken);
    EXPECT_EQ(take(check, 0).remaining_tokens, 70);
    limiter.correct(&check, 1, 50);
    EXPECT_EQ(take(check, 0).remaining_tokens, 20);
    limiter.correct(&check, 1, -1000);  // never below nothing used
    EXPECT_EQ(take(check, 0).remaining_tokens, 100);
    clock.advance(62s);
    limiter.correct(&check, 1, -30, taken);  // left the window long ago
    EXPECT_TRUE(take(check, 100).admitted);
    EXPECT_FALSE(take(check, 1).admitted);
}

// Giving back where it was taken: use by others in later seconds stays counted until its own minute is over.
TEST_F(RateLimit, CorrectionAtItsOwnSecondDoesNotFreeLaterUse) {
    Check check = key(0, 100);
    Ticks taken = clock.ticks();
    EXPECT_TRUE(take(check, 60).admitted);
    clock.advance(30s);
    EXPECT_TRUE(take(check, 40).admitted);
    limiter.correct(&check, 1, -60, taken);
    clock.advance(40s);  // the first second has left, the later one has not
    EXPECT_EQ(take(check, 0).remaining_tokens, 60);
}

// Image models are limited by pictures, not by calls.
TEST_F(RateLimit, CountsImagesOnTheirOwn) {
    Check check{{Kind::key, 7}, {.rpm = 100, .ipm = 10}};
    Standing first = limiter.take(&check, 1, Use{.images = 8});
    EXPECT_TRUE(first.admitted);
    EXPECT_EQ(first.limit_images, 10);
    EXPECT_EQ(first.remaining_images, 2);
    Standing refused = limiter.take(&check, 1, Use{.images = 3});
    EXPECT_FALSE(refused.admitted);
    EXPECT_STREQ(refused.unit, "images");
    EXPECT_FALSE(refused.tokens);
    EXPECT_EQ(refused.retry_after_ms, 61'000);
    EXPECT_TRUE(limiter.take(&check, 1, Use{.images = 2}).admitted);
    EXPECT_EQ(limiter.take(&check, 1, Use{.images = 11}).retry_after_ms, 0) << "never fits";
    EXPECT_TRUE(text_has("nebula_ratelimit_refused_total{scope=\"key\",by=\"images\"} 2"));
}

// A day is the UTC day, whenever it was begun, and outlives the minute after which idle buckets go.
TEST_F(RateLimit, CountsRequestsOfAUtcDay) {
    Check check{{Kind::account, 7}, {.rpm = 0, .rpd = 3}};
    clock.advance(12h);
    EXPECT_EQ(take(check).remaining_day, 2);
    clock.advance(6h);
    for (std::uint64_t other = 100; other < 2'000; ++other) take(key(1, 0, other));  // sweeps idle buckets
    EXPECT_TRUE(take(check).admitted);
    EXPECT_EQ(take(check).limit_day, 3);
    Standing refused = take(check);
    EXPECT_FALSE(refused.admitted);
    EXPECT_FALSE(refused.needs_share);
    EXPECT_STREQ(refused.scope, "account");
    EXPECT_STREQ(refused.unit, "requests per day");
    EXPECT_EQ(refused.retry_after_ms, 6 * 3'600'000);
    EXPECT_EQ(refused.reset_day_ms, 6 * 3'600'000);
    EXPECT_TRUE(text_has("nebula_ratelimit_refused_total{scope=\"account\",by=\"day\"} 1"));
    clock.advance(6h);
    EXPECT_EQ(take(check).remaining_day, 2);
}

// The settings file must reach every limit, or a limit would silently not be there.
TEST(RateLimitSettings, DescribesTheDailyAndTheCreditLimits) {
    LimitSettings settings;
    std::string text = settings::explain([&](settings::Visitor& v) { settings.describe(v); });
    EXPECT_NE(text.find("account_rpd"), std::string::npos);
    EXPECT_NE(text.find("credits_ip_rpm = 60"), std::string::npos) << text;
}

// Sequential ids, IPs in one IPv6 network, and text forms of one address.
TEST(RateLimitHash, NormalisesAddresses) {
    EXPECT_EQ(hash_ip("10.0.0.1"), hash_ip("::ffff:10.0.0.1"));
    EXPECT_EQ(hash_ip("2001:db8::1"), hash_ip("2001:db8:0:0:ffff::2"));
    EXPECT_NE(hash_ip("2001:db8::1"), hash_ip("2001:db8:0:1::1"));
    EXPECT_NE(hash_ip("10.0.0.1"), hash_ip("10.0.0.2"));
    EXPECT_NE(hash_ip("not an address"), hash_ip(""));
    EXPECT_NE(hash_pair(1, "m"), hash_pair(2, "m"));
}

// A flood of addresses must not grow memory, and idle subjects must make room for new ones.
TEST(RateLimitBound, ReusesIdleBucketsAndLetsThroughWhenFull) {
    FakeClock clock;
    metrics::Registry metrics;
    LimitSettings settings;
    RateLimiter limiter(settings, clock, metrics, 6'400);
    log::set_sink_for_test([](std::string_view) {});
    auto take = [&](std::uint64_t id) {
        Check check{{Kind::ip, id}, {.rpm = 1, .tpm = 0}};
        return limiter.take(&check, 1, 0).admitted;
    };
    for (std::uint64_t id = 0; id < 20'000; ++id) EXPECT_TRUE(take(id));
    std::string text = metrics.prometheus_text();
    EXPECT_NE(text.find("nebula_ratelimit_buckets 6400"), std::string::npos) << text;
    EXPECT_EQ(text.find("nebula_ratelimit_untracked_total 0"), std::string::npos);

    clock.advance(61s);
    int refused = 0;
    for (std::uint64_t id = 100'000; id < 103'000; ++id) {
        EXPECT_TRUE(take(id));
        refused += take(id) ? 0 : 1;
    }
    EXPECT_EQ(refused, 3'000) << "every new subject got a bucket";
    log::set_sink_for_test(nullptr);
}

// Deleting shifts entries of the probe chain: none may be lost or found under another name.
TEST(RateLimitBound, KeepsEveryCountThroughReclaiming) {
    FakeClock clock;
    metrics::Registry metrics;
    LimitSettings settings;
    RateLimiter limiter(settings, clock, metrics);
    std::mt19937_64 random(11);
    std::vector<std::deque<std::int64_t>> taken(3'000);  // seconds of admitted requests, per subject
    std::int64_t second = 3'600;
    for (int step = 0; step < 200'000; ++step) {
        if (random() % 200 == 0) {
            std::int64_t by = static_cast<std::int64_t>(random() % 40);
            clock.advance(std::chrono::seconds(by));
            second += by;
        }
        std::uint64_t id = random() % 64 < 48 ? random() % 50 : random() % taken.size();
        auto& mine = taken[id];
        while (!mine.empty() && mine.front() <= second - 61) mine.pop_front();
        Check check{{Kind::key, id}, {.rpm = 3, .tpm = 0}};
        bool expected = mine.size() < 3;
        ASSERT_EQ(limiter.take(&check, 1, 0).admitted, expected) << "step " << step;
        if (expected) mine.push_back(second);
    }
}

// The promise itself: over random arrivals no real minute sees more than the limit, and a client that pushes
// gets at least 95 % of it.
TEST(RateLimitProperty, NoMinuteExceedsTheLimitAndExcessDemandGetsIt) {
    for (unsigned seed = 1; seed <= 20; ++seed) {
        FakeClock clock;
        metrics::Registry metrics;
        LimitSettings settings;
        RateLimiter limiter(settings, clock, metrics);
        std::mt19937_64 random(seed);
        const std::int64_t rpm = 20 + static_cast<std::int64_t>(random() % 200);
        const std::int64_t tpm = 1'000 + static_cast<std::int64_t>(random() % 100'000);
        const bool by_tokens = seed % 2 == 0;
        Check check{{Kind::key, seed}, {.rpm = by_tokens ? 0 : rpm, .tpm = by_tokens ? tpm : 0}};
        struct Use {
            std::int64_t us;
            std::int64_t amount;
        };
        std::deque<Use> minute;
        std::int64_t in_minute = 0, total = 0, now_us = 0;
        const std::int64_t end_us = 20 * 60'000'000LL;
        const std::int64_t limit = by_tokens ? tpm : rpm;
        while (now_us < end_us) {
            auto gap = static_cast<std::int64_t>(random() % 100'000);
            if (random() % 500 == 0) gap += 3'000'000;  // bursts and pauses
            clock.advance(std::chrono::microseconds(gap));
            now_us += gap;
            std::int64_t amount =
                by_tokens ? 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(tpm / 50))
                          : 1;
            if (!limiter.take(&check, 1, by_tokens ? amount : 5).admitted) continue;
            minute.push_back({now_us, amount});
            in_minute += amount;
            total += amount;
            while (minute.front().us <= now_us - 60'000'000) {
                in_minute -= minute.front().amount;
                minute.pop_front();
            }
            ASSERT_LE(in_minute, limit) << "seed " << seed << " at " << now_us;
        }
        // The last minute may be cut off in the middle of its use; pauses cost a little.
        EXPECT_GE(total, limit * 20 * 95 / 100) << "seed " << seed;
    }
}

// Two subjects per call, in both orders, from several threads: no deadlock, and the limit holds exactly.
TEST_F(RateLimit, ManyThreadsTakeExactlyTheLimit) {
    Check forward[] = {key(1'000'000, 0, 1), key(5'000, 0, 2)};
    Check backward[] = {forward[1], forward[0]};
    std::atomic<int> admitted{0};
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (int i = 0; i < 5'000; ++i)
                if (limiter.take(t % 2 == 0 ? forward : backward, 2, 0).admitted) ++admitted;
        });
    threads.clear();
    EXPECT_EQ(admitted.load(), 5'000);
}

// Subjects without a limit must cost nothing and never fail.
TEST_F(RateLimit, NoLimitsAdmitEverythingWithoutABucket) {
    Check check = key(0, 0);
    Standing standing = take(check, 1'000'000);
    EXPECT_TRUE(standing.admitted);
    EXPECT_EQ(standing.limit_requests, -1);
    EXPECT_TRUE(text_has("nebula_ratelimit_buckets 0"));
}

}  // namespace
}  // namespace nebula::ratelimit

#include "ratelimit/shares.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace nebula::ratelimit {
namespace {

std::int64_t fair(std::int64_t limit, std::int64_t mine, std::vector<std::int64_t> others) {
    return fair_share(limit, mine, others);
}

// The rule in examples: alone all, equal demand equal parts, little demand whole, the rest to the large.
TEST(FairShare, MeetsSmallDemandsAndDividesTheRest) {
    EXPECT_EQ(fair(100, 5, {}), 100);
    EXPECT_EQ(fair(100, 100, {}), 100);
    EXPECT_EQ(fair(100, 100, {100, 100, 100}), 25);
    EXPECT_EQ(fair(100, 10, {100, 100}), 10);
    EXPECT_EQ(fair(100, 100, {10, 100}), 45);
    EXPECT_EQ(fair(100, 10, {20, 30}), 24) << "what nobody asks for is spread evenly, rounded up";
    EXPECT_EQ(fair(10, 10, {10, 10, 10}), 3) << "rounded up: the pool decides who gets the odd one";
    EXPECT_EQ(fair(100, 0, {100, 100}), 0);
}

// Parts that do not use the limit up would waste it; parts far above it would fight for ever.
TEST(FairShare, PartsAddUpToTheLimit) {
    std::mt19937_64 random(3);
    for (int round = 0; round < 2'000; ++round) {
        auto limit = static_cast<std::int64_t>(1 + random() % 1'000);
        std::vector<std::int64_t> demands(1 + random() % 8);
        for (auto& demand : demands)
            demand = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(limit + 1));
        std::int64_t sum = 0;
        for (std::size_t i = 0; i < demands.size(); ++i) {
            std::vector<std::int64_t> others = demands;
            others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
            sum += fair_share(limit, demands[i], others);
        }
        EXPECT_GE(sum, limit);
        EXPECT_LT(sum, limit + static_cast<std::int64_t>(demands.size()));
    }
}

// The one rule that matters: whatever is wished, nothing beyond the limit is given out.
TEST(Decide, NeverGivesOutMoreThanTheLimit) {
    std::mt19937_64 random(4);
    for (int round = 0; round < 5'000; ++round) {
        auto number = [&](std::uint64_t below) { return static_cast<std::int64_t>(random() % below); };
        Subject subject{Kind::key, 1};
        std::vector<ShareRow> rows;
        std::int64_t sum = 0;
        for (std::int64_t node = 1; node <= 4; ++node) {
            rows.push_back({subject, Unit::requests, node, number(40), number(120), random() % 5 != 0});
            sum += rows.back().share;
        }
        ShareWant want{.subject = subject, .unit = Unit::requests, .limit = 100, .use = 1 + number(30)};
        want.used = number(50);
        want.demand = number(101);
        want.is_shrinking = random() % 3 == 0;
        decide(want, Holdings(rows, subject, Unit::requests, 2));
        EXPECT_GE(want.share, rows[1].share);
        EXPECT_LE(sum - rows[1].share + want.share, std::max<std::int64_t>(sum, 100));
    }
}

// Demand is what shares are divided by: steady use reads as its amount per window, and old use fades.
TEST(ShareDemand, ReadsAsTheAmountOfAWindowAndFades) {
    Share share;
    share.limit = 10'000;
    for (std::int64_t second = 0; second < 120; ++second) share.ask(10, second);
    EXPECT_NEAR(static_cast<double>(share.demand(119)), 610, 40);
    EXPECT_LT(share.demand(119 + 61), 10);
    share.limit = 100;
    EXPECT_EQ(share.demand(119), 100) << "no more than the limit";
}

}  // namespace
}  // namespace nebula::ratelimit

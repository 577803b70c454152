#include "gateway/routing/route_state.hpp"

#include <gtest/gtest.h>

namespace nebula::gateway::routing {
namespace {

struct RouteStateTest : testing::Test {
    static catalog::Route make_route() {
        catalog::Route route;
        route.provider = std::make_shared<catalog::Provider>();
        return route;
    }
    metrics::Registry metrics;
    catalog::Route route = make_route();
    RouteState state{route, metrics};
    Ticks now = Ticks() + std::chrono::hours(1);
};

// What providers bill for lost races is bounded by the share of streams that may be asked twice.
TEST_F(RouteStateTest, StreamsAreAskedTwiceUpToAShareAndTenInARow) {
    int taken = 0;
    for (int i = 0; i < 100; ++i) taken += state.take_hedge();
    EXPECT_EQ(taken, 10);
    for (int i = 0; i < 1000; ++i) {
        state.note_stream(5);
        taken += state.take_hedge();
    }
    EXPECT_EQ(taken, 10 + 50);
    for (int i = 0; i < 1000; ++i) state.note_stream(100);
    taken = 0;
    for (int i = 0; i < 100; ++i) taken += state.take_hedge();
    EXPECT_EQ(taken, 10) << "what is not used is not saved up";
}

// Who always loses would look as fast as when it last answered, and be asked first for ever.
TEST_F(RouteStateTest, ARouteThatWasOutrunIsKnownToBeSlow) {
    state.succeeded(now, 1'000, 10, 1'000);
    for (int i = 0; i < 50; ++i) state.outrun(now, 900'000);
    EXPECT_GT(state.facts(now).latency_us, 800'000);
    EXPECT_GT(state.latencies_us().at(50, now), 700'000);
    EXPECT_EQ(state.outcomes().permille(std::chrono::minutes(5), now), 1000) << "slower is no failure";
}

}  // namespace
}  // namespace nebula::gateway::routing

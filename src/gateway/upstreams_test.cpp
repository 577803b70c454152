#include "gateway/upstreams.hpp"

#include <gtest/gtest.h>

namespace nebula::gateway {
namespace {

using namespace std::chrono_literals;

// A failing provider rests, then one request finds out whether it is well again.
TEST(Upstream, BreakerOpensRestsAndTriesOnce) {
    metrics::Registry metrics;
    FakeClock clock;
    Upstream upstream("p", metrics);
    catalog::Provider provider;
    provider.breaker_failures = 3;
    provider.breaker_open = 10s;
    for (int i = 0; i < 2; ++i) upstream.failed(provider, clock.ticks(), "connect");
    EXPECT_TRUE(Attempted(upstream, clock.ticks()));
    upstream.succeeded();
    for (int i = 0; i < 3; ++i) upstream.failed(provider, clock.ticks(), "connect");
    EXPECT_FALSE(Attempted(upstream, clock.ticks()));
    clock.advance(10s);
    {
        Attempted trial(upstream, clock.ticks());
        EXPECT_TRUE(trial);
        EXPECT_FALSE(Attempted(upstream, clock.ticks())) << "only one trial at a time";
        upstream.failed(provider, clock.ticks(), "timeout");
    }
    EXPECT_FALSE(Attempted(upstream, clock.ticks())) << "a failed trial opens it again";
    clock.advance(10s);
    {
        Attempted trial(upstream, clock.ticks());
        EXPECT_TRUE(trial);
        upstream.succeeded();
    }
    Attempted first(upstream, clock.ticks()), second(upstream, clock.ticks());
    EXPECT_TRUE(first && second);
}

// A trial whose client leaves says nothing; the breaker must not stay half open for ever because of it.
TEST(Upstream, ATrialWithoutVerdictMakesRoomForTheNext) {
    metrics::Registry metrics;
    FakeClock clock;
    Upstream upstream("p", metrics);
    catalog::Provider provider;
    provider.breaker_failures = 1;
    provider.breaker_open = 10s;
    upstream.failed(provider, clock.ticks(), "connect");
    clock.advance(10s);
    EXPECT_TRUE(Attempted(upstream, clock.ticks()));
    EXPECT_TRUE(Attempted(upstream, clock.ticks()));
}

TEST(Upstream, SlotsAreBoundedAndComeBack) {
    metrics::Registry metrics;
    Upstream upstream("p", metrics);
    {
        Slot first(upstream, 2);
        Slot second(upstream, 2);
        Slot third(upstream, 2);
        EXPECT_TRUE(first && second);
        EXPECT_FALSE(third);
    }
    EXPECT_TRUE(Slot(upstream, 2));
}

// A dead server must not wait for a request to find out, nor a healed one for the breaker's time to pass.
TEST(Upstream, ProbesOpenTheBreakerAndCloseIt) {
    metrics::Registry metrics;
    FakeClock clock;
    Upstream upstream("p", metrics);
    catalog::Provider provider;
    provider.breaker_failures = 100;
    provider.breaker_open = 10s;
    upstream.probed(provider, clock.ticks(), false);
    EXPECT_TRUE(Attempted(upstream, clock.ticks())) << "one lost probe says little";
    upstream.probed(provider, clock.ticks(), false);
    EXPECT_FALSE(Attempted(upstream, clock.ticks()));
    EXPECT_TRUE(upstream.is_open(clock.ticks()));
    upstream.probed(provider, clock.ticks(), true);
    EXPECT_TRUE(Attempted(upstream, clock.ticks()));
    upstream.probed(provider, clock.ticks(), false);
    EXPECT_TRUE(Attempted(upstream, clock.ticks())) << "counted anew";
}

// State must be found again after a reload has made new objects of the same name.
TEST(Upstreams, AreKnownByTheNumberOfTheirName) {
    metrics::Registry metrics;
    FakeClock clock;
    Upstreams upstreams(clock, metrics);
    catalog::Provider first, again, other;
    first.number = again.number = catalog::number_of("first");
    other.number = catalog::number_of("other");
    EXPECT_EQ(&upstreams.of(first), &upstreams.of(again));
    EXPECT_NE(&upstreams.of(first), &upstreams.of(other));
    catalog::Provider far;
    far.number = 1'000'000;  // beyond the table
    EXPECT_EQ(&upstreams.of(far), &upstreams.of(far));
}

}  // namespace
}  // namespace nebula::gateway

#include "gateway/upstreams.hpp"

#include <gtest/gtest.h>

#include <map>

namespace nebula::gateway {
namespace {

using namespace std::chrono_literals;

catalog::Model model_with_weights(const std::vector<std::int64_t>& weights) {
    catalog::Model model;
    for (std::int64_t weight : weights) {
        auto provider = std::make_shared<catalog::Provider>();
        provider->name = std::to_string(model.routes.size());
        model.routes.push_back({provider, "m", weight});
    }
    return model;
}

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

TEST(OrderRoutes, ListedOrderStays) {
    auto model = model_with_weights({1, 100, 1});
    model.is_ordered = true;
    for (std::uint64_t random = 0; random < 50; ++random) {
        auto order = order_routes(model, random);
        EXPECT_EQ(order[0]->provider->name, "0");
        EXPECT_EQ(order[1]->provider->name, "1");
    }
}

// Shares follow the weights, every route is tried eventually, and weight 0 only as a last resort.
TEST(OrderRoutes, WeightsDecideShares) {
    auto model = model_with_weights({3, 1, 0});
    std::map<std::string, int> first;
    for (std::uint64_t random = 0; random < 10'000; ++random) {
        auto order = order_routes(model, random * 0x1234567);
        ASSERT_EQ(order.size(), 3u);
        ++first[order[0]->provider->name];
        EXPECT_EQ(order[2]->provider->name, "2");
    }
    EXPECT_NEAR(first["0"], 7'500, 300);
    EXPECT_NEAR(first["1"], 2'500, 300);
    EXPECT_EQ(first["2"], 0);
}

}  // namespace
}  // namespace nebula::gateway

#include "gateway/routing/plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace nebula::gateway::routing {
namespace {

using catalog::Strategy;
using ::testing::ElementsAre;

struct Route {
    std::int64_t weight = 1;
    std::int64_t price = 1'000'000'000;
    Facts facts = {};
};

// A model whose providers are "0", "1", …, and what is known of them.
class World final : public FactSource {
   public:
    std::shared_ptr<catalog::Model> add(Strategy strategy, const std::vector<Route>& routes) {
        auto model = std::make_shared<catalog::Model>();
        model->strategy = strategy;
        for (const Route& from : routes) {
            auto provider = std::make_shared<catalog::Provider>();
            provider->name = std::to_string(facts_.size());
            provider->slug = "slug-" + provider->name;
            catalog::Route route;
            route.provider = provider;
            route.weight = from.weight;
            route.prices = billing::token_prices(Nanos{from.price}, Nanos{from.price});
            model->routes.push_back(route);
            facts_[provider->name] = from.facts;
            providers_.push_back(provider);
        }
        models.push_back(model);
        return model;
    }
    Facts facts(const catalog::Route& route) const override { return facts_.at(route.provider->name); }
    std::int64_t latency_us_at(const catalog::Route& route, int) const override {
        return facts(route).latency_us;
    }
    std::int64_t milli_tps_at(const catalog::Route& route, int) const override {
        return facts(route).milli_tps;
    }

    std::vector<std::string> order(std::uint64_t random = 1, std::uint64_t affinity = 0) const {
        std::vector<std::string> names;
        for (const Candidate& one : plan({models, wishes, random, affinity}, *this))
            names.push_back(one.route->provider->name);
        return names;
    }
    std::map<std::string, int> firsts(int draws = 10'000) const {
        std::map<std::string, int> first;
        for (int i = 0; i < draws; ++i) ++first[order(static_cast<std::uint64_t>(i) * 0x1234567)[0]];
        return first;
    }
    catalog::Provider& provider(std::size_t i) { return *providers_[i]; }

    std::vector<std::shared_ptr<const catalog::Model>> models;
    const Preferences* wishes = nullptr;
    std::map<std::string, Facts> facts_;

   private:
    std::vector<std::shared_ptr<catalog::Provider>> providers_;
};

TEST(Plan, ListedOrderStays) {
    World world;
    world.add(Strategy::ordered, {{1}, {100}, {1}});
    for (std::uint64_t random = 0; random < 50; ++random)
        EXPECT_THAT(world.order(random), ElementsAre("0", "1", "2"));
}

// Shares follow the weights, every route is tried eventually, and weight 0 only as a last resort.
TEST(Plan, WeightsDecideShares) {
    World world;
    world.add(Strategy::weighted, {{3}, {1}, {0}});
    EXPECT_EQ(world.order()[2], "2");
    auto first = world.firsts();
    EXPECT_NEAR(first["0"], 7'500, 300);
    EXPECT_NEAR(first["1"], 2'500, 300);
    EXPECT_EQ(first["2"], 0);
}

// Half the price is four times as likely; who failed a moment ago comes last however cheap.
TEST(Plan, PriceDrawsByItsInverseSquare) {
    World world;
    world.add(Strategy::price, {{1, 2'000'000'000}, {1, 1'000'000'000}, {1, 1, {.is_shaky = true}}});
    auto first = world.firsts();
    EXPECT_NEAR(first["1"], 8'000, 300);
    EXPECT_NEAR(first["0"], 2'000, 300);
    EXPECT_EQ(world.order()[2], "2");
}

TEST(Plan, SpeedDecidesAndTheUnknownIsTried) {
    World world;
    world.add(Strategy::latency, {{1, 1, {.latency_us = 900}}, {1, 1, {.latency_us = 100}}, {1, 1, {}}});
    EXPECT_THAT(world.order(), ElementsAre("2", "1", "0"));
    World fast;
    fast.add(Strategy::throughput, {{1, 1, {.milli_tps = 9}}, {1, 1, {.milli_tps = 90}}, {1, 1, {}}});
    EXPECT_THAT(fast.order(), ElementsAre("2", "1", "0"));
}

TEST(Plan, TheLeastBusyGoesFirstAndEqualsTakeTurns) {
    World world;
    world.add(Strategy::least_busy,
              {{1, 1, {.in_flight = 4}}, {4, 1, {.in_flight = 4}}, {1, 1, {.in_flight = 4}}});
    EXPECT_EQ(world.order()[0], "1");
    World idle;
    idle.add(Strategy::least_busy, {{1}, {1}});
    EXPECT_NEAR(idle.firsts()["0"], 5'000, 300);
}

// One session keeps its replica; sessions together still follow the weights; when a replica goes, only its
// own sessions move.
TEST(Plan, ASessionKeepsItsRoute) {
    World world;
    auto model = world.add(Strategy::weighted, {{1}, {1}, {2}});
    std::map<std::string, int> count;
    std::map<std::uint64_t, std::string> home;
    for (std::uint64_t session = 1; session <= 4'000; ++session) {
        auto order = world.order(session * 7, session * 0x9E3779B97F4A7C15ULL);
        EXPECT_EQ(order, world.order(session * 31, session * 0x9E3779B97F4A7C15ULL));
        ++count[order[0]];
        home[session] = order[0];
    }
    EXPECT_NEAR(count["2"], 2'000, 150);
    model->routes.erase(model->routes.begin());
    for (const auto& [session, name] : home)
        if (name != "0") {
            EXPECT_EQ(world.order(1, session * 0x9E3779B97F4A7C15ULL)[0], name);
        }
}

// However popular a session is, its replica gets at most a quarter more than its share.
TEST(Plan, ABusyReplicaSendsSessionsOn) {
    World world;
    world.add(Strategy::weighted, {{1}, {1}});
    std::string home = world.order(1, 42)[0], other = home == "0" ? "1" : "0";
    world.facts_[home].in_flight = 10;
    world.facts_[other].in_flight = 9;
    EXPECT_EQ(world.order(1, 42)[0], home);
    world.facts_[home].in_flight = 20;
    EXPECT_EQ(world.order(1, 42)[0], other);
}

TEST(Plan, TheRequestsOrderGoesBeforeTheModels) {
    World world;
    world.add(Strategy::weighted, {{1}, {1}, {1000}});
    Preferences wishes;
    world.wishes = &wishes;
    wishes.order = {"SLUG-1", "0", "nobody"};
    EXPECT_THAT(world.order(), ElementsAre("1", "0", "2"));
    wishes.allow_fallbacks = false;
    EXPECT_THAT(world.order(), ElementsAre("1", "0"));
    wishes.order.clear();
    EXPECT_EQ(world.order().size(), 1u) << "without fallbacks only the best one";
}

TEST(Plan, WhatTheRequestDemandsIsKept) {
    World world;
    auto model = world.add(Strategy::ordered, {{1, 1'000}, {1, 2'000}, {1, 3'000}, {1, 0}});
    world.provider(0).collects_data = false;
    world.provider(1).collects_data = false;
    world.provider(1).zdr = true;
    world.provider(2).supported_parameters = {"temperature"};
    model->routes[1].quantization = "fp8";
    model->routes[2].tag = "turbo";
    auto order = [&world](auto wish) {
        Preferences wishes;
        wish(wishes);
        world.wishes = &wishes;
        return world.order();
    };
    EXPECT_THAT(order([](auto& p) { p.only = {"slug-2", "0"}; }), ElementsAre("0", "2"));
    EXPECT_THAT(order([](auto& p) { p.only = {"slug-2/turbo", "slug-1/turbo"}; }), ElementsAre("2"));
    EXPECT_THAT(order([](auto& p) { p.ignore = {"slug-0", "3"}; }), ElementsAre("1", "2"));
    EXPECT_THAT(order([](auto& p) { p.deny_data_collection = true; }), ElementsAre("0", "1"));
    EXPECT_THAT(order([](auto& p) { p.zdr = true; }), ElementsAre("1"));
    EXPECT_THAT(order([](auto& p) { p.quantizations = {"fp8"}; }), ElementsAre("1"));
    EXPECT_THAT(order([](auto& p) { p.quantizations = {"unknown"}; }), ElementsAre("0", "2", "3"));
    EXPECT_THAT(order([](auto& p) {
                    p.require_parameters = true;
                    p.parameters = {"tools"};
                }),
                ElementsAre("0", "1", "3"));
    EXPECT_THAT(order([](auto& p) { p.is_free = true; }), ElementsAre("3"));
    EXPECT_THAT(order([](auto& p) { p.max_input_per_m = Nanos{1'500}; }), ElementsAre("0", "3"));
    EXPECT_THAT(order([](auto& p) { p.sort = Sort::price; }), ElementsAre("3", "0", "1", "2"));
    EXPECT_TRUE(order([](auto& p) { p.only = {"nobody"}; }).empty());
}

// Wishes about speed choose among what is known to be slower or faster; nobody is left out for them.
TEST(Plan, WishesAboutSpeedPrefer) {
    World world;
    world.add(Strategy::ordered, {{1, 1, {.latency_us = 3'000'000, .milli_tps = 90'000}},
                                  {1, 1, {.latency_us = 100'000, .milli_tps = 5'000}},
                                  {1, 1, {}}});
    Preferences wishes;
    world.wishes = &wishes;
    wishes.max_latency.p90 = 1;
    EXPECT_THAT(world.order(), ElementsAre("1", "2", "0"));
    wishes.max_latency = {};
    wishes.min_throughput.p50 = 50;
    EXPECT_THAT(world.order(), ElementsAre("0", "2", "1"));
}

TEST(Plan, FurtherModelsFollowUnlessSortedTogether) {
    World world;
    world.add(Strategy::ordered, {{1, 300}, {1, 100}});
    world.add(Strategy::ordered, {{1, 200}});
    Preferences wishes;
    world.wishes = &wishes;
    EXPECT_THAT(world.order(), ElementsAre("0", "1", "2"));
    wishes.sort = Sort::price;
    EXPECT_THAT(world.order(), ElementsAre("1", "0", "2"));
    wishes.across_models = true;
    EXPECT_THAT(world.order(), ElementsAre("1", "2", "0"));
    wishes = {};
    wishes.allow_fallbacks = false;
    EXPECT_THAT(world.order(), ElementsAre("0", "2")) << "one route of each model";
}

TEST(Affinity, IsOfTheAccountAndOnlyWhereThereIsAChoice) {
    World world;
    auto model = world.add(Strategy::weighted, {{1}, {1}});
    std::string messages = R"([{"role":"user","content":"hi"}])";
    messages.reserve(messages.size() + 64);
    EXPECT_NE(affinity_of(*model, 7, 0, messages, 1), affinity_of(*model, 7, 0, messages, 2));
    EXPECT_EQ(affinity_of(*model, 0, 9, messages, 1), 0u) << "user and prefix only when the model says so";
    model->affinity = catalog::Affinity::prefix;
    EXPECT_NE(affinity_of(*model, 0, 9, messages, 1), 0u);
    EXPECT_NE(affinity_of(*model, 0, 0, messages, 1), 0u);
    model->affinity = catalog::Affinity::none;
    EXPECT_EQ(affinity_of(*model, 7, 9, messages, 1), 0u);
}

// Who sets a limit must not be served above it, whatever the model's price is counted in.
TEST(Plan, MaxPriceHoldsForImagesAndSoundToo) {
    World world;
    auto model = world.add(Strategy::ordered, {{}, {}});
    Preferences wishes;
    world.wishes = &wishes;
    model->routes[0].prices.unit = Nanos{20};
    model->routes[1].prices.unit = Nanos{10};
    for (const char* unit : {"second", "character"}) {
        model->unit = unit;
        wishes.max_audio = Nanos{15};
        EXPECT_THAT(world.order(), ElementsAre("1")) << unit;
        wishes.max_audio = Nanos{9};
        EXPECT_TRUE(world.order().empty()) << unit;
        wishes.max_audio.reset();
        wishes.max_image = Nanos{0};
        EXPECT_THAT(world.order(), ElementsAre("0", "1")) << "no image is sold by the " << unit;
        wishes.max_image.reset();
    }
    model->unit = "image";
    model->prices.unit = Nanos{10};
    wishes.max_image = Nanos{10};
    wishes.max_audio = Nanos{0};
    EXPECT_THAT(world.order(), ElementsAre("0", "1"))
        << "images cost what the model says, whoever makes them";
    model->image_prices = {{.size = "small", .quality = "", .price = Nanos{5}},
                           {.size = "", .quality = "", .price = Nanos{11}}};
    EXPECT_TRUE(world.order().empty()) << "the dearest of them counts";
    wishes.max_image = Nanos{11};
    EXPECT_THAT(world.order(), ElementsAre("0", "1"));
}

}  // namespace
}  // namespace nebula::gateway::routing

// What choosing a route costs a request: nebula_micro_gateway.
#include <benchmark/benchmark.h>

#include "gateway/chat_request.hpp"
#include "gateway/upstreams.hpp"

namespace nebula::gateway {
namespace {

std::shared_ptr<const catalog::Model> three_routes(catalog::Strategy strategy) {
    auto model = std::make_shared<catalog::Model>();
    model->strategy = strategy;
    for (const char* name : {"one", "two", "three"}) {
        auto provider = std::make_shared<catalog::Provider>();
        provider->name = provider->slug = name;
        provider->number = catalog::number_of(name);
        catalog::Route route;
        route.provider = provider;
        route.upstream_model = "m";
        route.number = catalog::number_of(std::string(name) + "\nm");
        route.prices = billing::token_prices(Nanos{1'000'000}, Nanos{2'000'000});
        model->routes.push_back(route);
    }
    return model;
}

void plan(benchmark::State& state, catalog::Strategy strategy, std::uint64_t affinity,
          const routing::Preferences* preferences) {
    SystemClock clock;
    metrics::Registry metrics;
    Upstreams upstreams(clock, metrics);
    auto model = three_routes(strategy);
    routing::Question question{
        .models = std::span(&model, 1), .preferences = preferences, .affinity = affinity};
    for (auto _ : state) {
        ++question.random;
        auto order = routing::plan(question, upstreams);
        benchmark::DoNotOptimize(order.data());
    }
}

routing::Preferences wishes() {
    routing::Preferences wanted;
    wanted.order = {"two"};
    wanted.deny_data_collection = false;
    wanted.ignore = {"nobody"};
    return wanted;
}

void plan_listed(benchmark::State& state) { plan(state, catalog::Strategy::ordered, 0, nullptr); }
void plan_weighted(benchmark::State& state) { plan(state, catalog::Strategy::weighted, 0, nullptr); }
void plan_price(benchmark::State& state) { plan(state, catalog::Strategy::price, 0, nullptr); }
void plan_session(benchmark::State& state) { plan(state, catalog::Strategy::weighted, 42, nullptr); }
void plan_wishes(benchmark::State& state) {
    routing::Preferences wanted = wishes();
    plan(state, catalog::Strategy::weighted, 0, &wanted);
}
BENCHMARK(plan_listed);
BENCHMARK(plan_weighted);
BENCHMARK(plan_price);
BENCHMARK(plan_session);
BENCHMARK(plan_wishes);

void parse(benchmark::State& state, std::string members) {
    std::string body =
        R"({"model":"m","messages":[{"role":"user","content":"What is the time?"}],"stream":true)" + members +
        "}";
    body.reserve(body.size() + 64);
    for (auto _ : state) {
        auto request = parse_chat_request(body);
        benchmark::DoNotOptimize(request);
    }
}
void parse_plain(benchmark::State& state) { parse(state, R"(,"temperature":0.5,"max_tokens":100)"); }
void parse_routed(benchmark::State& state) {
    parse(
        state,
        R"(,"temperature":0.5,"max_tokens":100,"models":["a","b"],"provider":{"order":["two"],"zdr":true})");
}
BENCHMARK(parse_plain);
BENCHMARK(parse_routed);

}  // namespace
}  // namespace nebula::gateway

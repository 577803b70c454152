// nebula_bench_billing: how long the billing pages take on a year of use. Runs the pages themselves (query,
// sums, text of the answer), without HTTP, on a database of its own in the temporary folder.
//   nebula_bench_billing [--engine sqlite|postgres] [--rows 10000000] [--accounts 500] [--rounds 200]
// Prints a Markdown table; exit status 1 when a page's p95 is above --goal-ms (200).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>

#include "base/log.hpp"
#include "billing/bills/pages.hpp"
#include "common/args.hpp"
#include "fill.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::bench {
namespace {

using namespace std::chrono;
using billing::bills::Pages;
using billing::bills::Request;

class NoCommerce final : public billing::Commerce {
   public:
    billing::Terms load_terms(store::Tx&, AccountId, Time) override { return {}; }
    Async<Result<void>> subscribe(AccountId, std::string, const accounts::Caller*, bool) override {
        co_return Result<void>{};
    }
    Async<Result<void>> cancel(AccountId, const accounts::Caller*) override { co_return Result<void>{}; }
    Async<Result<billing::Moved>> redeem(AccountId, std::string, const accounts::Caller*) override {
        co_return fail(Code::not_found, "none");
    }
    Async<Result<NewCode>> create_code(NewCode code, const accounts::Caller*) override { co_return code; }
    Async<Result<Suspension>> suspend(AccountId, std::string, const accounts::Caller*) override {
        co_return Suspension{};
    }
    Async<Result<void>> resume(AccountId, const accounts::Caller*) override { co_return Result<void>{}; }
    Async<Result<std::optional<Suspension>>> suspension(AccountId) override {
        co_return std::optional<Suspension>{};
    }
    Async<void> run_due() override { co_return; }
    Tax tax_on(store::Tx&, AccountId, Nanos) override { return {}; }
    void register_routes(http::Router&, accounts::Guard&) override {}
};

struct Query {
    const char* name;
    Pages::Answer (Pages::*page)(Request);
    /// Of a random moment of the year, in UNIX seconds, and a random number.
    std::function<std::string(std::int64_t at, std::uint64_t random)> text;
};

std::string window(std::int64_t at, int days, const char* from = "startTime", const char* to = "endTime") {
    return std::string("&") + from + "=" + std::to_string(at - days * 86'400) + "&" + to + "=" +
           std::to_string(at);
}

std::vector<Query> queries() {
    using Moment = std::int64_t;
    auto fixed = [](std::string text) { return [=](Moment, std::uint64_t) { return text; }; };
    auto bills = [](const char* cycle, int days) {
        return [=](Moment at, std::uint64_t) {
            return std::string("productCategory=llm&cycleType=") + cycle + window(at, days);
        };
    };
    auto usage = [](const char* group, const char* by, int days) {
        return [=](Moment at, std::uint64_t) {
            return std::string("group=") + group + "&by=" + by + window(at, days, "from", "to");
        };
    };
    return {
        {"Novita bills by hour, 31 days", &Pages::novita_bills, bills("Hour", 31)},
        {"Novita bills by day, 31 days", &Pages::novita_bills, bills("Day", 31)},
        {"Novita bills by month, 31 days", &Pages::novita_bills, bills("Month", 31)},
        {"Novita bills, fuzzy name", &Pages::novita_bills,
         [](Moment at, std::uint64_t) {
             return "productCategory=summary&cycleType=Week&productName=EL-3" + window(at, 31);
         }},
        {"Novita bills by key and hour, 7 days", &Pages::novita_key_bills, bills("Hour", 7)},
        {"Novita bills by key and day, 31 days", &Pages::novita_key_bills, bills("Day", 31)},
        {"Novita monthly bills", &Pages::novita_monthly_bills, fixed("page=1&pageSize=20")},
        {"Novita fixed-term bills", &Pages::novita_fixed_term_bills, fixed("")},
        {"Novita transactions", &Pages::novita_transactions,
         [](Moment, std::uint64_t random) {
             return "pageSize=50&pageNo=" + std::to_string(1 + random % 20);
         }},
        {"Platform credit history", &Pages::platform_history,
         [](Moment, std::uint64_t random) { return "limit=100&offset=" + std::to_string(random % 8'000); }},
        {"Platform invoices", &Pages::platform_invoices, fixed("limit=10")},
        {"Platform statistics by hour", &Pages::platform_statistics, fixed("time_frame=1h")},
        {"Platform statistics by day", &Pages::platform_statistics, fixed("time_frame=1d")},
        {"OpenRouter credits", &Pages::openrouter_credits, fixed("")},
        {"OpenRouter activity", &Pages::openrouter_activity, fixed("")},
        {"Console summary", &Pages::console_summary, fixed("")},
        {"Console usage by day, model and key, 31 days", &Pages::console_usage,
         usage("day", "model,key", 31)},
        {"Console usage by hour and model, 7 days", &Pages::console_usage, usage("hour", "model", 7)},
        {"Console usage by month, a year", &Pages::console_usage, usage("month", "model", 365)},
        {"Console transactions", &Pages::console_transactions, fixed("limit=50")},
    };
}

struct Rig {
    explicit Rig(store::Db& on)
        : db(on),
          accounts(db, clock, metrics),
          billing({}, db, clock, metrics),
          service(seller, db, billing, commerce, accounts, clock, metrics),
          pages(seller, db, billing, accounts, clock, service) {}
    store::Db& db;
    FakeClock clock;  // 2026-01-01: the end of the year that is filled
    metrics::Registry metrics;
    billing::InvoiceSettings seller;
    NoCommerce commerce;
    accounts::Accounts accounts;
    billing::Billing billing;
    billing::Bills service;
    Pages pages;
};

double percentile(const std::vector<double>& sorted, double share) {
    auto at = static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5);
    return sorted[at];
}

/// The p95 of one page, in milliseconds; prints its row.
double measure(Rig& rig, const Query& query, const std::vector<AccountId>& accounts, std::uint64_t rounds) {
    std::mt19937_64 random(7);
    std::vector<double> times;
    std::size_t bytes = 0;
    std::int64_t end = floor<seconds>(rig.clock.now().time_since_epoch()).count();
    for (std::uint64_t i = 0; i < rounds; ++i) {
        Request request;
        // Every fourth is the largest account: it must be fast, too.
        request.caller.account = i % 4 == 0 ? accounts[0] : accounts[random() % accounts.size()];
        std::int64_t at = end - static_cast<std::int64_t>(random() % (330ULL * 86'400));
        request.query = http::Params::parse(query.text(at, random()));
        auto begin = steady_clock::now();
        auto answer = sync_wait((rig.pages.*query.page)(std::move(request)));
        times.push_back(duration<double, std::milli>(steady_clock::now() - begin).count());
        if (!answer)
            throw std::runtime_error(std::string(query.name) + ": " + answer.error().message +
                                     answer.error().detail);
        bytes = std::max(bytes, answer->body.size());
    }
    std::ranges::sort(times);
    double p95 = percentile(times, 0.95);
    std::printf("| %s | %.1f | %.1f | %.1f | %zu |\n", query.name, percentile(times, 0.5), p95,
                percentile(times, 0.99), bytes / 1024);
    std::fflush(stdout);
    return p95;
}

int run(Args& args) {
    std::string engine = args.text("--engine", "sqlite");
    Shape shape;
    shape.records = static_cast<std::int64_t>(args.number("--rows", 10'000'000, 1'000'000'000));
    shape.accounts = static_cast<std::int64_t>(args.number("--accounts", 500, 100'000));
    std::uint64_t rounds = args.number("--rounds", 200, 1'000'000);
    double goal = args.decimal("--goal-ms", 200);
    args.finish();
    if (engine != "sqlite" && engine != "postgres") throw UsageError("--engine must be sqlite or postgres");
    auto test_db = store::TestDb::make(engine == "sqlite" ? store::Engine::sqlite : store::Engine::postgres);
    std::vector<store::Migration> steps;
    for (auto some : {store::migrations(), accounts::migrations(), billing::migrations()})
        steps.insert(steps.end(), some.begin(), some.end());
    auto migrated = test_db.db().migrate(steps);
    if (!migrated) throw std::runtime_error(migrated.error().message + migrated.error().detail);
    auto begin = steady_clock::now();
    FakeClock clock;
    std::vector<AccountId> accounts = fill(test_db.db(), shape, to_micros(clock.now()));
    std::printf("### Billing pages, %s, %lld usage records of %lld accounts (filled in %.0f s)\n\n",
                engine.c_str(), static_cast<long long>(shape.records), static_cast<long long>(shape.accounts),
                duration<double>(steady_clock::now() - begin).count());
    std::printf(
        "| page | p50 ms | p95 ms | p99 ms | largest answer, KiB |\n| --- | --- | --- | --- | --- |\n");
    Rig rig(test_db.db());
    bool is_slow = false;
    for (const Query& query : queries()) is_slow |= measure(rig, query, accounts, rounds) > goal;
    std::printf("\nGoal p95 < %.0f ms: %s\n", goal, is_slow ? "missed" : "met");
    return is_slow ? 1 : 0;
}

}  // namespace
}  // namespace nebula::bench

int main(int argc, char** argv) {
    nebula::log::set_level(nebula::log::Level::error);
    try {
        nebula::bench::Args args(argc, argv);
        return nebula::bench::run(args);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "nebula_bench_billing: %s\n", e.what());
        return 2;
    }
}

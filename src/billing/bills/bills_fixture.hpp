#pragma once
// Shared by the database tests of bills: rows of use and of movements written by hand, so that every figure
// of a page can be computed on paper.

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <memory>
#include <string>

#include "base/log.hpp"
#include "billing/bills/invoice.hpp"
#include "billing/bills/pages.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::billing::bills {

constexpr std::int64_t credit = Nanos::per_credit;

class NoCommerce final : public Commerce {
   public:
    Terms load_terms(store::Tx&, AccountId, Time) override { return {}; }
    Async<Result<void>> subscribe(AccountId, std::string, const accounts::Caller*, bool) override {
        co_return Result<void>{};
    }
    Async<Result<void>> cancel(AccountId, const accounts::Caller*) override { co_return Result<void>{}; }
    Async<Result<Moved>> redeem(AccountId, std::string, const accounts::Caller*) override {
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

/// The clock stands at 2026-01-01T00:00:00Z + 45 days = 2026-02-15T00:00:00Z.
class BillsFixture : public store::EngineTest {
   public:
    void SetUp() override {
        log::set_sink_for_test([](std::string_view) {});
        auto store_steps = store::migrations();
        std::vector<store::Migration> all(store_steps.begin(), store_steps.end());
        for (auto steps : {accounts::migrations(), migrations()})
            all.insert(all.end(), steps.begin(), steps.end());
        auto migrated = db().migrate(all);
        ASSERT_TRUE(migrated.has_value()) << migrated.error().message << migrated.error().detail;
        clock.advance(std::chrono::days(45));
        accounts = std::make_unique<accounts::Accounts>(db(), clock, metrics);
        account = new_account("first");
        other = new_account("other");
        billing = std::make_unique<Billing>(settings, db(), clock, metrics);
        billing->start();
        service = std::make_unique<Bills>(seller, db(), *billing, commerce, *accounts, clock, metrics);
        pages = std::make_unique<Pages>(seller, db(), *billing, *accounts, clock, *service);
    }
    void TearDown() override {
        pages.reset();
        service.reset();
        billing.reset();
        accounts.reset();
        log::set_sink_for_test(nullptr);
    }

    AccountId new_account(const std::string& name) {
        return sync_wait(accounts->create_account(name)).value().id;
    }
    KeyId new_key(const std::string& name) {
        return sync_wait(accounts->create_key(account, name, {})).value().key.id;
    }
    /// "2026-02-03T04:00:00Z"
    static Time at(std::string_view iso) { return http::parse_iso8601(iso).value(); }
    static std::string unix_text(std::string_view iso) {
        return std::to_string(std::chrono::floor<std::chrono::seconds>(at(iso).time_since_epoch()).count());
    }

    void exec(const store::Sql& sql, std::initializer_list<store::Param> params) {
        std::vector<store::Param> values(params);
        auto work = [&](store::Tx& tx) -> Result<bool> {
            tx.exec(sql, values);
            return true;
        };
        (void)db().in_tx_blocking(work).value();
    }
    std::int64_t number(const char* text) {
        store::Sql sql{"test.number", text};
        std::int64_t value = 0;
        auto work = [&](store::Tx& tx) -> Result<bool> {
            return tx.one(sql, {}, [&](const store::Row& row) { value = row.i64(0); });
        };
        (void)db().read_blocking(work).value();
        return value;
    }
    struct Use {
        std::string hour;
        std::int64_t key = 1;
        std::string model = "qwen3";
        std::string product = "llm";
        std::int64_t requests = 1, input = 0, output = 0, charge = 0, written_off = 0;
        std::int64_t cache_write = 0, reasoning = 0, units = 0;
    };
    void add_use(AccountId of, const Use& use) {
        static constexpr store::Sql sql{"test.use",
                                        "INSERT INTO usage_hours VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, "
                                        "0, 0, $9, $10, $11, $12, $13)"};
        exec(sql, {of.db(), to_micros(at(use.hour)), use.key, std::string_view(use.model),
                   std::string_view(use.product), use.requests, use.input, use.output, use.charge,
                   use.written_off, use.cache_write, use.reasoning, use.units});
    }
    struct Move {
        std::string time;
        std::string kind = "payment";
        std::int64_t credited = 0, owed = 0, tax = 0;
        std::string product = "", reference = "";
    };
    std::int64_t add_movement(AccountId of, const Move& move) {
        static constexpr store::Sql sql{
            "test.movement",
            "INSERT INTO movements (id, account_id, kind, amount, tax, credited, owed, note, reference,"
            " product, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'note', $8, $9, $10)"};
        auto id = static_cast<std::int64_t>(next_id_value(clock));
        exec(sql,
             {id, of.db(), std::string_view(move.kind), move.credited == 0 ? std::int64_t{1} : move.credited,
              move.tax, move.credited, move.owed, std::string_view(move.reference),
              std::string_view(move.product), to_micros(at(move.time))});
        return id;
    }

    accounts::Caller caller(AccountId of) {
        accounts::Caller made;
        made.kind = accounts::Caller::Kind::person;
        made.account = of;
        made.user = UserId{7};
        return made;
    }
    Request request(std::string_view query, std::string name = "") {
        return {http::Params::parse(query), caller(account), std::move(name)};
    }
    /// The answer's JSON; the error as {"error":{"code","param"}}.
    http::json::value body(Pages::Answer answer) {
        auto made = sync_wait(std::move(answer));
        if (!made)
            return {{"error", {{"code", code_name(made.error().code)}, {"param", made.error().param}}}};
        last = made->body;
        return http::json::parse(made->body);
    }
    static std::string words(const http::json::value& value) { return http::json::serialize(value); }

    metrics::Registry metrics;
    FakeClock clock;
    BillingSettings settings;
    InvoiceSettings seller;
    NoCommerce commerce;
    std::unique_ptr<accounts::Accounts> accounts;
    std::unique_ptr<Billing> billing;
    std::unique_ptr<Bills> service;
    std::unique_ptr<Pages> pages;
    AccountId account, other;
    std::string last;  // text of the last answer
};

}  // namespace nebula::billing::bills

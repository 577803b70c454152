#pragma once
// Shared by billing's database tests.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "accounts/accounts.hpp"
#include "base/log.hpp"
#include "billing/billing.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::billing {

constexpr std::int64_t credit = Nanos::per_credit;

inline std::vector<store::Migration> all_migrations() {
    std::vector<store::Migration> all(store::migrations().begin(), store::migrations().end());
    all.insert(all.end(), accounts::migrations().begin(), accounts::migrations().end());
    all.insert(all.end(), migrations().begin(), migrations().end());
    return all;
}

/// A Db whose transactions fail on order: before COMMIT, or after it with the outcome unknown to the caller.
class FlakyDb final : public store::Db {
   public:
    FlakyDb(store::Db& inner, metrics::Registry& metrics) : Db(1, 1, 1000, metrics), inner_(inner) {}
    ~FlakyDb() override { stop_threads(); }
    store::Engine engine() const override { return inner_.engine(); }
    std::unique_ptr<store::Ownership> try_own() override { return inner_.try_own(); }

    std::atomic<int> fail_at_commit{0};     // so many times: rolled back, but reported like a lost COMMIT
    std::atomic<int> fail_after_commit{0};  // so many times: committed, but reported as failed
    std::atomic<int> fail_all{0};           // so many times: cannot be reached at all
    std::atomic<int> transactions{0};
    std::atomic<int> cut_off{-1};  // so many more go through, then nothing does; -1 = all do

   protected:
    void transaction(Mode mode, const std::function<bool(store::Tx&)>& work) override {
        if (mode == Mode::read) {
            auto reading = [&](store::Tx& tx) -> Result<bool> { return work(tx); };
            (void)inner_.read_blocking(reading);
            return;
        }
        ++transactions;
        bool is_cut = cut_off.load() == 0;
        spend(cut_off);
        if (is_cut || spend(fail_all)) throw store::DbError("cannot connect");
        auto writing = [&](store::Tx& tx) -> Result<bool> {
            if (!work(tx)) return fail(Code::internal, "rolled back");
            if (spend(fail_at_commit)) throw store::DbError("connection lost in COMMIT");
            return true;
        };
        auto done = inner_.in_tx_blocking(writing);
        if (done && spend(fail_after_commit)) throw store::DbError("connection lost after COMMIT");
    }

   private:
    static bool spend(std::atomic<int>& left) {
        if (left.load() <= 0) return false;
        --left;
        return true;
    }
    store::Db& inner_;
};

class BillingFixture : public store::EngineTest {
   public:
    void SetUp() override {
        log::set_sink_for_test([](std::string_view) {});
        ASSERT_TRUE(db().migrate(all_migrations()).has_value());
        settings.commit_retry = std::chrono::milliseconds(200);
        accounts_ = std::make_unique<accounts::Accounts>(db(), clock, metrics);
        account = new_account("first");
    }
    void TearDown() override {
        billing.reset();
        log::set_sink_for_test(nullptr);
        if (!expects_problems) {
            auto report = Billing::verify(db());
            ASSERT_TRUE(report.has_value()) << report.error().detail;
            EXPECT_EQ(report->problems, std::vector<std::string>{});
        }
        accounts_.reset();
    }

    AccountId new_account(const std::string& name) {
        return sync_wait(accounts_->create_account(name)).value().id;
    }
    Billing& start() { return start(db()); }
    Billing& start(store::Db& on) {
        billing.reset();
        billing = std::make_unique<Billing>(settings, on, clock, metrics);
        billing->start();
        return *billing;
    }
    Result<Balance> grant(AccountId to, std::int64_t nanos, std::string key = "", std::string note = "") {
        return sync_wait(billing->grant(to, Nanos{nanos}, std::move(key), std::move(note)));
    }
    Result<Hold> admit(AccountId from, std::int64_t worst_case, std::int64_t least = 1) {
        HoldRequest request{from, Nanos{worst_case}, Nanos{least}};
        return sync_wait(billing->admit(request, Ticks::max()));
    }
    /// A record whose price is exactly `nanos`.
    UsageRecord record(AccountId from, std::int64_t nanos) {
        UsageRecord made;
        made.id = RequestId::next(clock);
        made.account = from;
        made.key = KeyId{5};
        made.model = "qwen3:latest";
        made.provider = "vllm-1";
        made.usage = {.input = 0, .cached = 0, .output = nanos};
        made.prices = {Nanos{1'000'000}, Nanos{1'000'000}, Nanos{1'000'000}};
        made.started_at = clock.now();
        return made;
    }
    Result<Settled> settle(Hold hold, UsageRecord made) {
        return sync_wait(billing->settle(std::move(hold), std::move(made)));
    }
    std::int64_t available(AccountId of) { return sync_wait(billing->balance(of)).value().available.value; }
    std::int64_t held(AccountId of) { return sync_wait(billing->balance(of)).value().held.value; }
    /// What the database says, whatever this process believes.
    std::int64_t ledger_balance(AccountId of) {
        static constexpr store::Sql sql{"test.balance",
                                        "SELECT balance FROM ledger_accounts"
                                        " WHERE account_id = $1 AND kind = 'customer_credits'"};
        return number(sql, {of.db()});
    }
    std::int64_t number(const store::Sql& sql, std::initializer_list<store::Param> params = {}) {
        std::int64_t value = 0;
        auto work = [&](store::Tx& tx) -> Result<bool> {
            return tx.one(sql, params, [&](const store::Row& row) { value = row.i64(0); });
        };
        (void)db().read_blocking(work).value();
        return value;
    }
    /// The error's text; empty when the statement was carried out.
    std::string run(const char* statement) {
        store::Sql sql{"test.run", statement};
        auto work = [&](store::Tx& tx) -> Result<bool> {
            tx.script(sql);
            return true;
        };
        try {
            (void)db().in_tx_blocking(work).value();
            return "";
        } catch (const store::DbError& e) {
            return e.what();
        }
    }
    std::int64_t metric(const std::string& line_start) {
        std::string text = metrics.prometheus_text();
        auto at = text.find("\n" + line_start + " ");
        return at == std::string::npos ? -1 : std::stoll(text.substr(at + line_start.size() + 2));
    }

    metrics::Registry metrics;
    SystemClock clock;
    BillingSettings settings;
    std::unique_ptr<accounts::Accounts> accounts_;
    std::unique_ptr<Billing> billing;
    AccountId account;
    bool expects_problems = false;
};

}  // namespace nebula::billing

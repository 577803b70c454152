#pragma once
// Shared by the limiter's database tests: processes on one database, each with its own Db, node, notices and
// limiter. The limiters' clock is fake; the nodes' leases are far longer than any test.

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>

#include "base/log.hpp"
#include "ratelimit/ratelimit.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::ratelimit {

std::span<const store::Migration> migrations();

inline std::vector<store::Migration> all_migrations() {
    std::vector<store::Migration> all(store::migrations().begin(), store::migrations().end());
    all.insert(all.end(), migrations().begin(), migrations().end());
    return all;
}

/// A Db that cannot be reached while `cut` is set.
class CutDb final : public store::Db {
   public:
    CutDb(std::unique_ptr<store::Db> inner, metrics::Registry& metrics)
        : Db(1, 1, 1000, metrics), inner_(std::move(inner)) {}
    ~CutDb() override { stop_threads(); }
    store::Engine engine() const override { return inner_->engine(); }
    std::unique_ptr<store::Ownership> try_own() override { return inner_->try_own(); }
    std::atomic<bool> cut{false};

   protected:
    void transaction(Mode, const std::function<bool(store::Tx&)>& work) override {
        if (cut) throw store::DbError("cannot connect");
        auto whole = [&](store::Tx& tx) -> Result<bool> {
            if (!work(tx)) return fail(Code::conflict, "rolled back");
            return true;
        };
        (void)inner_->in_tx_blocking(whole);
    }

   private:
    std::unique_ptr<store::Db> inner_;
};

struct Process {
    Process(store::TestDb& test_db, const Clock& clock, bool with_node = true)
        : db(test_db.open_again(), metrics) {
        store::StoreSettings store_settings;
        store_settings.url = test_db.url();
        notices = std::make_unique<store::Notices>(db, store_settings, metrics);
        if (with_node)
            node =
                store::Node::start({.lease = std::chrono::hours(3), .renew_interval = std::chrono::hours(1)},
                                   db, system_clock, metrics)
                    .value();
        limiter =
            std::make_unique<RateLimiter>(settings, clock, metrics, 10'000, &db, node.get(), notices.get());
        notices->subscribe("barrier", [this](std::string_view payload) {
            barrier = std::stoi(std::string(payload));
            barrier.notify_all();
        });
        notices->start();
    }

    /// As a request does: a share is asked for at most twice.
    Standing request(const Check& check, Use use = {}) {
        Standing standing = limiter->take(&check, 1, use);
        for (int tries = 0; standing.needs_share && tries < 2; ++tries) {
            Async<void> asking = limiter->acquire(&check, 1, use);
            sync_wait(std::move(asking));
            standing = limiter->take(&check, 1, use);
        }
        return standing;
    }

    metrics::Registry metrics;
    SystemClock system_clock;
    LimitSettings settings;
    std::atomic<int> barrier{0};
    CutDb db;
    std::unique_ptr<store::Notices> notices;
    std::unique_ptr<store::Node> node;
    std::unique_ptr<RateLimiter> limiter;
};

class LimiterFixture : public store::EngineTest {
   public:
    void SetUp() override {
        log::set_sink_for_test([](std::string_view) {});
        ASSERT_TRUE(db().migrate(all_migrations()).has_value());
    }
    void TearDown() override { log::set_sink_for_test(nullptr); }

    std::int64_t number(const char* text) {
        std::int64_t value = 0;
        store::Sql sql{"test.number", text};
        auto work = [&](store::Tx& tx) -> Result<bool> {
            return tx.one(sql, {}, [&](const store::Row& row) { value = row.i64(0); });
        };
        (void)db().read_blocking(work).value();
        return value;
    }
    void run(const char* text) {
        auto work = [&](store::Tx& tx) -> Result<int> {
            tx.script(store::Sql{"test.run", text});
            return 0;
        };
        (void)db().in_tx_blocking(work).value();
    }

    FakeClock clock;
};

}  // namespace nebula::ratelimit

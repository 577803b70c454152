#include "store/node.hpp"

#include <gmock/gmock.h>

#include <atomic>

#include "base/log.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::store {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// A Db that cannot be reached while `cut` is set.
class CutDb final : public Db {
   public:
    CutDb(Db& inner, metrics::Registry& metrics) : Db(1, 1, 100, metrics), inner_(inner) {}
    ~CutDb() override { stop_threads(); }
    Engine engine() const override { return inner_.engine(); }
    std::unique_ptr<Ownership> try_own() override { return inner_.try_own(); }
    std::atomic<bool> cut{false};

   protected:
    void transaction(Mode, const std::function<bool(Tx&)>& work) override {
        if (cut) throw DbError("cannot connect");
        auto whole = [&](Tx& tx) -> Result<bool> {
            if (!work(tx)) return fail(Code::conflict, "rolled back");
            return true;
        };
        (void)inner_.in_tx_blocking(whole);
    }

   private:
    Db& inner_;
};

/// One process with a clock of its own. Its thread sleeps for an hour: renewals are the test's.
struct Process {
    explicit Process(Db& real, std::chrono::microseconds clock_is_ahead = 0s,
                     std::chrono::milliseconds lease = 3h)
        : db(real, metrics) {
        clock.advance(clock_is_ahead);
        node = Node::start({.lease = lease, .renew_interval = lease / 3}, db, clock, metrics).value();
        node->on_reclaim([this](Tx&, std::int64_t dead) { reclaimed.push_back(dead); });
    }

    metrics::Registry metrics;
    FakeClock clock;
    CutDb db;
    std::vector<std::int64_t> reclaimed;
    std::unique_ptr<Node> node;
};

class PostgresNode : public ::testing::Test {
   public:
    void SetUp() override {
        log::set_sink_for_test([](std::string_view) {});
        ASSERT_TRUE(db().migrate(migrations()).has_value());
    }
    void TearDown() override { log::set_sink_for_test(nullptr); }
    Db& db() { return test_db.db(); }
    /// As if the database's clock had gone on.
    void pass(std::chrono::microseconds time, const Node& of) {
        auto work = [&](Tx& tx) -> Result<std::int64_t> {
            static constexpr Sql sql{"test.pass",
                                     "UPDATE nodes SET expires_at = expires_at - $1 WHERE id = $2"};
            return tx.exec(sql, {time.count(), of.id()});
        };
        ASSERT_EQ(db().in_tx_blocking(work).value(), 1);
    }
    bool confirm(Node& node) {
        return db().in_tx_blocking([&](Tx& tx) -> Result<bool> { return node.confirm(tx); }).value();
    }

    TestDb test_db = TestDb::make(Engine::postgres);
};

// One process owns a SQLite file: there is nothing to lease, and it costs nothing to ask.
TEST(SqliteNode, IsAloneAndAlwaysLive) {
    TestDb test_db = TestDb::make(Engine::sqlite);
    FakeClock clock;
    auto node = Node::start({}, test_db.db(), clock, test_db.metrics()).value();
    EXPECT_EQ(node->id(), 0);
    EXPECT_EQ(node->number(), 0U);
    EXPECT_FALSE(node->is_shared());
    clock.advance(1000h);
    EXPECT_TRUE(node->is_live());
    EXPECT_EQ(node->live_count(), 1);
    EXPECT_TRUE(
        test_db.db().in_tx_blocking([&](Tx& tx) -> Result<bool> { return node->confirm(tx); }).value());
}

// Ids are made of the number, so two live nodes never share one, and there are only 1024.
TEST_F(PostgresNode, TakesTheLowestFreeNumberAndGivesItBack) {
    Process first(db()), second(db()), third(db());
    EXPECT_EQ(first.node->number(), 0U);
    EXPECT_EQ(second.node->number(), 1U);
    EXPECT_EQ(third.node->number(), 2U);
    EXPECT_NE(first.node->id(), second.node->id());
    EXPECT_EQ(third.node->live_count(), 1) << "as of the last renewal";
    EXPECT_TRUE(third.node->renew());
    EXPECT_EQ(third.node->live_count(), 3);

    std::int64_t old = second.node->id();
    second.node->release();
    EXPECT_THAT(second.reclaimed, ElementsAre(old)) << "what it held goes back in the same transaction";
    EXPECT_FALSE(second.node->is_live());
    EXPECT_FALSE(second.node->renew());
    Process fourth(db());
    EXPECT_EQ(fourth.node->number(), 1U);
    EXPECT_NE(fourth.node->id(), old);
}

// The core of the contract: a node that is cut off stops by itself, on its own clock, while the others must
// still wait; only then is it taken over, exactly once, and it never comes back.
TEST_F(PostgresNode, StopsBeforeOthersMayTakeOverAndStaysLost) {
    Process cut(db()), other(db());
    cut.db.cut = true;
    cut.clock.advance(180min * 9 / 10 - 1s);
    EXPECT_TRUE(cut.node->is_live());
    cut.clock.advance(1s);
    EXPECT_FALSE(cut.node->is_live());
    EXPECT_FALSE(cut.node->renew());
    EXPECT_FALSE(cut.node->is_lost()) << "it does not know";

    pass(180min * 9 / 10, *cut.node);
    EXPECT_EQ(other.node->reclaim(), 0) << "a tenth of the lease is left";
    EXPECT_TRUE(confirm(*cut.node));
    pass(180min / 10 + 1s, *cut.node);
    EXPECT_FALSE(confirm(*cut.node));
    EXPECT_EQ(other.node->reclaim(), 1);
    EXPECT_THAT(other.reclaimed, ElementsAre(cut.node->id()));
    EXPECT_EQ(other.node->reclaim(), 0);

    cut.db.cut = false;
    EXPECT_FALSE(cut.node->renew());
    EXPECT_TRUE(cut.node->is_lost());
    EXPECT_FALSE(confirm(*cut.node));
    cut.node->release();
    EXPECT_THAT(cut.reclaimed, IsEmpty()) << "what it held is not its any more";
}

// An expired lease is lost even before anybody has taken it: somebody might be about to.
TEST_F(PostgresNode, CannotRenewAnExpiredLease) {
    Process process(db());
    pass(3h + 1s, *process.node);
    EXPECT_FALSE(process.node->renew());
    EXPECT_TRUE(process.node->is_lost());
}

// A short cut is survived: the lease holds over failed renewals and goes on with the next one that works.
TEST_F(PostgresNode, SurvivesAFewFailedRenewals) {
    Process process(db());
    process.db.cut = true;
    process.clock.advance(2h);
    EXPECT_TRUE(process.node->renew()) << "still live, though not renewed";
    process.clock.advance(1h);
    EXPECT_FALSE(process.node->renew());
    process.db.cut = false;
    EXPECT_TRUE(process.node->renew());
    process.clock.advance(180min * 9 / 10 - 1s);
    EXPECT_TRUE(process.node->is_live());
}

// Clocks that differ by hours must change nothing: each is compared with itself only.
TEST_F(PostgresNode, ClocksMayDifferByHours) {
    Process ahead(db(), 100h), behind(db());
    EXPECT_TRUE(ahead.node->is_live());
    EXPECT_TRUE(behind.node->is_live());
    EXPECT_TRUE(ahead.node->renew());
    EXPECT_TRUE(behind.node->renew());
    EXPECT_EQ(ahead.node->reclaim(), 0);
    EXPECT_EQ(behind.node->reclaim(), 0);
    ahead.clock.advance(1000h);  // it slept; the database did not
    EXPECT_FALSE(ahead.node->is_live());
    EXPECT_EQ(behind.node->reclaim(), 0);
    EXPECT_TRUE(ahead.node->renew());
}

// What a transaction spends under a lease must not be taken over while it runs.
TEST_F(PostgresNode, IsNotTakenOverWhileATransactionSpends) {
    Process spender(db()), other(db());
    auto work = [&](Tx& tx) -> Result<int> {
        EXPECT_TRUE(spender.node->confirm(tx));
        EXPECT_TRUE(spender.node->renew()) << "renewals do not wait for it";
        pass(3h + 1s, *spender.node);
        EXPECT_EQ(other.node->reclaim(), 0);
        return 0;
    };
    ASSERT_TRUE(db().in_tx_blocking(work).has_value());
    EXPECT_EQ(other.node->reclaim(), 1);
}

// A module that fails must not lose what a dead node held: the whole is tried again.
TEST_F(PostgresNode, TriesAgainWhenAReclaimFails) {
    Process dead(db()), other(db());
    int failures = 1;
    other.node->on_reclaim([&](Tx&, std::int64_t) {
        if (failures-- > 0) throw DbError("connection lost");
    });
    pass(3h + 1s, *dead.node);
    EXPECT_EQ(other.node->reclaim(), 0);
    EXPECT_EQ(other.node->reclaim(), 1);
    EXPECT_THAT(other.reclaimed, ElementsAre(dead.node->id(), dead.node->id()));
}

// The renewal thread does the same by itself.
TEST_F(PostgresNode, RenewsAndTakesOverByItself) {
    SystemClock clock;
    metrics::Registry metrics;
    std::atomic<std::int64_t> taken{0};
    Process dead(db());
    pass(3h + 1s, *dead.node);
    auto node = Node::start({.lease = 300ms, .renew_interval = 20ms}, db(), clock, metrics).value();
    node->on_reclaim([&](Tx&, std::int64_t id) {
        if (id == node->id()) return;
        taken = id;
        taken.notify_all();
    });
    taken.wait(0);
    EXPECT_EQ(taken, dead.node->id());
    EXPECT_TRUE(node->is_live());
}

// Settings that cannot work are refused at the start, not found out in the night.
TEST_F(PostgresNode, RefusesALeaseTooShortForItsRenewals) {
    FakeClock clock;
    auto node = Node::start({.lease = 2s, .renew_interval = 1s}, db(), clock, test_db.metrics());
    ASSERT_FALSE(node.has_value());
    EXPECT_EQ(node.error().code, Code::invalid_request);
}

}  // namespace
}  // namespace nebula::store

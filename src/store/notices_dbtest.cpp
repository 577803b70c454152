#include "store/notices.hpp"

#include <gmock/gmock.h>

#include <condition_variable>
#include <latch>
#include <mutex>
#include <thread>

#include "base/log.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::store {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// What one process heard; waits with a limit, never sleeps.
class Heard {
   public:
    void add(std::string_view payload) {
        std::lock_guard lock(mutex_);
        payloads_.emplace_back(payload);
        changed_.notify_all();
    }
    bool wait_for(const std::string& payload) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, 20s, [&] { return std::ranges::count(payloads_, payload) > 0; });
    }
    std::vector<std::string> all() {
        std::lock_guard lock(mutex_);
        return payloads_;
    }

   private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> payloads_;
};

/// One process: its own Db, notices and what it heard of the topic "key".
struct Process {
    explicit Process(TestDb& test_db, std::chrono::milliseconds poll = 1s,
                     std::chrono::milliseconds keep = std::chrono::minutes(10))
        : db(test_db.open_again()), notices(*db, settings_of(test_db), metrics, poll, keep) {
        notices.subscribe("key", [this](std::string_view payload) { heard.add(payload); });
        notices.on_gap([this] { heard.add("gap"); });
        notices.start();
    }
    static StoreSettings settings_of(TestDb& test_db) {
        StoreSettings settings;
        settings.url = test_db.url();
        return settings;
    }
    Result<int> publish(const std::string& payload, bool keep = true, const char* topic = "key") {
        return db->in_tx_blocking([&](Tx& tx) -> Result<int> {
            notices.publish(tx, topic, payload);
            if (!keep) return fail(Code::conflict, "undone");
            return 0;
        });
    }

    metrics::Registry metrics;
    Heard heard;
    std::unique_ptr<Db> db;
    Notices notices;
};

class NoticesDb : public EngineTest {
   public:
    void SetUp() override {
        log::set_sink_for_test([](std::string_view) {});
        ASSERT_TRUE(db().migrate(migrations()).has_value());
    }
    void TearDown() override { log::set_sink_for_test(nullptr); }
    void run(const char* statement) {
        auto work = [&](Tx& tx) -> Result<int> {
            tx.script(Sql{"test.run", statement});
            return 0;
        };
        ASSERT_TRUE(db().in_tx_blocking(work).has_value());
    }
};
NEBULA_BOTH_ENGINES(NoticesDb);

class PostgresNotices : public NoticesDb {};
INSTANTIATE_TEST_SUITE_P(Engines, PostgresNotices, ::testing::Values(Engine::postgres), engine_name);

constexpr const char* kill_listeners =
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()";

// A process hears its own changes too: one way of forgetting what is cached serves both engines.
TEST_P(NoticesDb, TellsTheOwnProcessInOrderAndSaysNothingOfWhatWasRolledBack) {
    Process process(test_db());
    EXPECT_TRUE(process.publish("first").has_value());
    EXPECT_FALSE(process.publish("undone", false).has_value());
    EXPECT_TRUE(process.publish("other", true, "funds").has_value());
    EXPECT_TRUE(process.publish("last").has_value());
    ASSERT_TRUE(process.heard.wait_for("last"));
    EXPECT_THAT(process.heard.all(), ElementsAre("first", "last"));
}

// What a callback uses may be gone after stop(), and transactions may still commit.
TEST_P(NoticesDb, NothingIsHeardAfterStop) {
    Process process(test_db());
    process.notices.stop();
    EXPECT_TRUE(process.publish("late").has_value());
    EXPECT_THAT(process.heard.all(), IsEmpty());
}

// The point of it all: a key revoked on one node is revoked on all.
TEST_P(PostgresNotices, TwoProcessesHearEachOtherWithoutWaitingForThePoll) {
    Process one(test_db(), 1h);
    Process two(test_db(), 1h);
    EXPECT_TRUE(one.publish("from one").has_value());
    EXPECT_TRUE(two.heard.wait_for("from one"));
    EXPECT_TRUE(two.publish("from two").has_value());
    EXPECT_TRUE(one.heard.wait_for("from two"));
    EXPECT_FALSE(one.publish("undone", false).has_value());
    EXPECT_TRUE(one.publish("end").has_value());
    EXPECT_TRUE(two.heard.wait_for("end"));
    EXPECT_THAT(two.heard.all(), ElementsAre("from one", "from two", "end"));
}

// The table says it all: without a single notification the poll delivers the same.
TEST_P(PostgresNotices, ThePollHearsWhatWasNeverNotified) {
    Process process(test_db(), 5ms);
    run("INSERT INTO changes (topic, payload, created_at) VALUES ('key', 'silent', 0)");
    EXPECT_TRUE(process.heard.wait_for("silent"));
}

// Ids are given out before the commit: what commits late has a lower id than what was read already.
TEST_P(PostgresNotices, HearsAChangeThatCommitsAfterALaterOne) {
    Process process(test_db(), 1h);
    std::latch inserted(1), overtaken(1);
    std::jthread slow([&] {
        auto work = [&](Tx& tx) -> Result<int> {
            process.notices.publish(tx, "key", "slow");
            inserted.count_down();
            overtaken.wait();
            return 0;
        };
        EXPECT_TRUE(process.db->in_tx_blocking(work).has_value());
    });
    inserted.wait();
    EXPECT_TRUE(process.publish("fast").has_value());
    EXPECT_TRUE(process.heard.wait_for("fast"));
    overtaken.count_down();
    EXPECT_TRUE(process.heard.wait_for("slow"));
    EXPECT_THAT(process.heard.all(), ElementsAre("fast", "slow"));
}

// The listening connection dies with a server or a network: what was said meanwhile is heard afterwards,
// once.
TEST_P(PostgresNotices, LosesNothingWhenTheConnectionDies) {
    Process process(test_db(), 1h);
    for (int round = 0; round < 3; ++round) {
        std::string number = std::to_string(round);
        EXPECT_TRUE(process.publish("before " + number).has_value());
        run(kill_listeners);
        EXPECT_TRUE(process.publish("after " + number).has_value());
        ASSERT_TRUE(process.heard.wait_for("after " + number));
    }
    EXPECT_THAT(process.heard.all(),
                ElementsAre("before 0", "after 0", "before 1", "after 1", "before 2", "after 2"));
}

// Away for longer than changes are kept: nobody can tell what was missed, so everything is forgotten.
TEST_P(PostgresNotices, CallsOnGapWhenChangesMayHaveBeenPruned) {
    Process process(test_db(), 5ms, 0ms);  // any pause is too long
    EXPECT_TRUE(process.heard.wait_for("gap"));
}

// What was said before a process began is no news to it.
TEST_P(PostgresNotices, StartsWithWhatIsSaidAfterwards) {
    Process first(test_db());
    EXPECT_TRUE(first.publish("old").has_value());
    Process second(test_db());
    EXPECT_TRUE(first.publish("new").has_value());
    ASSERT_TRUE(second.heard.wait_for("new"));
    EXPECT_THAT(second.heard.all(), ElementsAre("new"));
}

}  // namespace
}  // namespace nebula::store

#include <gmock/gmock.h>

#include <random>

#include "ratelimit/nodes_fixture.hpp"

namespace nebula::ratelimit {
namespace {

using namespace std::chrono_literals;

class RateNodes : public LimiterFixture {
   public:
    void start(int count) {
        for (int i = 0; i < count; ++i) processes.push_back(std::make_unique<Process>(test_db(), clock));
        for (auto& process : processes) process->node->renew();  // so that all know of all
    }
    void TearDown() override {
        processes.clear();
        LimiterFixture::TearDown();
    }

    /// Notices take a moment of real time; the clock is fake. All have heard all when this returns.
    void settle() {
        int to = ++barriers;
        auto work = [&](store::Tx& tx) -> Result<int> {
            processes[0]->notices->publish(tx, "barrier", std::to_string(to));
            return 0;
        };
        (void)db().in_tx_blocking(work).value();
        for (auto& process : processes)
            for (int seen = process->barrier; seen < to; seen = process->barrier) process->barrier.wait(seen);
        for (auto& process : processes) process->limiter->tick();
    }

    /// `seconds` of demand; requests_per_step of each node are tried in every tenth of a second.
    void play(int seconds, const std::vector<int>& requests_per_step) {
        for (int step = 0; step < seconds * 10; ++step) {
            clock.advance(100ms);
            now_ms += 100;
            for (std::size_t i = 0; i < processes.size(); ++i)
                for (int k = 0; k < requests_per_step[i]; ++k) try_one(i);
            if (step % 10 == 9) settle();
        }
    }
    void try_one(std::size_t i) {
        Use use;
        if (by_tokens) use.tokens = 1 + static_cast<std::int64_t>(random() % 200);
        if (!processes[i]->request(check, use).admitted) return;
        std::int64_t amount = by_tokens ? use.tokens : 1;
        minute.push_back({now_ms, amount});
        in_minute += amount;
        admitted[i] += amount;
        while (minute.front().first <= now_ms - 60'000) {
            in_minute -= minute.front().second;
            minute.pop_front();
        }
        most = std::max(most, in_minute);
    }
    /// What was admitted since the last call, per node.
    std::vector<std::int64_t> harvest() { return std::exchange(admitted, std::vector<std::int64_t>(8)); }
    static std::int64_t sum(const std::vector<std::int64_t>& of) {
        return std::accumulate(of.begin(), of.end(), std::int64_t{0});
    }

    std::vector<std::unique_ptr<Process>> processes;
    Check check{{Kind::key, 7}, {.rpm = 600}};
    bool by_tokens = false;
    std::mt19937_64 random{5};
    int barriers = 0;
    std::int64_t now_ms = 0;
    std::deque<std::pair<std::int64_t, std::int64_t>> minute;
    std::int64_t in_minute = 0;
    std::int64_t most = 0;
    std::vector<std::int64_t> admitted = std::vector<std::int64_t>(8);
};
INSTANTIATE_TEST_SUITE_P(Engines, RateNodes, ::testing::Values(store::Engine::postgres), store::engine_name);

// A load balancer may send everything to one node: it must get the whole limit, and no minute more.
TEST_P(RateNodes, OneNodeWithAllTheDemandGetsTheLimit) {
    start(4);
    play(180, {3, 0, 0, 0});
    EXPECT_LE(most, 600);
    EXPECT_GE(sum(harvest()), 3 * 600 * 95 / 100);
}

// Every node has more demand than the limit: all together admit the limit, in about equal parts.
TEST_P(RateNodes, AllNodesWithExcessDemandShareTheLimitEqually) {
    start(4);
    play(120, {2, 2, 2, 2});
    EXPECT_GE(sum(harvest()), 2 * 600 * 95 / 100);
    play(120, {2, 2, 2, 2});
    auto parts = harvest();
    EXPECT_LE(most, 600);
    EXPECT_GE(sum(parts), 2 * 600 * 95 / 100);
    for (int i = 0; i < 4; ++i) {
        EXPECT_GE(parts[static_cast<std::size_t>(i)], 300 * 75 / 100) << i;
        EXPECT_LE(parts[static_cast<std::size_t>(i)], 300 * 125 / 100) << i;
    }
}

// Demand that moves takes its share along within a window.
TEST_P(RateNodes, DemandThatMovesGetsTheLimitAfterOneWindow) {
    start(4);
    play(120, {3, 0, 0, 0});
    play(61, {0, 3, 0, 0});
    harvest();
    play(120, {0, 3, 0, 0});
    EXPECT_LE(most, 600);
    EXPECT_GE(sum(harvest()), 2 * 600 * 95 / 100);
}

// A node that comes late to a limit that others use up gets its part.
TEST_P(RateNodes, ANodeThatComesLateGetsItsPart) {
    start(2);
    play(120, {3, 0});
    play(180, {3, 3});
    harvest();
    play(120, {3, 3});
    auto parts = harvest();
    EXPECT_LE(most, 600);
    EXPECT_GE(sum(parts), 2 * 600 * 95 / 100);
    EXPECT_GE(parts[1], 600 * 75 / 100);
}

// Tokens come in amounts that differ widely; the promise is the same.
TEST_P(RateNodes, TokensAreSharedAlike) {
    by_tokens = true;
    check = {{Kind::account, 9}, {.tpm = 60'000}};
    start(4);
    play(61, {3, 3, 3, 3});
    harvest();
    play(120, {3, 3, 3, 3});
    EXPECT_LE(most, 60'000);
    EXPECT_GE(sum(harvest()), 2 * 60'000 * 95 / 100);
}

// Small limits do not divide well: rounding must neither waste nor exceed them.
TEST_P(RateNodes, ASmallLimitIsUsedUp) {
    check.limits.rpm = 10;
    start(4);
    play(61, {1, 1, 1, 1});
    harvest();
    play(183, {1, 1, 1, 1});
    EXPECT_LE(most, 10);
    EXPECT_EQ(sum(harvest()), 30);
}

// A dead node's uses still count: its share is free only when they have left every window.
TEST_P(RateNodes, AShareOfADeadNodeIsFreeOneWindowAfterItsLease) {
    check.limits.rpm = 8;
    start(2);
    for (int i = 0; i < 8; ++i) EXPECT_TRUE(processes[0]->request(check).admitted);
    processes[0]->db.cut = true;
    run("UPDATE nodes SET expires_at = 1 WHERE number = 0");
    EXPECT_EQ(processes[1]->node->reclaim(), 1);
    EXPECT_FALSE(processes[1]->request(check).admitted);
    clock.advance(100s);  // its own clock says nothing about the other's
    EXPECT_FALSE(processes[1]->request(check).admitted);
    EXPECT_EQ(number("SELECT COUNT(*) FROM rate_shares WHERE share = 8 AND free_at >"
                     " CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) + 50000000"),
              1);
    run("UPDATE rate_shares SET free_at = 1 WHERE free_at > 0");
    clock.advance(3s);
    for (int i = 0; i < 8; ++i) EXPECT_TRUE(processes[1]->request(check).admitted);
    EXPECT_FALSE(processes[1]->request(check).admitted);
}

// A node that ends in order gives the unused part back at once and leaves what it admitted until it is old.
TEST_P(RateNodes, ANodeThatStopsLeavesOnlyWhatItAdmitted) {
    check.limits.rpm = 160;
    start(2);
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(processes[0]->request(check).admitted);
    processes[0]->limiter->stop();
    processes[0]->node->release();
    EXPECT_EQ(number("SELECT COALESCE(SUM(share), 0) FROM rate_shares"), 5);
    int count = 0;
    for (int i = 0; i < 200; ++i) count += processes[1]->request(check).admitted ? 1 : 0;
    EXPECT_EQ(count, 155);
    EXPECT_FALSE(processes[0]->request(check).admitted) << "it has stopped";
}

// Subjects come and go by the million: an idle one must leave nothing behind, neither row nor bucket.
TEST_P(RateNodes, IdleSubjectsReturnTheirShares) {
    start(2);
    EXPECT_TRUE(processes[0]->request(check).admitted);
    EXPECT_EQ(number("SELECT COUNT(*) FROM rate_shares"), 1);
    clock.advance(62s);
    settle();
    clock.advance(11s);
    settle();
    EXPECT_EQ(number("SELECT COUNT(*) FROM rate_shares"), 0);
    EXPECT_TRUE(processes[0]->request(check).admitted);
}

// A node that may have lost its lease must not admit with shares that others may hold by now.
TEST_P(RateNodes, ANodeThatIsNotLiveAdmitsNothing) {
    start(1);
    EXPECT_TRUE(processes[0]->request(check).admitted);
    processes[0]->node->release();
    Standing refused = processes[0]->request(check);
    EXPECT_FALSE(refused.admitted);
    EXPECT_FALSE(refused.needs_share);
    EXPECT_GT(refused.retry_after_ms, 0);
}

// A flood of addresses must stay in memory: their limit is divided by the live nodes without a transaction.
TEST_P(RateNodes, AddressesCostNoTransaction) {
    start(4);
    for (std::uint64_t id = 0; id < 100; ++id) {
        Check ip{{Kind::ip, id}, {.rpm = 8}};
        EXPECT_TRUE(processes[0]->limiter->take(&ip, 1, 0).admitted);
        EXPECT_TRUE(processes[0]->limiter->take(&ip, 1, 0).admitted);
        EXPECT_FALSE(processes[0]->limiter->take(&ip, 1, 0).admitted);
    }
    EXPECT_EQ(number("SELECT COUNT(*) FROM rate_shares"), 0);
}

// Requests that arrive at once at nodes without a share are served together; the limit holds, and next to
// none is refused in vain.
TEST_P(RateNodes, ManyThreadsOnTwoNodesGetTheLimitAndNoMore) {
    check.limits.rpm = 1'000;
    start(2);
    std::atomic<int> count{0};
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (int i = 0; i < 300; ++i)
                if (processes[t % 2]->request(check).admitted) ++count;
        });
    threads.clear();
    EXPECT_LE(count.load(), 1'000);
    EXPECT_GE(count.load(), 950);
}

}  // namespace
}  // namespace nebula::ratelimit

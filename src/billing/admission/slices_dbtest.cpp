// Several nodes on one PostgreSQL: nobody spends what is not there, and nobody is refused while it is.

#include <gmock/gmock.h>

#include <thread>

#include "async/io_thread.hpp"
#include "async/task_group.hpp"
#include "billing/billing_fixture.hpp"
#include "store/node.hpp"
#include "store/notices.hpp"

namespace nebula::billing {
namespace {

using namespace std::chrono_literals;

/// One process. Cutting its FlakyDb off is a network that is gone; destroying it then is a kill.
struct Server {
    Server(store::TestDb& test_db, const BillingSettings& settings, const Clock& clock)
        : real(test_db.open_again()), db(*real, metrics) {
        store::StoreSettings at;
        at.url = test_db.url();
        notices = std::make_unique<store::Notices>(db, at, metrics, 200ms);
        node = store::Node::start({.lease = 2s, .renew_interval = 200ms}, db, clock, metrics).value();
        billing = std::make_unique<Billing>(settings, db, clock, metrics, node.get(), notices.get());
        notices->start();
        billing->start();
    }
    ~Server() { stop(); }
    void stop() {
        billing.reset();
        if (node) node->release();
        if (notices) notices->stop();
        node.reset();
        notices.reset();
    }
    void cut_off() { db.cut_off = 0; }

    metrics::Registry metrics;
    std::unique_ptr<store::Db> real;
    FlakyDb db;
    std::unique_ptr<store::Notices> notices;
    std::unique_ptr<store::Node> node;
    std::unique_ptr<Billing> billing;
};

class SlicesDb : public BillingFixture {
   public:
    void SetUp() override {
        BillingFixture::SetUp();
        settings.commit_retry = 500ms;
        key.id = KeyId{5};
        key.account = account;
    }
    void TearDown() override {
        servers.clear();
        BillingFixture::TearDown();
        EXPECT_EQ(number({"t.sliced", "SELECT COALESCE(SUM(sliced), 0)::BIGINT FROM ledger_chains"}), 0);
        EXPECT_EQ(number({"t.lent", "SELECT COALESCE(SUM(sliced), 0)::BIGINT FROM allowances"}), 0);
        EXPECT_EQ(number({"t.slices", "SELECT COALESCE(SUM(amount), 0)::BIGINT FROM slices"}), 0);
    }
    void start_servers(int count) {
        for (int i = 0; i < count; ++i)
            servers.push_back(std::make_unique<Server>(test_db(), settings, clock));
    }
    Billing& at(std::size_t server) { return *servers[server]->billing; }
    void pay(std::int64_t amount) {
        Movement movement;
        movement.account = account;
        movement.kind = MovementKind::payment;
        movement.amount = Nanos{amount};
        movement.key = "pay" + std::to_string(++payments);
        auto moved = sync_wait(at(0).move(movement));
        ASSERT_TRUE(moved) << moved.error().message << moved.error().detail;
        paid += amount;
    }
    /// What the ledger has, whoever leases it.
    std::int64_t ledger() {
        return number({"t.ledger",
                       "SELECT COALESCE(SUM(balance), 0)::BIGINT FROM ledger_accounts WHERE kind IN"
                       " ('customer_credits', 'customer_bonus', 'customer_debt')"});
    }
    std::int64_t charged() {
        return number({"t.charged", "SELECT COALESCE(SUM(charge), 0)::BIGINT FROM usage_records"});
    }
    Result<Hold> admit_at(std::size_t server, std::int64_t worst, std::int64_t least) {
        HoldRequest request{account, Nanos{worst}, Nanos{least}};
        return sync_wait(at(server).admit(request, Ticks::max()));
    }
    bool spend(std::size_t server, std::int64_t amount) {
        auto hold = admit_at(server, amount, amount);
        if (!hold) return false;
        auto settled = sync_wait(at(server).settle(std::move(*hold), record(account, amount)));
        return settled && settled->charge.value == amount;
    }

    FakeClock fake;
    std::vector<std::unique_ptr<Server>> servers;
    accounts::Key key;
    std::int64_t paid = 0;
    int payments = 0;
};
INSTANTIATE_TEST_SUITE_P(Engines, SlicesDb, ::testing::Values(store::Engine::postgres), store::engine_name);

struct Counts {
    std::atomic<int> served{0}, refused{0}, failed{0};
};

Async<void> one_call(Billing& billing, HoldRequest request, UsageRecord record, Counts& counts) {
    auto hold = co_await billing.admit(request, Ticks::max());
    if (!hold) {
        ++(hold.error().code == Code::payment_required ? counts.refused : counts.failed);
        co_return;
    }
    Hold mine = std::move(*hold);
    auto settled = co_await billing.settle(std::move(mine), std::move(record));
    if (settled && settled->written_off == Nanos{})
        ++counts.served;
    else
        ++counts.failed;
}

// Promise P1 on four nodes: a balance for exactly k of 1,000 concurrent calls serves exactly k.
TEST_P(SlicesDb, ExactlyAsManyCallsAreServedOnAllNodesTogether) {
    constexpr int calls = 1'000, k = 137;
    constexpr std::int64_t charge = 1'000;
    start_servers(4);
    pay(k * charge);
    IoThreads threads(clock, 3);
    Counts counts;
    {
        TaskGroup group("calls");
        for (std::size_t i = 0; i < calls; ++i) {
            HoldRequest request{account, Nanos{charge * static_cast<std::int64_t>(1 + i % 9)}, Nanos{charge}};
            group.spawn(threads[i % 3], one_call(at(i % 4), request, record(account, charge), counts));
        }
        group.wait();
    }
    EXPECT_EQ(counts.served.load(), k);
    EXPECT_EQ(counts.refused.load(), calls - k);
    EXPECT_EQ(counts.failed.load(), 0);
    EXPECT_EQ(ledger(), 0);
    EXPECT_EQ(charged(), k * charge);
}

// The same with a key's budget and a plan's quota.
TEST_P(SlicesDb, BudgetsAreExactOnAllNodesTogether) {
    constexpr int calls = 300, k = 41;
    constexpr std::int64_t charge = 1'000;
    start_servers(3);
    pay(1'000 * charge);
    key.budget.daily = Nanos{k * charge};
    IoThreads threads(clock, 2);
    Counts counts;
    {
        TaskGroup group("calls");
        for (std::size_t i = 0; i < calls; ++i) {
            HoldRequest request{account, Nanos{charge * static_cast<std::int64_t>(1 + i % 5)}, Nanos{charge}};
            request.budget_of = &key;
            group.spawn(threads[i % 2], one_call(at(i % 3), request, record(account, charge), counts));
        }
        group.wait();
    }
    EXPECT_EQ(counts.served.load(), k);
    EXPECT_EQ(counts.failed.load(), 0);
    EXPECT_EQ(charged(), k * charge);
    EXPECT_EQ(number({"t.used", "SELECT used FROM allowances WHERE kind = 'key_day'"}), k * charge);
}

TEST_P(SlicesDb, QuotasAreExactOnAllNodesTogether) {
    constexpr int calls = 300, k = 37;
    constexpr std::int64_t tokens = 100;
    start_servers(3);
    Terms terms;
    terms.period_end = terms.good_until = Time::max();
    terms.quota_input = k * tokens;
    terms.quota_output = 10 * k * tokens;
    terms.may_overrun = false;
    for (auto& server : servers)
        server->billing->set_terms_loader([terms](store::Tx&, AccountId, Time) { return terms; });
    IoThreads threads(clock, 2);
    Counts counts;
    {
        TaskGroup group("calls");
        for (std::size_t i = 0; i < calls; ++i) {
            UsageRecord made = record(account, 0);
            made.usage = {tokens, 0, tokens};
            HoldRequest request{account, Nanos{5 * tokens}, Nanos{1}};
            request.uses_quota = true;
            request.prices = made.prices;
            request.most = {tokens * static_cast<std::int64_t>(1 + i % 3), 0, 2 * tokens};
            request.fewest = {tokens, 0, tokens};
            group.spawn(threads[i % 2], one_call(at(i % 3), request, std::move(made), counts));
        }
        group.wait();
    }
    EXPECT_EQ(counts.served.load(), k);
    EXPECT_EQ(counts.refused.load(), calls - k);
    EXPECT_EQ(number({"t.used", "SELECT used FROM allowances WHERE kind = 'quota_input'"}), k * tokens);
    EXPECT_EQ(charged(), 0);
}

// One node dies with money in hand, another is cut off: nothing is spent twice, and once their leases are
// over all that is left can be spent.
TEST_P(SlicesDb, WhatDeadAndPartitionedNodesHadCanBeSpentAgain) {
    constexpr std::int64_t charge = 1'000;
    start_servers(4);
    pay(200 * charge);
    IoThreads threads(clock, 2);
    Counts counts;
    {
        TaskGroup group("calls");
        for (std::size_t i = 0; i < 120; ++i) {
            if (i == 40) servers[3]->cut_off();
            if (i == 60) servers[2]->cut_off();
            HoldRequest request{account, Nanos{charge * static_cast<std::int64_t>(1 + i % 5)}, Nanos{charge}};
            group.spawn(threads[i % 2], one_call(at(i % 4), request, record(account, charge), counts));
        }
        group.wait();
    }
    EXPECT_LE(charged(), paid);
    EXPECT_EQ(charged(), counts.served.load() * charge) << "what failed is not charged, what was served is";
    while (servers[2]->node->is_live() || servers[3]->node->is_live()) std::this_thread::yield();
    auto refused = admit_at(2, 1, 1);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::overloaded) << "without its lease a node admits nothing";
    servers.pop_back();  // the kill: gives nothing back
    std::int64_t left = paid - charged();
    while (left >= charge && spend(static_cast<std::size_t>(left / charge % 2), charge)) left -= charge;
    EXPECT_EQ(left, 0);
    EXPECT_EQ(ledger(), 0);
    EXPECT_EQ(charged(), paid);
    // The partitioned one comes back and finds that its lease is gone.
    servers[2]->db.cut_off = -1;
    EXPECT_FALSE(spend(2, charge));
}

// A slice that other nodes hardly use comes back when somebody needs it, held or not.
TEST_P(SlicesDb, FreePartsComeBackWhenTheyAreWanted) {
    start_servers(3);
    pay(1'000);
    ASSERT_TRUE(spend(0, 10));
    ASSERT_TRUE(spend(1, 10));
    ASSERT_TRUE(spend(2, 10));
    auto all = admit_at(1, 970, 970);
    ASSERT_TRUE(all) << all.error().message;
    std::jthread waits([&] {
        auto rest = admit_at(2, 70, 70);
        EXPECT_TRUE(rest);
    });
    while (servers[2]->metrics.prometheus_text().find("\nnebula_billing_waiters 1\n") == std::string::npos)
        std::this_thread::yield();
    ASSERT_TRUE(sync_wait(at(1).settle(std::move(*all), record(account, 900))));
    waits.join();
    Balance balance = sync_wait(at(0).balance(account)).value();
    EXPECT_EQ((balance.available + balance.held).value, 70);
    EXPECT_EQ(balance.paid.value, 70);
}

// Money that arrives at one node reaches who waits at another; a refund stops all of them.
TEST_P(SlicesDb, MovementsReachEveryNode) {
    start_servers(2);
    pay(100);
    auto hold = admit_at(0, 100, 100);
    ASSERT_TRUE(hold);
    std::jthread waits([&] { EXPECT_TRUE(spend(1, 50)); });
    while (servers[1]->metrics.prometheus_text().find("\nnebula_billing_waiters 1\n") == std::string::npos)
        std::this_thread::yield();
    pay(50);
    waits.join();
    hold->release();
    Movement refund;
    refund.account = account;
    refund.kind = MovementKind::refund;
    refund.amount = Nanos{150};
    refund.key = "refund";
    auto moved = sync_wait(at(1).move(refund));
    ASSERT_TRUE(moved) << moved.error().message;
    EXPECT_EQ(moved->amount.value, -100);
    EXPECT_EQ(moved->debt.value, 50);
    EXPECT_FALSE(spend(0, 1));
    EXPECT_FALSE(spend(1, 1));
    pay(60);
    EXPECT_TRUE(spend(0, 4));
    EXPECT_TRUE(spend(1, 6));
    EXPECT_FALSE(spend(0, 1));
}

// Bonus and paid credits of one account, charged by two nodes at once: the books stay right.
TEST_P(SlicesDb, TwoNodesChargeOneAccountAtOnce) {
    start_servers(2);
    pay(500);
    Movement bonus;
    bonus.account = account;
    bonus.kind = MovementKind::bonus;
    bonus.amount = Nanos{300};
    bonus.key = "bonus";
    ASSERT_TRUE(sync_wait(at(1).move(bonus)));
    IoThreads threads(clock, 2);
    Counts counts;
    {
        TaskGroup group("calls");
        for (std::size_t i = 0; i < 200; ++i)
            group.spawn(threads[i % 2],
                        one_call(at(i % 2), {account, Nanos{4}, Nanos{4}}, record(account, 4), counts));
        group.wait();
    }
    EXPECT_EQ(counts.served.load(), 200);
    EXPECT_EQ(ledger(), 0);
}

// An account that nobody uses any more leaves nothing behind on the nodes that served it.
TEST_P(SlicesDb, IdleAccountsGiveTheirSlicesBack) {
    servers.push_back(std::make_unique<Server>(test_db(), settings, fake));
    pay(1'000);
    ASSERT_TRUE(spend(0, 10));
    auto slices = [&] { return number({"t.rows", "SELECT COUNT(*) FROM slices"}); };
    EXPECT_EQ(slices(), 1);
    for (int i = 0; slices() != 0; ++i) {
        // Its thread looks twice a second: often enough before time goes on.
        if (i % 2'000 == 0) fake.advance(61s);
        if (!servers[0]->node->is_live()) servers[0]->node->renew();
    }
    while (!servers[0]->node->is_live()) servers[0]->node->renew();
    EXPECT_TRUE(spend(0, 990));
}

// Doubtful COMMITs of slices: looked up, neither lost nor doubled.
TEST_P(SlicesDb, DoubtfulSlicesAreLookedUp) {
    start_servers(2);
    pay(1'000);
    servers[0]->db.fail_after_commit = 1;
    EXPECT_TRUE(spend(0, 10));
    servers[1]->db.fail_at_commit = 1;
    EXPECT_TRUE(spend(1, 10));
    servers[1]->db.fail_after_commit = 1;
    EXPECT_TRUE(spend(1, 900));
    EXPECT_TRUE(spend(0, 80));
    EXPECT_EQ(ledger(), 0);
}

}  // namespace
}  // namespace nebula::billing

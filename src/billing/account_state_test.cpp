#include "billing/account_state.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace nebula::billing {
namespace {

constexpr AccountId account{42};

struct PurseTest : testing::Test {
    metrics::Registry metrics;
    Shared shared;
    std::unique_ptr<Purse> purse;

    PurseTest() {
        shared.holds_taken = &metrics.counter("taken", "");
        shared.holds_ended = &metrics.counter("ended", "");
        purse = std::make_unique<Purse>(PurseId{PurseKind::credits, account.db(), 0}, shared);
    }
    std::unique_ptr<PurseWaiter> waiter(std::int64_t most, std::int64_t least) {
        return std::make_unique<PurseWaiter>(*purse, most, least);
    }
};

// What a waiter got, once it is decided: an amount, or the code it was refused with.
std::string outcome(PurseWaiter& waiter) {
    if (!waiter.done.await_ready()) return "waits";
    auto answer = waiter.done.await_resume();
    return answer ? std::to_string(*answer) : code_name(answer.error().code);
}

// The sum of what can be spent and what is held is the customer's money: holds only move it.
TEST_F(PurseTest, HoldsMoveMoneyAndReleasesMoveItBack) {
    purse->give_back(100);
    EXPECT_TRUE(purse->try_take(60));
    EXPECT_EQ(purse->available(), 40);
    EXPECT_EQ(purse->held(), 60);
    EXPECT_FALSE(purse->try_take(60));
    purse->release(60);
    EXPECT_EQ(purse->available(), 100);
    EXPECT_EQ(purse->held(), 0);
    EXPECT_EQ(shared.holds(), 0);
}

// A charge above the hold is taken from what is there, and never from what is not.
TEST_F(PurseTest, ChargesAboveTheHoldTakeTheRestAndNoMore) {
    purse->give_back(100);
    ASSERT_TRUE(purse->try_take(30));
    EXPECT_EQ(purse->settle(30, 10), 10);
    EXPECT_EQ(purse->available(), 90);
    ASSERT_TRUE(purse->try_take(30));
    EXPECT_EQ(purse->settle(30, 50), 50);
    EXPECT_EQ(purse->available(), 40);
    ASSERT_TRUE(purse->try_take(30));
    EXPECT_EQ(purse->settle(30, 45), 40);
    EXPECT_EQ(purse->available(), 0);
    EXPECT_EQ(purse->held(), 0);
}

// A refund may take what was spent already: nothing new is held then, but what was promised is kept.
TEST_F(PurseTest, DebtStopsNewHoldsAndKeepsPromises) {
    purse->give_back(100);
    ASSERT_TRUE(purse->try_take(60));
    std::int64_t aside = purse->take_up_to(80, true);
    EXPECT_EQ(aside, 40);
    purse->replace(aside, -80);
    EXPECT_EQ(purse->available(), -40);
    EXPECT_FALSE(purse->try_take(1));
    EXPECT_TRUE(purse->try_take(0)) << "what is free costs nothing";
    EXPECT_EQ(purse->settle(60, 100), 60);
    auto late = waiter(1, 1);
    EXPECT_TRUE(purse->take_or_wait(*late, 10));
    EXPECT_EQ(late->answer.error().code, Code::payment_required);
    purse->give_back(41);
    EXPECT_TRUE(purse->try_take(1));
}

// With nothing outstanding nobody can free money: whoever is short gets what is there, or an answer at once.
TEST_F(PurseTest, WithNothingOutstandingTheRestIsHeldOrRefused) {
    purse->give_back(50);
    auto enough = waiter(80, 50);
    EXPECT_TRUE(purse->take_or_wait(*enough, 10));
    ASSERT_TRUE(enough->answer.has_value());
    EXPECT_EQ(*enough->answer, 50);
    purse->release(50);
    auto short_by_one = waiter(80, 51);
    EXPECT_TRUE(purse->take_or_wait(*short_by_one, 10));
    EXPECT_EQ(short_by_one->answer.error().code, Code::payment_required);
    EXPECT_EQ(purse->available(), 50);
}

// First come, first served: a small request must not overtake a large one that waits, or the large one
// starves.
TEST_F(PurseTest, WaitersAreServedInOrderAndNobodyOvertakes) {
    purse->give_back(100);
    ASSERT_TRUE(purse->try_take(90));
    auto first = waiter(50, 50), second = waiter(5, 5), third = waiter(60, 60);
    EXPECT_FALSE(purse->take_or_wait(*first, 10));
    EXPECT_FALSE(purse->take_or_wait(*second, 10));
    EXPECT_FALSE(purse->take_or_wait(*third, 10));
    EXPECT_FALSE(purse->try_take(1)) << "10 are available, but others wait";
    EXPECT_EQ(purse->take_up_to(1, false), 0);
    EXPECT_EQ(shared.waiters.load(), 3);

    purse->settle(90, 20);  // 80 are free now
    EXPECT_EQ(outcome(*first), "50");
    EXPECT_EQ(outcome(*second), "5");
    EXPECT_EQ(outcome(*third), "waits");
    purse->settle(50, 50);
    EXPECT_EQ(outcome(*third), "waits") << "5 are still held by the second";
    purse->settle(5, 5);
    EXPECT_EQ(outcome(*third), "payment_required") << "25 are left and nothing is outstanding";
    EXPECT_EQ(shared.waiters.load(), 0);
    EXPECT_EQ(purse->available(), 25);
}

// A grant reaches those who wait for money as a settlement does.
TEST_F(PurseTest, NewMoneyWakesWaiters) {
    purse->give_back(10);
    ASSERT_TRUE(purse->try_take(10));
    auto one = waiter(30, 30);
    EXPECT_FALSE(purse->take_or_wait(*one, 10));
    purse->give_back(30);
    EXPECT_EQ(outcome(*one), "30");
}

// Running out of time is not running out of money: what is there is enough when it covers the least.
TEST_F(PurseTest, ExpiredWaitersTakeWhatIsThereOrAreRefusedAndLetTheNextOnePass) {
    purse->give_back(100);
    ASSERT_TRUE(purse->try_take(60));
    auto content = waiter(90, 30), poor = waiter(90, 50), next = waiter(10, 10);
    EXPECT_FALSE(purse->take_or_wait(*poor, 10));
    EXPECT_FALSE(purse->take_or_wait(*content, 10));
    EXPECT_FALSE(purse->take_or_wait(*next, 10));
    purse->expire(*poor);
    EXPECT_EQ(outcome(*poor), "payment_required");
    EXPECT_EQ(outcome(*next), "waits");
    purse->expire(*content);
    EXPECT_EQ(outcome(*content), "40");
    purse->expire(*content);  // a timer that fires late changes nothing
    purse->settle(60, 50);
    EXPECT_EQ(outcome(*next), "10");
    EXPECT_EQ(purse->held(), 50);
}

// The number of waiters is bounded for the whole process, and a full line answers at once.
TEST_F(PurseTest, RefusesMoreWaitersThanAllowed) {
    purse->give_back(10);
    ASSERT_TRUE(purse->try_take(10));
    auto one = waiter(5, 5), two = waiter(5, 5);
    EXPECT_FALSE(purse->take_or_wait(*one, 1));
    EXPECT_TRUE(purse->take_or_wait(*two, 1));
    EXPECT_EQ(two->answer.error().code, Code::overloaded);
    EXPECT_GT(two->answer.error().retry_after_ms, 0);
    purse->fail_waiters({Code::cancelled, "the server is stopping"});
    EXPECT_EQ(outcome(*one), "cancelled");
    EXPECT_EQ(shared.waiters.load(), 0);
}

// A budget that is changed while it is used: what was used and held stays so.
TEST_F(PurseTest, ALimitMovesByItsDifferenceAndOldOnesAreIgnored) {
    Purse budget({PurseKind::key_day, 7, 0}, shared);
    budget.set_limit(100, 1);
    ASSERT_TRUE(budget.try_take(80));
    EXPECT_EQ(budget.settle(80, 30), 30);
    budget.set_limit(20, 3);
    EXPECT_EQ(budget.available(), -10);
    budget.set_limit(100, 2);
    EXPECT_EQ(budget.limit(), 20) << "what was read before the change";
    PurseWaiter one{budget, 5, 5};
    EXPECT_TRUE(budget.take_or_wait(one, 10));
    EXPECT_EQ(one.answer.error().param, "key");
    EXPECT_NE(one.answer.error().message.find("daily budget"), std::string::npos);
    budget.set_limit(40, 4);
    EXPECT_TRUE(budget.try_take(10));
}

struct Counting final : Refiller {
    void attend(Purse&) override { ++asked; }
    int asked = 0;
};

// On a node of several an empty slice says nothing: only who looked at the pool and the others may refuse.
TEST_F(PurseTest, ASliceRefusesOnlyWhenNothingIsLeftElsewhere) {
    Counting refiller;
    shared.refiller = &refiller;
    purse->give_back(10);
    auto one = waiter(30, 20), two = waiter(5, 5);
    EXPECT_FALSE(purse->take_or_wait(*one, 10));
    EXPECT_EQ(refiller.asked, 1);
    auto view = purse->begin(false);
    EXPECT_EQ(view.parked, 10);
    EXPECT_EQ(view.head_most, 30);
    EXPECT_EQ(purse->available(), 10);
    EXPECT_FALSE(purse->take_or_wait(*two, 10));
    purse->end(view.parked, -10, false);
    EXPECT_EQ(outcome(*one), "waits") << "others have some";
    view = purse->begin(false);
    purse->end(view.parked, 25, true);
    EXPECT_EQ(outcome(*one), "25");
    EXPECT_EQ(outcome(*two), "waits");
    purse->settle(25, 25);
    view = purse->begin(false);
    purse->end(view.parked, 0, true);
    EXPECT_EQ(outcome(*two), "payment_required");
}

// Threads that take, settle and release at random must never create or lose money, and everybody gets an
// answer.
TEST_F(PurseTest, ManyThreadsNeitherCreateNorLoseMoney) {
    constexpr std::int64_t start = 100'000;
    purse->give_back(start);
    std::atomic<std::int64_t> charged{0};
    auto work = [&](unsigned seed) {
        std::mt19937 random(seed);
        for (int i = 0; i < 5'000; ++i) {
            std::int64_t amount = 1 + random() % 40;
            PurseWaiter mine{*purse, amount, 1};
            std::int64_t got = 0;
            if (purse->try_take(amount)) {
                got = amount;
            } else {
                if (!purse->take_or_wait(mine, 1000)) {
                    while (!mine.done.await_ready()) std::this_thread::yield();
                    mine.answer = mine.done.await_resume();
                }
                if (!mine.answer) continue;
                got = *mine.answer;
            }
            if (random() % 3 == 0)
                purse->release(got);
            else
                charged += purse->settle(got, static_cast<std::int64_t>(random() % 20));
        }
    };
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < 4; ++t) threads.emplace_back(work, t);
    threads.clear();
    EXPECT_EQ(purse->held(), 0);
    EXPECT_EQ(purse->available() + charged.load(), start);
    EXPECT_GE(purse->available(), 0);
}

// The map grows while others read it; an entry once found stays where it is.
TEST(StateMapTest, FindsEveryStateWhileGrowing) {
    metrics::Registry metrics;
    Shared shared;
    StateMap map;
    std::atomic<std::uint64_t> added{0};
    std::jthread reader([&] {
        std::uint64_t seen = 0;
        while (seen < 20'000) {
            seen = added.load();
            if (seen > 0) {
                AccountState* found = map.find(AccountId{seen});
                ASSERT_NE(found, nullptr);
                ASSERT_EQ(found->id.value, seen);
            }
        }
    });
    for (std::uint64_t i = 1; i <= 20'000; ++i) {
        map.find_or_add(AccountId{i}, Nanos{static_cast<std::int64_t>(i)}, shared);
        added = i;
    }
    reader.join();
    AccountState* again = map.find_or_add(AccountId{7}, Nanos{999}, shared);
    EXPECT_EQ(again->credits.available(), 7) << "the first one's balance stays";
    EXPECT_EQ(map.find(AccountId{20'001}), nullptr);
    EXPECT_EQ(map.all().size(), 20'000u);
}

struct PriceCase {
    const char* name;
    Prices prices;
    TokenUsage usage;
    std::int64_t expected;
};

// Prices as a table: exact to the nano-dollar, rounded up once over all lines together.
TEST(ChargeOf, IsExactAndRoundedUpOnce) {
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    Prices usual{Nanos{200'000'000}, Nanos{600'000'000}, Nanos{50'000'000}};
    Prices tiny{Nanos{1}, Nanos{1}, Nanos{1}};
    Prices apart = usual;
    apart.cache_write_per_m = Nanos{250'000'000};
    apart.reasoning_per_m = Nanos{900'000'000};
    apart.unit = Nanos{40'000'000};
    Prices whole = apart;
    whole.request = Nanos{7};
    Prices tiny_apart = tiny;
    tiny_apart.cache_write_per_m = tiny_apart.reasoning_per_m = Nanos{1};
    const PriceCase cases[] = {
        {"nothing", usual, {0, 0, 0}, 0},
        {"one of each", usual, {1, 0, 1}, 800},
        {"cached prompt", usual, {1000, 400, 0}, 600 * 200 + 400 * 50},
        {"rounds up once", tiny, {1, 0, 1}, 1},
        {"exactly one", tiny, {500'000, 0, 500'000}, 1},
        {"one more token", tiny, {500'000, 0, 500'001}, 2},
        {"free", {}, {1'000'000, 0, 1'000'000}, 0},
        {"negative counts", usual, {-5, -5, -5}, 0},
        {"more cached than there is", usual, {10, 99, 0}, 500},
        {"written to the cache", apart, {1000, 400, 0, 500}, 100 * 200 + 400 * 50 + 500 * 250},
        {"more written than there is", apart, {10, 4, 0, 99}, 4 * 50 + 6 * 250},
        {"more cached than there is, and written", apart, {10, 99, 0, 99}, 10 * 50},
        {"reasoning", apart, {0, 0, 100, 0, 60}, 40 * 600 + 60 * 900},
        {"more reasoning than there is", apart, {0, 0, 10, 0, 99}, 10 * 900},
        {"negative parts", apart, {10, 0, 10, -5, -5, -5}, 10 * 200 + 10 * 600},
        {"units", apart, {0, 0, 0, 0, 0, 3}, 3 * 40'000'000},
        {"everything and a request",
         whole,
         {1000, 400, 100, 500, 60, 2},
         7 + 100 * 200 + 400 * 50 + 500 * 250 + 40 * 600 + 60 * 900 + 2 * 40'000'000},
        {"rounds up once, apart", tiny_apart, {333'333, 0, 333'333, 333'333, 333'333, 0}, 1},
        {"more units than anybody has", apart, {0, 0, 0, 0, 0, most}, most},
        {"written for free", usual, {10, 0, 0, 10}, 0},
        {"saturates", {Nanos{most}, Nanos{most}, Nanos{most}}, {most, 0, most}, most},
    };
    for (const PriceCase& one : cases)
        EXPECT_EQ(charge_of(one.prices, one.usage).value, one.expected) << one.name;
}

// A quota is worth most where tokens are dearest: what is left to pay must follow one rule, also in `verify`.
TEST(ChargeOf, AQuotaPaysPlainTokensFirstAndNeverUnits) {
    struct Row {
        TokenUsage usage;
        std::int64_t quota_input, quota_output;
        TokenUsage left;
    };
    const Row rows[] = {
        {{100, 30, 50, 20, 10, 2}, 0, 0, {100, 30, 50, 20, 10, 2}},
        {{100, 30, 50, 20, 10, 2}, 50, 40, {50, 30, 10, 20, 10, 2}},
        {{100, 30, 50, 20, 10, 2}, 60, 45, {40, 30, 5, 10, 5, 2}},
        {{100, 30, 50, 20, 10, 2}, 80, 50, {20, 20, 0, 0, 0, 2}},
        {{100, 30, 50, 20, 10, 2}, 999, 999, {0, 0, 0, 0, 0, 2}},
    };
    for (const Row& row : rows) {
        TokenUsage left = uncovered(row.usage, row.quota_input, row.quota_output);
        EXPECT_EQ(left.input, row.left.input) << row.quota_input;
        EXPECT_EQ(left.cached, row.left.cached) << row.quota_input;
        EXPECT_EQ(left.cache_write, row.left.cache_write) << row.quota_input;
        EXPECT_EQ(left.output, row.left.output) << row.quota_output;
        EXPECT_EQ(left.reasoning, row.left.reasoning) << row.quota_output;
        EXPECT_EQ(left.units, row.left.units);
    }
}

// With the customer's own provider key a share of each price is due, rounded up to a nano-dollar per million.
TEST(ChargeOf, AShareOfThePricesIsRoundedUpPerPrice) {
    Prices prices{Nanos{200'000'000}, Nanos{600'000'000}, Nanos{1}, Nanos{19},
                  Nanos{20},          Nanos{21},          Nanos{0}};
    Prices share = share_of(prices, 50'000);
    EXPECT_EQ(share.input_per_m, Nanos{10'000'000});
    EXPECT_EQ(share.output_per_m, Nanos{30'000'000});
    EXPECT_EQ(share.cached_input_per_m, Nanos{1});
    EXPECT_EQ(share.request, Nanos{1});
    EXPECT_EQ(share.cache_write_per_m, Nanos{1});
    EXPECT_EQ(share.reasoning_per_m, Nanos{2});
    EXPECT_EQ(share.unit, Nanos{0});
    EXPECT_EQ(share_of(prices, 0).output_per_m, Nanos{0});
    EXPECT_EQ(share_of(prices, 1'000'000).reasoning_per_m, Nanos{21});
}

// A hold must do for the dearest kind of token that the answer may turn out to have.
TEST(ChargeOf, TheDearestPricesAreNeverBelowTheCharge) {
    Prices prices{Nanos{5}, Nanos{10}, Nanos{1}, Nanos{3}, Nanos{7}, Nanos{12}, Nanos{2}};
    Prices most = dearest(prices);
    EXPECT_EQ(most.input_per_m, Nanos{7});
    EXPECT_EQ(most.output_per_m, Nanos{12});
    EXPECT_EQ(most.request, Nanos{3});
    EXPECT_EQ(most.unit, Nanos{2});
    prices.cache_write_per_m = prices.reasoning_per_m = {};
    EXPECT_EQ(dearest(prices).input_per_m, Nanos{5});
    EXPECT_EQ(dearest(prices).output_per_m, Nanos{10});
}

}  // namespace
}  // namespace nebula::billing

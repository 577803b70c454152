#include "billing/account_state.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace nebula::billing {
namespace {

constexpr AccountId account{42};

struct State : testing::Test {
    metrics::Registry metrics;
    Shared shared;
    std::unique_ptr<AccountState> state;

    State() {
        shared.holds_taken = &metrics.counter("taken", "");
        shared.holds_ended = &metrics.counter("ended", "");
        state = std::make_unique<AccountState>(account, shared);
    }
    static HoldRequest want(std::int64_t worst_case, std::int64_t least) {
        return {account, Nanos{worst_case}, Nanos{least}};
    }
    void give(std::int64_t amount) { state->give_back(Nanos{amount}); }
    std::int64_t available() const { return state->balance().available.value; }
    std::int64_t held() const { return state->balance().held.value; }
    std::unique_ptr<Waiter> waiter(std::int64_t worst_case, std::int64_t least) {
        return std::make_unique<Waiter>(*state, want(worst_case, least));
    }
};

// What a waiter got, once it is decided: an amount, or the code it was refused with.
std::string outcome(Waiter& waiter) {
    if (!waiter.done.await_ready()) return "waits";
    auto answer = waiter.done.await_resume();
    return answer ? std::to_string(answer->value) : code_name(answer.error().code);
}

// The sum of what can be spent and what is held is the customer's money: holds only move it.
TEST_F(State, HoldsMoveMoneyAndReleasesMoveItBack) {
    give(100);
    EXPECT_TRUE(state->try_take(want(60, 10)));
    EXPECT_EQ(available(), 40);
    EXPECT_EQ(held(), 60);
    EXPECT_FALSE(state->try_take(want(60, 10)));
    state->release(Nanos{60});
    EXPECT_EQ(available(), 100);
    EXPECT_EQ(held(), 0);
}

// A charge above the hold is taken from what is there, and never from what is not.
TEST_F(State, ChargesAboveTheHoldTakeTheRestAndWriteOffTheRemainder) {
    give(100);
    ASSERT_TRUE(state->try_take(want(30, 1)));
    Settled below = state->settle(Nanos{30}, Nanos{10});
    EXPECT_EQ(below.charge.value, 10);
    EXPECT_EQ(below.written_off.value, 0);
    EXPECT_EQ(available(), 90);
    ASSERT_TRUE(state->try_take(want(30, 1)));
    Settled above = state->settle(Nanos{30}, Nanos{50});
    EXPECT_EQ(above.charge.value, 50);
    EXPECT_EQ(available(), 40);
    ASSERT_TRUE(state->try_take(want(30, 1)));
    Settled beyond = state->settle(Nanos{30}, Nanos{45});
    EXPECT_EQ(beyond.charge.value, 40);
    EXPECT_EQ(beyond.written_off.value, 5);
    EXPECT_EQ(available(), 0);
    EXPECT_EQ(held(), 0);
}

// With nothing outstanding nobody can free money: whoever is short gets what is there, or an answer at once.
TEST_F(State, WithNothingOutstandingTheRestOfTheBalanceIsHeldOrRefused) {
    give(50);
    auto enough = waiter(80, 50);
    EXPECT_TRUE(state->take_or_wait(*enough, 10));
    ASSERT_TRUE(enough->answer.has_value());
    EXPECT_EQ(enough->answer->value, 50);
    state->release(Nanos{50});
    auto short_by_one = waiter(80, 51);
    EXPECT_TRUE(state->take_or_wait(*short_by_one, 10));
    EXPECT_EQ(short_by_one->answer.error().code, Code::payment_required);
    EXPECT_EQ(available(), 50);
}

// First come, first served: a small request must not overtake a large one that waits, or the large one
// starves.
TEST_F(State, WaitersAreServedInOrderAndNobodyOvertakes) {
    give(100);
    ASSERT_TRUE(state->try_take(want(90, 1)));
    auto first = waiter(50, 50), second = waiter(5, 5), third = waiter(60, 60);
    EXPECT_FALSE(state->take_or_wait(*first, 10));
    EXPECT_FALSE(state->take_or_wait(*second, 10));
    EXPECT_FALSE(state->take_or_wait(*third, 10));
    EXPECT_FALSE(state->try_take(want(1, 1))) << "10 are available, but others wait";
    EXPECT_EQ(shared.waiters.load(), 3);

    state->settle(Nanos{90}, Nanos{20});  // 80 are free now
    EXPECT_EQ(outcome(*first), "50");
    EXPECT_EQ(outcome(*second), "5");
    EXPECT_EQ(outcome(*third), "waits");
    state->settle(Nanos{50}, Nanos{50});
    EXPECT_EQ(outcome(*third), "waits") << "5 are still held by the second";
    state->settle(Nanos{5}, Nanos{5});
    EXPECT_EQ(outcome(*third), "payment_required") << "25 are left and nothing is outstanding";
    EXPECT_EQ(shared.waiters.load(), 0);
    EXPECT_EQ(available(), 25);
}

// A grant reaches those who wait for money as a settlement does.
TEST_F(State, NewMoneyWakesWaiters) {
    give(10);
    ASSERT_TRUE(state->try_take(want(10, 1)));
    auto one = waiter(30, 30);
    EXPECT_FALSE(state->take_or_wait(*one, 10));
    give(30);
    EXPECT_EQ(outcome(*one), "30");
}

// Running out of time is not running out of money: what is there is enough when it covers the least.
TEST_F(State, ExpiredWaitersTakeWhatIsThereOrAreRefusedAndLetTheNextOnePass) {
    give(100);
    ASSERT_TRUE(state->try_take(want(60, 1)));
    auto content = waiter(90, 30), poor = waiter(90, 50), next = waiter(10, 10);
    EXPECT_FALSE(state->take_or_wait(*poor, 10));
    EXPECT_FALSE(state->take_or_wait(*content, 10));
    EXPECT_FALSE(state->take_or_wait(*next, 10));
    state->expire(*poor);
    EXPECT_EQ(outcome(*poor), "payment_required");
    EXPECT_EQ(outcome(*next), "waits");
    state->expire(*content);
    EXPECT_EQ(outcome(*content), "40");
    state->expire(*content);  // a timer that fires late changes nothing
    state->settle(Nanos{60}, Nanos{50});
    EXPECT_EQ(outcome(*next), "10");
    EXPECT_EQ(held(), 50);
}

// The number of waiters is bounded for the whole process, and a full line answers at once.
TEST_F(State, RefusesMoreWaitersThanAllowed) {
    give(10);
    ASSERT_TRUE(state->try_take(want(10, 1)));
    auto one = waiter(5, 5), two = waiter(5, 5);
    EXPECT_FALSE(state->take_or_wait(*one, 1));
    EXPECT_TRUE(state->take_or_wait(*two, 1));
    EXPECT_EQ(two->answer.error().code, Code::overloaded);
    EXPECT_GT(two->answer.error().retry_after_ms, 0);
    state->fail_waiters({Code::cancelled, "the server is stopping"});
    EXPECT_EQ(outcome(*one), "cancelled");
    EXPECT_EQ(shared.waiters.load(), 0);
}

// Threads that take, settle and release at random must never create or lose money, and everybody gets an
// answer.
TEST_F(State, ManyThreadsNeitherCreateNorLoseMoney) {
    constexpr std::int64_t start = 100'000;
    give(start);
    std::atomic<std::int64_t> charged{0};
    auto work = [&](unsigned seed) {
        std::mt19937 random(seed);
        for (int i = 0; i < 5'000; ++i) {
            std::int64_t amount = 1 + random() % 40;
            Waiter mine{*state, want(amount, 1)};
            Nanos got;
            if (state->try_take(mine.request)) {
                got = mine.request.worst_case;
            } else {
                if (!state->take_or_wait(mine, 1000)) {
                    while (!mine.done.await_ready()) std::this_thread::yield();
                    mine.answer = mine.done.await_resume();
                }
                if (!mine.answer) continue;
                got = *mine.answer;
            }
            if (random() % 3 == 0)
                state->release(got);
            else
                charged += state->settle(got, Nanos{static_cast<std::int64_t>(random() % 20)}).charge.value;
        }
    };
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < 4; ++t) threads.emplace_back(work, t);
    threads.clear();
    EXPECT_EQ(held(), 0);
    EXPECT_EQ(available() + charged.load(), start);
    EXPECT_GE(available(), 0);
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
        map.find_or_add(AccountId{i}, Nanos{static_cast<std::int64_t>(i)}, 0, 0, shared);
        added = i;
    }
    reader.join();
    AccountState* again = map.find_or_add(AccountId{7}, Nanos{999}, 0, 0, shared);
    EXPECT_EQ(again->balance().available.value, 7) << "the first one's balance stays";
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
        {"saturates", {Nanos{most}, Nanos{most}, Nanos{most}}, {most, 0, most}, most},
    };
    for (const PriceCase& one : cases)
        EXPECT_EQ(charge_of(one.prices, one.usage).value, one.expected) << one.name;
}

}  // namespace
}  // namespace nebula::billing

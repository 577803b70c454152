// Budgets of keys, quotas of plans, suspension and movements of money, where one process owns the database.

#include <gmock/gmock.h>

#include <thread>

#include "async/io_thread.hpp"
#include "async/task_group.hpp"
#include "billing/billing_fixture.hpp"

namespace nebula::billing {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr Prices per_token{Nanos{1'000'000}, Nanos{1'000'000}, Nanos{1'000'000}};  // a nano each

class AdmissionDb : public BillingFixture {
   public:
    void SetUp() override {
        BillingFixture::SetUp();
        // 2026-11-25, a Wednesday, 12:00.
        fake.advance(std::chrono::sys_days(2026y / 11 / 25) + 12h - fake.now());
        key.id = KeyId{5};
        key.account = account;
    }
    Billing& start_at_fake_time() {
        billing.reset();
        billing = std::make_unique<Billing>(settings, db(), fake, metrics);
        if (terms) billing->set_terms_loader([this](store::Tx&, AccountId, Time) { return *terms; });
        billing->start();
        return *billing;
    }
    Result<Hold> admit_key(std::int64_t worst, std::int64_t least = 1) {
        HoldRequest request{account, Nanos{worst}, Nanos{least}};
        request.budget_of = &key;
        if (auto fast = billing->try_admit(request)) return std::move(*fast);
        return sync_wait(billing->admit(request, Ticks::max()));
    }
    HoldRequest tokens(std::int64_t input, std::int64_t output) {
        HoldRequest request{account, Nanos{input + output}, Nanos{2}};
        request.uses_quota = true;
        request.prices = per_token;
        request.most = {input, 0, output};
        request.fewest = {1, 0, 1};
        return request;
    }
    Result<Hold> admit_tokens(std::int64_t input, std::int64_t output) {
        HoldRequest request = tokens(input, output);
        if (auto fast = billing->try_admit(request)) return std::move(*fast);
        return sync_wait(billing->admit(request, Ticks::max()));
    }
    UsageRecord used(std::int64_t input, std::int64_t output, std::int64_t cached = 0) {
        UsageRecord made = record(account, 0);
        made.usage = {input, cached, output};
        made.prices = per_token;
        made.started_at = fake.now();
        return made;
    }
    void plan(std::int64_t input, std::int64_t output, bool may_overrun = true) {
        terms.emplace();
        terms->plan = "starter";
        terms->period_start = to_micros(fake.now());
        terms->period_end = fake.now() + 24h * 30;
        terms->quota_input = input;
        terms->quota_output = output;
        terms->may_overrun = may_overrun;
        terms->good_until = Time::max();
    }
    Result<Moved> move(MovementKind kind, std::int64_t amount, std::string key_text) {
        Movement movement;
        movement.account = account;
        movement.kind = kind;
        movement.amount = Nanos{amount};
        movement.key = std::move(key_text);
        return sync_wait(billing->move(std::move(movement)));
    }
    std::int64_t spent(Nanos Billing::KeySpending::* which) {
        return (sync_wait(billing->key_spending(account, key.id)).value().*which).value;
    }

    FakeClock fake;
    accounts::Key key;
    std::optional<Terms> terms;
};
NEBULA_BOTH_ENGINES(AdmissionDb);

// A key's budget lowers what it may hold and then refuses by name, whatever the account has.
TEST_P(AdmissionDb, ABudgetLowersAndThenRefuses) {
    start_at_fake_time();
    ASSERT_TRUE(grant(account, 1'000));
    key.budget.daily = Nanos{100};
    key.budget.total = Nanos{10'000};
    {
        auto hold = admit_key(150, 40);
        ASSERT_TRUE(hold) << hold.error().message;
        EXPECT_EQ(hold->spendable().value, 100);
        EXPECT_EQ(hold->amount().value, 100);
        auto settled = settle(std::move(*hold), used(0, 70));
        EXPECT_EQ(settled->charge.value, 70);
    }
    auto second = admit_key(50, 10);
    ASSERT_TRUE(second);
    EXPECT_EQ(second->amount().value, 30);
    auto settled = settle(std::move(*second), used(0, 50));
    EXPECT_EQ(settled->charge.value, 30) << "a budget is never exceeded";
    EXPECT_EQ(settled->written_off.value, 20);
    auto refused = admit_key(1);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::payment_required);
    EXPECT_EQ(refused.error().param, "key");
    EXPECT_THAT(refused.error().message, HasSubstr("daily budget"));
    EXPECT_EQ(spent(&Billing::KeySpending::daily), 100);
    EXPECT_EQ(available(account), 900);
    EXPECT_EQ(held(account), 0);

    // A restart reads what was used; a larger budget counts at once.
    start_at_fake_time();
    EXPECT_FALSE(admit_key(1));
    key.budget.daily = Nanos{105};
    key.updated_at = fake.now();
    EXPECT_EQ(admit_key(50)->amount().value, 5);
}

// Periods end at UTC midnight, on Sunday night and with the month; who was admitted before counts before.
TEST_P(AdmissionDb, BudgetsBeginAnewWithTheirPeriod) {
    start_at_fake_time();
    ASSERT_TRUE(grant(account, 10'000));
    key.budget.daily = Nanos{100};
    key.budget.weekly = Nanos{150};
    key.budget.monthly = Nanos{220};
    auto spend = [&](std::int64_t amount) {
        auto hold = admit_key(amount, 1);
        if (!hold) return std::int64_t{0};
        return settle(std::move(*hold), used(0, amount))->charge.value;
    };
    EXPECT_EQ(spend(90), 90);
    auto over_midnight = admit_key(10);
    ASSERT_TRUE(over_midnight);
    fake.advance(12h);  // Thursday 00:00
    EXPECT_EQ(settle(std::move(*over_midnight), used(0, 10))->charge.value, 10);
    EXPECT_EQ(spend(100), 50) << "a new day, but the week has 50 left";
    fake.advance(24h * 4);  // Monday 2026-11-30
    EXPECT_EQ(spend(100), 70) << "a new week, but the month has 70 left";
    EXPECT_EQ(spend(1), 0);
    fake.advance(24h);  // 2026-12-01
    EXPECT_EQ(spend(100), 80) << "a new month; of the week are 80 left";
    EXPECT_EQ(spent(&Billing::KeySpending::total), 300);
    EXPECT_EQ(spent(&Billing::KeySpending::monthly), 80);
}

// Money that another request of the key holds may come back: nobody is refused because of it.
TEST_P(AdmissionDb, WhoIsShortOfBudgetWaitsForOthers) {
    start();
    ASSERT_TRUE(grant(account, 1'000));
    key.budget.total = Nanos{100};
    auto first = admit_key(100);
    ASSERT_TRUE(first);
    std::jthread waits([&] {
        auto second = admit_key(60, 60);
        ASSERT_TRUE(second);
        EXPECT_EQ(second->amount().value, 60);
    });
    while (metric("nebula_billing_waiters") != 1) std::this_thread::yield();
    EXPECT_TRUE(settle(std::move(*first), used(0, 40)));
    waits.join();
    EXPECT_EQ(held(account), 0);
}

Async<void> budget_call(Billing& billing, HoldRequest request, UsageRecord record, std::atomic<int>& served) {
    auto hold = co_await billing.admit(request, Ticks::max());
    if (!hold) co_return;
    Hold mine = std::move(*hold);
    auto settled = co_await billing.settle(std::move(mine), std::move(record));
    EXPECT_TRUE(settled && settled->written_off == Nanos{});
    ++served;
}

// P1 for budgets: a budget for exactly k serves exactly k of many, whatever each might have cost.
TEST_P(AdmissionDb, ABudgetServesExactlyAsManyAsItPays) {
    constexpr int calls = 400, paid = 61;
    constexpr std::int64_t charge = 1'000;
    start();
    ASSERT_TRUE(grant(account, 10 * calls * charge));
    key.budget.monthly = Nanos{paid * charge};
    key.budget.total = Nanos{2 * paid * charge};
    IoThreads threads(clock, 3);
    std::atomic<int> served{0};
    {
        TaskGroup group("calls");
        for (int i = 0; i < calls; ++i) {
            HoldRequest request{account, Nanos{charge * (1 + i % 9)}, Nanos{charge}};
            request.budget_of = &key;
            group.spawn(threads[static_cast<std::size_t>(i) % 3],
                        budget_call(*billing, request, record(account, charge), served));
        }
        group.wait();
    }
    EXPECT_EQ(served.load(), paid);
    EXPECT_EQ(spent(&Billing::KeySpending::monthly), paid * charge);
    EXPECT_EQ(held(account), 0);
}

// The plan pays first, credits for the rest; the record says who paid what.
TEST_P(AdmissionDb, QuotaPaysBeforeCredits) {
    plan(100, 50);
    start_at_fake_time();
    ASSERT_TRUE(grant(account, 1'000));
    auto hold = admit_tokens(80, 30);
    ASSERT_TRUE(hold);
    EXPECT_EQ(hold->amount().value, 0);
    EXPECT_EQ(hold->quota_input(), 80);
    EXPECT_EQ(hold->quota_output(), 30);
    auto settled = settle(std::move(*hold), used(70, 20, 10));
    EXPECT_EQ(settled->charge.value, 0);
    EXPECT_EQ(settled->quota_input, 70);
    EXPECT_EQ(settled->quota_output, 20);

    hold = admit_tokens(50, 50);
    ASSERT_TRUE(hold);
    EXPECT_EQ(hold->quota_input(), 30);
    EXPECT_EQ(hold->quota_output(), 30);
    EXPECT_EQ(hold->amount().value, 40);
    settled = settle(std::move(*hold), used(50, 35, 15));
    EXPECT_EQ(settled->charge.value, 20 + 5);
    EXPECT_EQ(available(account), 975);
    auto rows = sync_wait(billing->usage(account, 10)).value();
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[0].quota_input, 30);
    EXPECT_EQ(rows[0].quota_output, 30);
    TokenUsage total = sync_wait(billing->quota_used(account)).value();
    EXPECT_EQ(total.input, 100);
    EXPECT_EQ(total.output, 50);

    start_at_fake_time();
    hold = admit_tokens(5, 5);
    EXPECT_EQ(hold->quota_input() + hold->quota_output(), 0) << "a restart knows what was used";
    EXPECT_EQ(hold->amount().value, 10);
}

// Without credits the quota that others hold is waited for, not refused.
TEST_P(AdmissionDb, WithoutCreditsQuotaThatOthersHoldIsWaitedFor) {
    plan(100, 100);
    start();
    billing->set_terms_loader([this](store::Tx&, AccountId, Time) { return *terms; });
    terms->period_end = Time::max();
    auto first = admit_tokens(100, 100);
    ASSERT_TRUE(first) << first.error().message;
    std::jthread waits([&] {
        auto second = admit_tokens(60, 60);
        ASSERT_TRUE(second) << second.error().message;
        EXPECT_EQ(second->quota_input(), 60);
        EXPECT_EQ(second->amount().value, 0);
    });
    while (metric("nebula_billing_waiters") != 1) std::this_thread::yield();
    EXPECT_TRUE(settle(std::move(*first), used(30, 30)));
    waits.join();
}

// A plan that ends with its quota answers 402 and says so; credits are not touched.
TEST_P(AdmissionDb, APlanThatMayNotOverrunStopsAtItsQuota) {
    plan(100, 10, false);
    start_at_fake_time();
    ASSERT_TRUE(grant(account, 1'000));
    auto hold = admit_tokens(50, 40);
    ASSERT_TRUE(hold);
    EXPECT_EQ(hold->quota_output(), 10);
    EXPECT_EQ(hold->amount().value, 0);
    auto settled = settle(std::move(*hold), used(50, 12));
    EXPECT_EQ(settled->charge.value, 0);
    EXPECT_EQ(settled->written_off.value, 2);
    auto refused = admit_tokens(10, 5);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::payment_required);
    EXPECT_EQ(refused.error().param, "plan");
    EXPECT_EQ(available(account), 1'000);
}

// Terms are kept until somebody says that they changed, and a suspended account gets nothing.
TEST_P(AdmissionDb, TermsAreKeptAndSuspensionStopsEverything) {
    plan(0, 0);
    start_at_fake_time();
    ASSERT_TRUE(grant(account, 1'000));
    EXPECT_EQ(billing->terms(account), nullptr);
    ASSERT_TRUE(sync_wait(billing->load_terms(account)));
    ASSERT_NE(billing->terms(account), nullptr);
    EXPECT_EQ(billing->terms(account)->plan, "starter");
    EXPECT_TRUE(admit(account, 10));
    terms->is_suspended = true;
    EXPECT_TRUE(admit(account, 10));
    auto change = [&](store::Tx& tx) -> Result<bool> {
        billing->terms_changed(tx, account);
        return true;
    };
    ASSERT_TRUE(db().in_tx_blocking(change));
    EXPECT_FALSE(billing->try_admit({account, Nanos{1}, Nanos{1}}));
    EXPECT_EQ(admit(account, 10).error().code, Code::payment_required);
    terms->is_suspended = false;
    fake.advance(61s);
    EXPECT_TRUE(admit(account, 10)) << "loaded again after a minute at the latest";
}

// Refunds take what is there, the rest is owed: nothing is spent until new money paid it.
TEST_P(AdmissionDb, ARefundOfSpentMoneyStopsSpending) {
    start_at_fake_time();
    ASSERT_TRUE(move(MovementKind::payment, 100, "pay1"));
    ASSERT_TRUE(settle(std::move(*admit(account, 70)), used(0, 70)));
    auto held_by_somebody = admit(account, 20);
    auto refund = move(MovementKind::refund, 100, "refund1");
    ASSERT_TRUE(refund) << refund.error().message;
    EXPECT_EQ(refund->amount.value, -10);
    EXPECT_EQ(refund->debt.value, 90);
    EXPECT_EQ(refund->balance.available.value, -90);
    EXPECT_FALSE(billing->try_admit({account, Nanos{1}, Nanos{1}}));
    EXPECT_EQ(settle(std::move(*held_by_somebody), used(0, 30))->charge.value, 20) << "a promise is kept";
    EXPECT_EQ(admit(account, 1).error().code, Code::payment_required);
    auto again = move(MovementKind::refund, 100, "refund1");
    ASSERT_TRUE(again);
    EXPECT_TRUE(again->is_replay);
    EXPECT_EQ(move(MovementKind::refund, 99, "refund1").error().code, Code::conflict);
    EXPECT_FALSE(admit(account, 1));
    auto paid = move(MovementKind::payment, 95, "pay2");
    ASSERT_TRUE(paid);
    EXPECT_EQ(paid->debt.value, -90);
    EXPECT_EQ(available(account), 5);
    EXPECT_EQ(move(MovementKind::plan_fee, 6, "fee1").error().code, Code::payment_required);
    EXPECT_EQ(move(MovementKind::plan_fee, 5, "fee1")->balance.available.value, 0);
}

// Bonus credits are spent first and end; what is left of the paid ones stays. Held money is not taken.
TEST_P(AdmissionDb, BonusIsSpentFirstAndExpires) {
    start_at_fake_time();
    ASSERT_TRUE(move(MovementKind::payment, 100, "pay1"));
    Movement bonus;
    bonus.account = account;
    bonus.kind = MovementKind::bonus;
    bonus.amount = Nanos{50};
    bonus.key = "bonus1";
    bonus.expires_at = fake.now() + 24h;
    ASSERT_TRUE(sync_wait(billing->move(bonus)));
    EXPECT_EQ(available(account), 150);
    ASSERT_TRUE(settle(std::move(*admit(account, 70)), used(0, 20)));
    Balance balance = sync_wait(billing->balance(account)).value();
    EXPECT_EQ(balance.bonus.value, 30);
    EXPECT_EQ(balance.paid.value, 100);
    fake.advance(25h);
    EXPECT_EQ(billing->expire_bonuses().value(), 1);
    EXPECT_EQ(available(account), 100);
    EXPECT_EQ(held(account), 0);
    EXPECT_EQ(billing->expire_bonuses().value(), 0);
}

// `also` is part of the movement: both or neither, and once.
TEST_P(AdmissionDb, WhatBelongsToAMovementHappensWithItOrNotAtAll) {
    start_at_fake_time();
    int calls = 0;
    Movement movement;
    movement.account = account;
    movement.kind = MovementKind::payment;
    movement.amount = Nanos{100};
    movement.key = "pay1";
    auto refuse = [&](store::Tx&) -> Result<void> {
        ++calls;
        return fail(Code::conflict, "not now");
    };
    EXPECT_EQ(sync_wait(billing->move(movement, refuse)).error().message, "not now");
    EXPECT_EQ(available(account), 0);
    auto agree = [&](store::Tx&) -> Result<void> {
        ++calls;
        return {};
    };
    ASSERT_TRUE(sync_wait(billing->move(movement, agree)));
    ASSERT_TRUE(sync_wait(billing->move(movement, refuse))->is_replay);
    EXPECT_EQ(calls, 2);
    EXPECT_EQ(available(account), 100);
}

// A COMMIT without an answer is looked up: memory and ledger never drift apart.
TEST_P(AdmissionDb, DoubtfulMovementsAreLookedUp) {
    FlakyDb flaky(db(), metrics);
    start(flaky);
    ASSERT_TRUE(move(MovementKind::payment, 100, "pay1"));
    Movement refund;
    refund.account = account;
    refund.kind = MovementKind::refund;
    refund.amount = Nanos{30};
    refund.key = "refund1";
    auto lose_answer = [&](store::Tx&) -> Result<void> {
        flaky.fail_after_commit = 1;
        return {};
    };
    ASSERT_TRUE(sync_wait(billing->move(refund, lose_answer)));
    EXPECT_EQ(available(account), 70);
    refund.key = "refund2";
    auto lose_commit = [&](store::Tx&) -> Result<void> {
        flaky.fail_at_commit = 1;
        return {};
    };
    EXPECT_FALSE(sync_wait(billing->move(refund, lose_commit)));
    EXPECT_EQ(available(account), 70);
    EXPECT_EQ(held(account), 0);
    billing.reset();
}

// A commit in doubt counts a budget once, and one that failed for good gives it back.
TEST_P(AdmissionDb, BudgetsFollowTheirRecordsThroughFailures) {
    FlakyDb flaky(db(), metrics);
    start(flaky);
    ASSERT_TRUE(grant(account, 1'000));
    key.budget.total = Nanos{100};
    auto first = admit_key(60);
    flaky.fail_after_commit = 1;
    ASSERT_TRUE(settle(std::move(*first), used(0, 40)));
    auto second = admit_key(60);
    ASSERT_EQ(second->amount().value, 60);
    flaky.fail_all = 1'000'000;
    EXPECT_FALSE(settle(std::move(*second), used(0, 60)));
    flaky.fail_all = 0;
    EXPECT_EQ(admit_key(90)->amount().value, 60);
    EXPECT_EQ(number({"test.used", "SELECT used FROM allowances WHERE kind = 'key_total'"}), 40);
    billing.reset();
}

}  // namespace
}  // namespace nebula::billing

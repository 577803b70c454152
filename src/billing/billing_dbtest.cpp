#include "billing/billing.hpp"

#include <gmock/gmock.h>

#include <map>
#include <random>
#include <thread>

#include "async/completion.hpp"
#include "async/io_thread.hpp"
#include "async/task_group.hpp"
#include "billing/billing_fixture.hpp"

namespace nebula::billing {
namespace {

using testing::HasSubstr;

class BillingDb : public BillingFixture {};
NEBULA_BOTH_ENGINES(BillingDb);

// The whole life of one request: what was promised is held, what was used is charged, and the row says so.
TEST_P(BillingDb, ChargesWhatWasUsedAndKeepsTheRecord) {
    start();
    ASSERT_EQ(grant(account, 10 * credit)->available.value, 10 * credit);
    EXPECT_FALSE(billing->try_admit({AccountId{999}, Nanos{1}, Nanos{1}}).has_value());
    auto hold = billing->try_admit({account, Nanos{3 * credit}, Nanos{1}});
    ASSERT_TRUE(hold.has_value());
    EXPECT_EQ(available(account), 7 * credit);
    EXPECT_EQ(held(account), 3 * credit);

    UsageRecord made = record(account, 123'456'789);
    made.usage.input = 7;
    made.usage.cached = 3;
    made.is_estimated = made.is_streamed = true;
    made.outcome = Outcome::client_left;
    made.status = 499;
    made.latency_us = 1234;
    made.first_token_us = 56;
    auto settled = settle(std::move(*hold), made);
    ASSERT_TRUE(settled.has_value());
    EXPECT_EQ(settled->charge.value, 123'456'796);
    EXPECT_EQ(settled->written_off.value, 0);
    EXPECT_EQ(ledger_balance(account), 10 * credit - 123'456'796) << "strict: durable when settle returns";
    EXPECT_EQ(available(account), ledger_balance(account));
    EXPECT_EQ(held(account), 0);

    auto rows = sync_wait(billing->usage(account, 10)).value();
    ASSERT_EQ(rows.size(), 1u);
    const UsageRecord& row = rows[0];
    EXPECT_EQ(row.id, made.id);
    EXPECT_EQ(row.key, made.key);
    EXPECT_EQ(row.model, made.model);
    EXPECT_EQ(row.provider, made.provider);
    EXPECT_EQ(row.usage.input, 7);
    EXPECT_EQ(row.usage.cached, 3);
    EXPECT_EQ(row.usage.output, made.usage.output);
    EXPECT_EQ(row.prices.output_per_m, made.prices.output_per_m);
    EXPECT_TRUE(row.is_estimated && row.is_streamed);
    EXPECT_EQ(row.outcome, Outcome::client_left);
    EXPECT_EQ(row.status, 499);
    EXPECT_EQ(row.started_at, made.started_at);
    EXPECT_EQ(row.latency_us, 1234);
    EXPECT_EQ(row.first_token_us, 56);
    EXPECT_EQ(metric("nebula_billing_records_total{outcome=\"client_left\"}"), 1);
    EXPECT_EQ(metric("nebula_billing_estimated_total"), 1);
    EXPECT_EQ(metric("nebula_billing_holds"), 0);
    EXPECT_EQ(metric("nebula_billing_queue"), 0);
}

// Moving a hold must neither free nor double it; dropping it anywhere frees it.
TEST_P(BillingDb, HoldsFollowTheirOwnerAndAreReleasedWithIt) {
    start();
    ASSERT_TRUE(grant(account, 100));
    {
        Hold outer;
        {
            auto inner = admit(account, 60);
            ASSERT_TRUE(inner);
            EXPECT_EQ(inner->account(), account);
            outer = std::move(*inner);
        }
        EXPECT_EQ(held(account), 60);
        Hold second = std::move(*admit(account, 40));
        outer = std::move(second);  // gives the first one back
        EXPECT_EQ(held(account), 40);
        EXPECT_EQ(outer.amount().value, 40);
    }
    EXPECT_EQ(held(account), 0);
    EXPECT_EQ(available(account), 100);
    EXPECT_EQ(metric("nebula_billing_holds"), 0);
}

// Free models and failed requests leave a record, but no money moves.
TEST_P(BillingDb, RecordsWithoutAChargeHaveNoPosting) {
    start();
    auto hold = admit(account, 0, 0);
    ASSERT_TRUE(hold) << "an account without any money may use what is free";
    ASSERT_TRUE(settle(std::move(*hold), record(account, 0)));
    ASSERT_TRUE(settle(Hold{}, record(account, 70))) << "nothing held and nothing there: written off";
    EXPECT_EQ(metric("nebula_billing_written_off_nanos_total"), 70);
    auto report = sync_wait(billing->verify()).value();
    EXPECT_EQ(report.usage_records, 2);
    EXPECT_EQ(report.postings, 0);
}

struct GrantCase {
    const char* name;
    int to;  // 0, 1: an account; 2: nobody
    std::int64_t amount;
    const char* key;
    const char* note;
    std::int64_t expected;  // available after it, or -1
    Code code = Code::internal;
};

// Grants as a table, in the order in which they happen: idempotency is checked before anything else.
TEST_P(BillingDb, GrantsAreIdempotentAndBounded) {
    constexpr std::int64_t billion = 1'000'000'000 * credit;
    start();
    AccountId to[] = {account, new_account("second"), AccountId{77}};
    const std::string long_key(201, 'k'), long_note(501, 'n');
    const GrantCase cases[] = {
        {"zero", 0, 0, "", "", -1, Code::invalid_request},
        {"above the largest", 0, billion + 1, "", "", -1, Code::invalid_request},
        {"below the smallest", 0, -billion - 1, "", "", -1, Code::invalid_request},
        {"smallest number there is", 0, std::numeric_limits<std::int64_t>::min(), "", "", -1,
         Code::invalid_request},
        {"long key", 0, 1, long_key.c_str(), "", -1, Code::invalid_request},
        {"long note", 0, 1, "", long_note.c_str(), -1, Code::invalid_request},
        {"nobody", 2, 1, "", "", -1, Code::not_found},
        {"taking back from nothing", 0, -1, "", "", -1, Code::invalid_request},
        {"first", 0, 100, "a", "hello", 100},
        {"the same again", 0, 100, "a", "hello", 100},
        {"other amount", 0, 101, "a", "hello", -1, Code::conflict},
        {"other note", 0, 100, "a", "hullo", -1, Code::conflict},
        {"other account", 1, 100, "a", "hello", -1, Code::conflict},
        {"nobody with a used key", 2, 100, "a", "hello", -1, Code::conflict},
        {"without a key twice", 0, 5, "", "", 105},
        {"without a key twice", 0, 5, "", "", 110},
        {"back too much", 0, -111, "b", "", -1, Code::invalid_request},
        {"back", 0, -110, "b", "", 0},
        {"back again, though nothing is left", 0, -110, "b", "", 0},
        {"same key, opposite sign", 0, 110, "b", "", -1, Code::conflict},
        {"largest", 0, billion, "", "", billion},
        {"largest", 0, billion, "", "", 2 * billion},
        {"largest", 0, billion, "", "", 3 * billion},
        {"largest", 0, billion, "", "", 4 * billion},
        {"one too many", 0, 1, "", "", -1, Code::invalid_request},
        {"another account is not affected", 1, billion, "c", "", billion},
    };
    for (const GrantCase& one : cases) {
        auto answer = grant(to[one.to], one.amount, one.key, one.note);
        if (one.expected >= 0) {
            ASSERT_TRUE(answer) << one.name << ": " << answer.error().message << answer.error().detail;
            EXPECT_EQ(answer->available.value, one.expected) << one.name;
            EXPECT_EQ(ledger_balance(to[one.to]), one.expected) << one.name;
        } else {
            ASSERT_FALSE(answer) << one.name;
            EXPECT_EQ(answer.error().code, one.code) << one.name << ": " << answer.error().message;
        }
    }
}

// Money that requests have been promised is not there to be taken back.
TEST_P(BillingDb, HeldMoneyCannotBeTakenBack) {
    start();
    ASSERT_TRUE(grant(account, 100));
    auto hold = admit(account, 60);
    EXPECT_EQ(grant(account, -41).error().code, Code::invalid_request);
    EXPECT_EQ(grant(account, -40)->available.value, 0);
    hold->release();
    EXPECT_EQ(available(account), 60);
}

// The same key from many sides at once must move money once.
TEST_P(BillingDb, ConcurrentGrantsWithOneKeyPostOnce) {
    start();
    std::vector<std::jthread> threads;
    std::atomic<int> answered{0};
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&] {
            if (grant(account, 50, "once")) ++answered;
        });
    threads.clear();
    EXPECT_EQ(answered.load(), 4);
    EXPECT_EQ(available(account), 50);
    EXPECT_EQ(ledger_balance(account), 50);
}

Async<void> one_call(Billing& billing, HoldRequest request, UsageRecord record, std::atomic<int>& served,
                     std::atomic<int>& refused) {
    auto hold = co_await billing.admit(request, Ticks::max());
    if (!hold) {
        EXPECT_EQ(hold.error().code, Code::payment_required) << hold.error().message;
        ++refused;
        co_return;
    }
    Hold mine = std::move(*hold);
    auto settled = co_await billing.settle(std::move(mine), std::move(record));
    EXPECT_TRUE(settled.has_value());
    if (settled) EXPECT_EQ(settled->written_off.value, 0);
    ++served;
}

// Promise P1: 1,000 concurrent calls on a balance for exactly k: k are served though each asks for a worst
// case of several charges, the others are refused, and nothing is left.
TEST_P(BillingDb, ExactlyAsManyCallsAreServedAsTheBalancePays) {
    constexpr int calls = 1'000, paid = 137;
    constexpr std::int64_t charge = 1'000;
    start();
    ASSERT_TRUE(grant(account, paid * charge));
    IoThreads threads(clock, 3);
    std::atomic<int> served{0}, refused{0};
    {
        TaskGroup group("calls");
        for (int i = 0; i < calls; ++i) {
            HoldRequest request{account, Nanos{charge * (1 + i % 9)}, Nanos{charge}};
            group.spawn(threads[static_cast<std::size_t>(i) % 3],
                        one_call(*billing, request, record(account, charge), served, refused));
        }
        group.wait();
    }
    EXPECT_EQ(served.load(), paid);
    EXPECT_EQ(refused.load(), calls - paid);
    EXPECT_EQ(available(account), 0);
    EXPECT_EQ(ledger_balance(account), 0);
    EXPECT_EQ(metric("nebula_billing_waiters"), 0);
    EXPECT_EQ(metric("nebula_billing_records_total{outcome=\"completed\"}"), paid);
    EXPECT_LT(metric("nebula_billing_batches_total"), paid) << "batches form under load";
}

// The same from plain threads, which is how the command line and other callers without a loop come in.
TEST_P(BillingDb, ExactlyAsManyCallsAreServedToPlainThreads) {
    constexpr std::int64_t charge = 10;
    start();
    ASSERT_TRUE(grant(account, 60 * charge));
    std::atomic<int> served{0}, refused{0};
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < 12; ++i) {
                HoldRequest request{account, Nanos{charge * 4}, Nanos{charge}};
                sync_wait(one_call(*billing, request, record(account, charge), served, refused));
            }
        });
    threads.clear();
    EXPECT_EQ(served.load(), 60);
    EXPECT_EQ(refused.load(), 36);
    EXPECT_EQ(ledger_balance(account), 0);
}

Async<void> admit_into(Billing& billing, HoldRequest request, Ticks deadline, Completion<Result<Hold>>& out) {
    auto hold = co_await billing.admit(request, deadline);
    out.set(std::move(hold));
}

Async<Result<Hold>> take(Completion<Result<Hold>>& from) { co_return co_await from; }

// A wait has an end: what can be had then is had, else the message says why.
TEST_P(BillingDb, WaitingForMoneyEndsAtTheDeadline) {
    FakeClock fake;
    settings.admission_wait = std::chrono::seconds(30);
    billing = std::make_unique<Billing>(settings, db(), fake, metrics);
    billing->start();
    ASSERT_TRUE(grant(account, 100));
    Hold blocker = std::move(*admit(account, 80));
    IoThreads threads(fake, 1);
    TaskGroup group("waiters");
    Completion<Result<Hold>> content, poor, patient;
    group.spawn(threads[0], admit_into(*billing, {account, Nanos{90}, Nanos{15}},
                                       fake.ticks() + std::chrono::seconds(5), content));
    group.spawn(threads[0], admit_into(*billing, {account, Nanos{90}, Nanos{30}},
                                       fake.ticks() + std::chrono::seconds(5), poor));
    group.spawn(threads[0], admit_into(*billing, {account, Nanos{90}, Nanos{90}}, Ticks::max(), patient));
    while (metric("nebula_billing_waiters") != 3) std::this_thread::yield();
    fake.advance(std::chrono::seconds(6));
    auto first = sync_wait(take(content));
    ASSERT_TRUE(first);
    EXPECT_EQ(first->amount().value, 20);
    auto second = sync_wait(take(poor));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Code::payment_required);
    EXPECT_THAT(second.error().message, HasSubstr("held by requests in progress"));
    EXPECT_EQ(metric("nebula_billing_waiters"), 1) << "the third has no deadline of its own";
    fake.advance(std::chrono::seconds(30));
    EXPECT_FALSE(sync_wait(take(patient)));
    group.wait();
}

// Stopping answers those who wait, flushes what was accepted, and takes nothing more.
TEST_P(BillingDb, StoppingAnswersWaitersAndFlushesTheQueue) {
    settings.durability = "relaxed";
    start();
    ASSERT_TRUE(grant(account, 1'000));
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(settle(std::move(*admit(account, 5)), record(account, 5)));
    EXPECT_EQ(available(account), 500);
    Hold blocker = std::move(*admit(account, 500));
    IoThreads threads(clock, 1);
    TaskGroup group("waiters");
    Completion<Result<Hold>> waiting;
    group.spawn(threads[0], admit_into(*billing, {account, Nanos{9}, Nanos{9}}, Ticks::max(), waiting));
    while (metric("nebula_billing_waiters") != 1) std::this_thread::yield();
    billing->stop();
    EXPECT_EQ(sync_wait(take(waiting)).error().code, Code::cancelled);
    EXPECT_EQ(billing->queued(), 0u);
    EXPECT_EQ(ledger_balance(account), 500);
    Error refused = settle(std::move(blocker), record(account, 5)).error();
    EXPECT_EQ(refused.code, Code::overloaded) << "not charged: another try is safe";
    EXPECT_GT(refused.retry_after_ms, 0);
    EXPECT_EQ(available(account), 500) << "a refused settlement charges nothing";
    group.wait();
}

// After a crash the balance is what the ledger says: unflushed charges and holds are as if they had never
// been.
TEST_P(BillingDb, ACrashLosesOnlyWhatWasNotDurable) {
    start();
    ASSERT_TRUE(grant(account, 1'000));
    ASSERT_TRUE(settle(std::move(*admit(account, 50)), record(account, 30)));
    settings.durability = "relaxed";
    billing = std::make_unique<Billing>(settings, db(), clock, metrics);  // its committer never runs
    {
        Hold lost = std::move(*admit(account, 400));
        ASSERT_TRUE(settle(std::move(*admit(account, 50)), record(account, 20)));
        EXPECT_EQ(available(account), 550);
        EXPECT_EQ(billing->queued(), 1u);
    }
    billing.reset();
    test_db().reopen();
    accounts_ = std::make_unique<accounts::Accounts>(db(), clock, metrics);
    start();
    EXPECT_EQ(available(account), 970);
    EXPECT_EQ(held(account), 0);
}

// When the committer is behind, new work is refused while what is in progress still ends.
TEST_P(BillingDb, AFullQueueRefusesNewRequests) {
    settings.durability = "relaxed";
    settings.queue_max = 2;
    billing = std::make_unique<Billing>(settings, db(), clock, metrics);
    ASSERT_TRUE(grant(account, 100));
    auto one = admit(account, 10), two = admit(account, 10), three = admit(account, 10);
    ASSERT_TRUE(settle(std::move(*one), record(account, 10)));
    ASSERT_TRUE(settle(std::move(*two), record(account, 10)));
    EXPECT_FALSE(billing->try_admit({account, Nanos{1}, Nanos{1}}).has_value());
    EXPECT_EQ(admit(account, 1).error().code, Code::overloaded);
    EXPECT_TRUE(settle(std::move(*three), record(account, 10)));
    billing->start();
    billing->stop();
    EXPECT_EQ(ledger_balance(account), 70);
}

// A process that only reads must not need an account to have had money.
TEST_P(BillingDb, UnknownAndEmptyAccountsAreToldApart) {
    start();
    EXPECT_EQ(sync_wait(billing->balance(AccountId{3})).error().code, Code::not_found);
    EXPECT_EQ(sync_wait(billing->usage(AccountId{3}, 5)).error().code, Code::not_found);
    EXPECT_EQ(admit(AccountId{3}, 5).error().code, Code::not_found);
    EXPECT_EQ(available(account), 0);
    EXPECT_EQ(admit(account, 5).error().code, Code::payment_required);
    EXPECT_TRUE(sync_wait(billing->usage(account, 5))->empty());
}

// Ten thousand random operations against a model of a few lines, with restarts in between.
TEST_P(BillingDb, AgreesWithASimpleModelOverRandomOperations) {
    struct Model {
        std::int64_t available = 0;
        std::vector<Hold> holds;
        std::int64_t records = 0;
    };
    settings.durability = "relaxed";
    start();
    std::mt19937_64 random(20261121);
    std::map<AccountId, Model> model;
    std::vector<AccountId> ids;
    for (int i = 0; i < 6; ++i) ids.push_back(new_account("m" + std::to_string(i)));
    std::int64_t revenue = 0;
    for (int step = 0; step < 10'000; ++step) {
        AccountId id = ids[random() % ids.size()];
        Model& m = model[id];
        auto amount = static_cast<std::int64_t>(1 + random() % 500);
        std::size_t pick = m.holds.empty() ? 0 : random() % m.holds.size();
        switch (random() % 16) {
            case 0: {
                if (random() % 4 != 0) break;  // grants are a transaction each
                bool is_back = random() % 3 == 0;
                bool expected = !is_back || m.available >= amount;
                auto granted = grant(id, is_back ? -amount : amount * 60);
                ASSERT_EQ(granted.has_value(), expected) << step;
                if (expected) m.available += is_back ? -amount : amount * 60;
                break;
            }
            case 1:
            case 2:
            case 3:
            case 4:
            case 5:
            case 6: {
                HoldRequest request{id, Nanos{amount}, Nanos{amount / 2}};
                if (m.available < amount && !m.holds.empty()) {
                    ASSERT_FALSE(billing->try_admit(request).has_value())
                        << "others hold money: it would wait";
                    break;
                }
                auto hold = admit(id, amount, amount / 2);
                bool expected = m.available >= amount / 2;
                ASSERT_EQ(hold.has_value(), expected) << step;
                if (!expected) break;
                ASSERT_EQ(hold->amount().value, std::min(amount, m.available)) << step;
                m.available -= hold->amount().value;
                if (hold->amount().value > 0) m.holds.push_back(std::move(*hold));
                break;
            }
            case 7:
            case 8:
            case 9:
            case 10:
            case 11:
            case 12: {
                if (m.holds.empty()) break;
                std::int64_t hold = m.holds[pick].amount().value;
                std::int64_t price = static_cast<std::int64_t>(random()) & 511;
                std::int64_t charge = std::min(price, hold + m.available);
                auto settled = settle(std::move(m.holds[pick]), record(id, price));
                ASSERT_TRUE(settled.has_value());
                ASSERT_EQ(settled->charge.value, charge) << step;
                ASSERT_EQ(settled->written_off.value, price - charge) << step;
                m.holds.erase(m.holds.begin() + static_cast<std::ptrdiff_t>(pick));
                m.available += hold - charge;
                revenue += charge;
                ++m.records;
                break;
            }
            case 13:
            case 14: {
                if (m.holds.empty()) break;
                m.available += m.holds[pick].amount().value;
                m.holds.erase(m.holds.begin() + static_cast<std::ptrdiff_t>(pick));
                break;
            }
            default: {
                ASSERT_EQ(available(id), m.available) << step;
                if (random() % 150 != 0) break;
                for (auto& [other, its] : model) {
                    for (Hold& hold : its.holds) its.available += hold.amount().value;
                    its.holds.clear();
                }
                billing->stop();
                start();
                for (auto& [other, its] : model) ASSERT_EQ(available(other), its.available) << step;
            }
        }
    }
    for (auto& [id, m] : model) {
        for (Hold& hold : m.holds) m.available += hold.amount().value;
        m.holds.clear();
    }
    billing->stop();
    std::int64_t records = 0;
    for (auto& [id, m] : model) {
        records += m.records;
        EXPECT_EQ(ledger_balance(id), m.available);
    }
    auto report = Billing::verify(db()).value();
    EXPECT_EQ(report.usage_records, records);
    EXPECT_EQ(report.revenue.value, revenue);
    EXPECT_GT(records, 1'500);
}

}  // namespace
}  // namespace nebula::billing

// What the database refuses, what verify finds, and what becomes of records when commits fail.

#include <gmock/gmock.h>

#include <thread>

#include "async/io_thread.hpp"
#include "async/task_group.hpp"
#include "billing/billing_fixture.hpp"

namespace nebula::billing {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class LedgerDb : public BillingFixture {
   public:
    /// A charge of 30 out of 1,000 for each of two accounts.
    void charge_two() {
        other = new_account("other");
        start();
        for (AccountId id : {account, other}) {
            ASSERT_TRUE(grant(id, 1'000));
            ASSERT_TRUE(settle(std::move(*admit(id, 50)), record(id, 30)));
        }
    }
    /// From now on no usage record of this account can be written.
    void poison(AccountId victim) {
        std::string id = std::to_string(victim.db());
        bool is_sqlite = db().engine() == store::Engine::sqlite;
        std::string statement =
            is_sqlite ? "CREATE TRIGGER poison BEFORE INSERT ON usage_records WHEN NEW.account_id = " + id +
                            " BEGIN SELECT RAISE(ABORT, 'poisoned'); END"
                      : "ALTER TABLE usage_records ADD CONSTRAINT poison CHECK (account_id <> " + id +
                            ") NOT VALID";
        ASSERT_EQ(run(statement.c_str()), "");
    }
    void cure() {
        bool is_sqlite = db().engine() == store::Engine::sqlite;
        ASSERT_EQ(run(is_sqlite ? "DROP TRIGGER poison" : "ALTER TABLE usage_records DROP CONSTRAINT poison"),
                  "");
    }
    AccountId other;
};
NEBULA_BOTH_ENGINES(LedgerDb);

// The ledger is append-only and balanced whoever writes: by hand, too.
TEST_P(LedgerDb, TheDatabaseItselfRefusesWhatWouldBreakTheBooks) {
    charge_two();
    EXPECT_THAT(run("UPDATE postings SET amount = 1"), HasSubstr("append-only"));
    EXPECT_THAT(run("DELETE FROM postings"), HasSubstr("append-only"));
    EXPECT_NE(run("UPDATE ledger_accounts SET balance = -1 WHERE kind = 'customer_credits'"), "");
    EXPECT_THAT(run("INSERT INTO ledger_accounts (id, kind, balance) VALUES (1, 'grants', 5)"),
                HasSubstr("empty"));
    EXPECT_NE(run("INSERT INTO ledger_accounts (id, kind) VALUES (1, 'bribes')"), "");
    EXPECT_EQ(run("INSERT INTO ledger_accounts (id, kind) VALUES (1, 'payments'), (2, 'customer_credits')"),
              "");
    const char* bad[] = {"1, 1, 5, 'grant'", "1, 2, 0, 'grant'",  "1, 2, -5, 'grant'",
                         "1, 2, 5, 'theft'", "1, 99, 5, 'grant'", "2, 1, 5, 'grant'"};
    for (const char* values : bad) {
        std::string statement =
            "INSERT INTO postings (id, debit_account, credit_account, amount, kind, created_at)"
            " VALUES (7, " +
            std::string(values) + ", 0)";
        EXPECT_NE(run(statement.c_str()), "") << values;
    }
}

// Verify must find every way in which the books can be wrong: a check that finds nothing is worse than none.
TEST_P(LedgerDb, VerifyFindsEveryKindOfCorruption) {
    charge_two();
    std::string id = std::to_string(account.db());
    struct Corruption {
        std::string statement, undo;
        const char* problem;
    };
    const std::string mine = " WHERE account_id = " + id;
    const Corruption cases[] = {
        {"UPDATE ledger_accounts SET balance = balance + 1" + mine + " AND kind = 'customer_credits'",
         "UPDATE ledger_accounts SET balance = balance - 1" + mine + " AND kind = 'customer_credits'",
         "ledger account balance differs from its postings"},
        {"UPDATE ledger_accounts SET balance = balance + 1" + mine + " AND kind = 'customer_credits'",
         "UPDATE ledger_accounts SET balance = balance - 1" + mine + " AND kind = 'customer_credits'",
         "not zero"},
        {"UPDATE usage_records SET charge = charge - 1, written_off = 1" + mine,
         "UPDATE usage_records SET charge = charge + 1, written_off = 0" + mine,
         "usage posting differs from the sum of its records"},
        {"UPDATE usage_records SET output_tokens = output_tokens + 1" + mine,
         "UPDATE usage_records SET output_tokens = output_tokens - 1" + mine,
         "charge differs from its price"},
        {"UPDATE usage_records SET posting_id = posting_id + 1" + mine,
         "UPDATE usage_records SET posting_id = posting_id - 1" + mine,
         "posting that is missing or not its account's"},
        {"UPDATE usage_records SET account_id = 12345" + mine,
         "UPDATE usage_records SET account_id = " + id + " WHERE account_id = 12345",
         "usage record belongs to no account"},
    };
    for (const Corruption& one : cases) {
        ASSERT_EQ(run(one.statement.c_str()), "") << one.problem;
        auto report = Billing::verify(db()).value();
        EXPECT_THAT(report.problems, testing::Contains(HasSubstr(one.problem)));
        ASSERT_EQ(run(one.undo.c_str()), "");
    }
    auto report = sync_wait(billing->verify()).value();
    EXPECT_THAT(report.problems, ElementsAre());
    EXPECT_EQ(report.customer_credits.value, 2 * 970);
    EXPECT_EQ(report.revenue.value, 60);
    EXPECT_EQ(report.postings, 4);
}

// The id of a record is its idempotency key: settled again, it answers as before and charges nothing.
TEST_P(LedgerDb, ARecordSettledTwiceIsChargedOnce) {
    start();
    ASSERT_TRUE(grant(account, 1'000));
    UsageRecord made = record(account, 30);
    ASSERT_TRUE(settle(std::move(*admit(account, 50)), made));
    UsageRecord changed = made;
    changed.usage.output = 40;
    auto again = settle(std::move(*admit(account, 50)), changed);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->charge.value, 30);
    EXPECT_EQ(available(account), 970);
    EXPECT_EQ(ledger_balance(account), 970);

    // Twice in one batch, beside records of its own and of others.
    AccountId second = new_account("second");
    ASSERT_TRUE(grant(second, 1'000));
    settings.durability = "relaxed";
    billing = std::make_unique<Billing>(settings, db(), clock, metrics);
    UsageRecord twice = record(account, 7);
    for (const UsageRecord& one : {twice, made, twice, record(account, 5), record(second, 9), twice})
        ASSERT_TRUE(settle(std::move(*admit(one.account, 20)), one));
    billing->start();
    billing->stop();
    EXPECT_EQ(ledger_balance(account), 970 - 12);
    EXPECT_EQ(ledger_balance(second), 991);
    EXPECT_EQ(available(account), 970 - 12);
    EXPECT_EQ(metric("nebula_billing_duplicates_total"), 4);
}

// A database that comes back in time costs nobody anything.
TEST_P(LedgerDb, AFailingCommitIsTriedAgain) {
    FlakyDb flaky(db(), metrics);
    start(flaky);
    ASSERT_TRUE(grant(account, 1'000));
    flaky.fail_all = 3;
    auto settled = settle(std::move(*admit(account, 50)), record(account, 30));
    ASSERT_TRUE(settled);
    EXPECT_EQ(ledger_balance(account), 970);
    EXPECT_EQ(metric("nebula_billing_commit_failures_total"), 3);
    billing.reset();
}

// A COMMIT whose answer was lost may have happened: charging again would charge twice, not charging would
// lose it.
TEST_P(LedgerDb, AnUnknownCommitOutcomeIsLookedUpNotGuessed) {
    FlakyDb flaky(db(), metrics);
    start(flaky);
    ASSERT_TRUE(grant(account, 1'000));
    flaky.fail_after_commit = 1;
    ASSERT_TRUE(settle(std::move(*admit(account, 50)), record(account, 30)));
    EXPECT_EQ(ledger_balance(account), 970);
    flaky.fail_at_commit = 1;
    ASSERT_TRUE(settle(std::move(*admit(account, 50)), record(account, 20)));
    EXPECT_EQ(ledger_balance(account), 950);
    EXPECT_EQ(available(account), 950);
    EXPECT_EQ(metric("nebula_billing_duplicates_total"), 0);
    EXPECT_EQ(sync_wait(billing->usage(account, 10))->size(), 2u);
    billing.reset();
}

// The server of the database restarts or drops us: the committer comes back by itself.
TEST_P(LedgerDb, LostConnectionsAreReplacedWithoutLosingARecord) {
    if (db().engine() != store::Engine::postgres) GTEST_SKIP() << "SQLite has no connections to lose";
    start();
    ASSERT_TRUE(grant(account, 1'000));
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(settle(std::move(*admit(account, 50)), record(account, 10)));
        std::string problem =
            run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()");
        ASSERT_EQ(problem, "");
        ASSERT_TRUE(settle(std::move(*admit(account, 50)), record(account, 10)));
    }
    EXPECT_EQ(ledger_balance(account), 940);
    EXPECT_EQ(sync_wait(billing->usage(account, 10))->size(), 6u);
}

// When the database stays away, the caller is told, nothing was charged, and the money is free again.
TEST_P(LedgerDb, GivingUpReturnsTheCharge) {
    FlakyDb flaky(db(), metrics);
    settings.commit_retry = std::chrono::milliseconds(20);
    start(flaky);
    ASSERT_TRUE(grant(account, 1'000));
    flaky.fail_all = 1'000'000;
    auto settled = settle(std::move(*admit(account, 50)), record(account, 30));
    ASSERT_FALSE(settled);
    EXPECT_EQ(settled.error().code, Code::overloaded) << "not charged: another try is safe";
    EXPECT_GT(settled.error().retry_after_ms, 0);
    EXPECT_EQ(available(account), 1'000);
    EXPECT_EQ(metric("nebula_billing_records_lost_total"), 1);
    flaky.fail_all = 0;
    ASSERT_TRUE(settle(std::move(*admit(account, 50)), record(account, 30)));
    EXPECT_EQ(ledger_balance(account), 970);
    billing.reset();
}

// Given up in doubt: the money stays taken until the database can say what happened, so it is never spent
// twice.
TEST_P(LedgerDb, DoubtfulChargesAreResolvedWhenTheDatabaseIsBack) {
    FlakyDb flaky(db(), metrics);
    settings.commit_retry = std::chrono::milliseconds(20);
    start(flaky);
    ASSERT_TRUE(grant(account, 1'000));
    for (bool happened : {true, false}) {
        std::int64_t before = available(account);
        // The first transaction gets as far as COMMIT, then nothing answers.
        flaky.cut_off = 1;
        (happened ? flaky.fail_after_commit : flaky.fail_at_commit) = 1;
        auto doubtful = settle(std::move(*admit(account, 50)), record(account, 30));
        EXPECT_EQ(doubtful.error().code, Code::internal) << "it may have been charged: no second try";
        EXPECT_EQ(available(account), before - 30);
        flaky.cut_off = -1;
        int asked = flaky.transactions.load();
        while (flaky.transactions.load() == asked) std::this_thread::yield();
        // One more commit, so that the committer is through with what it found.
        ASSERT_TRUE(settle(std::move(*admit(account, 5)), record(account, 0)));
        EXPECT_EQ(available(account), happened ? before - 30 : before);
        EXPECT_EQ(available(account), ledger_balance(account));
    }
    EXPECT_EQ(ledger_balance(account), 970);
    billing.reset();
}

// One account whose rows the database refuses must not hold up the records of all others.
TEST_P(LedgerDb, OneAccountThatCannotBeWrittenDoesNotHoldUpTheOthers) {
    other = new_account("other");
    settings.durability = "relaxed";
    settings.commit_retry = std::chrono::seconds(30);
    billing = std::make_unique<Billing>(settings, db(), clock, metrics);
    for (AccountId id : {account, other}) ASSERT_TRUE(grant(id, 1'000));
    poison(account);
    for (int i = 0; i < 10; ++i)
        for (AccountId id : {account, other}) ASSERT_TRUE(settle(std::move(*admit(id, 50)), record(id, 10)));
    billing->start();
    billing->stop();
    cure();
    EXPECT_EQ(ledger_balance(other), 900);
    EXPECT_EQ(ledger_balance(account), 1'000);
    EXPECT_EQ(available(account), 1'000) << "what could not be recorded is not charged";
    EXPECT_EQ(metric("nebula_billing_records_lost_total"), 10);
}

// A grant whose answer was lost is neither forgotten nor made twice.
TEST_P(LedgerDb, AGrantWithAnUnknownOutcomeIsLookedUp) {
    FlakyDb flaky(db(), metrics);
    start(flaky);
    ASSERT_TRUE(grant(account, 100));
    flaky.fail_after_commit = 1;
    EXPECT_EQ(grant(account, 50)->available.value, 150);
    flaky.fail_at_commit = 1;
    EXPECT_FALSE(grant(account, 50));
    EXPECT_EQ(available(account), 150);
    flaky.fail_at_commit = 1;
    EXPECT_FALSE(grant(account, -50));
    EXPECT_EQ(available(account), 150);
    flaky.fail_after_commit = 1;
    EXPECT_EQ(grant(account, -50)->available.value, 100);
    EXPECT_EQ(ledger_balance(account), 100);
    billing.reset();
}

}  // namespace
}  // namespace nebula::billing

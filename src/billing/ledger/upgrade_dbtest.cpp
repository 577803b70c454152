// Books from before movements and chains existed: they are taken over whole, and go on.

#include <gmock/gmock.h>

#include <algorithm>

#include "billing/ledger/ledger_fixture.hpp"

namespace nebula::billing::ledger {
namespace {

class OldBooks : public LedgerFixture {
   public:
    void SetUp() override {
        log::set_sink_for_test([](std::string_view) {});
        auto all = all_migrations(), old = all;
        std::erase_if(old, [](const store::Migration& step) { return step.number > 3; });
        ASSERT_TRUE(db().migrate(old).has_value());
        account = AccountId{7};
        for (const char* statement :
             {"INSERT INTO accounts (id, name, created_at) VALUES (7, 'old', 1), (8, 'never paid', 1)",
              "INSERT INTO ledger_accounts (id, account_id, kind) VALUES (1, 7, 'customer_credits'),"
              " (2, 7, 'revenue'), (3, 7, 'grants')",
              "INSERT INTO postings (id, debit_account, credit_account, amount, kind, idempotency_key, note,"
              " created_at) VALUES (10, 3, 1, 1000, 'grant', 'first', 'welcome', 5),"
              " (11, 1, 3, 300, 'grant', NULL, '', 6)",
              "INSERT INTO postings (id, debit_account, credit_account, amount, kind, created_at)"
              " VALUES (12, 1, 2, 30, 'usage', 7)",
              "INSERT INTO usage_records (account_id, id, key_id, model, provider, input_tokens, "
              "cached_tokens,"
              " output_tokens, price_input_per_m, price_output_per_m, price_cached_input_per_m, is_estimated,"
              " is_streamed, outcome, status, started_at, latency_us, first_token_us, charge, written_off,"
              " posting_id) VALUES (7, 20, 5, 'm', 'p', 0, 0, 30, 1, 1000000, 1, 0, 1, 'completed', 200,"
              " 3600000123, 0, 0, 30, 0, 12)"})
            ASSERT_EQ(run(statement), "");
        ASSERT_TRUE(db().migrate(all).has_value());
        accounts_ = std::make_unique<accounts::Accounts>(db(), clock, metrics);
    }
};
NEBULA_BOTH_ENGINES(OldBooks);

TEST_P(OldBooks, AreTakenOverAndGoOn) {
    auto report = Billing::verify(db()).value();
    EXPECT_THAT(report.problems, testing::ElementsAre());
    EXPECT_EQ(report.postings, 3);
    EXPECT_EQ(report.usage_records, 1);
    EXPECT_EQ(funds(account).paid.value, 670);
    static constexpr store::Sql hour{"test.hour",
                                     "SELECT hour + requests FROM usage_hours WHERE charge = 30"};
    EXPECT_EQ(number(hour), 3'600'000'001);

    // The key of an old grant still works once.
    Movement again = movement(MovementKind::grant, 1000, "first");
    again.note = "welcome";
    auto replayed = move(again);
    ASSERT_TRUE(replayed);
    EXPECT_TRUE(replayed->is_replay);
    EXPECT_EQ(replayed->id.value, 10u);
    again.note = "other";
    EXPECT_EQ(move(again).error().code, Code::conflict);

    ASSERT_TRUE(move(movement(MovementKind::bonus, 50)));
    ASSERT_TRUE(write({charged(account, 80)}));
    EXPECT_EQ(funds(account).paid.value, 640);
    EXPECT_EQ(funds(account).length, 3);
    account = AccountId{8};
    ASSERT_TRUE(move(movement(MovementKind::payment, 5)));
    EXPECT_THAT(run("UPDATE postings SET amount = 1"), testing::HasSubstr("append-only"));
    EXPECT_THAT(run("DELETE FROM postings"), testing::HasSubstr("append-only"));
    EXPECT_NE(run("UPDATE ledger_accounts SET balance = -1 WHERE kind = 'customer_bonus'"), "");
}

}  // namespace
}  // namespace nebula::billing::ledger

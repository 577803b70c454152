#include <gmock/gmock.h>

#include "store/store.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::store {
namespace {

using ::testing::HasSubstr;

class Migrations : public EngineTest {
   public:
    std::int64_t number(const char* text) {
        auto work = [text](Tx& tx) -> Result<std::int64_t> {
            std::int64_t value = -1;
            tx.one(Sql{"test.number", text}, {}, [&](const Row& row) { value = row.i64(0); });
            return value;
        };
        return db().in_tx_blocking(work).value();
    }
};
NEBULA_BOTH_ENGINES(Migrations);

constexpr Migration first{1, "first", MigrationEngine::any,
                          "CREATE TABLE a (id BIGINT PRIMARY KEY, t TEXT);"};
constexpr Migration second{2, "second", MigrationEngine::any,
                           "INSERT INTO a (id, t) VALUES (1, 'one; two');  -- it's; a comment\n"
                           "/* and ; another */ INSERT INTO a (id, t) VALUES (2, 'it''s');\n"};

// Modules hand their steps over in any order; numbers decide. A second start applies nothing.
TEST_P(Migrations, AreAppliedOnceInTheOrderOfTheirNumbers) {
    const Migration all[] = {second, first};
    EXPECT_EQ(db().migrate(all).value(), 2);
    EXPECT_EQ(number("SELECT COUNT(*) FROM a"), 2);
    EXPECT_EQ(db().migrate(all).value(), 0);
    test_db().reopen();
    EXPECT_EQ(db().migrate(all).value(), 0);
    EXPECT_EQ(number("SELECT COUNT(*) FROM nebula_migrations WHERE applied_at > 0"), 2);
}

// A step that was changed after release would leave old and new installations different.
TEST_P(Migrations, RefuseATextThatWasChangedAfterwards) {
    const Migration before[] = {first};
    ASSERT_EQ(db().migrate(before).value(), 1);
    const Migration after[] = {{1, "first", MigrationEngine::any, "CREATE TABLE a (id BIGINT PRIMARY KEY);"},
                               second};
    auto result = db().migrate(after);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::conflict);
    EXPECT_THAT(result.error().message, HasSubstr("migration 1 (first)"));
    EXPECT_EQ(number("SELECT COUNT(*) FROM a"), 0);
}

// An old program on a new schema would write rows that the new one cannot trust.
TEST_P(Migrations, RefuseASchemaOfANewerProgram) {
    const Migration all[] = {first, second};
    ASSERT_EQ(db().migrate(all).value(), 2);
    const Migration old[] = {first};
    auto result = db().migrate(old);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::conflict);
    EXPECT_THAT(result.error().message, HasSubstr("newer version"));
}

// Half a step must never stay: it could not be applied again.
TEST_P(Migrations, LeaveNothingOfAStepThatFailed) {
    const Migration all[] = {
        first, {2, "broken", MigrationEngine::any, "INSERT INTO a (id) VALUES (1); INSERT INTO nowhere;"}};
    auto result = db().migrate(all);
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().detail, HasSubstr("migration 2 (broken)"));
    EXPECT_EQ(number("SELECT COUNT(*) FROM a"), 0);
    EXPECT_EQ(number("SELECT COUNT(*) FROM nebula_migrations"), 1);
}

// Texts for one engine share a number; bodies of triggers and functions contain semicolons.
TEST_P(Migrations, TakeTheTextOfTheEngine) {
    const Migration all[] = {
        first,
        {2, "trigger", MigrationEngine::sqlite,
         "CREATE TRIGGER twice AFTER INSERT ON a WHEN NEW.id < 10 BEGIN\n"
         "  INSERT INTO a (id, t) VALUES (NEW.id + 10, 'a'); INSERT INTO a (id, t) VALUES (NEW.id + 20, "
         "'b');\n"
         "END;\nINSERT INTO a (id, t) VALUES (1, 'first');"},
        {2, "trigger", MigrationEngine::postgres,
         "CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS $body$\nBEGIN\n  IF NEW.id < 10 THEN\n"
         "    INSERT INTO a (id, t) VALUES (NEW.id + 10, 'a'); INSERT INTO a (id, t) VALUES (NEW.id + 20, "
         "'b');\n"
         "  END IF;\n  RETURN NEW;\nEND $body$;\n"
         "CREATE TRIGGER twice AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION twice();\n"
         "INSERT INTO a (id, t) VALUES (1, 'first');"}};
    EXPECT_EQ(db().migrate(all).value(), 2);
    EXPECT_EQ(number("SELECT COUNT(*) FROM a"), 3);
}

// Two texts under one number would make the outcome depend on their order.
TEST_P(Migrations, RefuseANumberThatIsUsedTwice) {
    const Migration all[] = {first, {1, "other", MigrationEngine::any, "CREATE TABLE b (id BIGINT);"}};
    EXPECT_FALSE(db().migrate(all));
}

}  // namespace
}  // namespace nebula::store

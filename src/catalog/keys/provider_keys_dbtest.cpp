// Customers' own provider keys: who gets which, what stands in the database, and what other nodes see.

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>

#include "async/io_thread.hpp"
#include "base/log.hpp"
#include "catalog/provider_keys.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::catalog {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class ProviderKeysDb : public store::EngineTest {
   public:
    void SetUp() override {
        log::set_sink_for_test([](std::string_view) {});
        std::vector<store::Migration> all(store::migrations().begin(), store::migrations().end());
        for (auto part : {accounts::migrations(), migrations()})
            all.insert(all.end(), part.begin(), part.end());
        ASSERT_TRUE(db().migrate(all).has_value());
        accounts::Accounts accounts(db(), clock, metrics);
        mine.account = sync_wait(accounts.create_account("mine")).value().id;
        other.account = sync_wait(accounts.create_account("other")).value().id;
        std::filesystem::remove(file);
        store_settings.url = test_db().url();
        start();
    }
    void TearDown() override {
        stop();
        std::filesystem::remove(file);
        log::set_sink_for_test(nullptr);
    }
    void start() {
        notices = std::make_unique<store::Notices>(db(), store_settings, metrics);
        keys = std::make_unique<ProviderKeys>(file, db(), *notices, threads, catalog, clock, metrics);
        auto started = keys->start();
        start_problem = started ? "" : started.error().message;
        notices->start();
    }
    void stop() {
        if (notices) notices->stop();
        keys.reset();
        notices.reset();
    }
    // On an I/O thread, as requests are.
    template <class F>
    auto on_thread(F work) {
        return sync_wait(moved(std::move(work)));
    }
    template <class F>
    std::invoke_result_t<F> moved(F work) {
        co_await resume_on(threads[0]);
        auto result = co_await work();
        co_return result;
    }
    Result<ProviderKey> add(const accounts::Caller& who, ProviderKey wanted, const std::string& secret) {
        return on_thread([&] { return keys->add(who, wanted, Secret(secret)); });
    }
    std::string used(const accounts::Caller& who, std::string_view provider, std::string_view model = "m") {
        auto key = keys->find(who.account, provider, model).first;
        return key ? key->reveal() : "";
    }

    std::string file =
        (std::filesystem::temp_directory_path() / ("nebula-keys-" + std::to_string(::getpid()))).string();
    metrics::Registry metrics;
    store::StoreSettings store_settings;
    SystemClock clock;
    IoThreads threads{clock, 1};
    Catalog catalog;
    accounts::Caller mine, other;
    std::unique_ptr<store::Notices> notices;
    std::unique_ptr<ProviderKeys> keys;
    std::string start_problem;
};
NEBULA_BOTH_ENGINES(ProviderKeysDb);

// The wrong key for the wrong account would bill a stranger.
TEST_P(ProviderKeysDb, EachAccountUsesItsOwnKeyForItsProviderAndModel) {
    EXPECT_EQ(used(mine, "up"), "");
    EXPECT_FALSE(std::filesystem::exists(file)) << "nobody needs a key file before the first key";
    ProviderKey wanted;
    wanted.provider = "up";
    wanted.models = {"only-this"};
    wanted.sort_order = 1;
    auto narrow = add(mine, wanted, "sk-narrow-narrow-narrow");
    ASSERT_TRUE(narrow.has_value()) << narrow.error().message << narrow.error().detail;
    EXPECT_EQ(narrow->label, "sk-...rrow");
    EXPECT_EQ(used(mine, "up"), "") << "of another model";
    EXPECT_EQ(used(mine, "up", "only-this"), "sk-narrow-narrow-narrow");
    wanted.models.clear();
    wanted.sort_order = 2;
    auto wide = add(mine, wanted, "short");
    ASSERT_TRUE(wide.has_value());
    EXPECT_EQ(wide->label, "...") << "nothing of a short one is shown";
    EXPECT_EQ(used(mine, "up"), "short");
    EXPECT_EQ(used(mine, "up", "only-this"), "sk-narrow-narrow-narrow") << "the lower order first";
    EXPECT_EQ(used(mine, "elsewhere"), "");
    EXPECT_EQ(used(other, "up"), "");

    narrow->is_disabled = true;
    ASSERT_TRUE(on_thread([&] { return keys->change(mine, *narrow); }).has_value());
    EXPECT_EQ(used(mine, "up", "only-this"), "short");
    EXPECT_EQ(on_thread([&] { return keys->remove(other, wide->id); }).error().code, Code::not_found);
    EXPECT_EQ(used(mine, "up"), "short") << "nobody removes a stranger's key";
    ASSERT_TRUE(on_thread([&] { return keys->remove(mine, wide->id); }).has_value());
    EXPECT_EQ(used(mine, "up"), "");
    EXPECT_EQ(on_thread([&] { return keys->remove(mine, wide->id); }).error().code, Code::not_found);
}

// Which key is asked first, and whether ours may be, decides between the fee and the whole price.
TEST_P(ProviderKeysDb, AKeySaysWhenItIsUsedAndWhetherOursMayBe) {
    ProviderKey wanted;
    wanted.provider = "up";
    wanted.is_fallback = true;
    auto last = add(mine, wanted, "sk-last");
    ASSERT_TRUE(last.has_value());
    OwnKeys own = keys->find(mine.account, "up", "m");
    EXPECT_EQ(own.first, nullptr);
    ASSERT_NE(own.fallback, nullptr);
    EXPECT_EQ(own.fallback->reveal(), "sk-last");
    EXPECT_FALSE(own.is_exclusive);
    wanted.is_fallback = false;
    wanted.always_use = true;
    auto first = add(mine, wanted, "sk-first");
    ASSERT_TRUE(first.has_value());
    own = keys->find(mine.account, "up", "m");
    EXPECT_EQ(own.first->reveal(), "sk-first");
    EXPECT_EQ(own.fallback->reveal(), "sk-last");
    EXPECT_TRUE(own.is_exclusive);
    stop();
    start();
    EXPECT_TRUE(keys->find(mine.account, "up", "m").is_exclusive) << "it is kept";
    first->always_use = false;
    ASSERT_TRUE(on_thread([&] { return keys->change(mine, *first); }).has_value());
    EXPECT_FALSE(keys->find(mine.account, "up", "m").is_exclusive);
    first->is_disabled = true;
    ASSERT_TRUE(on_thread([&] { return keys->change(mine, *first); }).has_value());
    EXPECT_EQ(keys->find(mine.account, "up", "m").first, nullptr);
}

// A dump of the database must not give the keys away, and a restart must find them again.
TEST_P(ProviderKeysDb, KeysAreSealedAndSurviveARestart) {
    ProviderKey wanted;
    wanted.provider = "up";
    ASSERT_TRUE(add(mine, wanted, "sk-very-secret-very-secret").has_value());
    std::string row;
    auto look = [&](store::Tx& tx) -> Result<bool> {
        static constexpr store::Sql sql{"test.row", "SELECT sealed, label, name, models FROM provider_keys"};
        return tx.one(sql, {}, [&](const store::Row& r) {
            for (int i = 0; i < 4; ++i) row += std::string(r.text(i)) + "\n";
        });
    };
    ASSERT_TRUE(db().read_blocking(look).value());
    EXPECT_THAT(row, Not(HasSubstr("secret")));
    stop();
    start();
    EXPECT_THAT(start_problem, IsEmpty());
    EXPECT_EQ(used(mine, "up"), "sk-very-secret-very-secret");

    // Without the right file nothing starts: else a customer would pay the list price without knowing.
    stop();
    std::filesystem::rename(file, file + ".away");
    start();
    EXPECT_THAT(start_problem, HasSubstr(file));
    stop();
    ASSERT_TRUE(SecretBox::from_file(file, true).has_value());
    start();
    EXPECT_THAT(start_problem, HasSubstr("not the key"));
    stop();
    std::filesystem::rename(file + ".away", file);
    start();
    EXPECT_THAT(start_problem, IsEmpty());

    // Nor can a row be moved to somebody else.
    auto steal = [&](store::Tx& tx) -> Result<bool> {
        static constexpr store::Sql sql{"test.steal", "UPDATE provider_keys SET account_id = $1"};
        return tx.exec(sql, {other.account.db()}) == 1;
    };
    ASSERT_TRUE(db().in_tx_blocking(steal).value());
    stop();
    start();
    EXPECT_THAT(start_problem, HasSubstr("not the key"));
    EXPECT_EQ(used(other, "up"), "");
}

// An account cannot fill every node's memory.
TEST_P(ProviderKeysDb, AnAccountHasAtMostOneHundred) {
    ProviderKey wanted;
    wanted.provider = "up";
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(add(mine, wanted, "sk-" + std::to_string(i)).has_value());
    EXPECT_EQ(add(mine, wanted, "sk-more").error().code, Code::overloaded);
    EXPECT_TRUE(add(other, wanted, "sk-others").has_value());
    EXPECT_EQ(used(mine, "up"), "sk-0") << "the oldest of equals";
}

// A key that was taken back on one node must not be used by another.
TEST_P(ProviderKeysDb, OtherNodesHearOfChanges) {
    if (db().engine() == store::Engine::sqlite) GTEST_SKIP() << "one process";
    store::Notices their_notices(db(), store_settings, metrics);
    ProviderKeys theirs(file, db(), their_notices, threads, catalog, clock, metrics);
    ASSERT_TRUE(theirs.start().has_value());
    their_notices.start();
    ProviderKey wanted;
    wanted.provider = "up";
    auto made = add(mine, wanted, "sk-shared");
    ASSERT_TRUE(made.has_value());
    auto wait_for = [&](bool is_there) {
        Ticks until = clock.ticks() + std::chrono::seconds(10);
        while ((theirs.find(mine.account, "up", "m").first != nullptr) != is_there && clock.ticks() < until)
            std::this_thread::yield();
        return (theirs.find(mine.account, "up", "m").first != nullptr) == is_there;
    };
    EXPECT_TRUE(wait_for(true));
    ASSERT_TRUE(on_thread([&] { return keys->remove(mine, made->id); }).has_value());
    EXPECT_TRUE(wait_for(false));
    their_notices.stop();
}

}  // namespace
}  // namespace nebula::catalog

#include "accounts/accounts.hpp"

#include <gmock/gmock.h>

#include "accounts/key_text.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::accounts {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AccountsDb : public store::EngineTest {
   public:
    void SetUp() override { ASSERT_TRUE(db().migrate(migrations())); }

    template <class T>
    static T ok(Async<Result<T>> work) {
        Result<T> result = sync_wait(std::move(work));
        EXPECT_TRUE(result) << result.error().message << " / " << result.error().detail;
        return std::move(result.value());
    }
    template <class T>
    static Error error(Async<Result<T>> work) {
        Result<T> result = sync_wait(std::move(work));
        EXPECT_FALSE(result);
        return result ? Error{} : result.error();
    }
    std::int64_t lookups(const char* result) {
        auto& counter =
            test_db().metrics().counter("nebula_accounts_key_lookups_total", "", {{"result", result}});
        return static_cast<std::int64_t>(counter.value());
    }

    FakeClock clock;
    std::unique_ptr<Accounts> accounts = std::make_unique<Accounts>(db(), clock, test_db().metrics());
};
NEBULA_BOTH_ENGINES(AccountsDb);

// An account is found by either of the two things people have at hand.
TEST_P(AccountsDb, FindsAnAccountByIdAndByExactName) {
    Account made = ok(accounts->create_account("Ada & Söhne"));
    EXPECT_EQ(made.created_at, clock.now());
    EXPECT_EQ(ok(accounts->account(made.id.text())).name, "Ada & Söhne");
    EXPECT_EQ(ok(accounts->account("Ada & Söhne")).id, made.id);
    for (const char* missing : {"ada & söhne", "Ada", "", "acc_0000000000001", "a\nb", "\xff"}) {
        Error missed = error(accounts->account(missing));
        EXPECT_EQ(missed.code, Code::not_found) << missing;
        EXPECT_EQ(missed.param, "account");
    }
    Account second = ok(accounts->create_account("Bob"));
    auto all = ok(accounts->list_accounts());
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].id, made.id);
    EXPECT_EQ(all[1].id, second.id);
}

// Names are how people tell accounts apart, so a name is given once.
TEST_P(AccountsDb, RefusesAnAccountNameTwice) {
    ok(accounts->create_account("taken"));
    Error second = error(accounts->create_account("taken"));
    EXPECT_EQ(second.code, Code::conflict);
    EXPECT_EQ(second.param, "name");
    EXPECT_EQ(error(accounts->create_account("")).code, Code::invalid_request);
    EXPECT_EQ(ok(accounts->list_accounts()).size(), 1u);
}

// The whole life of a key: shown once, good at once, cached, revoked, refused at once.
TEST_P(AccountsDb, KeyWorksFromItsCreationToItsRevocation) {
    Account account = ok(accounts->create_account("a"));
    NewKey made = ok(accounts->create_key(account.id, "laptop", {.rpm = 60, .tpm = 1000}));
    const std::string text = made.text.reveal();
    EXPECT_TRUE(is_well_formed_key(text));
    EXPECT_EQ(made.key.hint, key_hint(text));
    EXPECT_EQ(accounts->find_cached(sha256(text)), nullptr);

    auto first = ok(accounts->authenticate(text));
    EXPECT_EQ(first->id, made.key.id);
    EXPECT_EQ(first->account, account.id);
    EXPECT_EQ(first->name, "laptop");
    EXPECT_EQ(first->limits.rpm, 60);
    EXPECT_EQ(first->limits.tpm, 1000);
    EXPECT_FALSE(first->revoked_at);
    EXPECT_EQ(accounts->find_cached(sha256(text)), first);
    EXPECT_EQ(ok(accounts->authenticate(text)), first);

    clock.advance(std::chrono::seconds(5));
    Key revoked = ok(accounts->revoke_key(made.key.id.text()));
    EXPECT_EQ(revoked.revoked_at, clock.now());
    EXPECT_EQ(accounts->find_cached(sha256(text)), nullptr);
    EXPECT_EQ(error(accounts->authenticate(text)).code, Code::unauthenticated);

    clock.advance(std::chrono::seconds(5));
    EXPECT_EQ(ok(accounts->revoke_key(made.key.id.text())).revoked_at, revoked.revoked_at);
}

// One answer for every reason: nobody may learn which keys exist.
TEST_P(AccountsDb, AnswersEveryBadKeyAlike) {
    Account account = ok(accounts->create_account("a"));
    NewKey made = ok(accounts->create_key(account.id, "k", {}));
    ok(accounts->revoke_key(made.key.id.text()));
    std::string mistyped = made.text.reveal();
    mistyped.back() = mistyped.back() == 'a' ? 'b' : 'a';
    const std::string unknown = make_key_text().reveal();
    for (const std::string& token :
         {std::string(), std::string("Bearer"), mistyped, unknown, made.text.reveal()}) {
        Error refused = error(accounts->authenticate(token));
        EXPECT_EQ(refused.code, Code::unauthenticated);
        EXPECT_EQ(refused.message, "the API key is missing or not valid");
    }
    EXPECT_EQ(lookups("malformed"), 3);
    EXPECT_EQ(lookups("unknown"), 2);
}

// Asking again and again with an unknown key must not reach the database; a failed look-up shows that it
// would.
TEST_P(AccountsDb, AsksTheDatabaseForAnUnknownKeyOnlyOnceInTenSeconds) {
    const std::string token = make_key_text().reveal();
    EXPECT_EQ(error(accounts->authenticate(token)).code, Code::unauthenticated);
    auto drop = [](store::Tx& tx) -> Result<int> {
        tx.script(store::Sql{"test.drop", "DROP TABLE api_keys"});
        return 0;
    };
    ASSERT_TRUE(db().in_tx_blocking(drop));
    clock.advance(std::chrono::seconds(9));
    EXPECT_EQ(error(accounts->authenticate(token)).code, Code::unauthenticated);
    clock.advance(std::chrono::seconds(1));
    EXPECT_EQ(error(accounts->authenticate(token)).code, Code::internal);
}

// Keys survive a restart; the text itself is stored nowhere.
TEST_P(AccountsDb, StoresOnlyTheHashOfAKey) {
    Account account = ok(accounts->create_account("a"));
    NewKey made = ok(accounts->create_key(account.id, "k", {}));
    accounts = nullptr;
    test_db().reopen();
    accounts = std::make_unique<Accounts>(db(), clock, test_db().metrics());
    EXPECT_EQ(ok(accounts->authenticate(made.text.reveal()))->id, made.key.id);
    auto look = [](store::Tx& tx) -> Result<std::string> {
        std::string hash;
        tx.one(store::Sql{"test.hash", "SELECT key_hash FROM api_keys"}, {},
               [&](const store::Row& row) { hash = row.text(0); });
        return hash;
    };
    EXPECT_EQ(db().read_blocking(look).value(), to_hex(sha256(made.text.reveal()).bytes));
}

// An operator lists all keys, a customer those of one account.
TEST_P(AccountsDb, ListsKeysOfOneAccountOrOfAll) {
    Account a = ok(accounts->create_account("a"));
    Account b = ok(accounts->create_account("b"));
    ok(accounts->create_key(a.id, "first", {}));
    ok(accounts->create_key(b.id, "second", {}));
    ok(accounts->create_key(a.id, "first", {}));  // names need not differ
    auto names = [](const std::vector<Key>& keys) {
        std::vector<std::string> all;
        for (const Key& key : keys) all.push_back(key.name);
        return all;
    };
    EXPECT_THAT(names(ok(accounts->list_keys(std::nullopt))), ElementsAre("first", "second", "first"));
    EXPECT_THAT(names(ok(accounts->list_keys(a.id))), ElementsAre("first", "first"));
    Error missing = error(accounts->list_keys(AccountId{12345}));
    EXPECT_EQ(missing.code, Code::not_found);
    EXPECT_EQ(missing.param, "account");
}

// Each refusal names the field that must change.
TEST_P(AccountsDb, NamesTheFieldInEveryRefusalOfAKey) {
    Account account = ok(accounts->create_account("a"));
    EXPECT_EQ(error(accounts->create_key(AccountId{12345}, "k", {})).param, "account");
    EXPECT_EQ(error(accounts->create_key(account.id, "", {})).param, "name");
    EXPECT_EQ(error(accounts->create_key(account.id, "k", {.rpm = -1, .tpm = 0})).param, "rpm");
    EXPECT_EQ(error(accounts->create_key(account.id, "k", {.rpm = 0, .tpm = -1})).param, "tpm");
    for (const char* id : {"", "key_", "key_0000000000001", "acc_0000000000001", "nonsense"}) {
        Error missing = error(accounts->revoke_key(id));
        EXPECT_EQ(missing.code, Code::not_found) << id;
        EXPECT_EQ(missing.param, "key");
    }
    EXPECT_TRUE(ok(accounts->list_keys(std::nullopt)).empty());
}

// Users: found by a normalised address, with a hash that only the right password fits.
TEST_P(AccountsDb, CreatesUsersWithAHashedPassword) {
    EXPECT_FALSE(ok(accounts->has_any_user()));
    User made = ok(accounts->create_user("Ada@Example.com", Secret("correct horse"), Role::operator_));
    EXPECT_EQ(made.email, "ada@example.com");
    EXPECT_TRUE(ok(accounts->has_any_user()));
    Error twice = error(accounts->create_user("ADA@example.com", Secret("another horse"), Role::customer));
    EXPECT_EQ(twice.code, Code::conflict);
    EXPECT_EQ(twice.param, "email");
    EXPECT_EQ(error(accounts->create_user("bob@example.com", Secret("short"), Role::customer)).param,
              "password");
    EXPECT_EQ(error(accounts->create_user("bob", Secret("long enough password"), Role::customer)).param,
              "email");

    auto all = ok(accounts->list_users());
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all[0].id, made.id);
    EXPECT_EQ(all[0].role, Role::operator_);
    auto look = [](store::Tx& tx) -> Result<std::string> {
        std::string hash;
        tx.one(store::Sql{"test.hash", "SELECT password_hash FROM users"}, {},
               [&](const store::Row& row) { hash = row.text(0); });
        return hash;
    };
    std::string hash = db().read_blocking(look).value();
    EXPECT_THAT(hash, HasSubstr("$argon2id$"));
    EXPECT_TRUE(verify_password("correct horse", hash));
    EXPECT_FALSE(verify_password("another horse", hash));
}

}  // namespace
}  // namespace nebula::accounts

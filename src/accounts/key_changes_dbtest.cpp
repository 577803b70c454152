#include "accounts/teams/team_fixture.hpp"

namespace nebula::accounts {
namespace {

using std::chrono_literals::operator""s;
using std::chrono_literals::operator""h;
using ::testing::ElementsAre;

class KeyChanges : public TeamFixture {
   public:
    Key wanted(const Caller& caller, std::string name = "k") {
        Key key;
        key.account = caller.account;
        key.creator = caller.user;
        key.name = std::move(name);
        key.permissions = Permissions::all().bits();
        return key;
    }
    static KeyChange renamed() {
        KeyChange change;
        change.name = "renamed";
        return change;
    }
    bool is_accepted(const std::string& text) { return sync_wait(accounts.authenticate(text)).has_value(); }
};
NEBULA_BOTH_ENGINES(KeyChanges);

// Everything that limits a key must survive the way to the database and back, on every path a key is read.
TEST_P(KeyChanges, AKeyKeepsEverythingItWasMadeWith) {
    Caller ada = person("ada@example.com");
    Key key = wanted(ada, "all");
    key.description = "for\nthe crawler";
    key.limits = {.rpm = 1, .tpm = 2, .ipm = 3, .rpd = 4};
    key.permissions = Permissions::of_key().bits();
    key.models = {"qwen*", "llama \"3\""};
    key.budget = {{1}, {2}, {3}, {4}};
    key.expires_at = clock.now() + 10h;
    key.uses_cache = true;
    NewKey made = ok(accounts.create_key(key, &ada));
    for (const Key& read :
         {*ok(accounts.authenticate(made.text.reveal())), ok(accounts.key(ada.account, made.key.id)),
          ok(accounts.list_keys(ada.account))[0]}) {
        EXPECT_EQ(read.id, made.key.id);
        EXPECT_EQ(read.description, key.description);
        EXPECT_EQ(read.creator, ada.user);
        EXPECT_EQ(read.permissions, key.permissions);
        EXPECT_EQ(read.models, key.models);
        EXPECT_EQ(read.budget.total.value, 1);
        EXPECT_EQ(read.budget.daily.value, 2);
        EXPECT_EQ(read.budget.weekly.value, 3);
        EXPECT_EQ(read.budget.monthly.value, 4);
        EXPECT_EQ(read.limits.ipm, 3);
        EXPECT_EQ(read.limits.rpd, 4);
        EXPECT_EQ(read.expires_at, key.expires_at);
        EXPECT_TRUE(read.uses_cache);
        EXPECT_EQ(read.hash, sha256(made.text.reveal()));
        EXPECT_TRUE(read.may_use_model("qwen3:8b"));
        EXPECT_FALSE(read.may_use_model("gemma"));
    }
}

// A limit that cannot be kept, or text that the database refuses, is an answer and never a failure inside.
TEST_P(KeyChanges, RefusesWhatCannotBeKept) {
    Caller ada = person("ada@example.com");
    auto refused = [&](auto spoil) {
        Key key = wanted(ada);
        spoil(key);
        Error e = error(accounts.create_key(key, &ada));
        EXPECT_EQ(e.code, Code::invalid_request);
        return e.param;
    };
    EXPECT_EQ(refused([](Key& k) { k.name = std::string("a\0b", 3); }), "name");
    EXPECT_EQ(refused([](Key& k) { k.description = "\xff"; }), "description");
    EXPECT_EQ(refused([](Key& k) { k.description = std::string("\0", 1); }), "description");
    EXPECT_EQ(refused([](Key& k) { k.models = {"\xc0\xaf"}; }), "models");
    EXPECT_EQ(refused([](Key& k) { k.models = {"a*b"}; }), "models");
    EXPECT_EQ(refused([](Key& k) { k.budget.daily.value = -1; }), "budget");
    EXPECT_EQ(refused([](Key& k) { k.limits.rpd = -1; }), "rpd");
    EXPECT_EQ(refused([this](Key& k) { k.expires_at = clock.now(); }), "expires_at");
    EXPECT_TRUE(log(ada.account).empty());
}

// Cached keys must not outlive their time: the cache itself asks nobody.
TEST_P(KeyChanges, AKeyEndsAtItsTimeAlsoInTheCache) {
    Caller ada = person("ada@example.com");
    Key key = wanted(ada);
    key.expires_at = clock.now() + 60s;
    NewKey made = ok(accounts.create_key(key, &ada));
    Sha256 hash = sha256(made.text.reveal());
    ASSERT_TRUE(is_accepted(made.text.reveal()));
    clock.advance(59s);
    EXPECT_NE(accounts.find_cached(hash), nullptr);
    clock.advance(1s);
    EXPECT_EQ(accounts.find_cached(hash), nullptr);
    EXPECT_EQ(error(accounts.authenticate(made.text.reveal())).code, Code::unauthenticated);
    // Given more time it works again at once, though it was just found to be of no use.
    KeyChange longer;
    longer.expires_at = std::optional<Time>(clock.now() + 1h);
    ok(accounts.change_key(ada.account, made.key.id, longer, &ada));
    EXPECT_TRUE(is_accepted(made.text.reveal()));
}

TEST_P(KeyChanges, ADisabledKeyIsRefusedUntilItIsEnabled) {
    Caller ada = person("ada@example.com");
    NewKey made = ok(accounts.create_key(wanted(ada), &ada));
    ASSERT_TRUE(is_accepted(made.text.reveal()));
    KeyChange change;
    change.is_disabled = true;
    EXPECT_TRUE(ok(accounts.change_key(ada.account, made.key.id, change, &ada)).is_disabled);
    EXPECT_FALSE(is_accepted(made.text.reveal()));
    change.is_disabled = false;
    ok(accounts.change_key(ada.account, made.key.id, change, &ada));
    EXPECT_TRUE(is_accepted(made.text.reveal()));
    EXPECT_THAT(log(ada.account), ElementsAre("Create API Key k", "Update API Key k", "Update API Key k"));
}

// Programs need time to learn the new text, and the former must end when that is over, cached or not.
TEST_P(KeyChanges, TheFormerTextOfAKeyEndsWithItsGrace) {
    Caller ada = person("ada@example.com");
    NewKey first = ok(accounts.create_key(wanted(ada), &ada));
    ASSERT_TRUE(is_accepted(first.text.reveal()));
    NewKey second = ok(accounts.regenerate_key(ada.account, first.key.id, 60s, &ada));
    EXPECT_EQ(second.key.id, first.key.id);
    EXPECT_NE(second.text.reveal(), first.text.reveal());
    EXPECT_TRUE(is_accepted(second.text.reveal()));
    auto former = ok(accounts.authenticate(first.text.reveal()));
    EXPECT_EQ(former->grace_until, clock.now() + 60s);
    EXPECT_FALSE(ok(accounts.authenticate(second.text.reveal()))->grace_until);
    clock.advance(60s);
    EXPECT_EQ(accounts.find_cached(sha256(first.text.reveal())), nullptr);
    EXPECT_FALSE(is_accepted(first.text.reveal()));
    EXPECT_TRUE(is_accepted(second.text.reveal()));

    // Without grace, and only the last two texts can be good.
    NewKey third = ok(accounts.regenerate_key(ada.account, first.key.id, 0s, &ada));
    EXPECT_FALSE(is_accepted(second.text.reveal()));
    EXPECT_TRUE(is_accepted(third.text.reveal()));
    NewKey fourth = ok(accounts.regenerate_key(ada.account, first.key.id, 60s, &ada));
    ASSERT_TRUE(is_accepted(third.text.reveal()));
    ok(accounts.regenerate_key(ada.account, first.key.id, 60s, &ada));
    EXPECT_FALSE(is_accepted(third.text.reveal()));
    EXPECT_TRUE(is_accepted(fourth.text.reveal()));
    // Revoking ends every text.
    ok(accounts.revoke_key(ada.account, first.key.id, &ada));
    EXPECT_FALSE(is_accepted(fourth.text.reveal()));
    EXPECT_EQ(error(accounts.regenerate_key(ada.account, first.key.id, 0s, &ada)).code, Code::not_found);
}

// The vendor's rule; it is counted per account, not per key.
TEST_P(KeyChanges, RefusesTheTwentyFirstNewTextOfADay) {
    Caller ada = person("ada@example.com");
    NewKey a = ok(accounts.create_key(wanted(ada), &ada));
    NewKey b = ok(accounts.create_key(wanted(ada), &ada));
    for (int k = 0; k < 20; ++k)
        ok(accounts.regenerate_key(ada.account, k % 2 ? a.key.id : b.key.id, 0s, &ada));
    std::size_t lines = log(ada.account).size();
    Error refused = error(accounts.regenerate_key(ada.account, a.key.id, 0s, &ada));
    EXPECT_EQ(refused.code, Code::invalid_request);
    EXPECT_EQ(refused.param, "regenerate");
    EXPECT_THAT(refused.message, ::testing::HasSubstr("21 API keys"));
    EXPECT_EQ(log(ada.account).size(), lines);
    clock.advance(24h);
    ok(accounts.regenerate_key(ada.account, a.key.id, 0s, &ada));
}

// Whoever may manage keys must not become more than he is by making, widening or reopening one.
TEST_P(KeyChanges, NobodyGivesAKeyMoreThanHeHas) {
    Caller ada = person("ada@example.com");
    Key narrow = wanted(ada, "narrow");
    auto keys_only = Permissions().with(Permission::keys_read).with(Permission::keys_write);
    narrow.permissions = keys_only.bits();
    NewKey manager = ok(accounts.create_key(narrow, &ada));
    NewKey wide = ok(accounts.create_key(wanted(ada, "wide"), &ada));
    std::size_t lines = log(ada.account).size();

    Caller key = key_caller(manager.key);
    EXPECT_EQ(error(accounts.create_key(wanted(ada), &key)).code, Code::forbidden);
    EXPECT_EQ(error(accounts.regenerate_key(ada.account, wide.key.id, 0s, &key)).code, Code::forbidden);
    KeyChange widen;
    widen.permissions = Permissions::all().bits();
    EXPECT_EQ(error(accounts.change_key(ada.account, manager.key.id, widen, &key)).code, Code::forbidden);
    EXPECT_EQ(log(ada.account).size(), lines);
    Key same = wanted(ada, "same");
    same.permissions = keys_only.bits();
    ok(accounts.create_key(same, &key));

    // A person in a team is bound the same way.
    Caller member = ada;
    member.permissions = keys_only;
    EXPECT_EQ(error(accounts.create_key(wanted(ada), &member)).code, Code::forbidden);
}

// A key that may spend a dollar could make one that may spend everything.
TEST_P(KeyChanges, ALimitedKeyManagesNoKeys) {
    Caller ada = person("ada@example.com");
    auto limit = [&](auto how) {
        Key key = wanted(ada, "limited");
        how(key);
        return key_caller(ok(accounts.create_key(key, &ada)).key);
    };
    for (const Caller& key :
         {limit([](Key& k) { k.budget.total.value = 1; }), limit([](Key& k) { k.models = {"a"}; }),
          limit([this](Key& k) { k.expires_at = clock.now() + 1h; })}) {
        EXPECT_EQ(error(accounts.create_key(wanted(ada), &key)).code, Code::forbidden);
        KeyChange change;
        change.budget = KeyBudget{};
        EXPECT_EQ(error(accounts.change_key(ada.account, key.key, change, &key)).code, Code::forbidden);
        ok(accounts.revoke_key(ada.account, key.key, &key));  // ending itself is its right
    }
}

TEST_P(KeyChanges, KeysOfOthersAreNotThere) {
    Caller ada = person("ada@example.com"), bob = person("bob@example.com");
    NewKey made = ok(accounts.create_key(wanted(ada), &ada));
    EXPECT_EQ(error(accounts.key(bob.account, made.key.id)).code, Code::not_found);
    EXPECT_EQ(error(accounts.change_key(bob.account, made.key.id, {}, &bob)).code, Code::not_found);
    EXPECT_EQ(error(accounts.regenerate_key(bob.account, made.key.id, 0s, &bob)).code, Code::not_found);
    EXPECT_EQ(error(accounts.revoke_key(bob.account, made.key.id, &bob)).code, Code::not_found);
    EXPECT_TRUE(is_accepted(made.text.reveal()));
    EXPECT_TRUE(log(bob.account).empty());
}

// Memory and lists stay bounded by what an account can have.
TEST_P(KeyChanges, AnAccountHasAtMostAThousandUsableKeys) {
    Caller ada = person("ada@example.com");
    auto fill = [&](store::Tx& tx) -> Result<bool> {
        for (int k = 0; k < 1000; ++k) {
            Key key = wanted(ada);
            key.id = KeyId::next(clock);
            key.hash = sha256(std::to_string(k));
            key.created_at = clock.now();
            sql::insert_key(tx, key);
        }
        return true;
    };
    ASSERT_TRUE(db().in_tx_blocking(fill));
    EXPECT_EQ(error(accounts.create_key(wanted(ada), &ada)).code, Code::conflict);
    ok(accounts.revoke_key(ada.account, ok(accounts.list_keys(ada.account))[0].id, &ada));
    ok(accounts.create_key(wanted(ada), &ada));
}

// Last use tells people which keys they can delete; it costs the hot path no lock and no SQL.
TEST_P(KeyChanges, WritesWhenAKeyWasLastUsed) {
    Caller ada = person("ada@example.com");
    NewKey made = ok(accounts.create_key(wanted(ada), &ada));
    NewKey idle = ok(accounts.create_key(wanted(ada), &ada));
    auto key = ok(accounts.authenticate(made.text.reveal()));
    accounts.flush_last_used();
    EXPECT_FALSE(ok(accounts.key(ada.account, made.key.id)).last_used_at);
    clock.advance(5s);
    accounts.note_use(*key);
    accounts.note_use(*key);
    // It may leave the cache before it is written.
    ok(accounts.change_key(ada.account, made.key.id, renamed(), &ada));
    key = nullptr;
    accounts.flush_last_used();
    EXPECT_EQ(ok(accounts.key(ada.account, made.key.id)).last_used_at, clock.now());
    EXPECT_FALSE(ok(accounts.key(ada.account, idle.key.id)).last_used_at);
    accounts.note_use(made.key);  // not from authenticate(): nothing to note
    accounts.flush_last_used();
}

// Two processes on one database: what one changes, the other must not go on accepting.
TEST_P(KeyChanges, AnotherProcessForgetsAKeyThatIsChanged) {
    if (GetParam() == store::Engine::sqlite) GTEST_SKIP() << "SQLite has one process";
    auto other_db = test_db().open_again();
    metrics::Registry registry;
    store::Notices other_notices(*other_db, settings, registry);
    Accounts other(*other_db, clock, registry, &other_notices);
    other_notices.start();

    Caller ada = person("ada@example.com");
    NewKey made = ok(accounts.create_key(wanted(ada), &ada));
    Sha256 hash = sha256(made.text.reveal());
    auto wait_until_forgotten = [&] {
        for (int k = 0; k < 20'000 && other.find_cached(hash) != nullptr; ++k) std::this_thread::yield();
        auto deadline = std::chrono::steady_clock::now() + 10s;
        while (other.find_cached(hash) != nullptr && std::chrono::steady_clock::now() < deadline)
            std::this_thread::yield();
        return other.find_cached(hash) == nullptr;
    };
    ok(other.authenticate(made.text.reveal()));
    ok(accounts.change_key(ada.account, made.key.id, renamed(), &ada));
    EXPECT_TRUE(wait_until_forgotten());
    EXPECT_EQ(ok(other.authenticate(made.text.reveal()))->name, "renamed");

    ok(accounts.regenerate_key(ada.account, made.key.id, 60s, &ada));
    EXPECT_TRUE(wait_until_forgotten());
    EXPECT_TRUE(ok(other.authenticate(made.text.reveal()))->grace_until);
    ok(accounts.revoke_key(ada.account, made.key.id, &ada));
    EXPECT_TRUE(wait_until_forgotten());
    EXPECT_EQ(error(other.authenticate(made.text.reveal())).code, Code::unauthenticated);
    other_notices.stop();
}

// History that can be edited is worth nothing.
TEST_P(KeyChanges, TheAuditLogCannotBeChanged) {
    Caller ada = person("ada@example.com");
    ok(accounts.create_key(wanted(ada), &ada));
    for (const char* text : {"UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log"}) {
        auto tamper = [text](store::Tx& tx) -> Result<bool> {
            tx.exec(store::Sql{"test.tamper", text}, {});
            return true;
        };
        EXPECT_THROW((void)db().in_tx_blocking(tamper), store::DbError) << text;
    }
    EXPECT_THAT(log(ada.account), ElementsAre("Create API Key k"));
}

}  // namespace
}  // namespace nebula::accounts

#include "accounts/accounts.hpp"

#include <gtest/gtest.h>

#include <set>

#include "accounts/key_cache.hpp"
#include "accounts/key_text.hpp"
#include "accounts/validate.hpp"

namespace nebula::accounts {
namespace {

using std::chrono_literals::operator""s;

Sha256 hash_of(int number) { return sha256(std::to_string(number)); }

std::shared_ptr<const Key> key_named(std::string name) {
    auto key = std::make_shared<Key>();
    key->name = std::move(name);
    return key;
}

// The form is a promise to secret scanners and to whoever pastes a key.
TEST(KeyText, HasItsFormAndIsNeverTheSameTwice) {
    std::set<std::string> seen;
    for (int k = 0; k < 200; ++k) {
        Secret key = make_key_text();
        EXPECT_EQ(key.reveal().size(), 53u);
        EXPECT_TRUE(key.reveal().starts_with("sk-neb-"));
        EXPECT_TRUE(is_well_formed_key(key.reveal()));
        seen.insert(key.reveal());
    }
    EXPECT_EQ(seen.size(), 200u);
}

// A mistyped key must cost no query: any single wrong or swapped character breaks the checksum.
TEST(KeyText, IsRefusedWithAnyCharacterWrong) {
    const std::string key = make_key_text().reveal();
    for (std::size_t at = 0; at < key.size(); ++at) {
        std::string wrong = key;
        wrong[at] = wrong[at] == 'a' ? 'b' : 'a';
        EXPECT_FALSE(is_well_formed_key(wrong)) << at;
        if (at == 0 || key[at] == key[at - 1]) continue;
        std::string swapped = key;
        std::swap(swapped[at], swapped[at - 1]);
        EXPECT_FALSE(is_well_formed_key(swapped)) << at;
    }
    for (std::string bad : {std::string(), std::string("sk-neb-"), key + "0", key.substr(1), " " + key,
                            key + " ", key.substr(0, 52) + std::string(1, '\0'), std::string(53, 'x')})
        EXPECT_FALSE(is_well_formed_key(bad)) << bad;
}

// Lists show the hint to everybody who may see the account: it must not help guessing.
TEST(KeyText, HintShowsFourCharactersOnEitherEnd) {
    EXPECT_EQ(key_hint("sk-neb-AbCdefghijklmnopqrstuvwxyz0123456789ABCDE1wxyz"), "sk-neb-AbCd…wxyz");
}

// The hot path: what was put is found, and a revoked key is gone at once.
TEST(KeyCache, FindsKeysUntilTheyAreInvalidated) {
    KeyCache cache(1000);
    Sha256 hash = hash_of(1);
    EXPECT_EQ(cache.find(hash), nullptr);
    cache.put(hash, key_named("a"), cache.epoch(hash));
    ASSERT_NE(cache.find(hash), nullptr);
    EXPECT_EQ(cache.find(hash)->name, "a");
    cache.invalidate(hash);
    EXPECT_EQ(cache.find(hash), nullptr);
}

// A request may read the key, be overtaken by its revocation, and then store what it read: that would keep a
// revoked key alive for ever.
TEST(KeyCache, RefusesAKeyThatWasReadBeforeItsRevocation) {
    KeyCache cache(1000);
    Sha256 hash = hash_of(1);
    std::uint64_t before = cache.epoch(hash);
    cache.invalidate(hash);
    cache.put(hash, key_named("revoked"), before);
    EXPECT_EQ(cache.find(hash), nullptr);
}

// Memory is bounded, and a full cache still takes the newest key.
TEST(KeyCache, NeverHoldsMoreThanItsMaximum) {
    KeyCache cache(640);
    for (int k = 0; k < 5'000; ++k) {
        Sha256 hash = hash_of(k);
        cache.put(hash, key_named("k"), cache.epoch(hash));
        ASSERT_NE(cache.find(hash), nullptr);
    }
    EXPECT_LE(cache.size(), 640u);
}

// Guessing must cost us no queries, but a key that comes to exist must work soon.
TEST(UnknownKeys, AreRememberedForTenSeconds) {
    FakeClock clock;
    UnknownKeys unknown(clock, 100, 10s);
    unknown.add(hash_of(1));
    clock.advance(9s);
    EXPECT_TRUE(unknown.contains(hash_of(1)));
    EXPECT_FALSE(unknown.contains(hash_of(2)));
    clock.advance(1s);
    EXPECT_FALSE(unknown.contains(hash_of(1)));
    unknown.add(hash_of(2));
    EXPECT_EQ(unknown.size(), 1u);
}

// An attacker with endless well-formed keys must not fill our memory.
TEST(UnknownKeys, DropTheOldestWhenFull) {
    FakeClock clock;
    UnknownKeys unknown(clock, 100, 10s);
    for (int k = 0; k < 1'000; ++k) unknown.add(hash_of(k));
    EXPECT_EQ(unknown.size(), 100u);
    EXPECT_FALSE(unknown.contains(hash_of(899)));
    EXPECT_TRUE(unknown.contains(hash_of(900)));
    EXPECT_TRUE(unknown.contains(hash_of(999)));
}

// Removing and adding again must not let the first entry's end take the second along.
TEST(UnknownKeys, KeepAHashThatWasAddedAgain) {
    FakeClock clock;
    UnknownKeys unknown(clock, 100, 10s);
    unknown.add(hash_of(1));
    unknown.remove(hash_of(1));
    EXPECT_FALSE(unknown.contains(hash_of(1)));
    clock.advance(5s);
    unknown.add(hash_of(1));
    clock.advance(6s);
    unknown.add(hash_of(2));  // clears what is due
    EXPECT_TRUE(unknown.contains(hash_of(1)));
}

// Names go to logs, lists and pages: any language, no line breaks, no tricks with invalid bytes.
TEST(Validate, NamesAreWholeCharactersWithoutControls) {
    std::string hundred;
    for (int k = 0; k < 100; ++k) hundred += "ü";
    for (const std::string& good : {std::string("a"), std::string("Team Größe 東京 🚀"), hundred})
        EXPECT_TRUE(check_name(good, "name")) << good;
    for (const std::string& bad :
         {std::string(), hundred + "x", std::string("a\nb"), std::string("a\0b", 3), std::string("a\x7f"),
          std::string("\xc2\x85"), std::string("\xff"), std::string("\xc0\xaf"), std::string("\xed\xa0\x80"),
          std::string("a\xe2\x82"), std::string(" a"), std::string("a ")}) {
        auto result = check_name(bad, "name");
        ASSERT_FALSE(result) << bad;
        EXPECT_EQ(result.error().code, Code::invalid_request);
        EXPECT_EQ(result.error().param, "name");
    }
}

// One person, one user: writing an address differently must not make a second.
TEST(Validate, EmailsAreNormalised) {
    EXPECT_EQ(check_email(" Ada@Example.COM ").value(), "ada@example.com");
    for (const char* bad : {"", "ada", "@example.com", "ada@", "a@b@c", "a b@c.de", "a\n@b.c", "ä@b.c"}) {
        auto result = check_email(bad);
        ASSERT_FALSE(result) << bad;
        EXPECT_EQ(result.error().param, "email");
    }
    EXPECT_FALSE(check_email(std::string(250, 'a') + "@b.de"));
}

// Ten characters are ten characters in every alphabet; endless ones would be endless work.
TEST(Validate, PasswordsHaveALeastAndAMostLength) {
    EXPECT_TRUE(check_password(Secret("äöüäöüäöüä")));
    EXPECT_TRUE(check_password(Secret(std::string(1024, 'x'))));
    for (const std::string& bad : {std::string(), std::string("ninechars"), std::string(1025, 'x')}) {
        auto result = check_password(Secret(bad));
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().param, "password");
    }
}

}  // namespace
}  // namespace nebula::accounts

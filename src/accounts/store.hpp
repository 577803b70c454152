#pragma once
// Every SQL statement of this module, as functions of a transaction. Private to this module.

#include <optional>
#include <string>
#include <vector>

#include "accounts/accounts.hpp"

namespace nebula::accounts::sql {

// insert_… throw store::UniqueViolation when the name, e-mail or key is taken.
void insert_account(store::Tx& tx, const Account& account);
std::vector<Account> accounts(store::Tx& tx);
std::optional<Account> account_by_id(store::Tx& tx, AccountId id);
std::optional<Account> account_by_name(store::Tx& tx, std::string_view name);
/// Until the end of the transaction nobody else changes how many keys, members … it has. False: no such
/// account.
bool lock_account(store::Tx& tx, AccountId id);

void insert_key(store::Tx& tx, const Key& key);
/// Everything that change_key() may change, and the text's hash and hint.
void update_key(store::Tx& tx, const Key& key);
std::vector<Key> keys(store::Tx& tx);
std::vector<Key> keys_of(store::Tx& tx, AccountId account);
std::vector<Key> unrevoked_keys_of(store::Tx& tx, AccountId account);
std::int64_t count_usable_keys(store::Tx& tx, AccountId account, Time now);
/// Revoked ones are not found. By its former text: with `grace_until`.
std::optional<Key> valid_key_by_hash(store::Tx& tx, const Sha256& hash, Time now);
std::optional<Key> key_by_id(store::Tx& tx, KeyId id);
/// Locked for the rest of the transaction.
std::optional<Key> key_for_update(store::Tx& tx, AccountId account, KeyId id);
/// Does nothing to a key that is revoked already; else true.
bool revoke_key(store::Tx& tx, KeyId id, Time at);
/// Hash of the former text that is still good, if any.
std::optional<Sha256> former_hash(store::Tx& tx, KeyId id);
void keep_former_text(store::Tx& tx, KeyId id, const Sha256& hash, Time until);
/// How many texts were made anew on that day (since 1970) in the account; count_regeneration adds one.
std::int64_t regenerations(store::Tx& tx, AccountId account, std::int64_t day);
void count_regeneration(store::Tx& tx, KeyId id, std::int64_t day);
struct LastUse {
    KeyId key;
    Time at;
};
void write_last_uses(store::Tx& tx, const std::vector<LastUse>& uses);

void insert_user(store::Tx& tx, const User& user, std::string_view password_hash);
std::vector<User> users(store::Tx& tx);
bool has_any_user(store::Tx& tx);

/// 64 hexadecimal digits of lower case.
std::optional<Sha256> parse_hash(std::string_view hex);

}  // namespace nebula::accounts::sql

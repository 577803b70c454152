#pragma once
// Every SQL statement of this module, as functions of a transaction. Private to this module.

#include <optional>
#include <string>
#include <vector>

#include "accounts/accounts.hpp"

namespace nebula::accounts::sql {

/// A key with what finds it.
struct StoredKey {
    Key key;
    Sha256 hash;
};

// insert_… throw store::UniqueViolation when the name, e-mail or key is taken.
void insert_account(store::Tx& tx, const Account& account);
std::vector<Account> accounts(store::Tx& tx);
std::optional<Account> account_by_id(store::Tx& tx, AccountId id);
std::optional<Account> account_by_name(store::Tx& tx, std::string_view name);

void insert_key(store::Tx& tx, const StoredKey& stored);
std::vector<Key> keys(store::Tx& tx);
std::vector<Key> keys_of(store::Tx& tx, AccountId account);
/// Revoked ones are not found.
std::optional<Key> valid_key_by_hash(store::Tx& tx, const Sha256& hash);
std::optional<StoredKey> key_by_id(store::Tx& tx, KeyId id);
/// Does nothing to a key that is revoked already.
void revoke_key(store::Tx& tx, KeyId id, Time at);

void insert_user(store::Tx& tx, const User& user, std::string_view password_hash);
std::vector<User> users(store::Tx& tx);
bool has_any_user(store::Tx& tx);

}  // namespace nebula::accounts::sql

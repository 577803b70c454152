#include "accounts/store.hpp"

#include "base/check.hpp"

namespace nebula::accounts::sql {

using store::Row;
using store::Sql;
using store::Tx;

namespace {

constexpr Sql insert_account_sql{"accounts.insert",
                                 "INSERT INTO accounts (id, name, created_at) VALUES ($1, $2, $3)"};
constexpr Sql accounts_sql{"accounts.list", "SELECT id, name, created_at FROM accounts ORDER BY id"};
constexpr Sql account_by_id_sql{"accounts.by_id", "SELECT id, name, created_at FROM accounts WHERE id = $1"};
constexpr Sql account_by_name_sql{"accounts.by_name",
                                  "SELECT id, name, created_at FROM accounts WHERE name = $1"};

constexpr Sql insert_key_sql{
    "api_keys.insert",
    "INSERT INTO api_keys (id, account_id, name, hint, key_hash, rpm, tpm, created_at, revoked_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL)"};
// key_from() counts on this order of columns.
#define KEY_COLUMNS "id, account_id, name, hint, rpm, tpm, created_at, revoked_at, key_hash"
constexpr Sql keys_sql{"api_keys.list", "SELECT " KEY_COLUMNS " FROM api_keys ORDER BY id"};
constexpr Sql keys_of_sql{"api_keys.list_of_account",
                          "SELECT " KEY_COLUMNS " FROM api_keys WHERE account_id = $1 ORDER BY id"};
constexpr Sql key_by_hash_sql{
    "api_keys.by_hash", "SELECT " KEY_COLUMNS " FROM api_keys WHERE key_hash = $1 AND revoked_at IS NULL"};
constexpr Sql key_by_id_sql{"api_keys.by_id", "SELECT " KEY_COLUMNS " FROM api_keys WHERE id = $1"};
#undef KEY_COLUMNS
constexpr Sql revoke_key_sql{"api_keys.revoke",
                             "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL"};

constexpr Sql insert_user_sql{
    "users.insert",
    "INSERT INTO users (id, email, password_hash, role, created_at) VALUES ($1, $2, $3, $4, $5)"};
constexpr Sql users_sql{"users.list", "SELECT id, email, role, created_at FROM users ORDER BY id"};
constexpr Sql any_user_sql{"users.any", "SELECT id FROM users LIMIT 1"};

Account account_from(const Row& row) {
    return {AccountId::from_db(row.i64(0)), std::string(row.text(1)), from_micros(row.i64(2))};
}

Sha256 hash_from(std::string_view hex) {
    auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    Sha256 hash;
    CHECK(hex.size() == 2 * hash.bytes.size(), "the column has a CHECK on its length");
    for (std::size_t k = 0; k < hash.bytes.size(); ++k)
        hash.bytes[k] = static_cast<unsigned char>(digit(hex[2 * k]) << 4 | digit(hex[2 * k + 1]));
    return hash;
}

StoredKey key_from(const Row& row) {
    StoredKey stored;
    Key& key = stored.key;
    key.id = KeyId::from_db(row.i64(0));
    key.account = AccountId::from_db(row.i64(1));
    key.name = row.text(2);
    key.hint = row.text(3);
    key.limits = {row.i64(4), row.i64(5)};
    key.created_at = from_micros(row.i64(6));
    if (!row.is_null(7)) key.revoked_at = from_micros(row.i64(7));
    stored.hash = hash_from(row.text(8));
    return stored;
}

const char* role_text(Role role) { return role == Role::operator_ ? "operator" : "customer"; }

}  // namespace

void insert_account(Tx& tx, const Account& account) {
    tx.exec(insert_account_sql, {account.id.db(), account.name, to_micros(account.created_at)});
}

std::vector<Account> accounts(Tx& tx) {
    std::vector<Account> all;
    tx.query(accounts_sql, {}, [&](const Row& row) { all.push_back(account_from(row)); });
    return all;
}

std::optional<Account> account_by_id(Tx& tx, AccountId id) {
    std::optional<Account> found;
    tx.one(account_by_id_sql, {id.db()}, [&](const Row& row) { found = account_from(row); });
    return found;
}

std::optional<Account> account_by_name(Tx& tx, std::string_view name) {
    std::optional<Account> found;
    tx.one(account_by_name_sql, {name}, [&](const Row& row) { found = account_from(row); });
    return found;
}

void insert_key(Tx& tx, const StoredKey& stored) {
    const Key& key = stored.key;
    std::string hash = to_hex(stored.hash.bytes);
    tx.exec(insert_key_sql, {key.id.db(), key.account.db(), key.name, key.hint, hash, key.limits.rpm,
                             key.limits.tpm, to_micros(key.created_at)});
}

std::vector<Key> keys(Tx& tx) {
    std::vector<Key> all;
    tx.query(keys_sql, {}, [&](const Row& row) { all.push_back(key_from(row).key); });
    return all;
}

std::vector<Key> keys_of(Tx& tx, AccountId account) {
    std::vector<Key> all;
    tx.query(keys_of_sql, {account.db()}, [&](const Row& row) { all.push_back(key_from(row).key); });
    return all;
}

std::optional<Key> valid_key_by_hash(Tx& tx, const Sha256& hash) {
    std::optional<Key> found;
    std::string hex = to_hex(hash.bytes);
    tx.one(key_by_hash_sql, {hex}, [&](const Row& row) { found = key_from(row).key; });
    return found;
}

std::optional<StoredKey> key_by_id(Tx& tx, KeyId id) {
    std::optional<StoredKey> found;
    tx.one(key_by_id_sql, {id.db()}, [&](const Row& row) { found = key_from(row); });
    return found;
}

void revoke_key(Tx& tx, KeyId id, Time at) { tx.exec(revoke_key_sql, {id.db(), to_micros(at)}); }

void insert_user(Tx& tx, const User& user, std::string_view password_hash) {
    tx.exec(insert_user_sql,
            {user.id.db(), user.email, password_hash, role_text(user.role), to_micros(user.created_at)});
}

std::vector<User> users(Tx& tx) {
    std::vector<User> all;
    tx.query(users_sql, {}, [&](const Row& row) {
        Role role = row.text(2) == "operator" ? Role::operator_ : Role::customer;
        all.push_back({UserId::from_db(row.i64(0)), std::string(row.text(1)), role, from_micros(row.i64(3))});
    });
    return all;
}

bool has_any_user(Tx& tx) {
    return tx.one(any_user_sql, {}, [](const Row&) {});
}

}  // namespace nebula::accounts::sql

#include "accounts/store.hpp"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>

#include "base/check.hpp"

namespace nebula::accounts::sql {

using store::Row;
using store::Sql;
using store::Tx;

namespace {

constexpr Sql insert_account_sql{
    "accounts.insert",
    "INSERT INTO accounts (id, name, created_at, kind, owner_id, display_name, description)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7)"};
// account_from() counts on this order of columns.
#define ACCOUNT_COLUMNS "id, name, created_at, kind, owner_id, display_name, description"
constexpr Sql accounts_sql{"accounts.list", "SELECT " ACCOUNT_COLUMNS " FROM accounts ORDER BY id"};
constexpr Sql account_by_id_sql{"accounts.by_id", "SELECT " ACCOUNT_COLUMNS " FROM accounts WHERE id = $1"};
constexpr Sql account_by_name_sql{"accounts.by_name",
                                  "SELECT " ACCOUNT_COLUMNS " FROM accounts WHERE name = $1"};
#undef ACCOUNT_COLUMNS
constexpr Sql lock_account_sql{
    "accounts.lock", "SELECT id FROM accounts WHERE id = $1 AND deleted_at IS NULL",
    "SELECT id FROM accounts WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE"};

constexpr Sql insert_key_sql{
    "api_keys.insert",
    "INSERT INTO api_keys (id, account_id, name, hint, key_hash, rpm, tpm, ipm, rpd, created_at, description,"
    " creator, permissions, models, budget_total, budget_daily, budget_weekly, budget_monthly, expires_at,"
    " is_disabled, uses_cache) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,"
    " $17, $18, $19, $20, $21)"};
constexpr Sql update_key_sql{
    "api_keys.update",
    "UPDATE api_keys SET name = $2, hint = $3, key_hash = $4, rpm = $5, tpm = $6, ipm = $7, rpd = $8,"
    " description = $9, permissions = $10, models = $11, budget_total = $12, budget_daily = $13,"
    " budget_weekly = $14, budget_monthly = $15, expires_at = $16, is_disabled = $17, updated_at = $18,"
    " created_at = $19, uses_cache = $20"
    " WHERE id = $1"};
// key_from() counts on this order of columns.
#define KEY_COLUMNS                                                                                   \
    "id, account_id, name, hint, rpm, tpm, created_at, revoked_at, key_hash, ipm, rpd, description, " \
    "creator, "                                                                                       \
    "permissions, models, budget_total, budget_daily, budget_weekly, budget_monthly, expires_at, "    \
    "last_used_at, "                                                                                  \
    "updated_at, is_disabled, uses_cache"
constexpr Sql keys_sql{"api_keys.list", "SELECT " KEY_COLUMNS " FROM api_keys ORDER BY id"};
constexpr Sql keys_of_sql{"api_keys.list_of_account",
                          "SELECT " KEY_COLUMNS " FROM api_keys WHERE account_id = $1 ORDER BY id"};
constexpr Sql unrevoked_keys_of_sql{
    "api_keys.list_unrevoked",
    "SELECT " KEY_COLUMNS " FROM api_keys WHERE account_id = $1 AND revoked_at IS NULL ORDER BY id"};
constexpr Sql count_usable_sql{"api_keys.count_usable",
                               "SELECT COUNT(*) FROM api_keys WHERE account_id = $1 AND revoked_at IS NULL"
                               " AND (expires_at IS NULL OR expires_at > $2)"};
// The keys of a person who is locked are too; those made for a team are the team's.
#define OWNER_IS_FREE                                                             \
    " AND NOT EXISTS (SELECT 1 FROM accounts a JOIN users u ON u.id = a.owner_id" \
    " WHERE a.id = api_keys.account_id AND a.kind = 'personal' AND u.disabled_at IS NOT NULL)"
constexpr Sql key_by_hash_sql{"api_keys.by_hash",
                              "SELECT " KEY_COLUMNS
                              " FROM api_keys WHERE key_hash = $1 AND revoked_at IS NULL" OWNER_IS_FREE};
constexpr Sql key_by_former_hash_sql{"api_keys.by_former_hash",
                                     "SELECT " KEY_COLUMNS
                                     ", previous_until FROM api_keys"
                                     " WHERE previous_hash = $1 AND previous_until > $2"
                                     " AND revoked_at IS NULL" OWNER_IS_FREE};
constexpr Sql key_by_id_sql{"api_keys.by_id", "SELECT " KEY_COLUMNS " FROM api_keys WHERE id = $1"};
constexpr Sql key_for_update_sql{
    "api_keys.for_update", "SELECT " KEY_COLUMNS " FROM api_keys WHERE id = $1 AND account_id = $2",
    "SELECT " KEY_COLUMNS " FROM api_keys WHERE id = $1 AND account_id = $2 FOR UPDATE"};
#undef KEY_COLUMNS
#undef OWNER_IS_FREE
constexpr Sql revoke_key_sql{"api_keys.revoke",
                             "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL"};
constexpr Sql former_hash_sql{
    "api_keys.former_hash", "SELECT previous_hash FROM api_keys WHERE id = $1 AND previous_hash IS NOT NULL"};
constexpr Sql keep_former_sql{"api_keys.keep_former_text",
                              "UPDATE api_keys SET previous_hash = $2, previous_until = $3 WHERE id = $1"};
constexpr Sql regenerations_sql{"api_keys.regenerations",
                                "SELECT CAST(COALESCE(SUM(regenerations), 0) AS BIGINT) FROM api_keys"
                                " WHERE account_id = $1 AND regenerated_day = $2"};
constexpr Sql count_regeneration_sql{
    "api_keys.count_regeneration",
    "UPDATE api_keys SET regenerations = CASE WHEN regenerated_day = $2 THEN regenerations + 1 ELSE 1 END,"
    " regenerated_day = $2 WHERE id = $1"};
constexpr Sql last_use_sql{"api_keys.last_use",
                           "UPDATE api_keys SET last_used_at = $2 WHERE id = $1"
                           " AND (last_used_at IS NULL OR last_used_at < $2)"};

constexpr Sql insert_user_sql{
    "users.insert",
    "INSERT INTO users (id, email, password_hash, role, created_at) VALUES ($1, $2, $3, $4, $5)"};
constexpr Sql users_sql{"users.list",
                        "SELECT id, email, role, created_at, name, is_active, account_id,"
                        " CASE WHEN totp_secret IS NULL THEN 0 ELSE 1 END FROM users ORDER BY id"};
constexpr Sql any_user_sql{"users.any", "SELECT id FROM users LIMIT 1"};

Account account_from(const Row& row) {
    Account account{AccountId::from_db(row.i64(0)), std::string(row.text(1)), from_micros(row.i64(2))};
    account.kind = row.text(3) == "personal" ? AccountKind::personal : AccountKind::team;
    if (!row.is_null(4)) account.owner = UserId::from_db(row.i64(4));
    account.display_name = row.text(5);
    account.description = row.text(6);
    return account;
}

std::string models_text(const std::vector<std::string>& models) {
    boost::json::array list(models.begin(), models.end());
    return boost::json::serialize(list);
}

std::vector<std::string> models_from(std::string_view text) {
    std::vector<std::string> models;
    if (text == "[]") return models;
    // Written by models_text() only: anything else is a defect, and boost throws.
    for (const auto& model : boost::json::parse(text).as_array()) models.emplace_back(model.as_string());
    return models;
}

std::optional<Time> time_from(const Row& row, int column) {
    if (row.is_null(column)) return std::nullopt;
    return from_micros(row.i64(column));
}

store::Param time_or_null(const std::optional<Time>& time) {
    if (!time) return nullptr;
    return to_micros(*time);
}

Key key_from(const Row& row) {
    Key key;
    key.id = KeyId::from_db(row.i64(0));
    key.account = AccountId::from_db(row.i64(1));
    key.name = row.text(2);
    key.hint = row.text(3);
    key.limits = {row.i64(4), row.i64(5), row.i64(9), row.i64(10)};
    key.created_at = from_micros(row.i64(6));
    key.revoked_at = time_from(row, 7);
    auto hash = parse_hash(row.text(8));
    CHECK(hash, "the column holds only what to_hex() wrote");
    key.hash = *hash;
    key.description = row.text(11);
    if (!row.is_null(12)) key.creator = UserId::from_db(row.i64(12));
    key.permissions = static_cast<std::uint32_t>(row.i64(13));
    key.models = models_from(row.text(14));
    key.budget = {{row.i64(15)}, {row.i64(16)}, {row.i64(17)}, {row.i64(18)}};
    key.expires_at = time_from(row, 19);
    key.last_used_at = time_from(row, 20);
    key.updated_at = time_from(row, 21);
    key.is_disabled = row.i64(22) != 0;
    key.uses_cache = row.i64(23) != 0;
    return key;
}

const char* role_text(Role role) { return role == Role::operator_ ? "operator" : "customer"; }

}  // namespace

void insert_account(Tx& tx, const Account& account) {
    store::Param owner = nullptr;
    if (account.owner) owner = account.owner.db();
    const char* kind = account.kind == AccountKind::personal ? "personal" : "team";
    tx.exec(insert_account_sql, {account.id.db(), account.name, to_micros(account.created_at), kind, owner,
                                 account.display_name, account.description});
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

bool lock_account(Tx& tx, AccountId id) {
    return tx.one(lock_account_sql, {id.db()}, [](const Row&) {});
}

void insert_key(Tx& tx, const Key& key) {
    std::string hash = to_hex(key.hash.bytes);
    std::string models = models_text(key.models);
    store::Param creator = nullptr;
    if (key.creator) creator = key.creator.db();
    tx.exec(insert_key_sql, {key.id.db(),
                             key.account.db(),
                             key.name,
                             key.hint,
                             hash,
                             key.limits.rpm,
                             key.limits.tpm,
                             key.limits.ipm,
                             key.limits.rpd,
                             to_micros(key.created_at),
                             key.description,
                             creator,
                             std::int64_t{key.permissions},
                             models,
                             key.budget.total.value,
                             key.budget.daily.value,
                             key.budget.weekly.value,
                             key.budget.monthly.value,
                             time_or_null(key.expires_at),
                             std::int64_t{key.is_disabled},
                             std::int64_t{key.uses_cache}});
}

void update_key(Tx& tx, const Key& key) {
    std::string hash = to_hex(key.hash.bytes);
    std::string models = models_text(key.models);
    tx.exec(update_key_sql, {key.id.db(),
                             key.name,
                             key.hint,
                             hash,
                             key.limits.rpm,
                             key.limits.tpm,
                             key.limits.ipm,
                             key.limits.rpd,
                             key.description,
                             std::int64_t{key.permissions},
                             models,
                             key.budget.total.value,
                             key.budget.daily.value,
                             key.budget.weekly.value,
                             key.budget.monthly.value,
                             time_or_null(key.expires_at),
                             std::int64_t{key.is_disabled},
                             time_or_null(key.updated_at),
                             to_micros(key.created_at),
                             std::int64_t{key.uses_cache}});
}

std::vector<Key> keys(Tx& tx) {
    std::vector<Key> all;
    tx.query(keys_sql, {}, [&](const Row& row) { all.push_back(key_from(row)); });
    return all;
}

std::vector<Key> keys_of(Tx& tx, AccountId account) {
    std::vector<Key> all;
    tx.query(keys_of_sql, {account.db()}, [&](const Row& row) { all.push_back(key_from(row)); });
    return all;
}

std::vector<Key> unrevoked_keys_of(Tx& tx, AccountId account) {
    std::vector<Key> all;
    tx.query(unrevoked_keys_of_sql, {account.db()}, [&](const Row& row) { all.push_back(key_from(row)); });
    return all;
}

std::int64_t count_usable_keys(Tx& tx, AccountId account, Time now) {
    std::int64_t count = 0;
    tx.one(count_usable_sql, {account.db(), to_micros(now)}, [&](const Row& row) { count = row.i64(0); });
    return count;
}

std::optional<Key> valid_key_by_hash(Tx& tx, const Sha256& hash, Time now) {
    std::optional<Key> found;
    std::string hex = to_hex(hash.bytes);
    if (tx.one(key_by_hash_sql, {hex}, [&](const Row& row) { found = key_from(row); })) return found;
    tx.one(key_by_former_hash_sql, {hex, to_micros(now)}, [&](const Row& row) {
        found = key_from(row);
        found->grace_until = from_micros(row.i64(24));
    });
    return found;
}

std::optional<Key> key_by_id(Tx& tx, KeyId id) {
    std::optional<Key> found;
    tx.one(key_by_id_sql, {id.db()}, [&](const Row& row) { found = key_from(row); });
    return found;
}

std::optional<Key> key_for_update(Tx& tx, AccountId account, KeyId id) {
    std::optional<Key> found;
    tx.one(key_for_update_sql, {id.db(), account.db()}, [&](const Row& row) { found = key_from(row); });
    return found;
}

bool revoke_key(Tx& tx, KeyId id, Time at) { return tx.exec(revoke_key_sql, {id.db(), to_micros(at)}) > 0; }

std::optional<Sha256> former_hash(Tx& tx, KeyId id) {
    std::optional<Sha256> found;
    tx.one(former_hash_sql, {id.db()}, [&](const Row& row) { found = parse_hash(row.text(0)); });
    return found;
}

void keep_former_text(Tx& tx, KeyId id, const Sha256& hash, Time until) {
    std::string hex = to_hex(hash.bytes);
    tx.exec(keep_former_sql, {id.db(), hex, to_micros(until)});
}

std::int64_t regenerations(Tx& tx, AccountId account, std::int64_t day) {
    std::int64_t count = 0;
    tx.one(regenerations_sql, {account.db(), day}, [&](const Row& row) { count = row.i64(0); });
    return count;
}

void count_regeneration(Tx& tx, KeyId id, std::int64_t day) {
    tx.exec(count_regeneration_sql, {id.db(), day});
}

void write_last_uses(Tx& tx, const std::vector<LastUse>& uses) {
    std::vector<store::Param> values;
    values.reserve(uses.size() * 2);
    for (const LastUse& use : uses) {
        values.emplace_back(use.key.db());
        values.emplace_back(to_micros(use.at));
    }
    tx.exec_many(last_use_sql, 2, values);
}

std::optional<Sha256> parse_hash(std::string_view hex) {
    Sha256 hash;
    if (hex.size() != 2 * hash.bytes.size()) return std::nullopt;
    auto digit = [](char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    };
    for (std::size_t k = 0; k < hash.bytes.size(); ++k) {
        int high = digit(hex[2 * k]), low = digit(hex[2 * k + 1]);
        if (high < 0 || low < 0) return std::nullopt;
        hash.bytes[k] = static_cast<unsigned char>(high << 4 | low);
    }
    return hash;
}

void insert_user(Tx& tx, const User& user, std::string_view password_hash) {
    tx.exec(insert_user_sql,
            {user.id.db(), user.email, password_hash, role_text(user.role), to_micros(user.created_at)});
}

std::vector<User> users(Tx& tx) {
    std::vector<User> all;
    tx.query(users_sql, {}, [&](const Row& row) {
        Role role = row.text(2) == "operator" ? Role::operator_ : Role::customer;
        User user{UserId::from_db(row.i64(0)), std::string(row.text(1)), role, from_micros(row.i64(3))};
        user.name = row.text(4);
        user.is_active = row.i64(5) != 0;
        if (!row.is_null(6)) user.account = AccountId::from_db(row.i64(6));
        user.has_totp = row.i64(7) != 0;
        all.push_back(std::move(user));
    });
    return all;
}

bool has_any_user(Tx& tx) {
    return tx.one(any_user_sql, {}, [](const Row&) {});
}

}  // namespace nebula::accounts::sql

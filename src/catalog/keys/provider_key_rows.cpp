#include "catalog/keys/provider_key_rows.hpp"

#include <boost/json.hpp>

namespace nebula::catalog {
namespace {

namespace json = boost::json;
using store::Row;
using store::Sql;
using store::Tx;

constexpr std::size_t shown_from = 20;  // characters of a key of which some may be shown

#define SELECT_KEYS                                                                                      \
    "SELECT id, account_id, provider, name, label, sealed, is_disabled, models, sort_order, created_at," \
    " is_fallback, always_use FROM provider_keys"

SealedKey read_row(const Row& row) {
    SealedKey made;
    ProviderKey& key = made.key;
    key.id = ProviderKeyId::from_db(row.i64(0));
    key.account = AccountId::from_db(row.i64(1));
    key.provider = row.text(2);
    key.name = row.text(3);
    key.label = row.text(4);
    made.sealed = row.text(5);
    key.is_disabled = row.i64(6) != 0;
    json::value models = json::parse(std::string_view(row.text(7)));
    for (const json::value& model : models.as_array()) key.models.emplace_back(model.as_string());
    key.sort_order = row.i64(8);
    key.created_at = from_micros(row.i64(9));
    key.is_fallback = row.i64(10) != 0;
    key.always_use = row.i64(11) != 0;
    return made;
}

std::string models_text(const ProviderKey& key) {
    return json::serialize(json::array(key.models.begin(), key.models.end()));
}

}  // namespace

std::vector<SealedKey> rows_of(Tx& tx, AccountId account) {
    static constexpr Sql sql{"catalog.provider_keys_of", SELECT_KEYS " WHERE account_id = $1 ORDER BY id"};
    std::vector<SealedKey> rows;
    tx.query(sql, {account.db()}, [&](const Row& row) { rows.push_back(read_row(row)); });
    return rows;
}

std::vector<SealedKey> all_rows(Tx& tx, std::int64_t limit) {
    static constexpr Sql sql{"catalog.provider_keys", SELECT_KEYS " ORDER BY id LIMIT $1"};
    std::vector<SealedKey> rows;
    tx.query(sql, {limit}, [&](const Row& row) { rows.push_back(read_row(row)); });
    return rows;
}
#undef SELECT_KEYS

std::int64_t count_rows(Tx& tx, AccountId account) {
    static constexpr Sql sql{"catalog.count_provider_keys",
                             "SELECT count(*) FROM provider_keys WHERE account_id = $1"};
    std::int64_t count = 0;
    tx.one(sql, {account.db()}, [&](const Row& row) { count = row.i64(0); });
    return count;
}

void insert_row(Tx& tx, const SealedKey& row) {
    static constexpr Sql sql{
        "catalog.insert_provider_key",
        "INSERT INTO provider_keys (id, account_id, provider, name, label, sealed, is_disabled, models,"
        " sort_order, created_at, is_fallback, always_use)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"};
    const ProviderKey& key = row.key;
    std::string models = models_text(key);
    tx.exec(sql, {key.id.db(), key.account.db(), std::string_view(key.provider), std::string_view(key.name),
                  std::string_view(key.label), std::string_view(row.sealed), std::int64_t{key.is_disabled},
                  std::string_view(models), key.sort_order, to_micros(key.created_at),
                  std::int64_t{key.is_fallback}, std::int64_t{key.always_use}});
}

bool update_row(Tx& tx, const ProviderKey& key) {
    static constexpr Sql sql{
        "catalog.update_provider_key",
        "UPDATE provider_keys SET name = $3, is_disabled = $4, models = $5, sort_order = $6,"
        " is_fallback = $7, always_use = $8"
        " WHERE account_id = $1 AND id = $2"};
    std::string models = models_text(key);
    return tx.exec(sql, {key.account.db(), key.id.db(), std::string_view(key.name),
                         std::int64_t{key.is_disabled}, std::string_view(models), key.sort_order,
                         std::int64_t{key.is_fallback}, std::int64_t{key.always_use}}) == 1;
}

bool delete_row(Tx& tx, AccountId account, ProviderKeyId id) {
    static constexpr Sql sql{"catalog.delete_provider_key",
                             "DELETE FROM provider_keys WHERE account_id = $1 AND id = $2"};
    return tx.exec(sql, {account.db(), id.db()}) == 1;
}

std::string context_of(const ProviderKey& key) {
    return "provider key " + key.id.text() + " of " + key.account.text() + " for " + key.provider;
}

std::string label_of(const Secret& key) {
    const std::string& text = key.reveal();
    if (text.size() < shown_from) return "...";
    return text.substr(0, 3) + "..." + text.substr(text.size() - 4);
}

}  // namespace nebula::catalog

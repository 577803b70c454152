#pragma once
// The table provider_keys. Private to catalog.

#include <expected>
#include <string>
#include <vector>

#include "catalog/provider_keys.hpp"

namespace nebula::catalog {

constexpr std::int64_t keys_of_account_max = 100;

struct SealedKey {
    ProviderKey key;  // without the key itself
    std::string sealed;
};
std::vector<SealedKey> rows_of(store::Tx& tx, AccountId account);
std::vector<SealedKey> all_rows(store::Tx& tx, std::int64_t limit);
std::int64_t count_rows(store::Tx& tx, AccountId account);
void insert_row(store::Tx& tx, const SealedKey& row);
/// False when there is none of that id and account.
bool update_row(store::Tx& tx, const ProviderKey& key);
bool delete_row(store::Tx& tx, AccountId account, ProviderKeyId id);

/// What a key is sealed for: it cannot be moved to another row.
std::string context_of(const ProviderKey& key);
/// Enough to recognise a long key by, nothing of a short one.
std::string label_of(const Secret& key);
std::unexpected<Error> no_provider_key();

}  // namespace nebula::catalog

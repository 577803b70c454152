#pragma once
// Who may call: users, accounts and API keys. The full identity model (teams, sessions, scopes) builds on
// these tables.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/async.hpp"
#include "base/clock.hpp"
#include "base/crypto.hpp"
#include "base/ids.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "store/store.hpp"

namespace nebula::accounts {

std::span<const store::Migration> migrations();

struct Account {
    AccountId id;
    std::string name;
    Time created_at;
};

enum class Role { customer, operator_ };

struct User {
    UserId id;
    std::string email;
    Role role = Role::customer;
    Time created_at;
};

/// Requests and tokens per minute; 0 = no limit of its own.
struct RateLimits {
    std::int64_t rpm = 0;
    std::int64_t tpm = 0;
};

struct Key {
    KeyId id;
    AccountId account;
    std::string name;
    std::string hint;  // "sk-neb-AbCd…wxyz": enough to recognise, useless to guess
    RateLimits limits;
    Time created_at;
    std::optional<Time> revoked_at;
};
struct NewKey {
    Key key;
    Secret text;  // shown once
};

/// "sk-neb-" + 40 characters base62 (238 bits) + 6 characters base62 of CRC-32, so that a mistyped key costs
/// no lookup.
Secret make_key_text();
/// Form and checksum only.
bool is_well_formed_key(std::string_view text);

/// Thread-safe. Blocking methods are for start-up, command line and tests; the Async ones run SQL on database
/// threads.
class Accounts {
   public:
    Accounts(store::Db& db, const Clock& clock, metrics::Registry& metrics);
    ~Accounts();

    /// The hot path: known keys are answered from memory, without a lock held across anything slow. Null =
    /// ask authenticate(). Revoked keys are not in the cache. Bounded at 1 million keys.
    std::shared_ptr<const Key> find_cached(const Sha256& key_hash) const;
    /// `token` as sent. Error: unauthenticated (missing, malformed, unknown, revoked: one answer). Unknown
    /// but well-formed tokens are remembered for 10 s (bounded at 10,000), so guessing costs no SQL.
    Async<Result<std::shared_ptr<const Key>>> authenticate(std::string token);

    // Names: 1–100 characters without control characters; account names and e-mails are unique → conflict.
    Async<Result<Account>> create_account(std::string name);
    Async<Result<std::vector<Account>>> list_accounts();
    Async<Result<Account>> account(std::string id_or_name);
    Async<Result<NewKey>> create_key(AccountId account, std::string name, RateLimits limits);
    Async<Result<std::vector<Key>>> list_keys(std::optional<AccountId> account);
    /// By id ("key_…"). Effective at once on this node. Not found → not_found; already revoked → the key,
    /// unchanged.
    Async<Result<Key>> revoke_key(std::string id);
    /// Password: at least 10 characters; stored as Argon2id.
    Async<Result<User>> create_user(std::string email, Secret password, Role role);
    Async<Result<std::vector<User>>> list_users();
    Async<Result<bool>> has_any_user();

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::accounts

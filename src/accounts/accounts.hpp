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
#include "base/nanos.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "store/notices.hpp"
#include "store/store.hpp"

namespace nebula::accounts {

struct Caller;  // caller.hpp
struct KeyUse;  // private: when a key was last used, until that is written

std::span<const store::Migration> migrations();

/// What owns resources, keys and money: a person's own account or a team.
enum class AccountKind { personal, team };
struct Account {
    AccountId id;
    std::string name;  // unique; of a personal account the person's e-mail address
    Time created_at;
    AccountKind kind = AccountKind::team;
    UserId owner = {};  // empty: made by the operator, without a person
    std::string display_name = {};
    std::string description = {};
};

enum class Role { customer, operator_ };

struct User {
    UserId id;
    std::string email;
    Role role = Role::customer;
    Time created_at;
    std::string name = {};
    bool is_active = true;   // false: address not verified yet, or locked by the operator
    AccountId account = {};  // personal
    bool has_totp = false;
};

/// Per minute, and requests per UTC day; 0 = no limit of its own.
struct RateLimits {
    std::int64_t rpm = 0;
    std::int64_t tpm = 0;
    std::int64_t ipm = 0;
    std::int64_t rpd = 0;
};

/// What a key may spend; 0 = no budget. Days and months are UTC calendar ones.
struct KeyBudget {
    Nanos total;
    Nanos daily;
    Nanos weekly;  // Monday to Sunday
    Nanos monthly;
    bool is_any() const { return (total.value | daily.value | weekly.value | monthly.value) != 0; }
};

struct Key {
    KeyId id;
    AccountId account;
    std::string name;
    std::string hint;  // "sk-neb-AbCd…wxyz": enough to recognise, useless to guess
    RateLimits limits;
    Time created_at;
    std::optional<Time> revoked_at;
    std::string description = {};
    UserId creator = {};                   // empty: made by the operator
    std::uint32_t permissions = ~0u;       // bits of Permissions (caller.hpp)
    std::vector<std::string> models = {};  // allow-list of catalog ids ("qwen*" = prefix); empty = all
    KeyBudget budget = {};
    bool is_disabled = false;
    bool uses_cache = false;  // its requests take answers from the gateway's cache
    std::optional<Time> expires_at = {};
    std::optional<Time> last_used_at = {};  // to the minute
    std::optional<Time> updated_at = {};
    Sha256 hash = {};                      // OpenRouter's public name of a key
    std::optional<Time> grace_until = {};  // this is the former text of a regenerated key, good until then
    std::shared_ptr<KeyUse> use = {};      // of keys that authenticate() gave; shared by its copies

    /// Neither revoked, disabled nor past its time.
    bool is_usable(Time now) const {
        return !revoked_at && !is_disabled && (!expires_at || now < *expires_at) &&
               (!grace_until || now < *grace_until);
    }
    bool may_use_model(std::string_view model) const;
};
/// What can be changed of a key; absent = stays.
struct KeyChange {
    std::optional<std::string> name;
    std::optional<std::string> description;
    std::optional<RateLimits> limits;
    std::optional<KeyBudget> budget;
    std::optional<std::vector<std::string>> models;
    std::optional<std::uint32_t> permissions;
    std::optional<bool> is_disabled;
    std::optional<bool> uses_cache;
    std::optional<std::optional<Time>> expires_at;
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
    /// With `notices`, keys changed by other processes leave this one's memory at once ("key" notices, the
    /// payload is the hash in hexadecimal). Stop them before this goes.
    Accounts(store::Db& db, const Clock& clock, metrics::Registry& metrics,
             store::Notices* notices = nullptr);
    ~Accounts();

    /// The hot path: known keys are answered from memory, without a lock held across anything slow. Null =
    /// ask authenticate(). Revoked keys are not in the cache. Bounded at 1 million keys.
    std::shared_ptr<const Key> find_cached(const Sha256& key_hash) const;
    /// `token` as sent. Error: unauthenticated (missing, malformed, unknown, revoked: one answer). Unknown
    /// but well-formed tokens are remembered for 10 s (bounded at 10,000), so guessing costs no SQL.
    Async<Result<std::shared_ptr<const Key>>> authenticate(std::string token);

    /// Remembers that the key was used about now; written to the database every minute (flush_last_used()).
    /// Without locks; only keys that authenticate() or find_cached() gave.
    void note_use(const Key& key);
    /// Blocking; called by the app every minute and at stop. What cannot be written is kept for the next
    /// time.
    void flush_last_used();

    // Names: 1–100 characters without control characters; account names and e-mails are unique → conflict.
    Async<Result<Account>> create_account(std::string name);
    Async<Result<std::vector<Account>>> list_accounts();
    Async<Result<Account>> account(std::string id_or_name);
    Async<Result<NewKey>> create_key(AccountId account, std::string name, RateLimits limits);
    /// `wanted`: name, description, account, creator, limits, permissions, models, budget, expires_at are
    /// used. `caller` (may be null: the operator's command line) goes to the audit log. At most 1,000 usable
    /// keys per account → conflict. Names need not be unique. forbidden: more permissions than the caller
    /// has, or a calling key that has a budget, a model list or an end (it could shed them by a new key).
    Async<Result<NewKey>> create_key(Key wanted, const Caller* caller);
    /// Of that account, else not_found. Audit row and notice in the same transaction.
    Async<Result<Key>> change_key(AccountId account, KeyId id, KeyChange change, const Caller* caller);
    /// Same id, new text; the former text stays good for `grace` (0: ends now; at most 7 days). At most 20
    /// times a UTC day and account → invalid_request with param "regenerate".
    Async<Result<NewKey>> regenerate_key(AccountId account, KeyId id, std::chrono::seconds grace,
                                         const Caller* caller);
    Async<Result<Key>> revoke_key(AccountId account, KeyId id, const Caller* caller);
    Async<Result<Key>> key(AccountId account, KeyId id);
    /// Of any account, for the operator: "key_…".
    Async<Result<Key>> key(std::string id);
    /// For whoever ended keys in a transaction of its own: after the commit.
    void forget_keys(const std::vector<Sha256>& hashes);
    Async<Result<std::vector<Key>>> list_keys(std::optional<AccountId> account);
    /// The same. Effective at once on this node. Already revoked → the key, unchanged.
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

#pragma once
// Customers' own keys for providers ("bring your own key"): sealed in the database, opened in memory.
// Requests of an account that has one for a route's provider are sent with it.

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "accounts/guard.hpp"
#include "async/async.hpp"
#include "async/task_group.hpp"
#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/metrics.hpp"
#include "base/secret.hpp"
#include "base/settings.hpp"
#include "catalog/catalog.hpp"
#include "catalog/secret_box.hpp"
#include "http/http.hpp"
#include "store/notices.hpp"
#include "store/store.hpp"

namespace nebula::catalog {

std::span<const store::Migration> migrations();

struct SecretSettings {    // [secrets]
    std::string key_file;  // empty: <data>/secrets.key
    void describe(settings::Visitor& v);
};

struct ProviderKeyTag {
    static constexpr std::string_view prefix = "byok";
};
using ProviderKeyId = Id<ProviderKeyTag>;

struct ProviderKey {
    ProviderKeyId id;
    AccountId account;
    std::string provider;
    std::string name;
    std::string label;  // what may be shown of the key: "sk-...abcd"
    bool is_disabled = false;
    std::vector<std::string> models;  // only these; empty: all
    std::int64_t sort_order = 0;      // of several the lowest is used
    bool is_fallback = false;         // used only where our own key did not do
    bool always_use = false;          // ours is never used instead
    Time created_at;
    std::shared_ptr<const Secret> key;  // never leaves the process but to the provider
};

/// What an account has for one provider and model; nothing for most.
struct OwnKeys {
    std::shared_ptr<const Secret> first;     // before ours
    std::shared_ptr<const Secret> fallback;  // behind ours
    bool is_exclusive = false;               // never ours
};

class ProviderKeyApi;

/// Thread-safe. Every node keeps all keys in memory, at most 100,000, at most 100 of one account.
class ProviderKeys {
   public:
    /// `key_file`: where the key that seals is, made with the first customer's key.
    ProviderKeys(std::string key_file, store::Db& db, store::Notices& notices, IoThreads& threads,
                 Catalog& catalog, const Clock& clock, metrics::Registry& metrics);
    ~ProviderKeys();  // stop()
    /// Loads all keys. Error: internal when one cannot be opened, because the key file is missing or another
    /// one.
    Result<void> start();
    void stop();

    /// The account's own keys for a provider and model. No SQL; costs one load where nobody has keys.
    OwnKeys find(AccountId account, std::string_view provider, std::string_view model) const {
        return count_.load(std::memory_order_relaxed) == 0 ? OwnKeys() : look_up(account, provider, model);
    }
    /// Whether anybody has any.
    bool is_empty() const { return count_.load(std::memory_order_relaxed) == 0; }

    /// OpenRouter's /api/v1/byok and the console's /console/api/provider-keys.
    void register_routes(http::Router& router, accounts::Guard& guard);

    // For the routes. `caller` is who asks; its account is whose keys they are.
    Async<Result<ProviderKey>> add(accounts::Caller caller, ProviderKey wanted, Secret secret);
    /// Everything but the key itself. Errors: not_found.
    Async<Result<void>> change(accounts::Caller caller, ProviderKey changed);
    Async<Result<void>> remove(accounts::Caller caller, ProviderKeyId id);
    /// In order of their ids, without the keys.
    Async<Result<std::vector<ProviderKey>>> list(AccountId account);
    const Catalog& catalog() const { return catalog_; }

   private:
    static constexpr std::size_t stripe_count = 64;
    using Account = std::vector<ProviderKey>;
    struct alignas(64) Stripe {
        mutable std::shared_mutex mutex;
        std::unordered_map<AccountId, Account> accounts;
        std::atomic<std::uint64_t> epoch{0};  // counts notices
    };
    OwnKeys look_up(AccountId account, std::string_view provider, std::string_view model) const;
    Result<SecretBox> box(bool may_create);
    Result<std::vector<ProviderKey>> read(store::Tx& tx, std::optional<AccountId> only);
    bool keep(AccountId account, Account keys, std::uint64_t epoch);
    void replace_all(std::vector<ProviderKey> keys);
    /// False when the database cannot be asked.
    Async<bool> load(AccountId account);
    Async<void> reload(AccountId account);  // until it is done
    Async<void> reload_all();
    static std::size_t stripe_at(AccountId account) { return std::hash<AccountId>()(account) % stripe_count; }
    Stripe& stripe_of(AccountId account) const { return stripes_[stripe_at(account)]; }

    std::string key_file_;
    store::Db& db_;
    store::Notices& notices_;
    IoThreads& threads_;
    Catalog& catalog_;
    const Clock& clock_;
    mutable std::array<Stripe, stripe_count> stripes_;
    std::atomic<std::int64_t> count_{0};
    std::atomic<bool> is_stopping_{false};
    metrics::Gauge& kept_;
    std::unique_ptr<ProviderKeyApi> api_;
    TaskGroup tasks_{"provider keys"};
};

}  // namespace nebula::catalog

#include "catalog/provider_keys.hpp"

#include <algorithm>
#include <boost/json.hpp>

#include "accounts/audit.hpp"
#include "base/log.hpp"
#include "catalog/keys/provider_key_api.hpp"
#include "catalog/keys/provider_key_rows.hpp"

namespace nebula::catalog {
namespace {

constexpr std::int64_t keys_max = 100'000;
constexpr int loads_max = 8;  // of one account in a row, while it is being changed
constexpr const char* topic = "provider_keys";

// Of several keys the first that fits is used.
void put_in_order(std::vector<ProviderKey>& keys) {
    std::ranges::sort(keys, {}, [](const ProviderKey& key) { return std::pair(key.sort_order, key.id); });
}

}  // namespace

void SecretSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "key_file",
         .help = "File with the key that seals secrets in the database (32 bytes in hex, mode 0600). Empty: "
                 "secrets.key in the data directory, made when the first secret is stored. All nodes of one "
                 "database need the same; keep a copy apart from the database's."},
        key_file);
}

ProviderKeys::ProviderKeys(std::string key_file, store::Db& db, store::Notices& notices, IoThreads& threads,
                           Catalog& catalog, const Clock& clock, metrics::Registry& metrics)
    : key_file_(std::move(key_file)),
      db_(db),
      notices_(notices),
      threads_(threads),
      catalog_(catalog),
      clock_(clock),
      kept_(metrics.gauge("nebula_provider_keys", "Customers' own keys for providers, in memory.")),
      api_(std::make_unique<ProviderKeyApi>(*this)) {
    metrics.gauge("nebula_provider_keys_max", "Above this, no further ones are taken.").set(keys_max);
}

ProviderKeys::~ProviderKeys() { stop(); }

void ProviderKeys::stop() {
    is_stopping_ = true;
    tasks_.close();
    tasks_.wait();
}

void ProviderKeys::register_routes(http::Router& router, accounts::Guard& guard) {
    api_->register_routes(router, guard);
}

Result<SecretBox> ProviderKeys::box(bool may_create) { return SecretBox::from_file(key_file_, may_create); }

Result<std::vector<ProviderKey>> ProviderKeys::read(store::Tx& tx, std::optional<AccountId> only) {
    std::vector<SealedKey> rows = only ? rows_of(tx, *only) : all_rows(tx, keys_max);
    std::vector<ProviderKey> keys;
    if (rows.empty()) return keys;
    auto opener = box(false);
    if (!opener) return fail(std::move(opener.error()));
    for (SealedKey& row : rows) {
        auto secret = opener->open(row.sealed, context_of(row.key));
        if (!secret)
            return fail(Code::internal, key_file_ +
                                            " is not the key that the customers' provider keys were sealed "
                                            "with; put the right file there");
        row.key.key = std::make_shared<const Secret>(std::move(*secret));
        keys.push_back(std::move(row.key));
    }
    return keys;
}

Result<void> ProviderKeys::start() {
    notices_.subscribe(topic, [this](std::string_view account) {
        if (auto id = AccountId::parse(account)) {
            ++stripe_of(*id).epoch;
            tasks_.spawn(threads_[0], reload(*id));
        }
    });
    notices_.on_gap([this] { tasks_.spawn(threads_[0], reload_all()); });
    auto load = [this](store::Tx& tx) -> Result<std::vector<ProviderKey>> { return read(tx, std::nullopt); };
    auto keys = db_.read_blocking(load);
    if (!keys) return fail(std::move(keys.error()));
    replace_all(std::move(*keys));
    return {};
}

void ProviderKeys::replace_all(std::vector<ProviderKey> keys) {
    std::array<std::unordered_map<AccountId, Account>, stripe_count> fresh;
    for (ProviderKey& key : keys) fresh[stripe_at(key.account)][key.account].push_back(std::move(key));
    std::int64_t count = 0;
    for (std::size_t i = 0; i < stripe_count; ++i) {
        for (auto& [id, account] : fresh[i]) {
            put_in_order(account);
            count += static_cast<std::int64_t>(account.size());
        }
        std::unique_lock lock(stripes_[i].mutex);
        stripes_[i].accounts = std::move(fresh[i]);
    }
    count_ = count;
    kept_.set(count);
}

// False when something was changed since `epoch`: what was read then may be old.
bool ProviderKeys::keep(AccountId account, Account keys, std::uint64_t epoch) {
    put_in_order(keys);
    Stripe& stripe = stripe_of(account);
    std::unique_lock lock(stripe.mutex);
    if (stripe.epoch.load() != epoch) return false;
    Account& kept = stripe.accounts[account];
    count_ += static_cast<std::int64_t>(keys.size()) - static_cast<std::int64_t>(kept.size());
    kept = std::move(keys);
    if (kept.empty()) stripe.accounts.erase(account);
    kept_.set(count_.load());
    return true;
}

Async<bool> ProviderKeys::load(AccountId account) {
    for (int tries = 0; tries < loads_max; ++tries) {
        std::uint64_t epoch = stripe_of(account).epoch.load();
        auto look = [this, account](store::Tx& tx) -> Result<std::vector<ProviderKey>> {
            return read(tx, account);
        };
        auto keys = co_await db_.read(std::move(look));
        if (!keys) {
            LOG_ERROR("provider keys cannot be loaded", {"account", account.text()},
                      {"problem", keys.error().message}, {"detail", keys.error().detail});
            co_return false;
        }
        // Else the notice of a change, be it our own, came meanwhile.
        if (keep(account, std::move(*keys), epoch)) break;
    }
    co_return true;  // whoever still changes something loads, too, and sees more
}

Async<void> ProviderKeys::reload(AccountId account) {
    while (!is_stopping_) {
        bool is_done = co_await load(account);
        if (is_done) co_return;
        co_await sleep_until(clock_.ticks() + std::chrono::seconds(1));
    }
}

Async<void> ProviderKeys::reload_all() {
    while (!is_stopping_) {
        auto look = [this](store::Tx& tx) -> Result<std::vector<ProviderKey>> {
            return read(tx, std::nullopt);
        };
        auto keys = co_await db_.read(std::move(look));
        if (keys) {
            replace_all(std::move(*keys));
            co_return;
        }
        LOG_ERROR("provider keys cannot be loaded", {"problem", keys.error().message},
                  {"detail", keys.error().detail});
        co_await sleep_until(clock_.ticks() + std::chrono::seconds(1));
    }
}

OwnKeys ProviderKeys::look_up(AccountId account, std::string_view provider, std::string_view model) const {
    OwnKeys own;
    const Stripe& stripe = stripe_of(account);
    std::shared_lock lock(stripe.mutex);
    auto found = stripe.accounts.find(account);
    if (found == stripe.accounts.end()) return own;
    for (const ProviderKey& key : found->second) {
        if (key.is_disabled || key.provider != provider) continue;
        if (!key.models.empty() && std::ranges::find(key.models, model) == key.models.end()) continue;
        std::shared_ptr<const Secret>& slot = key.is_fallback ? own.fallback : own.first;
        if (!slot) slot = key.key;
        own.is_exclusive = own.is_exclusive || key.always_use;
    }
    return own;
}

Async<Result<ProviderKey>> ProviderKeys::add(accounts::Caller caller, ProviderKey wanted, Secret secret) {
    auto sealer = box(true);
    if (!sealer) co_return fail(std::move(sealer.error()));
    wanted.id = ProviderKeyId::next(clock_);
    wanted.account = caller.account;
    wanted.created_at = clock_.now();
    wanted.label = label_of(secret);
    SealedKey row{wanted, sealer->seal(secret, context_of(wanted))};
    bool is_full = count_.load() >= keys_max;
    auto write = [this, row, caller, is_full](store::Tx& tx) -> Result<void> {
        if (is_full || count_rows(tx, caller.account) >= keys_of_account_max)
            return fail(Code::overloaded, "there are too many provider keys");
        insert_row(tx, row);
        accounts::write_audit(
            tx, clock_, caller,
            {caller.account, "Create", "Provider Key", row.key.id.text(), row.key.provider, {}});
        notices_.publish(tx, topic, caller.account.text());
        return {};
    };
    auto done = co_await db_.in_tx(std::move(write));
    if (!done) co_return fail(std::move(done.error()));
    (void)co_await load(caller.account);
    co_return wanted;
}

Async<Result<void>> ProviderKeys::change(accounts::Caller caller, ProviderKey changed) {
    auto write = [this, changed, caller](store::Tx& tx) -> Result<void> {
        if (!update_row(tx, changed)) return no_provider_key();
        accounts::write_audit(
            tx, clock_, caller,
            {caller.account, "Update", "Provider Key", changed.id.text(), changed.provider, {}});
        notices_.publish(tx, topic, caller.account.text());
        return {};
    };
    auto done = co_await db_.in_tx(std::move(write));
    if (!done) co_return fail(std::move(done.error()));
    (void)co_await load(caller.account);
    co_return Result<void>();
}

Async<Result<void>> ProviderKeys::remove(accounts::Caller caller, ProviderKeyId id) {
    auto write = [this, id, caller](store::Tx& tx) -> Result<void> {
        if (!delete_row(tx, caller.account, id)) return no_provider_key();
        accounts::write_audit(tx, clock_, caller,
                              {caller.account, "Delete", "Provider Key", id.text(), {}, {}});
        notices_.publish(tx, topic, caller.account.text());
        return {};
    };
    auto done = co_await db_.in_tx(std::move(write));
    if (!done) co_return fail(std::move(done.error()));
    (void)co_await load(caller.account);
    co_return Result<void>();
}

Async<Result<std::vector<ProviderKey>>> ProviderKeys::list(AccountId account) {
    auto look = [account](store::Tx& tx) -> Result<std::vector<ProviderKey>> {
        std::vector<ProviderKey> keys;
        for (SealedKey& row : rows_of(tx, account)) keys.push_back(std::move(row.key));
        return keys;
    };
    co_return co_await db_.read(std::move(look));
}

std::unexpected<Error> no_provider_key() {
    return fail(Code::not_found, "there is no such provider key", "id");
}

}  // namespace nebula::catalog

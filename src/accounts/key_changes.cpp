// Making, changing and ending API keys: each with its audit row and its notice in one transaction.
#include <algorithm>

#include "accounts/accounts_impl.hpp"
#include "accounts/audit.hpp"
#include "accounts/key_text.hpp"
#include "accounts/store.hpp"
#include "accounts/validate.hpp"

namespace nebula::accounts {

using store::Tx;

namespace {

constexpr std::int64_t usable_keys_max = 1'000;
constexpr std::int64_t regenerations_max = 20;  // per account and UTC day
constexpr std::chrono::seconds grace_max = std::chrono::days(7);
constexpr const char* resource = "API Key";

/// A copy, so that the database thread depends on nobody's life.
Caller copy_of(const Caller* caller) {
    if (caller != nullptr) return *caller;
    Caller command_line;
    command_line.email = "operator";
    command_line.is_operator = true;
    command_line.permissions = Permissions::all();
    return command_line;
}

/// A key as it became, and every text by which somebody may still know it as it was.
struct Changed {
    Key key;
    std::vector<Sha256> hashes;
};

/// Who holds a limited key must not get rid of its limits by making or opening another one.
Result<void> check_manager(Tx& tx, const Caller& caller, std::uint32_t permissions) {
    if (permissions & Permissions::all().bits() & ~caller.permissions.bits())
        return fail(Code::forbidden, "you cannot give permissions that you do not have", "permissions");
    if (caller.kind != Caller::Kind::key) return {};
    auto own = sql::key_by_id(tx, caller.key);
    if (!own || own->budget.is_any() || !own->models.empty() || own->expires_at)
        return fail(Code::forbidden, "a key with a budget, a list of models or an end cannot manage keys");
    return {};
}

void audit(Tx& tx, const Clock& clock, const Caller& caller, const char* action, const Key& key,
           std::string details = {}) {
    AuditEntry entry{key.account, action, resource, key.id.text(), key.name, std::move(details)};
    write_audit(tx, clock, caller, entry);
}

Result<Key> checked(Key wanted, Time now) {
    auto name = check_name(wanted.name, "name");
    if (!name) return fail(name.error());
    auto description = check_description(wanted.description);
    if (!description) return fail(description.error());
    if (auto good = check_limits(wanted.limits); !good) return fail(good.error());
    if (auto good = check_budget(wanted.budget); !good) return fail(good.error());
    if (auto good = check_models(wanted.models); !good) return fail(good.error());
    if (wanted.expires_at && *wanted.expires_at <= now)
        return fail(Code::invalid_request, "the key must end in the future", "expires_at");
    return wanted;
}

/// What is changed, by name, for the audit log.
std::string apply(Key& key, const KeyChange& change) {
    std::string names;
    auto take = [&names](auto& member, const auto& fresh, const char* name) {
        if (!fresh) return;
        member = *fresh;
        names += (names.empty() ? "\"" : ",\"") + std::string(name) + '"';
    };
    take(key.name, change.name, "name");
    take(key.description, change.description, "description");
    take(key.limits, change.limits, "limits");
    take(key.budget, change.budget, "budget");
    take(key.models, change.models, "models");
    take(key.permissions, change.permissions, "permissions");
    take(key.is_disabled, change.is_disabled, "disabled");
    take(key.uses_cache, change.uses_cache, "cache");
    take(key.expires_at, change.expires_at, "expires_at");
    return "{\"changed\":[" + names + "]}";
}

}  // namespace

bool Key::may_use_model(std::string_view model) const {
    auto fits = [model](const std::string& allowed) {
        return allowed.ends_with('*')
                   ? model.starts_with(std::string_view(allowed).substr(0, allowed.size() - 1))
                   : model == allowed;
    };
    return models.empty() || std::ranges::any_of(models, fits);
}

Async<Result<NewKey>> Accounts::create_key(AccountId account, std::string name, RateLimits limits) {
    Key wanted;
    wanted.account = account;
    wanted.name = std::move(name);
    wanted.limits = limits;
    co_return co_await create_key(std::move(wanted), nullptr);
}

Async<Result<NewKey>> Accounts::create_key(Key wanted, const Caller* caller) {
    Time now = impl_->clock.now();
    auto good = checked(std::move(wanted), now);
    if (!good) co_return fail(good.error());
    Secret text = make_key_text();
    Key key = std::move(*good);
    key.id = KeyId::next(impl_->clock);
    key.hint = key_hint(text.reveal());
    key.hash = sha256(text.reveal());
    key.created_at = now;
    key.revoked_at = key.last_used_at = key.updated_at = key.grace_until = std::nullopt;
    key.is_disabled = false;
    key.use = nullptr;

    auto insert = [impl = impl_.get(), key, by = copy_of(caller), now](Tx& tx) -> Result<bool> {
        if (!sql::lock_account(tx, key.account)) return no_account();
        auto allowed = check_manager(tx, by, key.permissions);
        if (!allowed) return fail(allowed.error());
        if (sql::count_usable_keys(tx, key.account, now) >= usable_keys_max)
            return fail(Code::conflict, "there are 1000 keys already: delete some first", "name");
        sql::insert_key(tx, key);
        audit(tx, impl->clock, by, "Create", key);
        return true;
    };
    auto inserted = co_await impl_->db.in_tx(std::move(insert));
    if (!inserted) co_return fail(inserted.error());
    impl_->unknown_keys.remove(key.hash);
    co_return NewKey{std::move(key), std::move(text)};
}

Async<Result<Key>> Accounts::change_key(AccountId account, KeyId id, KeyChange change, const Caller* caller) {
    auto update = [impl = impl_.get(), account, id, change, by = copy_of(caller)](Tx& tx) -> Result<Changed> {
        Time now = impl->clock.now();
        auto key = sql::key_for_update(tx, account, id);
        if (!key || key->revoked_at) return no_key();
        std::string details = apply(*key, change);
        // A key whose end has passed may still be renamed or listed.
        Key to_check = *key;
        if (!change.expires_at) to_check.expires_at = std::nullopt;
        auto good = checked(std::move(to_check), now);
        if (!good) return fail(good.error());
        auto allowed = check_manager(tx, by, change.permissions.value_or(0));
        if (!allowed) return fail(allowed.error());
        key->updated_at = now;
        sql::update_key(tx, *key);
        audit(tx, impl->clock, by, "Update", *key, std::move(details));
        return Changed{*key, impl->tell_of(tx, *key)};
    };
    auto changed = co_await impl_->db.in_tx(std::move(update));
    if (!changed) co_return fail(changed.error());
    for (const Sha256& hash : changed->hashes) impl_->forget(hash);
    co_return std::move(changed->key);
}

Async<Result<NewKey>> Accounts::regenerate_key(AccountId account, KeyId id, std::chrono::seconds grace,
                                               const Caller* caller) {
    if (grace.count() < 0 || grace > grace_max)
        co_return fail(Code::invalid_request, "the grace must be 0 to 604800 seconds", "grace");
    Secret text = make_key_text();
    Sha256 hash = sha256(text.reveal());
    std::string hint = key_hint(text.reveal());
    auto renew = [impl = impl_.get(), account, id, grace, by = copy_of(caller), hash,
                  hint](Tx& tx) -> Result<Changed> {
        Time now = impl->clock.now();
        if (!sql::lock_account(tx, account)) return no_key();
        auto key = sql::key_for_update(tx, account, id);
        if (!key || key->revoked_at) return no_key();
        // Whoever sees the text can do what the key can.
        auto allowed = check_manager(tx, by, key->permissions);
        if (!allowed) return fail(allowed.error());
        std::int64_t day = to_micros(now) / std::chrono::microseconds(std::chrono::days(1)).count();
        std::int64_t made = sql::regenerations(tx, account, day);
        if (made >= regenerations_max)
            return fail(Code::invalid_request,
                        "you have generated " + std::to_string(made + 1) +
                            " API keys today, please wait until tomorrow or contact support",
                        "regenerate");
        auto hashes = impl->tell_of(tx, *key);
        sql::keep_former_text(tx, id, key->hash, now + grace);
        sql::count_regeneration(tx, id, day);
        key->hash = hash;
        key->hint = hint;
        key->created_at = now;
        key->updated_at = now;
        sql::update_key(tx, *key);
        audit(tx, impl->clock, by, "Update", *key, R"({"changed":["key"]})");
        return Changed{*key, std::move(hashes)};
    };
    auto renewed = co_await impl_->db.in_tx(std::move(renew));
    if (!renewed) co_return fail(renewed.error());
    for (const Sha256& stale : renewed->hashes) impl_->forget(stale);
    impl_->unknown_keys.remove(hash);
    co_return NewKey{std::move(renewed->key), std::move(text)};
}

Async<Result<Key>> Accounts::revoke_key(AccountId account, KeyId id, const Caller* caller) {
    auto revoke = [impl = impl_.get(), account, id, by = copy_of(caller)](Tx& tx) -> Result<Changed> {
        auto key = sql::key_for_update(tx, account, id);
        if (!key) return no_key();
        if (!key->revoked_at) {
            key->revoked_at = impl->clock.now();
            sql::revoke_key(tx, id, *key->revoked_at);
            audit(tx, impl->clock, by, "Delete", *key);
        }
        return Changed{*key, impl->tell_of(tx, *key)};
    };
    auto revoked = co_await impl_->db.in_tx(std::move(revoke));
    if (!revoked) co_return fail(revoked.error());
    // After the commit, and also when it was revoked before: whoever revokes wants it out of here.
    for (const Sha256& hash : revoked->hashes) impl_->forget(hash);
    impl_->count_cached();
    co_return std::move(revoked->key);
}

Async<Result<Key>> Accounts::key(std::string id) {
    auto parsed = KeyId::parse(id);
    if (!parsed) co_return no_key();
    auto look_up = [id = *parsed](Tx& tx) -> Result<Key> {
        auto key = sql::key_by_id(tx, id);
        if (!key) return no_key();
        return std::move(*key);
    };
    co_return co_await impl_->db.read(std::move(look_up));
}

Async<Result<Key>> Accounts::revoke_key(std::string id) {
    auto found = co_await key(std::move(id));
    if (!found) co_return fail(found.error());
    co_return co_await revoke_key(found->account, found->id, nullptr);
}

Async<Result<Key>> Accounts::key(AccountId account, KeyId id) {
    auto look_up = [account, id](Tx& tx) -> Result<Key> {
        auto key = sql::key_by_id(tx, id);
        if (!key || key->account != account) return no_key();
        return std::move(*key);
    };
    co_return co_await impl_->db.read(std::move(look_up));
}

Async<Result<std::vector<Key>>> Accounts::list_keys(std::optional<AccountId> account) {
    auto list = [account](Tx& tx) -> Result<std::vector<Key>> {
        if (!account) return sql::keys(tx);
        if (!sql::account_by_id(tx, *account)) return no_account();
        return sql::keys_of(tx, *account);
    };
    co_return co_await impl_->db.read(std::move(list));
}

}  // namespace nebula::accounts

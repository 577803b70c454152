#include "accounts/accounts.hpp"

#include <algorithm>

#include "accounts/accounts_impl.hpp"
#include "accounts/store.hpp"
#include "accounts/validate.hpp"
#include "base/log.hpp"

namespace nebula::accounts {

using store::Tx;

namespace {

std::unexpected<Error> unauthenticated() {
    // One answer for every reason, so that nobody can tell which keys exist.
    return fail(Code::unauthenticated, "the API key is missing or not valid", "api_key");
}

metrics::Counter& lookups(metrics::Registry& metrics, const char* result) {
    return metrics.counter("nebula_accounts_key_lookups_total", "API keys looked up", {{"result", result}});
}

}  // namespace

Accounts::Impl::Impl(store::Db& database, const Clock& now, metrics::Registry& metrics,
                     store::Notices* change_notices)
    : db(database),
      clock(now),
      notices(change_notices),
      hits(lookups(metrics, "hit")),
      misses(lookups(metrics, "miss")),
      unknown(lookups(metrics, "unknown")),
      malformed(lookups(metrics, "malformed")),
      cached(metrics.gauge("nebula_accounts_cached_keys", "API keys known without asking the database")) {
    if (notices == nullptr) return;
    notices->subscribe("key", [this](std::string_view payload) {
        if (auto hash = sql::parse_hash(payload)) forget(*hash);
    });
    notices->on_gap([this] { cache.clear(); });
}

std::vector<Sha256> Accounts::Impl::tell_of(Tx& tx, const Key& key) {
    std::vector<Sha256> hashes{key.hash};
    if (auto former = sql::former_hash(tx, key.id)) hashes.push_back(*former);
    if (notices == nullptr) return hashes;
    for (const Sha256& hash : hashes) notices->publish(tx, "key", to_hex(hash.bytes));
    return hashes;
}

void Accounts::Impl::forget(const Sha256& hash) {
    cache.invalidate(hash);
    unknown_keys.remove(hash);
}

void Accounts::forget_keys(const std::vector<Sha256>& hashes) {
    for (const Sha256& hash : hashes) impl_->forget(hash);
    impl_->count_cached();
}

Accounts::Accounts(store::Db& db, const Clock& clock, metrics::Registry& metrics, store::Notices* notices)
    : impl_(std::make_unique<Impl>(db, clock, metrics, notices)) {}
Accounts::~Accounts() = default;

std::shared_ptr<const Key> Accounts::find_cached(const Sha256& key_hash) const {
    auto found = impl_->cache.find(key_hash);
    if (found == nullptr) return nullptr;
    // Only what was usable is put there, and every change takes it out: what is left is the time, asked for
    // only where it matters.
    if ((found->expires_at || found->grace_until) && !found->is_usable(impl_->clock.now())) return nullptr;
    impl_->hits.add();
    return found;
}

Async<Result<std::shared_ptr<const Key>>> Accounts::authenticate(std::string token) {
    if (!is_well_formed_key(token)) {
        impl_->malformed.add();
        co_return unauthenticated();
    }
    Sha256 hash = sha256(token);
    if (auto known = find_cached(hash)) co_return known;
    if (impl_->unknown_keys.contains(hash)) {
        impl_->unknown.add();
        co_return unauthenticated();
    }
    std::uint64_t epoch = impl_->cache.epoch(hash);
    auto look_up = [hash, now = impl_->clock.now()](Tx& tx) -> Result<std::optional<Key>> {
        return sql::valid_key_by_hash(tx, hash, now);
    };
    auto found = co_await impl_->db.read(std::move(look_up));
    if (!found) co_return fail(found.error());
    if (!*found || !(*found)->is_usable(impl_->clock.now())) {
        impl_->unknown.add();
        impl_->unknown_keys.add(hash);
        co_return unauthenticated();
    }
    impl_->misses.add();
    (*found)->use = std::make_shared<KeyUse>();
    (*found)->use->key = (*found)->id;
    auto key = std::make_shared<const Key>(std::move(**found));
    impl_->cache.put(hash, key, epoch);
    impl_->count_cached();
    co_return key;
}

void Accounts::note_use(const Key& key) {
    if (key.use != nullptr) impl_->uses.note(key.use, impl_->clock);
}

void Accounts::flush_last_used() {
    auto taken = impl_->uses.take();
    if (taken.empty()) return;
    std::vector<sql::LastUse> uses;
    uses.reserve(taken.size());
    for (const auto& used : taken) uses.push_back({used.use->key, used.at});
    // Every process takes the rows in the same order, so none waits for another in a circle.
    std::ranges::sort(uses, {}, &sql::LastUse::key);
    auto write = [&uses](Tx& tx) -> Result<bool> {
        sql::write_last_uses(tx, uses);
        return true;
    };
    try {
        (void)impl_->db.in_tx_blocking(write);
    } catch (const store::DbError& e) {
        impl_->uses.put_back(taken);
        LOG_WARN("last use of keys not written, kept for the next time", {"error", e.what()});
    }
}

Async<Result<Account>> Accounts::create_account(std::string name) {
    auto good = check_name(name, "name");
    if (!good) co_return fail(good.error());
    Account account{AccountId::next(impl_->clock), *good, impl_->clock.now()};
    account.display_name = std::move(*good);
    auto insert = [account](Tx& tx) -> Result<Account> {
        try {
            sql::insert_account(tx, account);
        } catch (const store::UniqueViolation&) {
            return fail(Code::conflict, "an account with this name exists", "name");
        }
        return account;
    };
    co_return co_await impl_->db.in_tx(std::move(insert));
}

Async<Result<std::vector<Account>>> Accounts::list_accounts() {
    auto list = [](Tx& tx) -> Result<std::vector<Account>> { return sql::accounts(tx); };
    co_return co_await impl_->db.read(std::move(list));
}

Async<Result<Account>> Accounts::account(std::string id_or_name) {
    auto look_up = [id_or_name](Tx& tx) -> Result<Account> {
        if (auto id = AccountId::parse(id_or_name)) {
            if (auto found = sql::account_by_id(tx, *id)) return *found;
        }
        // What could never be stored is not asked for: PostgreSQL would call it an error.
        if (!check_name(id_or_name, "account")) return no_account();
        if (auto found = sql::account_by_name(tx, id_or_name)) return *found;
        return no_account();
    };
    co_return co_await impl_->db.read(std::move(look_up));
}

Async<Result<User>> Accounts::create_user(std::string email, Secret password, Role role) {
    auto normal = check_email(email);
    if (!normal) co_return fail(normal.error());
    auto good = check_password(password);
    if (!good) co_return fail(good.error());
    auto hash = [password](void) -> Result<std::string> { return hash_password(password.reveal()); };
    auto hashed = co_await impl_->hashing.run(std::move(hash));
    if (!hashed) co_return fail(hashed.error());

    User user{UserId::next(impl_->clock), std::move(*normal), role, impl_->clock.now()};
    auto insert = [user, hashed = std::move(*hashed)](Tx& tx) -> Result<User> {
        try {
            sql::insert_user(tx, user, hashed);
        } catch (const store::UniqueViolation&) {
            return fail(Code::conflict, "a user with this e-mail address exists", "email");
        }
        return user;
    };
    co_return co_await impl_->db.in_tx(std::move(insert));
}

Async<Result<std::vector<User>>> Accounts::list_users() {
    auto list = [](Tx& tx) -> Result<std::vector<User>> { return sql::users(tx); };
    co_return co_await impl_->db.read(std::move(list));
}

Async<Result<bool>> Accounts::has_any_user() {
    auto look = [](Tx& tx) -> Result<bool> { return sql::has_any_user(tx); };
    co_return co_await impl_->db.read(std::move(look));
}

}  // namespace nebula::accounts

#include "accounts/accounts.hpp"

#include "accounts/key_cache.hpp"
#include "accounts/key_text.hpp"
#include "accounts/store.hpp"
#include "accounts/validate.hpp"
#include "async/blocking_pool.hpp"

namespace nebula::accounts {

using store::Tx;

namespace {

constexpr std::size_t cached_keys_max = 1'000'000;
constexpr std::size_t unknown_keys_max = 10'000;
constexpr std::chrono::seconds unknown_keys_keep{10};
// One Argon2id computation takes 64 MiB and 0.1 s of a core: one at a time, and few that wait.
constexpr std::size_t hashing_threads = 1;
constexpr std::size_t hashing_queue_max = 64;

std::unexpected<Error> unauthenticated() {
    // One answer for every reason, so that nobody can tell which keys exist.
    return fail(Code::unauthenticated, "the API key is missing or not valid", "api_key");
}

std::unexpected<Error> no_account() { return fail(Code::not_found, "there is no such account", "account"); }
std::unexpected<Error> no_key() { return fail(Code::not_found, "there is no such key", "key"); }

}  // namespace

struct Accounts::Impl {
    Impl(store::Db& database, const Clock& now, metrics::Registry& metrics)
        : db(database),
          clock(now),
          hits(lookups(metrics, "hit")),
          misses(lookups(metrics, "miss")),
          unknown(lookups(metrics, "unknown")),
          malformed(lookups(metrics, "malformed")),
          cached(metrics.gauge("nebula_accounts_cached_keys", "API keys known without asking the database")) {
    }

    static metrics::Counter& lookups(metrics::Registry& metrics, const char* result) {
        return metrics.counter("nebula_accounts_key_lookups_total", "API keys looked up",
                               {{"result", result}});
    }

    store::Db& db;
    const Clock& clock;
    KeyCache cache{cached_keys_max};
    UnknownKeys unknown_keys{clock, unknown_keys_max, unknown_keys_keep};
    metrics::Counter& hits;
    metrics::Counter& misses;
    metrics::Counter& unknown;
    metrics::Counter& malformed;
    metrics::Gauge& cached;
    BlockingPool hashing{hashing_threads, hashing_queue_max};  // last: its threads end first
};

Accounts::Accounts(store::Db& db, const Clock& clock, metrics::Registry& metrics, store::Notices*)
    : impl_(std::make_unique<Impl>(db, clock, metrics)) {}
Accounts::~Accounts() = default;

std::shared_ptr<const Key> Accounts::find_cached(const Sha256& key_hash) const {
    auto found = impl_->cache.find(key_hash);
    if (found != nullptr) impl_->hits.add();
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
    auto look_up = [hash](Tx& tx) -> Result<std::optional<Key>> { return sql::valid_key_by_hash(tx, hash); };
    auto found = co_await impl_->db.read(std::move(look_up));
    if (!found) co_return fail(found.error());
    if (!*found) {
        impl_->unknown.add();
        impl_->unknown_keys.add(hash);
        co_return unauthenticated();
    }
    impl_->misses.add();
    auto key = std::make_shared<const Key>(std::move(**found));
    impl_->cache.put(hash, key, epoch);
    impl_->cached.set(static_cast<std::int64_t>(impl_->cache.size()));
    co_return key;
}

Async<Result<Account>> Accounts::create_account(std::string name) {
    auto good = check_name(name, "name");
    if (!good) co_return fail(good.error());
    Account account{AccountId::next(impl_->clock), std::move(*good), impl_->clock.now()};
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

Async<Result<NewKey>> Accounts::create_key(AccountId account, std::string name, RateLimits limits) {
    auto good_name = check_name(name, "name");
    if (!good_name) co_return fail(good_name.error());
    auto good_limits = check_limits(limits);
    if (!good_limits) co_return fail(good_limits.error());

    Secret text = make_key_text();
    Key key{KeyId::next(impl_->clock), account,     std::move(*good_name), key_hint(text.reveal()), limits,
            impl_->clock.now(),        std::nullopt};
    sql::StoredKey stored{key, sha256(text.reveal())};
    auto insert = [stored](Tx& tx) -> Result<bool> {
        if (!sql::account_by_id(tx, stored.key.account)) return no_account();
        sql::insert_key(tx, stored);
        return true;
    };
    auto inserted = co_await impl_->db.in_tx(std::move(insert));
    if (!inserted) co_return fail(inserted.error());
    impl_->unknown_keys.remove(stored.hash);
    co_return NewKey{std::move(key), std::move(text)};
}

Async<Result<std::vector<Key>>> Accounts::list_keys(std::optional<AccountId> account) {
    auto list = [account](Tx& tx) -> Result<std::vector<Key>> {
        if (!account) return sql::keys(tx);
        if (!sql::account_by_id(tx, *account)) return no_account();
        return sql::keys_of(tx, *account);
    };
    co_return co_await impl_->db.read(std::move(list));
}

Async<Result<Key>> Accounts::revoke_key(std::string id) {
    auto parsed = KeyId::parse(id);
    if (!parsed) co_return no_key();
    auto revoke = [id = *parsed, now = impl_->clock.now()](Tx& tx) -> Result<sql::StoredKey> {
        sql::revoke_key(tx, id, now);
        auto stored = sql::key_by_id(tx, id);
        if (!stored) return no_key();
        return std::move(*stored);
    };
    auto stored = co_await impl_->db.in_tx(std::move(revoke));
    if (!stored) co_return fail(stored.error());
    // After the commit, and also when it was revoked before: whoever revokes wants it out of here.
    impl_->cache.invalidate(stored->hash);
    impl_->cached.set(static_cast<std::int64_t>(impl_->cache.size()));
    co_return std::move(stored->key);
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

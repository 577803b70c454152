#pragma once
// What the sources of class Accounts share. Private to this module.

#include "accounts/accounts.hpp"
#include "accounts/caller.hpp"
#include "accounts/key_cache.hpp"
#include "accounts/key_use.hpp"
#include "async/blocking_pool.hpp"

namespace nebula::accounts {

constexpr std::size_t cached_keys_max = 1'000'000;
constexpr std::size_t unknown_keys_max = 10'000;
constexpr std::chrono::seconds unknown_keys_keep{10};
// One Argon2id computation takes 64 MiB and 0.1 s of a core: one at a time, and few that wait.
constexpr std::size_t hashing_threads = 1;
constexpr std::size_t hashing_queue_max = 64;

inline std::unexpected<Error> no_account() {
    return fail(Code::not_found, "there is no such account", "account");
}
inline std::unexpected<Error> no_key() { return fail(Code::not_found, "there is no such key", "key"); }

struct Accounts::Impl {
    Impl(store::Db& database, const Clock& now, metrics::Registry& metrics, store::Notices* change_notices);

    /// Within the transaction that changes the key: other processes will forget what they know of it. Gives
    /// the hashes that this one must forget() after the commit.
    std::vector<Sha256> tell_of(store::Tx& tx, const Key& key);
    /// After the commit, and when another process told.
    void forget(const Sha256& hash);
    void count_cached() { cached.set(static_cast<std::int64_t>(cache.size())); }

    store::Db& db;
    const Clock& clock;
    store::Notices* notices;
    KeyCache cache{cached_keys_max};
    UnknownKeys unknown_keys{clock, unknown_keys_max, unknown_keys_keep};
    KeyUses uses;
    metrics::Counter& hits;
    metrics::Counter& misses;
    metrics::Counter& unknown;
    metrics::Counter& malformed;
    metrics::Gauge& cached;
    BlockingPool hashing{hashing_threads, hashing_queue_max};  // last: its threads end first
};

}  // namespace nebula::accounts

#pragma once
// What is known about keys without asking the database. Private to this module; both classes are thread-safe.

#include <array>
#include <deque>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

#include "accounts/accounts.hpp"

namespace nebula::accounts {

/// Valid keys by hash. Reading takes one shared lock of one of 64 shards for the time of a hash lookup.
class KeyCache {
   public:
    explicit KeyCache(std::size_t keys_max)
        : shard_max_(keys_max / shard_count > 0 ? keys_max / shard_count : 1) {}

    std::shared_ptr<const Key> find(const Sha256& hash) const;

    /// Changes with every invalidation near `hash`: take it before reading the database, hand it to put(). So
    /// a key that is revoked between the two cannot come back into the cache.
    std::uint64_t epoch(const Sha256& hash) const;
    void put(const Sha256& hash, std::shared_ptr<const Key> key, std::uint64_t epoch_before_read);
    void invalidate(const Sha256& hash);
    void clear();

    std::size_t size() const;

   private:
    static constexpr std::size_t shard_count = 64;
    struct alignas(64) Shard {
        mutable std::shared_mutex mutex;
        std::unordered_map<Sha256, std::shared_ptr<const Key>> keys;
        std::uint64_t epoch = 0;
    };
    // The table inside a shard uses the first bytes of the digest, so the shard is chosen by the last.
    Shard& shard(const Sha256& hash) { return shards_[hash.bytes[31] % shard_count]; }
    const Shard& shard(const Sha256& hash) const { return shards_[hash.bytes[31] % shard_count]; }

    std::size_t shard_max_;
    std::array<Shard, shard_count> shards_;
};

/// Hashes that are no valid key, for a while. When full, the oldest make room.
class UnknownKeys {
   public:
    UnknownKeys(const Clock& clock, std::size_t keys_max, std::chrono::seconds keep)
        : clock_(clock), keys_max_(keys_max), keep_(keep) {}

    bool contains(const Sha256& hash) const;
    void add(const Sha256& hash);
    void remove(const Sha256& hash);
    std::size_t size() const;

   private:
    void drop_oldest();

    const Clock& clock_;
    std::size_t keys_max_;
    std::chrono::seconds keep_;
    mutable std::mutex mutex_;
    std::unordered_map<Sha256, Ticks> until_;
    std::deque<std::pair<Ticks, Sha256>>
        order_;  // oldest first; entries of removed hashes stay until they are due
};

}  // namespace nebula::accounts

#pragma once
// One shard of subjects: a lock, a hash table and its buckets.

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "ratelimit/bucket.hpp"

namespace nebula::ratelimit {

/// Spreads subjects over shards and slots; also of sequential ids.
inline std::uint64_t hash_subject(Subject subject) {
    std::uint64_t x = subject.id ^ (static_cast<std::uint64_t>(subject.kind) + 1) * 0x9E3779B97F4A7C15ULL;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
}

/// Open addressing with linear probing; deleting shifts back, so there are no tombstones. Every call under
/// `mutex`.
class alignas(64) Shard {
   public:
    std::mutex mutex;

    void set_max(std::size_t buckets) { buckets_max_ = buckets; }
    /// Advanced to now; null when it is unknown.
    Bucket* find(Subject subject, std::uint64_t hash, std::int64_t now_second);
    /// Null when the shard is full of buckets used within the last minute. Earlier pointers of this second
    /// stay valid.
    Bucket* find_or_add(Subject subject, std::uint64_t hash, std::int64_t now_second);
    std::size_t size() const { return used_; }
    /// As they stand: not advanced.
    template <class F>
    void each(F visit) {
        for (const auto& bucket : buckets_)
            if (bucket) visit(*bucket);
    }

   private:
    struct Slot {
        std::uint64_t hash = 0;
        std::uint32_t bucket = 0;  // index + 1; 0 = empty
    };
    std::size_t home(std::uint64_t hash) const { return (hash >> 8) & (slots_.size() - 1); }
    std::size_t slot_of(Subject subject, std::uint64_t hash) const;
    void grow();
    void erase(std::size_t slot);
    /// Looks at the next `count` buckets in turn and frees the idle ones.
    void sweep(std::size_t count, std::int64_t now_second);

    std::size_t buckets_max_ = 0;
    std::size_t used_ = 0;
    std::size_t hand_ = 0;
    std::int64_t swept_at_ = -1;
    std::vector<Slot> slots_;
    std::vector<std::unique_ptr<Bucket>> buckets_;
    std::vector<std::uint32_t> free_;
};

/// All shards.
struct Table {
    static constexpr std::size_t shard_count = 64;
    std::array<Shard, shard_count> shards;

    Shard& shard_of(std::uint64_t hash) { return shards[hash % shard_count]; }
    /// Calls `work(Bucket&)` under the lock of its shard when the subject has a bucket.
    template <class F>
    void with(Subject subject, std::int64_t now_second, F work) {
        std::uint64_t hash = hash_subject(subject);
        Shard& shard = shard_of(hash);
        std::lock_guard lock(shard.mutex);
        if (Bucket* bucket = shard.find(subject, hash, now_second)) work(*bucket);
    }
    template <class F>
    void each(F visit) {
        for (Shard& shard : shards) {
            std::lock_guard lock(shard.mutex);
            shard.each(visit);
        }
    }
};

}  // namespace nebula::ratelimit

#pragma once
// The buckets of one request, all locked at once.

#include <algorithm>
#include <array>

#include "base/check.hpp"
#include "ratelimit/table.hpp"

namespace nebula::ratelimit {

constexpr std::size_t checks_max = 8;

inline bool limits_anything(const Limits& limits) {
    return limits.rpm > 0 || limits.tpm > 0 || limits.ipm > 0 || limits.rpd > 0;
}

inline std::int64_t limit_of(const Limits& limits, Unit unit) {
    if (unit == Unit::requests) return limits.rpm;
    return unit == Unit::tokens ? limits.tpm : limits.ipm;
}

inline std::int64_t amount_of(const Use& use, Unit unit) {
    if (unit == Unit::requests) return 1;
    return unit == Unit::tokens ? use.tokens : use.images;
}

constexpr std::array<Unit, unit_count> all_units = {Unit::requests, Unit::tokens, Unit::images};

struct Found {
    const Check* check = nullptr;
    std::uint64_t hash = 0;
    Bucket* bucket = nullptr;
};

/// The checks that limit anything, their shards locked in order (so two callers never wait for each other in
/// a circle).
class Locked {
   public:
    Locked(Table& table, const Check* checks, std::size_t count) : shards_(table.shards) {
        CHECK(count <= checks_max, "a request is checked against a handful of subjects");
        for (std::size_t i = 0; i < count; ++i) {
            if (!limits_anything(checks[i].limits)) continue;
            found_[count_++] = {&checks[i], hash_subject(checks[i].subject), nullptr};
        }
        for (std::size_t i = 0; i < count_; ++i) order_[i] = shard_index(found_[i]);
        std::sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(count_));
        locks_ = static_cast<std::size_t>(
            std::unique(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(count_)) -
            order_.begin());
        for (std::size_t i = 0; i < locks_; ++i) shards_[order_[i]].mutex.lock();
    }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
    ~Locked() {
        for (std::size_t i = 0; i < locks_; ++i) shards_[order_[i]].mutex.unlock();
    }

    Found* begin() { return found_.data(); }
    Found* end() { return found_.data() + count_; }
    Shard& shard(const Found& found) { return shards_[shard_index(found)]; }

   private:
    static std::size_t shard_index(const Found& found) { return found.hash % Table::shard_count; }

    std::array<Shard, Table::shard_count>& shards_;
    std::array<Found, checks_max> found_{};
    std::array<std::size_t, checks_max> order_{};
    std::size_t count_ = 0;
    std::size_t locks_ = 0;
};

}  // namespace nebula::ratelimit

#include "accounts/key_cache.hpp"

namespace nebula::accounts {

std::shared_ptr<const Key> KeyCache::find(const Sha256& hash) const {
    const Shard& in = shard(hash);
    std::shared_lock lock(in.mutex);
    auto found = in.keys.find(hash);
    return found == in.keys.end() ? nullptr : found->second;
}

std::uint64_t KeyCache::epoch(const Sha256& hash) const {
    const Shard& in = shard(hash);
    std::shared_lock lock(in.mutex);
    return in.epoch;
}

void KeyCache::put(const Sha256& hash, std::shared_ptr<const Key> key, std::uint64_t epoch_before_read) {
    Shard& in = shard(hash);
    std::unique_lock lock(in.mutex);
    if (in.epoch != epoch_before_read) return;
    // Which one goes hardly matters: it comes back with one query.
    if (in.keys.size() >= shard_max_ && !in.keys.contains(hash)) in.keys.erase(in.keys.begin());
    in.keys[hash] = std::move(key);
}

void KeyCache::invalidate(const Sha256& hash) {
    Shard& in = shard(hash);
    std::unique_lock lock(in.mutex);
    ++in.epoch;
    in.keys.erase(hash);
}

void KeyCache::clear() {
    for (Shard& in : shards_) {
        std::unique_lock lock(in.mutex);
        ++in.epoch;
        in.keys.clear();
    }
}

std::size_t KeyCache::size() const {
    std::size_t sum = 0;
    for (const Shard& in : shards_) {
        std::shared_lock lock(in.mutex);
        sum += in.keys.size();
    }
    return sum;
}

bool UnknownKeys::contains(const Sha256& hash) const {
    std::lock_guard lock(mutex_);
    auto found = until_.find(hash);
    return found != until_.end() && clock_.ticks() < found->second;
}

void UnknownKeys::drop_oldest() {
    // A hash that was removed and added again has a later time than this entry says: then only the entry
    // goes.
    auto found = until_.find(order_.front().second);
    if (found != until_.end() && found->second == order_.front().first) until_.erase(found);
    order_.pop_front();
}

void UnknownKeys::add(const Sha256& hash) {
    std::lock_guard lock(mutex_);
    Ticks now = clock_.ticks();
    while (!order_.empty() && (order_.front().first <= now || order_.size() >= keys_max_)) drop_oldest();
    auto until = now + keep_;
    until_[hash] = until;
    order_.emplace_back(until, hash);
}

void UnknownKeys::remove(const Sha256& hash) {
    std::lock_guard lock(mutex_);
    until_.erase(hash);
}

std::size_t UnknownKeys::size() const {
    std::lock_guard lock(mutex_);
    return until_.size();
}

}  // namespace nebula::accounts

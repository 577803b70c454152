#include "ratelimit/table.hpp"

#include <algorithm>

namespace nebula::ratelimit {

std::size_t Shard::slot_of(Subject subject, std::uint64_t hash) const {
    std::size_t mask = slots_.size() - 1;
    for (std::size_t i = home(hash);; i = (i + 1) & mask) {
        const Slot& slot = slots_[i];
        if (slot.bucket == 0) return i;
        if (slot.hash != hash) continue;
        const Subject& found = buckets_[slot.bucket - 1]->subject;
        if (found.id == subject.id && found.kind == subject.kind) return i;
    }
}

Bucket* Shard::find(Subject subject, std::uint64_t hash, std::int64_t now_second) {
    if (slots_.empty()) return nullptr;
    const Slot& slot = slots_[slot_of(subject, hash)];
    if (slot.bucket == 0) return nullptr;
    Bucket* bucket = buckets_[slot.bucket - 1].get();
    bucket->advance(now_second);
    return bucket;
}

Bucket* Shard::find_or_add(Subject subject, std::uint64_t hash, std::int64_t now_second) {
    if (Bucket* found = find(subject, hash, now_second)) return found;
    // Two looked at for one added: the table never holds much more than what was used within a minute or two.
    sweep(2, now_second);
    if (used_ >= buckets_max_ && swept_at_ != now_second) {
        swept_at_ = now_second;  // once a second at most: a full sweep is long
        sweep(buckets_.size(), now_second);
    }
    if (used_ >= buckets_max_) return nullptr;
    if ((used_ + 1) * 4 > slots_.size() * 3) grow();

    std::uint32_t index;
    if (free_.empty()) {
        index = static_cast<std::uint32_t>(buckets_.size());
        buckets_.push_back(std::make_unique<Bucket>());
    } else {
        index = free_.back();
        free_.pop_back();
        buckets_[index] = std::make_unique<Bucket>();
    }
    buckets_[index]->subject = subject;
    buckets_[index]->second = now_second;
    slots_[slot_of(subject, hash)] = {hash, index + 1};
    ++used_;
    return buckets_[index].get();
}

void Shard::grow() {
    std::vector<Slot> old = std::move(slots_);
    slots_.assign(std::max<std::size_t>(16, old.size() * 2), Slot{});
    std::size_t mask = slots_.size() - 1;
    for (const Slot& slot : old) {
        if (slot.bucket == 0) continue;
        std::size_t i = home(slot.hash);
        while (slots_[i].bucket != 0) i = (i + 1) & mask;
        slots_[i] = slot;
    }
}

void Shard::erase(std::size_t slot) {
    std::size_t mask = slots_.size() - 1;
    std::uint32_t index = slots_[slot].bucket - 1;
    buckets_[index].reset();
    free_.push_back(index);
    --used_;
    std::size_t hole = slot;
    for (std::size_t i = (hole + 1) & mask; slots_[i].bucket != 0; i = (i + 1) & mask) {
        // May move back when its home is not between the hole and where it stands.
        if (((i - home(slots_[i].hash)) & mask) >= ((i - hole) & mask)) {
            slots_[hole] = slots_[i];
            hole = i;
        }
    }
    slots_[hole] = Slot{};
}

void Shard::sweep(std::size_t count, std::int64_t now_second) {
    for (std::size_t n = 0; n < count && !buckets_.empty(); ++n) {
        hand_ = (hand_ + 1) % buckets_.size();
        const Bucket* bucket = buckets_[hand_].get();
        if (bucket == nullptr || !bucket->is_idle(now_second)) continue;
        erase(slot_of(bucket->subject, hash_subject(bucket->subject)));
    }
}

}  // namespace nebula::ratelimit

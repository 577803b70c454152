#pragma once
// Use of one subject over the last minute, in one-second slots. Not locked: its shard is.

#include <array>
#include <cstdint>
#include <memory>

#include "ratelimit/ratelimit.hpp"

namespace nebula::ratelimit {

/// One sum over a sliding window. A use in second s counts while now < s + 61 s: through its own second,
/// wherever in it it happened, and 60 more. That makes any real minute safe at one-second granularity.
class Window {
   public:
    static constexpr std::int64_t seconds = 61;

    std::int64_t sum() const { return static_cast<std::int64_t>(sum_); }
    /// Forgets what left the window since the last call. Times never go back.
    void advance(std::int64_t from_second, std::int64_t to_second);
    void add(std::int64_t second, std::int64_t amount);
    /// Takes `amount` back, from second `first` towards `last` (either direction), no further than what is
    /// there.
    void give_back(std::int64_t first, std::int64_t last, std::int64_t amount);
    /// Milliseconds until the sum is at most `wanted` (≥ 0), counting expiry alone.
    std::int64_t ms_until_at_most(std::int64_t wanted, std::int64_t now_ms) const;
    /// Milliseconds until nothing is used; exact unless the newest use was given back, then at most so long.
    std::int64_t ms_until_empty(std::int64_t now_ms) const {
        return sum_ == 0 ? 0 : (last_ + seconds) * 1000 - now_ms;
    }

   private:
    static constexpr std::size_t ring = 64;  // a power of two, at least `seconds`
    static std::size_t at(std::int64_t second) { return static_cast<std::size_t>(second) % ring; }

    std::uint64_t sum_ = 0;
    std::int64_t last_ = 0;  // second of the newest use
    std::array<std::uint32_t, ring>
        slots_{};  // a slot saturates: more than 4 G per second is beyond any limit
};

struct Bucket {
    Subject subject{};
    std::int64_t second = 0;  // what the windows are advanced to, which is the last use
    Window requests;
    std::unique_ptr<Window> tokens;  // subjects with a token limit only; most of a flood of IPs has none

    void advance(std::int64_t now_second) {
        if (now_second <= second) return;
        requests.advance(second, now_second);
        if (tokens) tokens->advance(second, now_second);
        second = now_second;
    }
};

}  // namespace nebula::ratelimit

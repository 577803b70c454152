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

enum class Unit : std::uint8_t { requests, tokens, images };
constexpr std::size_t unit_count = 3;

/// This node's part of one limit that several nodes share.
struct Share {
    std::int64_t held = 0;                // what the window may hold here; never more than the database says
    std::int64_t pool = 0;                // what nobody held when last looked at
    std::int64_t limit = 0;               // as of the last request
    std::int64_t cap = no_cap;            // tighter than `held` while giving back
    std::int64_t denied_until_ms = 0;     // the pool is empty: do not ask before
    std::int64_t backoff_ms = 0;          // of the last denial
    std::int64_t recall_after_ms = 0;     // do not call shares back before
    std::int64_t shrinking_until_ms = 0;  // others called shares back: take none
    std::int64_t contended_until_ms = 0;  // demand exceeds the limit: tell others when ours falls
    std::int64_t stored_demand = 0;
    bool has_row = false;

    static constexpr std::int64_t no_cap = std::int64_t{1} << 62;

    /// Demand: an average that halves every 8 s, in amount per window.
    void ask(std::int64_t amount, std::int64_t second);
    /// At most the limit, so that no node crowds the others out by asking more often.
    std::int64_t demand(std::int64_t second) const;

   private:
    double demand_ = 0;
    std::int64_t demand_second_ = 0;
};

/// Requests of one UTC day. With a database `taken` counts blocks that any process took, and `left` is the
/// rest of ours; without one `taken` is what was admitted.
struct Day {
    std::int64_t day = -1;
    std::int64_t taken = 0;
    std::int64_t left = 0;
    bool is_known = false;
    std::int64_t denied_until_ms = 0;
    std::int64_t until_second = 0;  // monotonic time of midnight: the bucket is kept until then
};

/// For subjects with shares or a daily limit only.
struct Extra {
    std::array<Share, unit_count> shares;
    Day day;

    bool has_rows() const { return shares[0].has_row || shares[1].has_row || shares[2].has_row; }
};

struct Bucket {
    Subject subject{};
    std::int64_t second = 0;  // what the windows are advanced to, which is the last use
    Window requests;
    std::unique_ptr<Window> tokens;  // subjects with a token limit only; most of a flood of IPs has none
    std::unique_ptr<Window> images;
    std::unique_ptr<Extra> extra;

    void advance(std::int64_t now_second) {
        if (now_second <= second) return;
        requests.advance(second, now_second);
        if (tokens) tokens->advance(second, now_second);
        if (images) images->advance(second, now_second);
        second = now_second;
    }
    /// Null when it was never needed.
    Window* window(Unit unit) {
        if (unit == Unit::requests) return &requests;
        return unit == Unit::tokens ? tokens.get() : images.get();
    }
    std::int64_t used(Unit unit) {
        const Window* counted = window(unit);
        return counted != nullptr ? counted->sum() : 0;
    }
    bool is_idle(std::int64_t now_second) const {
        if (now_second - second < Window::seconds) return false;
        return !extra || (!extra->has_rows() && now_second >= extra->day.until_second);
    }
};

}  // namespace nebula::ratelimit

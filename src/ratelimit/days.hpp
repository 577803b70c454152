#pragma once
// Requests per UTC day: local state and the table rate_days.

#include <span>

#include "ratelimit/bucket.hpp"

namespace nebula::ratelimit {

inline std::int64_t milliseconds(Ticks at) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()).count();
}

std::int64_t day_of(Time now);
/// Starts anew when midnight has passed. Returns the milliseconds until the next midnight.
std::int64_t enter_day(Day& day, Time now, std::int64_t now_ms);

/// A subject for which blocks are wanted.
struct DayWant {
    Subject subject;
    std::int64_t day = 0;
    std::int64_t limit = 0;
    std::int64_t waiting = 0;  // requests that wait for it
    std::int64_t left = 0;     // of the last block
    // The outcome: requests of this day that any process may have admitted, and how many of them we may now.
    std::int64_t taken = 0;
    std::int64_t granted = 0;
};

/// Takes a block for each: an eighth of an equal part of what is left, 1 to 64, and at least what waits.
void take_blocks(store::Tx& tx, std::span<DayWant> wants, std::int64_t nodes);
/// Gives `left` of each back.
void give_back_blocks(store::Tx& tx, std::span<const DayWant> unused);
void forget_days_before(store::Tx& tx, std::int64_t day);

}  // namespace nebula::ratelimit

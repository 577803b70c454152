#pragma once
// How often an IP address may try. Private to this module.

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.hpp"

namespace nebula::accounts {

/// Attempts per minute and address (IPv6: per /64, which is what one customer gets). Thread-safe, in memory,
/// bounded: when too many addresses are known the old ones are forgotten first, then all.
class IpAttempts {
   public:
    IpAttempts(const Clock& clock, std::int64_t per_minute) : clock_(clock), per_minute_(per_minute) {}
    /// Zero: go on. Else how long to wait.
    std::chrono::milliseconds take(std::string_view ip);

   private:
    struct Window {
        Ticks start;
        std::int64_t count = 0;
    };
    const Clock& clock_;
    const std::int64_t per_minute_;
    std::mutex mutex_;
    std::unordered_map<std::string, Window> windows_;
};

/// Waiting time after so many failures in a row: none before `free_failures`, then 1 s, 2 s, 4 s … 15 min.
std::chrono::seconds lockout_after(std::int64_t failures, std::int64_t free_failures);

}  // namespace nebula::accounts

#pragma once
// Cuts a provider's stream into its events.

#include <cstddef>
#include <string_view>

#include "http/sse.hpp"

namespace nebula::gateway {

inline constexpr std::size_t event_bytes_max = 8 * 1024 * 1024;

/// Server-sent events or lines, whichever the provider streams.
class Framer {
   public:
    Framer(bool by_lines, std::size_t bytes_max)
        : by_lines_(by_lines), events_(bytes_max), lines_(bytes_max) {}
    /// False: an event is larger than `bytes_max`.
    bool push(std::string_view piece) { return by_lines_ ? lines_.push(piece) : events_.push(piece); }
    /// The next whole event; empty: none yet. Valid until the next push().
    std::string_view next() { return by_lines_ ? lines_.next() : events_.next(); }
    /// The beginning of an event waits for its rest.
    bool pending() const { return by_lines_ ? lines_.pending() : events_.pending(); }

   private:
    bool by_lines_;
    http::SseSplitter events_;
    http::LineSplitter lines_;
};

}  // namespace nebula::gateway

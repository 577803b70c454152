#pragma once
// What a call has to do with the cache.

#include "gateway/cache/cache.hpp"
#include "gateway/cache/flights.hpp"

namespace nebula::gateway {

struct CacheUse {
    explicit CacheUse(ResponseCache& cache) : recording(cache) {}

    Sha256 key;
    std::string model;  // that was asked for
    std::chrono::milliseconds ttl{};
    std::shared_ptr<const CacheEntry> hit;  // the answer; else:
    Flight flight;                          // of the call that others wait for
    Recording recording;                    // of its answer

    /// Another provider's answer begins.
    void begin(const Provider& kind, std::string_view content_type) {
        if (flight) recording.begin(kind, content_type);
    }
    /// A body or one event of it. What is too large is not worth waiting for.
    void record(std::string_view piece) {
        if (flight && !recording.add(piece)) flight.release();
    }
};

}  // namespace nebula::gateway

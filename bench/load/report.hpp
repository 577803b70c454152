#pragma once
// What a measurement found.

#include <cstdint>
#include <map>
#include <string>

#include "common/histogram.hpp"
#include "load/options.hpp"

namespace nebula::bench {

/// Filled while `is_measuring`; what happens before and after the measured time leaves no trace here.
struct Results {
    bool is_measuring = false;
    std::uint64_t requests = 0;                   // answered completely with status 200
    std::map<std::string, std::uint64_t> errors;  // "503", "connect", "reset", "timeout", "malformed"
    std::uint64_t altered_bodies = 0;             // status 200, other bytes than the upstream sent
    std::uint64_t aborted = 0;                    // by us, deliberately
    std::uint64_t unfinished = 0;         // open loop: due but not answered at the end of the measured time
    std::uint64_t closed_by_server = 0;   // keep-alive connections closed between two requests
    std::uint64_t frames = 0;             // content events
    std::uint64_t altered_events = 0;     // events with other bytes than the upstream sent
    std::uint64_t broken_streams = 0;     // ended early, or with events missing or out of order
    std::uint64_t streams_open = 0;       // at the end of the measured time
    std::uint64_t connections_held = 0;   // idle mode: still open after the hold
    std::uint64_t connections_alive = 0;  // idle mode: answered once more after the hold
    double seconds = 0;
    Histogram latency;      // whole answer; in an open loop from the moment it was due
    Histogram first_event;  // streams: until the first event
    Histogram frame_delay;  // from the upstream's write to our read

    void fail(const std::string& reason) {
        if (is_measuring) ++errors[reason];
    }
    std::uint64_t error_count() const;
};

/// One line of JSON. Times in microseconds.
std::string to_json(const LoadOptions& options, const Results& results);

}  // namespace nebula::bench

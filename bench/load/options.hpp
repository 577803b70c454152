#pragma once
// What one measurement is.

#include <cstdint>
#include <string>
#include <vector>

#include "common/payload.hpp"

namespace nebula::bench {

struct LoadOptions {
    std::uint16_t port = 0;
    std::string path = "/v1/chat/completions";
    std::uint32_t connections = 32;
    double warmup_s = 0.5;
    double duration_s = 2;
    /// Requests per second, sent on schedule whatever the answers do; 0 is a closed loop.
    double rate = 0;
    /// Open all connections, one request on each, hold them for the duration, then one more request on each.
    bool is_idle = false;
    /// Share of requests whose connection is closed by us before the answer is complete.
    double abort_ratio = 0;
    double timeout_s = 10;
    std::uint64_t seed = 1;
    RequestShape shape;
    std::string key;
    std::vector<std::string> headers;

    std::string mode() const;
    /// The request as it goes over the wire.
    std::string request_text() const;
};

/// Throws UsageError; the usage text is usage_text().
LoadOptions parse_load_options(int argc, const char* const* argv);
const char* usage_text();

}  // namespace nebula::bench

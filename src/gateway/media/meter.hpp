#pragma once
// What a request is charged for: tokens, and units of the model's kind.

#include <cstdint>

#include "gateway/call.hpp"

namespace nebula::gateway::media {

/// Units of the model's kind (catalog `unit`) that the request can come to; 0 when the model has none.
std::int64_t units_asked(const Call& call);

/// The worst case and the least that a request of images or sound is admitted with: they cannot be lowered,
/// so both are the same.
billing::TokenUsage worst_case(const Call& call);

struct Metered {
    billing::TokenUsage usage;
    bool is_estimated = false;
};
/// Of a call that ended so. Units cannot be divided: what a provider broke off is charged for images that
/// came whole and nothing else, a client that leaves pays for what it asked for.
Metered meter(const Call& call, billing::Outcome outcome);

}  // namespace nebula::gateway::media

#pragma once
// What a request is charged for: tokens, and units of the model's kind.

#include <cstdint>

#include "gateway/call.hpp"

namespace nebula::gateway::media {

/// What one image costs by its size and quality: as the provider tells them, else as asked for, else (and
/// where "auto" was asked for) the most that it may be. Models without image_prices: price_unit.
Nanos image_price(const Call& call, const catalog::Model& model);
/// For the hold: of the dearest model that may be asked.
void set_image_price(Call& call);

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

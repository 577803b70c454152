#pragma once
// Where a call's own bytes pass to a provider and back.

#include "gateway/call.hpp"

namespace nebula::gateway {

/// Client and provider speak the same API, not OpenAI's chat, and nothing of the call speaks against passing
/// its bytes.
bool passes_natively(const Call& call, const catalog::Provider& provider);
/// How the provider is spoken to in this call.
const Provider& spoken_to(const Call& call, const catalog::Provider& provider);
/// Rails must see and change what is sent and told: only the translation lets them.
bool needs_translation(const Call& call);

}  // namespace nebula::gateway

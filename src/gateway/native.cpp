#include "gateway/native.hpp"

namespace nebula::gateway {

bool needs_translation(const Call& call) {
    return call.guard && (call.guard->needs_translation() || call.client->adds_texts());
}

bool passes_natively(const Call& call, const catalog::Provider& provider) {
    if (!call.client || call.client->wire() == Wire::openai || needs_translation(call)) return false;
    Wire wire = call.client->wire();
    return provider_of(provider, wire).wire() == wire && call.client->may_pass(provider);
}

const Provider& spoken_to(const Call& call, const catalog::Provider& provider) {
    if (!passes_natively(call, provider)) return provider_of(provider.kind);
    return provider_of(provider, call.client->wire());
}

}  // namespace nebula::gateway

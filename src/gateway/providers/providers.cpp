#include "gateway/provider.hpp"
#include "gateway/providers/anthropic/messages.hpp"
#include "gateway/providers/openai/openai.hpp"

namespace nebula::gateway {

const Provider& provider_of(catalog::ProviderKind kind) {
    switch (kind) {
        case catalog::ProviderKind::azure:
            return openai::azure_provider();
        case catalog::ProviderKind::anthropic:
            return anthropic::provider();
        case catalog::ProviderKind::openai:
        case catalog::ProviderKind::runtime:
        case catalog::ProviderKind::ollama:
        case catalog::ProviderKind::gemini:
            return openai::provider();
    }
    return openai::provider();
}

}  // namespace nebula::gateway

#include "gateway/provider.hpp"
#include "gateway/providers/anthropic/messages.hpp"
#include "gateway/providers/gemini/gemini.hpp"
#include "gateway/providers/ollama/ollama.hpp"
#include "gateway/providers/openai/openai.hpp"

namespace nebula::gateway {

const Provider& provider_of(catalog::ProviderKind kind) {
    switch (kind) {
        case catalog::ProviderKind::azure:
            return openai::azure_provider();
        case catalog::ProviderKind::anthropic:
            return anthropic::provider();
        case catalog::ProviderKind::ollama:
            return ollama::provider();
        case catalog::ProviderKind::gemini:
            return gemini::provider();
        case catalog::ProviderKind::openai:
        case catalog::ProviderKind::runtime:
            return openai::provider();
    }
    return openai::provider();
}

const Provider& provider_of(const catalog::Provider& provider, Wire client) {
    bool speaks_responses = client == Wire::responses && provider.has_responses;
    return speaks_responses ? openai::responses_provider() : provider_of(provider.kind);
}

}  // namespace nebula::gateway

#include "gateway/providers/openai/openai.hpp"

#include "gateway/completion.hpp"

namespace nebula::gateway::openai {
namespace {

constexpr std::string_view azure_version_default = "2024-10-21";

class OpenAi : public Provider {
   public:
    bool serves(Endpoint) const override { return true; }
    std::string target(const catalog::Provider& provider, std::string_view, Endpoint endpoint,
                       bool) const override {
        return provider.path + info(endpoint).path;
    }
    void add_headers(const catalog::Provider&, const Secret& key, std::string& headers) const override {
        if (!key.empty()) headers += "authorization: Bearer " + key.reveal() + "\r\n";
    }
    std::string error_message(std::string_view body) const override {
        return read_chunk(body, {}).error_message;
    }
};

// https://learn.microsoft.com/azure/ai-services/openai/reference: the deployment stands in the path.
class Azure final : public OpenAi {
   public:
    std::string target(const catalog::Provider& provider, std::string_view upstream_model, Endpoint endpoint,
                       bool) const override {
        std::string_view version =
            provider.api_version.empty() ? azure_version_default : provider.api_version;
        return provider.path + "/openai/deployments/" + std::string(upstream_model) + info(endpoint).path +
               "?api-version=" + std::string(version);
    }
    void add_headers(const catalog::Provider&, const Secret& key, std::string& headers) const override {
        if (!key.empty()) headers += "api-key: " + key.reveal() + "\r\n";
    }
};

}  // namespace

const Provider& provider() {
    static const OpenAi one;
    return one;
}

const Provider& azure_provider() {
    static const Azure one;
    return one;
}

}  // namespace nebula::gateway::openai

#include "gateway/providers/openai/openai.hpp"

#include "gateway/completion.hpp"
#include "gateway/providers/openai/responses.hpp"

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

// https://platform.openai.com/docs/api-reference/responses
class Responses final : public OpenAi {
   public:
    Wire wire() const override { return Wire::responses; }
    bool serves(Endpoint endpoint) const override { return endpoint == Endpoint::chat; }
    std::string target(const catalog::Provider& provider, std::string_view, Endpoint, bool) const override {
        return provider.path + "/responses";
    }
    std::unique_ptr<Translator> translate(Endpoint, std::string_view id, Time created) const override {
        return make_responses_translator(id, created);
    }
};

}  // namespace

const Provider& responses_provider() {
    static const Responses one;
    return one;
}

const Provider& provider() {
    static const OpenAi one;
    return one;
}

const Provider& azure_provider() {
    static const Azure one;
    return one;
}

}  // namespace nebula::gateway::openai

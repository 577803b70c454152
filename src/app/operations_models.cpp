// What an operator asks about models that are not served yet.
#include "app/services.hpp"
#include "catalog/discovery.hpp"
#include "http/json_api.hpp"

namespace nebula::app {
namespace {

namespace json = boost::json;

// An operator waits in front of the screen.
constexpr http::Timeouts patience{.connect = std::chrono::milliseconds(5'000),
                                  .first_byte = std::chrono::milliseconds(15'000),
                                  .idle = std::chrono::milliseconds(15'000),
                                  .total = std::chrono::milliseconds(30'000)};

// A provider that is not in the configuration.
Result<std::shared_ptr<const catalog::Provider>> stranger(const std::string& url, const std::string& kind) {
    catalog::ProviderSettings settings;
    settings.name = "asked";
    settings.kind = kind;
    settings.base_url = url;
    auto built = catalog::build({settings}, {}, {}, Time());
    if (!built.snapshot) return fail(Code::invalid_request, built.problems.front(), "url");
    if (catalog::kind_name(built.snapshot->providers.front()->kind) != kind)
        return fail(Code::invalid_request, "there is no kind \"" + kind + "\" of providers", "kind");
    return built.snapshot->providers.front();
}

}  // namespace

Operations::Answer Operations::models_discover(json::object arguments) {
    http::Fields fields(std::move(arguments));
    std::string name = fields.text_or("provider", ""), url = fields.text_or("url", "");
    std::string kind = fields.text_or("kind", "openai");
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    if (name.empty() == url.empty())
        co_return fail(Code::invalid_request, "either 'provider' or 'url' must be given", "provider");
    std::shared_ptr<const catalog::Provider> provider;
    if (url.empty()) {
        for (const auto& one : catalog_.current()->providers)
            if (one->name == name) provider = one;
        if (!provider)
            co_return fail(Code::not_found, "there is no provider \"" + name + "\" in the configuration",
                           "provider");
    } else {
        auto made = stranger(url, kind);
        if (!made) co_return fail(std::move(made.error()));
        provider = *made;
    }
    co_await resume_on(services_.threads[0]);
    auto found = co_await catalog::discover(services_.client, provider, patience);
    if (!found) co_return fail(std::move(found.error()));
    json::array data;
    for (const catalog::FoundModel& model : *found)
        data.push_back(json::object{{"id", model.id},
                                    {"context_length", model.context_length},
                                    {"max_output_tokens", model.max_output_tokens},
                                    {"endpoint", model.endpoint}});
    co_return json::object{{"data", std::move(data)}};
}

}  // namespace nebula::app

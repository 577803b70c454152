#include "app/local_servers.hpp"

#include "base/log.hpp"
#include "catalog/discovery.hpp"

namespace nebula::app {
namespace {

constexpr std::chrono::milliseconds patience{500};
constexpr std::size_t bytes_max = 4 * 1024 * 1024;

struct Server {
    const char* owner;  // as its list of models says
    const char* name;
    const char* kind;
    const char* base;  // where its API starts, in the words of that kind
};
constexpr Server servers[] = {{"llamacpp", "llama-server", "openai", "/v1"},
                              {"vllm", "vLLM", "openai", "/v1"},
                              {"library", "Ollama", "ollama", ""}};

}  // namespace

void LocalServers::start(const catalog::CatalogSettings& settings, const std::string& config_file) {
    if (!settings.discover) return;
    for (const std::string& url : settings.discover_at)
        tasks_.spawn(services_.threads[0], look(url, config_file.empty() ? "nebula.toml" : config_file));
}

void LocalServers::stop() {
    tasks_.close();
    tasks_.wait();
}

Async<void> LocalServers::look(std::string url, std::string config_file) {
    auto parsed = http::parse_url(url);
    if (!parsed) co_return;
    for (const auto& provider : services_.catalog.current()->providers)
        if (provider->origin.key() == parsed->origin.key()) co_return;  // known already
    http::ClientRequest request;
    request.method = http::Method::get;
    request.path = parsed->path + "/v1/models";
    request.headers = "accept: application/json\r\n";
    request.timeouts = {.connect = patience, .first_byte = patience, .idle = patience, .total = patience};
    auto response = co_await services_.client.send(parsed->origin, std::move(request), nullptr);
    if (!response || (*response)->status() != 200) co_return;
    auto body = co_await (*response)->read_all(bytes_max);
    if (!body) co_return;
    auto page = catalog::read_page(catalog::ProviderKind::openai, *body);
    if (!page || page->models.empty()) co_return;
    for (const Server& server : servers) {
        if (page->server != server.owner) continue;
        std::string name = server.kind == std::string_view("ollama") ? "ollama" : server.owner;
        LOG_INFO("found models that are not served yet", {"server", server.name}, {"url", url},
                 {"models", page->models.size()},
                 {"to_serve_them", "nebula models import " + name + " --url " + url + server.base +
                                       " --kind " + server.kind + " --write " + config_file});
    }
}

}  // namespace nebula::app

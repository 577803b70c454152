#pragma once
// Models, their prices and the providers that serve them: an immutable snapshot, replaced whole on reload.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/nanos.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "base/settings.hpp"
#include "billing/billing.hpp"
#include "http/client.hpp"

namespace nebula::catalog {

struct CatalogSettings {  // [catalog]
    bool discover = true;
    std::vector<std::string> discover_at = {"http://127.0.0.1:11434", "http://127.0.0.1:8080",
                                            "http://127.0.0.1:8081", "http://127.0.0.1:8000"};
    void describe(settings::Visitor& v);
};
struct ProviderSettings {  // [[provider]]
    std::string name;
    std::string kind = "openai";  // see ProviderKind
    std::string base_url;
    std::string api_version;
    std::string api_key_env;  // name of the environment variable that holds the key
    std::string ca_file;
    std::int64_t concurrency_max = 1024;
    std::chrono::milliseconds connect_timeout{5'000};
    std::chrono::milliseconds first_byte_timeout{120'000};
    std::chrono::milliseconds idle_timeout{60'000};
    std::chrono::milliseconds total_timeout{900'000};
    std::int64_t breaker_failures = 5;  // consecutive failures that open the breaker
    std::chrono::milliseconds breaker_open{10'000};
    void describe(settings::Visitor& v);
};
struct RouteSettings {
    std::string provider;
    std::string model;  // the provider's name for it; empty = the same
    std::int64_t weight = 1;
    void describe(settings::Visitor& v);
};
struct ModelSettings {  // [[model]]
    std::string id;
    std::int64_t context_length = 8192;
    std::int64_t max_output_tokens = 4096;
    Nanos price_input_per_m;
    Nanos price_output_per_m;
    std::string price_cached_input_per_m;  // decimal text; empty = price_input_per_m
    std::string price_cache_write_per_m;   // likewise
    std::string price_reasoning_per_m;     // empty = price_output_per_m
    Nanos price_request;
    Nanos price_unit;
    std::string unit;  // what price_unit is for; see billing::is_unit
    std::vector<std::string> endpoints = {"chat"};
    std::vector<RouteSettings> routes;
    std::string strategy = "weighted";          // weighted | ordered
    std::string disconnect = "bill_delivered";  // bill_delivered | drain | cancel
    std::string owned_by = "nebula";
    std::string model_class = "basic";  // what plans entitle to: basic, vision, …
    std::int64_t rpm = 0;               // per account
    std::int64_t tpm = 0;
    std::int64_t ipm = 0;             // images
    std::string default_temperature;  // decimal text; empty: the provider's
    void describe(settings::Visitor& v);
};

/// How a provider is spoken to. runtime: a local model, in OpenAI's API.
enum class ProviderKind { openai, azure, anthropic, ollama, gemini, runtime };

struct Provider {
    std::string name;
    ProviderKind kind = ProviderKind::openai;
    bool is_runtime() const { return kind == ProviderKind::runtime; }
    std::string api_version;  // azure: of the query; anthropic: of the header
    http::Origin origin;      // none for kind runtime
    std::string path;         // base path, "/v1"
    Secret api_key;
    http::Timeouts timeouts;
    std::int64_t concurrency_max = 0;
    std::int64_t breaker_failures = 0;
    std::chrono::milliseconds breaker_open{};
};
struct Route {
    std::shared_ptr<const Provider> provider;
    std::string upstream_model;
    std::int64_t weight = 1;
};
enum class Disconnect { bill_delivered, drain, cancel };
struct Model {
    std::string id;
    std::int64_t created = 0;  // UNIX seconds
    std::string owned_by;
    std::string model_class;
    std::int64_t context_length = 0;
    std::int64_t max_output_tokens = 0;
    billing::Prices prices;
    std::string unit;                    // what prices.unit is for; empty: tokens only
    std::vector<std::string> endpoints;  // "chat", "embeddings", …
    bool serves(std::string_view endpoint) const;
    bool is_ordered = false;
    Disconnect disconnect = Disconnect::bill_delivered;
    std::int64_t rpm = 0, tpm = 0, ipm = 0;
    std::string default_temperature;  // a JSON number, or empty
    std::vector<Route> routes;
};

/// A local model file the runtime found; becomes a model with one runtime route unless the file configures
/// the id.
struct LocalModel {
    std::string id;
    std::int64_t context_length = 0;
};

struct Snapshot {
    std::vector<std::shared_ptr<const Model>> models;                          // in order of configuration
    std::unordered_map<std::string_view, std::shared_ptr<const Model>> by_id;  // views into the models
    std::vector<std::shared_ptr<const Provider>> providers;

    std::shared_ptr<const Model> find(std::string_view id) const;
};

/// Every mistake is reported: unknown provider, duplicate id, no route, bad URL, missing environment
/// variable. `local` models get price 0.05/0.10 per million unless configured. `created` stamps models.
struct Built {
    std::shared_ptr<const Snapshot> snapshot;  // null when there are problems
    std::vector<std::string> problems;
};
Built build(const std::vector<ProviderSettings>& providers, const std::vector<ModelSettings>& models,
            const std::vector<LocalModel>& local, Time created);

/// Readers take the current snapshot and keep it for the request; reload swaps it. Thread-safe.
class Catalog {
   public:
    std::shared_ptr<const Snapshot> current() const;
    void replace(std::shared_ptr<const Snapshot> snapshot);

   private:
    mutable std::mutex mutex_;
    std::shared_ptr<const Snapshot> snapshot_ = std::make_shared<Snapshot>();
    std::atomic<std::uint64_t> version_{0};  // lets each thread keep its own copy until it changes
};

}  // namespace nebula::catalog

#pragma once
// Models, their prices and the providers that serve them: an immutable snapshot, replaced whole on reload.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
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
#include "tokenizer/tokenizer.hpp"

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
    std::string api_key_env;   // name of the environment variable that holds the key
    std::string api_key_file;  // or the file that holds it
    std::string ca_file;
    bool responses = false;                 // has POST {base_url}/responses
    std::vector<std::string> hosted_tools;  // of Responses: what may be asked of it beside functions
    std::int64_t concurrency_max = 1024;
    std::chrono::milliseconds connect_timeout{5'000};
    std::chrono::milliseconds first_byte_timeout{120'000};
    std::chrono::milliseconds idle_timeout{60'000};
    std::chrono::milliseconds total_timeout{900'000};
    std::int64_t breaker_failures = 5;  // consecutive failures that open the breaker
    std::chrono::milliseconds breaker_open{10'000};
    // What requests may ask of a provider, and how it is watched: routing_settings.cpp
    std::string slug;                               // empty: the name
    std::string data_collection = "allow";          // allow | deny: whether it may keep what it is sent
    bool zdr = false;                               // keeps nothing
    std::vector<std::string> supported_parameters;  // empty: all
    std::string region;
    bool passes_routing = false;     // itself a router: gets the members that choose a route
    std::int64_t queue_max = 1'024;  // requests that wait for a free slot
    std::chrono::milliseconds queue_timeout{10'000};
    std::string probe_path;  // asked in the background; empty: never
    std::chrono::milliseconds probe_interval{0};
    void describe(settings::Visitor& v);
    void describe_routing(settings::Visitor& v);
};
struct RouteSettings {
    std::string provider;
    std::string model;  // the provider's name for it; empty = the same
    std::int64_t weight = 1;
    // Decimal text; empty: as the model.
    std::string price_input_per_m, price_output_per_m, price_cached_input_per_m, price_request;
    std::string quantization = "unknown";
    std::string tag;  // the provider's variant of it: requests may name "slug/tag"
    void describe(settings::Visitor& v);
};
struct AliasSettings {  // [[alias]]
    std::string name;
    std::string model;
    void describe(settings::Visitor& v);
};
struct ImagePriceSettings {  // of [[model]] image_prices
    std::string size;        // empty: every size
    std::string quality;     // empty: every quality
    Nanos price;
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
    std::string unit;                              // what price_unit is for; see billing::is_unit
    std::vector<ImagePriceSettings> image_prices;  // instead of price_unit, the first that fits
    std::vector<std::string> endpoints = {"chat"};
    std::vector<RouteSettings> routes;
    std::string strategy = "weighted";  // see Strategy
    std::string affinity = "session";   // see Affinity
    std::chrono::milliseconds hedge{0};
    std::int64_t hedge_percent_max = 10;
    std::vector<std::string> aliases;
    std::string disconnect = "bill_delivered";  // bill_delivered | drain | cancel
    std::string cache = "asked";                // asked | always | never
    std::string owned_by = "nebula";
    std::string model_class = "basic";  // what plans entitle to: basic, vision, …
    std::int64_t rpm = 0;               // per account
    std::int64_t tpm = 0;
    std::int64_t ipm = 0;                // images
    std::string default_temperature;     // decimal text; empty: the provider's
    std::string tokenizer = "estimate";  // or a file
    std::string tokenizer_family;        // of a rank file that does not tell it; empty: it must
    void describe(settings::Visitor& v);
    void describe_routing(settings::Visitor& v);
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
    bool has_responses = false;
    std::vector<std::string> hosted_tools;
    Secret api_key;
    http::Timeouts timeouts;
    std::int64_t concurrency_max = 0;
    std::int64_t breaker_failures = 0;
    std::chrono::milliseconds breaker_open{};
    std::uint32_t number = 0;  // by name, see number_of()
    std::string slug;
    bool collects_data = true;
    bool zdr = false;
    std::vector<std::string> supported_parameters;
    std::string region;
    bool passes_routing = false;
    std::int64_t queue_max = 0;
    std::chrono::milliseconds queue_timeout{};
    std::string probe_path;  // with the base path's origin; empty: no probes
    std::chrono::milliseconds probe_interval{};
};
struct Route {
    std::shared_ptr<const Provider> provider;
    std::string upstream_model;
    std::int64_t weight = 1;
    billing::Prices prices;    // when it answers
    std::uint32_t number = 0;  // by provider and upstream model, see number_of()
    std::string quantization;
    std::string tag;
};
/// The dearer of both in every respect: no usage costs more by either.
billing::Prices worst_of(const billing::Prices& a, const billing::Prices& b);

/// How routes are ordered when the request does not say. price: at random by 1/price².
enum class Strategy : std::uint8_t { weighted, ordered, price, latency, throughput, least_busy };
/// What keeps requests on one route. prefix: what they begin with, too.
enum class Affinity : std::uint8_t { none, session, prefix };

/// Small and the same for the same text as long as the process lives: lets others keep state of providers and
/// routes beyond a reload without looking up names. Any thread.
std::uint32_t number_of(std::string_view text);
enum class Disconnect { bill_delivered, drain, cancel };
/// When answers may come from the cache: where the request or its key asks for it, always, or never.
enum class Caching { asked, always, never };
struct Model {
    std::string id;
    std::int64_t created = 0;  // UNIX seconds
    std::string owned_by;
    std::string model_class;
    std::int64_t context_length = 0;
    std::int64_t max_output_tokens = 0;
    billing::Prices prices;
    std::string unit;  // what prices.unit is for; empty: tokens only
    std::vector<ImagePriceSettings> image_prices;
    std::vector<std::string> endpoints;  // "chat", "embeddings", …
    bool serves(std::string_view endpoint) const;
    Strategy strategy = Strategy::weighted;
    Affinity affinity = Affinity::session;
    std::chrono::milliseconds hedge{};  // until a stream without content is asked of a second route; 0: never
    std::int64_t hedge_percent_max = 0;  // share of the streams that may be
    billing::Prices worst_prices;        // no route costs more in any respect
    Disconnect disconnect = Disconnect::bill_delivered;
    Caching caching = Caching::asked;
    std::int64_t rpm = 0, tpm = 0, ipm = 0;
    std::string default_temperature;                                // a JSON number, or empty
    std::shared_ptr<const nebula::tokenizer::Tokenizer> tokenizer;  // null: tokens are estimated
    std::vector<Route> routes;
};

/// A local model file the runtime found; becomes a model with one runtime route unless the file configures
/// the id.
struct LocalModel {
    std::string id;
    std::int64_t context_length = 0;
};

/// A further name of a model.
struct Alias {
    std::string name;
    std::shared_ptr<const Model> model;
};

struct Snapshot {
    std::vector<std::shared_ptr<const Model>> models;  // in order of configuration
    std::deque<Alias> aliases;
    std::unordered_map<std::string_view, std::shared_ptr<const Model>>
        by_id;  // aliases, too; views into both
    std::vector<std::shared_ptr<const Provider>> providers;
    bool has_responses = false;  // of some provider

    std::shared_ptr<const Model> find(std::string_view id) const;
};

/// Every mistake is reported: unknown provider, duplicate id, no route, bad URL, missing environment
/// variable. `local` models get price 0.05/0.10 per million unless configured. `created` stamps models.
struct Built {
    std::shared_ptr<const Snapshot> snapshot;  // null when there are problems
    std::vector<std::string> problems;
};
Built build(const std::vector<ProviderSettings>& providers, const std::vector<ModelSettings>& models,
            const std::vector<LocalModel>& local, Time created,
            const std::vector<AliasSettings>& aliases = {});

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

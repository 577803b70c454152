#include "catalog/catalog.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "catalog/presets.hpp"
#include "catalog/secret_box.hpp"

namespace nebula::catalog {
namespace {

constexpr std::string_view local_name = "local";
constexpr std::int64_t local_context_default = 4096;
constexpr Nanos local_price_input{50'000'000};    // 0.05 per million
constexpr Nanos local_price_output{100'000'000};  // 0.10 per million

Caching caching_of(const std::string& word) {
    if (word == "always") return Caching::always;
    return word == "never" ? Caching::never : Caching::asked;
}

Disconnect disconnect_of(const std::string& word) {
    if (word == "drain") return Disconnect::drain;
    if (word == "cancel") return Disconnect::cancel;
    return Disconnect::bill_delivered;
}

ProviderKind kind_of(const std::string& word) {
    if (word == "azure") return ProviderKind::azure;
    if (word == "anthropic") return ProviderKind::anthropic;
    if (word == "ollama") return ProviderKind::ollama;
    if (word == "gemini") return ProviderKind::gemini;
    if (word == "runtime") return ProviderKind::runtime;
    return ProviderKind::openai;
}

// Where a kind of provider usually is; empty: anywhere.
std::string_view usual_url(ProviderKind kind) {
    switch (kind) {
        case ProviderKind::ollama:
            return "http://127.0.0.1:11434";
        case ProviderKind::gemini:
            return "https://generativelanguage.googleapis.com";
        case ProviderKind::anthropic:
            return "https://api.anthropic.com";
        case ProviderKind::openai:
        case ProviderKind::azure:
        case ProviderKind::runtime:
            return {};
    }
    return {};
}

Strategy strategy_of(const std::string& word) {
    if (word == "ordered") return Strategy::ordered;
    if (word == "price") return Strategy::price;
    if (word == "latency") return Strategy::latency;
    if (word == "throughput") return Strategy::throughput;
    if (word == "least-busy") return Strategy::least_busy;
    return Strategy::weighted;
}

Affinity affinity_of(const std::string& word) {
    if (word == "none") return Affinity::none;
    return word == "prefix" ? Affinity::prefix : Affinity::session;
}

class Builder {
   public:
    Builder(const std::vector<LocalModel>& local, Time created)
        : local_(local),
          created_(std::chrono::duration_cast<std::chrono::seconds>(created.time_since_epoch()).count()) {}

    void add_provider(const ProviderSettings& from) {
        auto provider = std::make_shared<Provider>();
        provider->name = from.name;
        provider->kind = kind_of(from.kind);
        provider->api_version = from.api_version;
        provider->has_responses = from.responses;
        provider->hosted_tools = from.hosted_tools;
        provider->timeouts = {.connect = from.connect_timeout,
                              .first_byte = from.first_byte_timeout,
                              .idle = from.idle_timeout,
                              .total = from.total_timeout};
        provider->concurrency_max = from.concurrency_max;
        provider->breaker_failures = from.breaker_failures;
        provider->breaker_open = from.breaker_open;
        std::string who = "provider \"" + from.name + "\"";
        set_routing(*provider, from, who);
        if (!is_id(from.name)) problem(who + " needs a name without spaces");
        if (provider_named(from.name) != nullptr) problem(who + " is configured twice");
        if (from.name == local_name && !provider->is_runtime())
            problem(who + ": this name belongs to the model files of this machine; choose another one");
        if (provider->is_runtime()) {
            provider->path = "/v1";
            if (!from.base_url.empty()) problem(who + ": kind \"runtime\" has no base_url");
        } else {
            set_url(*provider, from, who);
        }
        set_key(*provider, from, who);
        if (from.responses && provider->kind != ProviderKind::openai)
            problem(who + ": responses is for kind \"openai\"");
        if (!from.hosted_tools.empty() && !from.responses)
            problem(who + ": hosted_tools are asked for in OpenAI's Responses API: set responses, too");
        snapshot_->has_responses = snapshot_->has_responses || from.responses;
        snapshot_->providers.push_back(std::move(provider));
    }

    void add_model(const ModelSettings& from) {
        std::string who = "model \"" + from.id + "\"";
        if (!is_id(from.id)) problem(who + " needs an id without spaces, quotes and backslashes");
        auto model = std::make_shared<Model>();
        model->id = from.id;
        model->created = created_;
        model->owned_by = from.owned_by;
        model->model_class = from.model_class;
        model->context_length = from.context_length;
        model->max_output_tokens = std::min(from.max_output_tokens, from.context_length);
        set_prices(*model, from, who);
        model->endpoints = from.endpoints;
        model->strategy = strategy_of(from.strategy);
        model->affinity = affinity_of(from.affinity);
        model->hedge = from.hedge;
        model->hedge_percent_max = from.hedge_percent_max;
        model->disconnect = disconnect_of(from.disconnect);
        model->caching = caching_of(from.cache);
        model->rpm = from.rpm;
        model->tpm = from.tpm;
        model->ipm = from.ipm;
        if (!from.default_temperature.empty()) {
            auto number = Nanos::parse(from.default_temperature);
            if (!number || number->value < 0 || number->value > 2 * Nanos::per_credit)
                problem(who + ": default_temperature must be a number from 0 to 2 in quotes, as \"0.7\"");
            else
                model->default_temperature = number->short_text();
        }
        set_tokenizer(*model, from, who);
        for (const RouteSettings& route : from.routes) {
            auto provider = provider_named(route.provider);
            if (provider == nullptr)
                problem(who + " has a route to the unknown provider \"" + route.provider + "\"");
            add_route(*model, provider, route, who);
        }
        if (from.routes.empty()) {
            if (std::ranges::find(local_, from.id, &LocalModel::id) != local_.end())
                add_route(*model, runtime_provider(), {}, who);
            else
                problem(who + " has no route and no model file");
        }
        for (const std::string& name : from.aliases) aliases_.push_back({name, from.id});
        add(std::move(model), who);
    }

    void add_alias(const AliasSettings& from) { aliases_.push_back(from); }

    void add_local(const LocalModel& from) {
        if (snapshot_->by_id.contains(from.id)) return;
        if (!is_id(from.id)) return;  // a file with a strange name must not stop the start
        auto model = std::make_shared<Model>();
        model->id = from.id;
        model->created = created_;
        model->owned_by = local_name;
        model->endpoints = {"chat"};
        model->model_class = "basic";
        model->context_length = from.context_length > 0 ? from.context_length : local_context_default;
        model->max_output_tokens = std::min<std::int64_t>(model->context_length, local_context_default);
        model->prices = billing::token_prices(local_price_input, local_price_output);
        add_route(*model, runtime_provider(), {}, "");
        add(std::move(model), "model \"" + from.id + "\"");
    }

    Built finish() {
        name_aliases();
        if (!problems_.empty()) return {nullptr, std::move(problems_)};
        return {std::move(snapshot_), {}};
    }

   private:
    void problem(std::string text) { problems_.push_back(std::move(text)); }

    void set_prices(Model& model, const ModelSettings& from, const std::string& who) {
        billing::Prices& prices = model.prices;
        prices = billing::token_prices(from.price_input_per_m, from.price_output_per_m);
        prices.request = from.price_request;
        prices.unit = from.price_unit;
        model.unit = from.unit;
        auto set = [&](const char* name, const std::string& text, Nanos& to) {
            if (text.empty()) return;
            auto price = Nanos::parse(text);
            if (price && price->value >= 0)
                to = *price;
            else
                problem(who + ": " + name + " must be a decimal number in quotes, as \"0.05\"");
        };
        set("price_cached_input_per_m", from.price_cached_input_per_m, prices.cached_input_per_m);
        set("price_cache_write_per_m", from.price_cache_write_per_m, prices.cache_write_per_m);
        set("price_reasoning_per_m", from.price_reasoning_per_m, prices.reasoning_per_m);
        model.image_prices = from.image_prices;
        if (!from.image_prices.empty() && from.unit != "image")
            problem(who + ": image_prices need the unit \"image\"");
        if (from.unit.empty() && from.price_unit != Nanos{})
            problem(who + ": price_unit needs a unit: image, second, character, document or tool_call");
    }

    void set_tokenizer(Model& model, const ModelSettings& from, const std::string& who) {
        if (from.tokenizer.empty() || from.tokenizer == "estimate") {
            if (!from.tokenizer_family.empty()) problem(who + ": tokenizer_family needs a tokenizer");
            return;
        }
        auto loaded = tokenizer::Tokenizer::load(from.tokenizer, from.tokenizer_family);
        if (!loaded) return problem(who + ": " + loaded.error().message);
        model.tokenizer = std::move(*loaded);
    }

    void set_routing(Provider& provider, const ProviderSettings& from, const std::string& who) {
        provider.number = number_of(from.name);
        provider.slug = from.slug.empty() ? from.name : from.slug;
        provider.collects_data = from.data_collection != "deny" && !from.zdr;
        provider.zdr = from.zdr;
        provider.supported_parameters = from.supported_parameters;
        provider.region = from.region;
        provider.passes_routing = from.passes_routing;
        provider.queue_max = from.queue_max;
        provider.queue_timeout = from.queue_timeout;
        if (!is_id(provider.slug) || provider.slug.find('/') != std::string::npos)
            problem(who + ": slug must be a word without spaces and slashes");
        if (from.probe_path.empty() || from.probe_interval.count() == 0) return;
        if (!from.probe_path.starts_with('/') || !is_id(from.probe_path))
            return problem(who + ": probe_path must be a path that begins with a slash");
        if (provider.is_runtime()) return problem(who + ": kind \"runtime\" is not probed");
        provider.probe_path = from.probe_path;
        provider.probe_interval = from.probe_interval;
    }

    void add_route(Model& model, std::shared_ptr<const Provider> provider, const RouteSettings& from,
                   const std::string& who) {
        Route route;
        route.provider = std::move(provider);
        route.upstream_model = from.model.empty() ? model.id : from.model;
        route.weight = from.weight;
        route.prices = model.prices;
        auto set = [&](const char* name, const std::string& text, Nanos& price) {
            if (text.empty()) return;
            auto amount = Nanos::parse(text);
            if (!amount || amount->value < 0)
                return problem(who + ": " + name +
                               " of a route must be a decimal number in quotes, as \"0.05\"");
            price = *amount;
        };
        set("price_input_per_m", from.price_input_per_m, route.prices.input_per_m);
        if (!from.price_input_per_m.empty())
            route.prices.cached_input_per_m = route.prices.cache_write_per_m = route.prices.input_per_m;
        set("price_output_per_m", from.price_output_per_m, route.prices.output_per_m);
        if (!from.price_output_per_m.empty()) route.prices.reasoning_per_m = route.prices.output_per_m;
        set("price_cached_input_per_m", from.price_cached_input_per_m, route.prices.cached_input_per_m);
        set("price_request", from.price_request, route.prices.request);
        route.quantization = from.quantization;
        route.tag = from.tag;
        if (route.provider) route.number = number_of(route.provider->name + '\n' + route.upstream_model);
        model.worst_prices = model.routes.empty() ? route.prices : worst_of(model.worst_prices, route.prices);
        model.routes.push_back(std::move(route));
    }

    void name_aliases() {
        for (const AliasSettings& from : aliases_) {
            std::string who = "alias \"" + from.name + "\"";
            auto model = snapshot_->by_id.find(from.model);
            if (!is_id(from.name)) problem(who + " needs a name without spaces, quotes and backslashes");
            if (model == snapshot_->by_id.end()) {
                problem(who + " names the unknown model \"" + from.model + "\"");
                continue;
            }
            Alias& alias = snapshot_->aliases.emplace_back(from.name, model->second);
            if (!snapshot_->by_id.emplace(alias.name, alias.model).second)
                problem(who + " is the name of a model or another alias");
        }
    }

    void set_url(Provider& provider, const ProviderSettings& from, const std::string& who) {
        std::string base_url = from.base_url.empty() ? std::string(usual_url(provider.kind)) : from.base_url;
        if (base_url.empty()) return problem(who + " needs a base_url");
        auto url = http::parse_url(base_url);
        if (!url) return problem(who + ": base_url: " + url.error().message);
        provider.origin = url->origin;
        provider.path = url->path;
        if (provider.kind == ProviderKind::anthropic && provider.path.ends_with("/v1"))
            problem(who + ": base_url of kind \"anthropic\" stands without /v1");
        provider.origin.ca_file = from.ca_file;
        if (!from.ca_file.empty() && ::access(from.ca_file.c_str(), R_OK) != 0)
            problem(who + ": ca_file " + from.ca_file + " cannot be read");
    }

    void set_key(Provider& provider, const ProviderSettings& from, const std::string& who) {
        const std::string& variable = from.api_key_env;
        const std::string& file = from.api_key_file;
        if (variable.empty() && file.empty()) return;
        if (!variable.empty() && !file.empty())
            return problem(who + " has both api_key_env and api_key_file; one of them is enough");
        std::string where = file.empty() ? "environment variable " + variable : "api_key_file " + file;
        std::string text;
        if (file.empty()) {
            const char* value = std::getenv(variable.c_str());
            text = value != nullptr ? value : "";
            if (text.empty()) return problem(who + ": " + where + " is not set");
        } else {
            auto content = read_secret_file(file);
            if (!content) return problem(who + ": " + where + " cannot be read");
            text = content->reveal();
        }
        // It becomes part of a header line.
        if (text.empty() || !std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7F; }))
            return problem(who + ": " + where + " holds no API key");
        provider.api_key = Secret(std::move(text));
    }

    std::shared_ptr<const Provider> provider_named(std::string_view name) const {
        for (const auto& provider : snapshot_->providers)
            if (provider->name == name) return provider;
        return nullptr;
    }

    // The configured one, else one of our own making.
    std::shared_ptr<const Provider> runtime_provider() {
        for (const auto& provider : snapshot_->providers)
            if (provider->is_runtime()) return provider;
        ProviderSettings made;
        made.name = local_name;
        made.kind = "runtime";
        add_provider(made);
        return snapshot_->providers.back();
    }

    void add(std::shared_ptr<const Model> model, const std::string& who) {
        auto [at, is_new] = snapshot_->by_id.emplace(model->id, model);
        if (!is_new) return problem(who + " is configured twice");
        snapshot_->models.push_back(std::move(model));
    }

    const std::vector<LocalModel>& local_;
    std::int64_t created_;
    std::shared_ptr<Snapshot> snapshot_ = std::make_shared<Snapshot>();
    std::vector<std::string> problems_;
    std::vector<AliasSettings> aliases_;
};

}  // namespace

billing::Prices worst_of(const billing::Prices& a, const billing::Prices& b) {
    static_assert(sizeof(a) == 7 * sizeof(Nanos), "every member belongs below");
    return {.input_per_m = std::max(a.input_per_m, b.input_per_m),
            .output_per_m = std::max(a.output_per_m, b.output_per_m),
            .cached_input_per_m = std::max(a.cached_input_per_m, b.cached_input_per_m),
            .request = std::max(a.request, b.request),
            .cache_write_per_m = std::max(a.cache_write_per_m, b.cache_write_per_m),
            .reasoning_per_m = std::max(a.reasoning_per_m, b.reasoning_per_m),
            .unit = std::max(a.unit, b.unit)};
}

std::uint32_t number_of(std::string_view text) {
    static std::mutex mutex;
    static std::unordered_map<std::string, std::uint32_t> numbers;
    std::lock_guard lock(mutex);
    return numbers.emplace(text, static_cast<std::uint32_t>(numbers.size())).first->second;
}

bool Model::serves(std::string_view endpoint) const {
    return std::ranges::find(endpoints, endpoint) != endpoints.end();
}

std::shared_ptr<const Model> Snapshot::find(std::string_view id) const {
    auto found = by_id.find(id);
    if (found != by_id.end()) return found->second;
    // Ollama's rule: a name without a tag means its latest.
    if (id.find(':') != std::string_view::npos) return nullptr;
    found = by_id.find(std::string(id) + ":latest");
    return found == by_id.end() ? nullptr : found->second;
}

Built build(const std::vector<ProviderSettings>& providers, const std::vector<ModelSettings>& models,
            const std::vector<LocalModel>& local, Time created, const std::vector<AliasSettings>& aliases) {
    Builder builder(local, created);
    for (const ProviderSettings& provider : providers) builder.add_provider(provider);
    for (const ModelSettings& model : models) builder.add_model(model);
    for (const LocalModel& model : local) builder.add_local(model);
    for (const AliasSettings& alias : aliases) builder.add_alias(alias);
    return builder.finish();
}

namespace {

// Unique among all catalogs, so that a thread's copy cannot be taken for that of another catalog at the same
// address.
std::atomic<std::uint64_t> last_version{0};

struct ThreadCopy {
    const Catalog* owner = nullptr;
    std::uint64_t version = 0;
    std::shared_ptr<const Snapshot> snapshot;
};
thread_local ThreadCopy thread_copy;

}  // namespace

std::shared_ptr<const Snapshot> Catalog::current() const {
    ThreadCopy& copy = thread_copy;
    std::uint64_t version = version_.load(std::memory_order_acquire);
    if (copy.owner == this && copy.version == version && copy.snapshot != nullptr) return copy.snapshot;
    std::lock_guard lock(mutex_);
    // A holder per thread: taking and dropping the pointer counts there and never on a cache line shared by
    // threads.
    auto holder = std::make_shared<std::shared_ptr<const Snapshot>>(snapshot_);
    const Snapshot* target = holder->get();
    copy = {this, version_.load(std::memory_order_relaxed),
            std::shared_ptr<const Snapshot>(std::move(holder), target)};
    return copy.snapshot;
}

void Catalog::replace(std::shared_ptr<const Snapshot> snapshot) {
    std::lock_guard lock(mutex_);
    snapshot_ = std::move(snapshot);
    version_.store(last_version.fetch_add(1, std::memory_order_relaxed) + 1, std::memory_order_release);
}

}  // namespace nebula::catalog

#include "gateway/openrouter_lists.hpp"

#include <algorithm>
#include <array>

#include "base/text.hpp"
#include "gateway/model_lists.hpp"

namespace nebula::gateway {
namespace {

using namespace std::chrono_literals;
using ModelList = std::vector<std::shared_ptr<const catalog::Model>>;

constexpr std::int64_t list_default = 500;
constexpr std::int64_t list_max = 1'000;

std::int64_t price_of(const catalog::Model& model) {
    return model.prices.input_per_m.value + model.prices.output_per_m.value;
}

// Of the model's best route; 0: not known.
template <class Measure>
std::int64_t best(const catalog::Model& model, Measure measure) {
    std::int64_t found = 0;
    for (const catalog::Route& route : model.routes) {
        std::int64_t value = measure(route);
        if (value > 0 && (found == 0 || value < found)) found = value;
    }
    return found;
}

Result<void> sort_models(ModelList& models, std::string_view by, const Upstreams& upstreams) {
    auto sort = [&models](auto key) {
        std::vector<std::pair<std::int64_t, std::size_t>> order;
        for (std::size_t i = 0; i < models.size(); ++i) order.emplace_back(key(*models[i]), i);
        std::ranges::sort(order);
        ModelList sorted;
        for (auto [value, i] : order) sorted.push_back(models[i]);
        models = std::move(sorted);
    };
    // What is not known comes last.
    auto known = [](std::int64_t value) {
        return value == 0 ? std::numeric_limits<std::int64_t>::max() : value;
    };
    if (by == "pricing-low-to-high") {
        sort(price_of);
    } else if (by == "pricing-high-to-low") {
        sort([](const catalog::Model& model) { return -price_of(model); });
    } else if (by == "context-high-to-low") {
        sort([](const catalog::Model& model) { return -model.context_length; });
    } else if (by == "newest") {
        sort([](const catalog::Model& model) { return -model.created; });
    } else if (by == "latency-low-to-high") {
        sort([&](const catalog::Model& model) {
            return known(best(model, [&](const auto& route) { return upstreams.latency_us_at(route, 50); }));
        });
    } else if (by == "throughput-high-to-low") {
        sort([&](const catalog::Model& model) {
            std::int64_t most = 0;
            for (const auto& route : model.routes) most = std::max(most, upstreams.milli_tps_at(route, 50));
            return -most;
        });
    } else if (by != "most-popular" && by != "top-weekly") {  // as configured
        return fail(Code::invalid_request, "'sort' is not known", "sort");
    }
    return {};
}

std::string percent_encode(std::string_view text) {
    constexpr char digits[] = "0123456789ABCDEF";
    std::string out;
    for (char c : text) {
        auto byte = static_cast<unsigned char>(c);
        bool is_plain = std::isalnum(byte) != 0 || c == '-' || c == '_' || c == '.' || c == '~';
        if (is_plain)
            out += c;
        else
            out += {'%', digits[byte >> 4], digits[byte & 15]};
    }
    return out;
}

bool supports(const catalog::Model& model, std::string_view parameter) {
    return std::ranges::any_of(model.routes, [parameter](const catalog::Route& route) {
        const auto& known = route.provider->supported_parameters;
        return known.empty() || std::ranges::find(known, parameter) != known.end();
    });
}

bool has_modality(const catalog::Model& model, std::string_view word, bool is_output) {
    if (word == "all") return true;
    if (!is_output) return word == "text" || (word == "image" && model.model_class == "vision");
    if (word == "text") return model.serves("chat") || model.serves("completions");
    return model.serves(word == "image" ? std::string_view("images") : word);
}

// Every word of a comma list; absent lists let everything through.
template <class Test>
void keep(ModelList& models, std::optional<std::string_view> list, Test test) {
    if (!list || list->empty()) return;
    for (std::string_view word : split(*list, ','))
        std::erase_if(models, [&](const auto& model) { return !test(*model, trim(word)); });
}

// USD per million prompt tokens.
Result<std::optional<Nanos>> price(const http::Params& query, std::string_view name) {
    auto text = query.get(name);
    if (!text) return std::optional<Nanos>();
    auto amount = Nanos::parse(*text);
    if (!amount || amount->value < 0)
        return fail(Code::invalid_request, "'" + std::string(name) + "' must be a price in USD",
                    std::string(name));
    return amount;
}

Result<void> filter(ModelList& models, const http::Params& query) {
    auto context = query.integer("context", 0, 0, std::numeric_limits<std::int64_t>::max());
    auto least = price(query, "min_price"), most = price(query, "max_price");
    if (!context) return fail(std::move(context.error()));
    if (!least) return fail(std::move(least.error()));
    if (!most) return fail(std::move(most.error()));
    // No model here is in any of OpenRouter's categories.
    if (!query.get("category").value_or("").empty()) models.clear();
    std::string words = to_lower(query.get("q").value_or(""));
    std::erase_if(models, [&](const auto& model) {
        Nanos input = model->prices.input_per_m;
        return model->context_length < *context || (*least && input < **least) || (*most && input > **most) ||
               to_lower(model->id).find(words) == std::string::npos;
    });
    keep(models, query.get("supported_parameters"),
         [](const auto& model, std::string_view word) { return supports(model, word); });
    keep(models, query.get("input_modalities"),
         [](const auto& model, std::string_view word) { return has_modality(model, word, false); });
    keep(models, query.get("output_modalities"),
         [](const auto& model, std::string_view word) { return has_modality(model, word, true); });
    return {};
}

template <class At>
std::string percentiles(At at) {
    if (at(50) == 0) return "null";
    std::string text = "{";
    for (int percent : {50, 75, 90, 99})
        text +=
            (percent == 50 ? "\"p" : ",\"p") + std::to_string(percent) + "\":" + std::to_string(at(percent));
    return text + "}";
}

std::string uptime(const routing::RouteState& state, std::chrono::minutes window, Ticks now) {
    std::int64_t permille = state.outcomes().permille(window, now);
    if (permille < 0) return "null";
    return std::to_string(permille / 10) + "." + std::to_string(permille % 10);
}

std::string parameters(const catalog::Provider& provider) {
    if (provider.supported_parameters.empty()) return openrouter_parameters();
    std::string text;
    for (const std::string& word : provider.supported_parameters)
        text += (text.empty() ? "" : ",") + json_string(word);
    return "[" + text + "]";
}

std::string tool_choice(const catalog::Provider& provider) {
    const auto& known = provider.supported_parameters;
    bool has = known.empty() || std::ranges::find(known, "tool_choice") != known.end();
    std::string word = has ? "true" : "false";
    return R"(,"supports_tool_choice":{"auto":)" + word + R"(,"function":)" + word + R"(,"none":)" + word +
           R"(,"required":)" + word + "}";
}

std::string endpoint(const catalog::Model& model, const catalog::Route& route, const Upstreams& upstreams,
                     Ticks now) {
    const catalog::Provider& provider = *route.provider;
    const routing::RouteState& state = upstreams.of(route);
    std::string tag = provider.slug + (route.tag.empty() ? "" : "/" + route.tag);
    bool is_down = upstreams.of(provider).is_open(now) || state.limited_for_ms(now) > 0;
    std::string context = std::to_string(model.context_length);
    return R"({"name":)" + json_string(provider.name + " | " + model.id) + R"(,"model_id":)" +
           json_string(model.id) + R"(,"model_name":)" + json_string(model.id) + R"(,"context_length":)" +
           context + R"(,"pricing":)" + openrouter_pricing(route.prices, model.unit) +
           R"(,"provider_name":)" + json_string(provider.name) + R"(,"tag":)" + json_string(tag) +
           R"(,"quantization":)" + json_string(route.quantization.empty() ? "unknown" : route.quantization) +
           R"(,"max_completion_tokens":)" + std::to_string(model.max_output_tokens) +
           R"(,"max_prompt_tokens":)" + context + R"(,"supported_parameters":)" + parameters(provider) +
           tool_choice(provider) + R"(,"supports_implicit_caching":)" +
           (route.prices.cached_input_per_m < route.prices.input_per_m ? "true" : "false") +
           R"(,"uptime_last_5m":)" + uptime(state, 5min, now) + R"(,"uptime_last_30m":)" +
           uptime(state, 30min, now) + R"(,"uptime_last_1d":)" + uptime(state, 24h, now) +
           R"(,"latency_last_30m":)" +
           percentiles([&](int p) { return (state.latencies_us().at(p, now) + 999) / 1'000; }) +
           R"(,"throughput_last_30m":)" +
           percentiles([&](int p) { return (state.milli_tps().at(p, now) + 999) / 1'000; }) +
           R"(,"status":)" + (is_down ? "-1" : "0") + "}";
}

}  // namespace

Result<std::string> openrouter_models(const catalog::Snapshot& snapshot, const http::Params& query,
                                      const Upstreams& upstreams) {
    ModelList models = snapshot.models;
    auto done = filter(models, query);
    if (done && query.has("sort")) done = sort_models(models, *query.get("sort"), upstreams);
    if (!done) return fail(std::move(done.error()));
    auto offset = query.integer("offset", 0, 0, 1'000'000'000);
    auto limit = query.integer("limit", list_default, 1, list_max);
    if (!offset) return fail(std::move(offset.error()));
    if (!limit) return fail(std::move(limit.error()));
    bool is_paged = query.has("limit") || query.has("offset");
    auto total = static_cast<std::int64_t>(models.size());
    std::int64_t end = is_paged ? std::min(total, *offset + *limit) : total;
    std::string data;
    for (std::int64_t i = *offset; i < end; ++i)
        data += (data.empty() ? "" : ",") + openrouter_model(*models[static_cast<std::size_t>(i)]);
    std::string next = "null";
    if (end < total) {
        std::string target =
            "/api/v1/models?offset=" + std::to_string(end) + "&limit=" + std::to_string(*limit);
        for (const auto& [name, value] : query.all())
            if (name != "offset" && name != "limit")
                target += "&" + percent_encode(name) + "=" + percent_encode(value);
        next = json_string(target);
    }
    return R"({"data":[)" + data + R"(],"links":{"next":)" + next + R"(},"total_count":)" +
           std::to_string(total) + "}";
}

std::string openrouter_count(const catalog::Snapshot& snapshot) {
    return R"({"data":{"count":)" + std::to_string(snapshot.models.size()) + "}}";
}

std::string openrouter_one(const catalog::Model& model) {
    return R"({"data":)" + openrouter_model(model) + "}";
}

std::string openrouter_endpoints(const catalog::Model& model, const Upstreams& upstreams, Ticks now) {
    std::string list;
    for (const catalog::Route& route : model.routes)
        list += (list.empty() ? "" : ",") + endpoint(model, route, upstreams, now);
    return R"({"data":{"id":)" + json_string(model.id) + R"(,"name":)" + json_string(model.id) +
           R"(,"created":)" + std::to_string(model.created) + R"(,"description":"","architecture":)" +
           openrouter_architecture(model) + R"(,"endpoints":[)" + list + "]}}";
}

std::string openrouter_providers(const catalog::Snapshot& snapshot) {
    std::string list;
    for (const auto& provider : snapshot.providers) {
        std::string region = provider->region.empty() ? "null" : "[" + json_string(provider->region) + "]";
        list += (list.empty() ? R"({"name":)" : R"(,{"name":)") + json_string(provider->name) +
                R"(,"slug":)" + json_string(provider->slug) +
                R"(,"privacy_policy_url":null,"terms_of_service_url":null,"status_page_url":null,)"
                R"("headquarters":null,"datacenters":)" +
                region + "}";
    }
    return R"({"data":[)" + list + "]}";
}

}  // namespace nebula::gateway

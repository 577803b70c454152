#include "gateway/routing/preferences.hpp"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.hpp"

namespace nebula::gateway::routing {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr std::size_t list_max = 64;
constexpr std::size_t models_max = 16;
constexpr std::size_t word_bytes_max = 256;

std::unexpected<Error> bad(std::string_view name, std::string_view must) {
    return fail(Code::invalid_request, "'" + std::string(name) + "' must be " + std::string(must),
                std::string(name));
}

std::string_view trimmed(std::string_view token) {
    while (!token.empty() && static_cast<unsigned char>(token.back()) <= ' ') token.remove_suffix(1);
    return token;
}

bool is_null(ondemand::value& value) {
    bool null = false;
    return !value.is_null().get(null) && null;
}

Result<void> read_words(const std::string& name, ondemand::value& value, std::vector<std::string>& out,
                        std::size_t max = list_max) {
    if (is_null(value)) return {};
    ondemand::array array;
    if (value.get_array().get(array)) return bad(name, "an array of strings");
    for (auto item : array) {
        std::string_view word;
        if (item.get_string().get(word)) return bad(name, "an array of strings");
        if (word.empty() || word.size() > word_bytes_max) return bad(name, "a list of words of sane length");
        if (out.size() == max) return bad(name, "a list of at most " + std::to_string(max));
        out.emplace_back(word);
    }
    return {};
}

Result<void> read_bool(const std::string& name, ondemand::value& value, bool& out) {
    if (is_null(value)) return {};
    if (value.get_bool().get(out)) return bad(name, "true or false");
    return {};
}

Result<void> read_positive(const std::string& name, ondemand::value& value, double& out) {
    if (is_null(value)) return {};
    if (value.get_double().get(out) || !std::isfinite(out) || out < 0)
        return bad(name, "a number, not below 0");
    return {};
}

Result<void> read_percentiles(const std::string& name, ondemand::value& value, Percentiles& out) {
    ondemand::json_type type;
    if (value.type().get(type) || type != ondemand::json_type::object)
        return read_positive(name, value, out.p50);
    ondemand::object object;
    if (value.get_object().get(object)) return bad(name, "a number or an object");
    for (auto field : object) {
        std::string_view key;
        if (field.unescaped_key().get(key)) return bad(name, "a number or an object");
        std::string member = name + "." + std::string(key);
        double* to = key == "p50"   ? &out.p50
                     : key == "p75" ? &out.p75
                     : key == "p90" ? &out.p90
                     : key == "p99" ? &out.p99
                                    : nullptr;
        if (to == nullptr) return fail(Code::invalid_request, "'" + member + "' is not known", member);
        ondemand::value inner;
        if (field.value().get(inner)) return bad(member, "a number");
        auto done = read_positive(member, inner, *to);
        if (!done) return done;
    }
    return {};
}

// Prices come as numbers and as texts. What is finer than a nano-dollar rounds down: the limit is the
// caller's.
Result<void> read_price(const std::string& name, ondemand::value& value, std::optional<Nanos>& out) {
    if (is_null(value)) return {};
    std::string_view text = trimmed(value.raw_json_token());
    std::string_view inside;
    double number = 0;
    if (text.starts_with('"')) {
        if (value.get_string().get(inside)) return bad(name, "a price");
        text = inside;
    } else if (value.get_double().get(number)) {
        return bad(name, "a price");
    }
    if (text.starts_with('-')) return bad(name, "a price, not below 0");
    std::size_t point = text.find('.');
    bool is_plain = text.find_first_not_of("0123456789.") == std::string_view::npos;
    if (is_plain && point != std::string_view::npos) text = text.substr(0, point + 10);
    if (auto exact = Nanos::parse(text)) {
        out = *exact;
        return {};
    }
    if (inside.data() != nullptr) return bad(name, "a price in USD, as \"0.5\"");
    // 1e-1, or more than all there is.
    out = Nanos{number >= 9e9 ? 9'000'000'000 * Nanos::per_credit
                              : static_cast<std::int64_t>(number * double(Nanos::per_credit))};
    return {};
}

Result<void> read_max_price(const std::string& name, ondemand::value& value, Preferences& out) {
    if (is_null(value)) return {};
    ondemand::object object;
    if (value.get_object().get(object)) return bad(name, "an object");
    for (auto field : object) {
        std::string_view key;
        ondemand::value inner;
        if (field.unescaped_key().get(key) || field.value().get(inner)) return bad(name, "an object");
        std::optional<Nanos>* to = key == "prompt"       ? &out.max_input_per_m
                                   : key == "completion" ? &out.max_output_per_m
                                   : key == "request"    ? &out.max_request
                                   : key == "image"      ? &out.max_image
                                   : key == "audio"      ? &out.max_audio
                                                         : nullptr;
        std::string member = name + "." + std::string(key);
        if (to == nullptr) return fail(Code::invalid_request, "'" + member + "' is not known", member);
        auto done = read_price(member, inner, *to);
        if (!done) return done;
    }
    return {};
}

Result<void> read_sort_word(const std::string& name, std::string_view word, Sort& out) {
    if (word == "price")
        out = Sort::price;
    else if (word == "latency")
        out = Sort::latency;
    else if (word == "throughput")
        out = Sort::throughput;
    else if (word == "exacto")
        out = Sort::exacto;
    else
        return bad(name, "one of price, throughput, latency, exacto");
    return {};
}

Result<void> read_sort(const std::string& name, ondemand::value& value, Preferences& out) {
    if (is_null(value)) return {};
    std::string_view word;
    ondemand::json_type type;
    if (value.type().get(type)) return bad(name, "a string or an object");
    if (type == ondemand::json_type::string) {
        if (value.get_string().get(word)) return bad(name, "a string or an object");
        return read_sort_word(name, word, out.sort);
    }
    ondemand::object object;
    if (type != ondemand::json_type::object || value.get_object().get(object))
        return bad(name, "a string or an object");
    for (auto field : object) {
        std::string_view key;
        ondemand::value inner;
        if (field.unescaped_key().get(key) || field.value().get(inner))
            return bad(name, "a string or an object");
        std::string member = name + "." + std::string(key);
        if (is_null(inner)) continue;
        if (inner.get_string().get(word)) return bad(member, "a string");
        if (member.ends_with(".by")) {
            auto done = read_sort_word(member, word, out.sort);
            if (!done) return done;
        } else if (member.ends_with(".partition")) {
            if (word != "model" && word != "none") return bad(member, "one of model, none");
            out.across_models = word == "none";
        } else {
            return fail(Code::invalid_request, "'" + member + "' is not known", member);
        }
    }
    return {};
}

Result<void> read_data_collection(const std::string& name, ondemand::value& value, Preferences& out) {
    if (is_null(value)) return {};
    std::string_view word;
    if (value.get_string().get(word) || (word != "allow" && word != "deny"))
        return bad(name, "one of allow, deny");
    out.deny_data_collection = word == "deny";
    return {};
}

// Nobody here can promise it, so asking for it must not pass unnoticed.
Result<void> read_distillable(const std::string& name, ondemand::value& value) {
    bool wanted = false;
    auto done = read_bool(name, value, wanted);
    if (done && wanted) return fail(Code::invalid_request, "'" + name + "' is not offered here", name);
    return done;
}

// Members that are not known may be newer than this: they are wishes, so nothing goes wrong without them.
Result<void> read_provider_member(std::string_view key, ondemand::value& value, Preferences& out) {
    std::string name = "provider." + std::string(key);
    if (key == "order") return read_words(name, value, out.order);
    if (key == "only") return read_words(name, value, out.only);
    if (key == "ignore") return read_words(name, value, out.ignore);
    if (key == "quantizations") return read_words(name, value, out.quantizations);
    if (key == "allow_fallbacks") return read_bool(name, value, out.allow_fallbacks);
    if (key == "require_parameters") return read_bool(name, value, out.require_parameters);
    if (key == "data_collection") return read_data_collection(name, value, out);
    if (key == "zdr") return read_bool(name, value, out.zdr);
    if (key == "enforce_distillable_text") return read_distillable(name, value);
    if (key == "sort") return read_sort(name, value, out);
    if (key == "preferred_min_throughput") return read_percentiles(name, value, out.min_throughput);
    if (key == "preferred_max_latency") return read_percentiles(name, value, out.max_latency);
    if (key == "max_price") return read_max_price(name, value, out);
    return {};
}

Result<void> read_provider(ondemand::value& value, Preferences& out) {
    if (is_null(value)) return {};
    ondemand::object object;
    if (value.get_object().get(object)) return bad("provider", "an object");
    std::vector<std::string> seen;
    for (auto field : object) {
        std::string_view view;
        ondemand::value inner;
        if (field.unescaped_key().get(view) || field.value().get(inner)) return bad("provider", "an object");
        std::string key(view);
        if (std::ranges::find(seen, key) != seen.end()) {
            std::string name = "provider." + key;
            return fail(Code::invalid_request, "'" + name + "' is given more than once", name);
        }
        auto done = read_provider_member(key, inner, out);
        if (!done) return done;
        seen.push_back(std::move(key));
        if (seen.size() > list_max) return bad("provider", "an object of a sane number of members");
    }
    return {};
}

Result<void> read_route(ondemand::value& value) {
    if (is_null(value)) return {};
    std::string_view word;
    if (value.get_string().get(word) || (word != "fallback" && word != "sort"))
        return bad("route", "fallback, sort or null");
    return {};
}

Result<void> read_session(ondemand::value& value, Found& out) {
    if (is_null(value)) return {};
    std::string_view text;
    if (value.get_string().get(text)) return bad("session_id", "a string");
    if (text.size() > word_bytes_max) return bad("session_id", "a string of at most 256 bytes");
    if (!text.empty()) out.session = hash_of(text);
    return {};
}

// Wraps a value in an array, so that the parser takes it as a document of its own. `json` cannot simply be
// parsed in place: a scalar as a document has rules of its own.
class Wrapped {
   public:
    explicit Wrapped(std::string_view json) : text_("[" + std::string(json) + "]") {}
    bool open() {
        if (parser().iterate(text_).get(document_)) return false;
        return !document_.at(0).get(value_);
    }
    ondemand::value& value() { return value_; }

   private:
    static ondemand::parser& parser() {
        thread_local ondemand::parser one;
        return one;
    }
    simdjson::padded_string text_;
    ondemand::document document_;
    ondemand::value value_;
};

constexpr std::array<std::string_view, 25> parameters{"temperature",
                                                      "top_p",
                                                      "top_k",
                                                      "min_p",
                                                      "top_a",
                                                      "frequency_penalty",
                                                      "presence_penalty",
                                                      "repetition_penalty",
                                                      "max_tokens",
                                                      "max_completion_tokens",
                                                      "logit_bias",
                                                      "logprobs",
                                                      "top_logprobs",
                                                      "prediction",
                                                      "seed",
                                                      "response_format",
                                                      "stop",
                                                      "tools",
                                                      "tool_choice",
                                                      "parallel_tool_calls",
                                                      "include_reasoning",
                                                      "reasoning",
                                                      "reasoning_effort",
                                                      "web_search_options",
                                                      "verbosity"};

// Calls `take(name, raw value)` for each member of the outer object until it says false.
template <class Take>
void each_member(std::string_view body, Take take) {
    thread_local ondemand::parser parser;
    ondemand::document document;
    ondemand::object object;
    simdjson::padded_string padded(body);
    if (parser.iterate(padded).get(document) || document.get_object().get(object)) return;
    for (auto field : object) {
        std::string_view name, raw;
        ondemand::value value;
        if (field.unescaped_key().get(name)) return;
        std::string key(name);
        if (field.value().get(value)) return;
        ondemand::json_type type;
        if (value.type().get(type)) return;
        if (type == ondemand::json_type::object) {
            ondemand::object inner;
            if (value.get_object().get(inner) || inner.raw_json().get(raw)) return;
        } else if (type == ondemand::json_type::array) {
            ondemand::array inner;
            if (value.get_array().get(inner) || inner.raw_json().get(raw)) return;
        } else {
            raw = trimmed(value.raw_json_token());
        }
        if (!take(key, raw)) return;
    }
}

}  // namespace

bool Preferences::has_wishes() const {
    return !order.empty() || !only.empty() || !ignore.empty() || !quantizations.empty() || !allow_fallbacks ||
           require_parameters || deny_data_collection || zdr || is_free || sort != Sort::none ||
           across_models || min_throughput.is_any() || max_latency.is_any() || max_input_per_m ||
           max_output_per_m || max_request || max_image || max_audio;
}

Member member_of(std::string_view name) {
    if (name == "models" || name == "provider" || name == "route" || name == "session_id" ||
        name == "transforms")
        return Member::ours;
    return name == "prompt_cache_key" || name == "user" ? Member::shared : Member::no;
}

Result<void> read_member(std::string_view name, std::string_view json, Found& out) {
    if (name == "prompt_cache_key") {
        if (json.starts_with('"') && out.session == 0) out.session = hash_of(json);
        return {};
    }
    if (name == "user") {
        if (json.starts_with('"')) out.user = hash_of(json);
        return {};
    }
    if (name == "transforms" || json == "null") return {};
    Wrapped wrapped(json);
    if (!wrapped.open()) return bad(name, "valid JSON");
    if (name == "models") return read_words("models", wrapped.value(), out.wishes().models, models_max);
    if (name == "provider") return read_provider(wrapped.value(), out.wishes());
    if (name == "route") return read_route(wrapped.value());
    return read_session(wrapped.value(), out);
}

Result<Found> find_members(std::string_view body) {
    constexpr std::string_view marks[] = {"\"models\"",     "\"provider\"",         "\"route\"",
                                          "\"session_id\"", "\"prompt_cache_key\"", "\"user\""};
    Found found;
    bool may_have = std::ranges::any_of(
        marks, [body](std::string_view mark) { return body.find(mark) != std::string_view::npos; });
    if (!may_have) return found;
    Result<void> done;
    each_member(body, [&](std::string_view name, std::string_view raw) {
        if (member_of(name) == Member::no) return true;
        done = read_member(name, raw, found);
        return done.has_value();
    });
    if (!done) return fail(std::move(done.error()));
    return found;
}

std::vector<std::string> parameters_of(std::string_view body) {
    std::vector<std::string> found;
    each_member(body, [&found](std::string_view name, std::string_view raw) {
        if (raw != "null" && std::ranges::find(parameters, name) != parameters.end())
            found.emplace_back(name);
        if (name == "response_format" && raw.find("json_schema") != std::string_view::npos)
            found.emplace_back("structured_outputs");
        return true;
    });
    return found;
}

std::uint64_t hash_of(std::string_view text, std::uint64_t seed) {
    std::uint64_t hash = 0xCBF29CE484222325ULL ^ (seed * 0x9E3779B97F4A7C15ULL);
    while (text.size() >= 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, text.data(), 8);
        hash = (hash ^ word) * 0x9FB21C651E98DF25ULL;
        hash ^= hash >> 29;
        text.remove_prefix(8);
    }
    for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
    hash = (hash ^ hash >> 30) * 0xBF58476D1CE4E5B9ULL;
    hash ^= hash >> 27;
    return hash == 0 ? 1 : hash;
}

std::uint64_t hash_of_prefix(std::string_view messages) {
    thread_local ondemand::parser parser;
    ondemand::document document;
    ondemand::array array;
    simdjson::padded_string_view padded(messages.data(), messages.size(),
                                        messages.size() + simdjson::SIMDJSON_PADDING);
    if (parser.iterate(padded).get(document) || document.get_array().get(array)) return 0;
    std::uint64_t hash = 0;
    for (auto item : array) {
        ondemand::object message;
        std::string_view role, raw;
        if (item.get_object().get(message) || message.raw_json().get(raw)) return hash;
        hash = hash_of(raw, hash);
        if (message.reset().error() || message.find_field_unordered("role").get_string().get(role))
            return hash;
        if (role == "user") return hash;
    }
    return hash;
}

Result<Variant> variant_of(std::string_view id) {
    std::size_t colon = id.rfind(':');
    if (colon == std::string_view::npos || colon == 0) return Variant{};
    std::string_view word = id.substr(colon + 1);
    Variant variant{.model = id.substr(0, colon)};
    if (word == "free") {
        variant.is_free = true;
    } else if (word == "nitro") {
        variant.sort = Sort::throughput;
    } else if (word == "floor") {
        variant.sort = Sort::price;
    } else if (word == "exacto") {
        variant.sort = Sort::exacto;
    } else if (word == "online" || word == "thinking" || word == "extended") {
        return fail(Code::invalid_request, "the variant ':" + std::string(word) + "' is not offered here",
                    "model");
    } else {
        return Variant{};
    }
    return variant;
}

}  // namespace nebula::gateway::routing

#pragma once
// What a request says about who shall answer it: OpenRouter's members `models`, `provider`, `route`,
// `session_id`. Read once, then constant.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/nanos.hpp"
#include "base/result.hpp"

namespace nebula::gateway::routing {

/// exacto: the most reliable first.
enum class Sort : std::uint8_t { none, price, latency, throughput, exacto };

/// At a share of the requests; 0: not asked.
struct Percentiles {
    double p50 = 0, p75 = 0, p90 = 0, p99 = 0;
    bool is_any() const { return p50 > 0 || p75 > 0 || p90 > 0 || p99 > 0; }
};

struct Preferences {
    std::vector<std::string> models;  // after `model`
    std::vector<std::string> order, only, ignore, quantizations;
    bool allow_fallbacks = true;
    bool require_parameters = false;
    bool deny_data_collection = false;
    bool zdr = false;
    bool is_free = false;  // of the variant ":free"
    Sort sort = Sort::none;
    bool across_models = false;  // sort.partition = "none"
    Percentiles min_throughput;  // tokens per second
    Percentiles max_latency;     // seconds
    std::optional<Nanos> max_input_per_m, max_output_per_m, max_request;
    std::optional<Nanos> max_image, max_audio;  // of one image; of one second or character
    std::vector<std::string> parameters;        // of the request, where require_parameters asks for them

    /// Routes may be left out or ordered otherwise than the model says.
    bool has_wishes() const;
};

/// Of one request.
struct Found {
    std::uint64_t session = 0;                 // hash of session_id or prompt_cache_key; 0: none
    std::uint64_t user = 0;                    // of user
    std::shared_ptr<Preferences> preferences;  // null: none of the others was given
    Preferences& wishes() {
        if (!preferences) preferences = std::make_shared<Preferences>();
        return *preferences;
    }
};

/// Whether `name` is a member that read_member() knows, and whether providers must not see it.
enum class Member : std::uint8_t { no, ours, shared };
Member member_of(std::string_view name);

/// Takes one member; `json` is its value as it stands in a body, followed by 64 readable bytes. Errors:
/// invalid_request naming the member.
Result<void> read_member(std::string_view name, std::string_view json, Found& out);

/// The same of a whole body in another API's form. Same errors.
Result<Found> find_members(std::string_view body);

/// The names of OpenRouter's supported_parameters that `body` uses.
std::vector<std::string> parameters_of(std::string_view body);

/// Never 0.
std::uint64_t hash_of(std::string_view text, std::uint64_t seed = 0);

/// What conversations that begin alike share: the messages up to the first of a user. `messages` is the JSON
/// array, followed by 64 readable bytes.
std::uint64_t hash_of_prefix(std::string_view messages);

/// "model:floor" and its like, where no model has that very name.
struct Variant {
    std::string_view model;
    Sort sort = Sort::none;
    bool is_free = false;
};
/// Empty model: no variant. Errors: a variant that is not offered here.
Result<Variant> variant_of(std::string_view id);

}  // namespace nebula::gateway::routing

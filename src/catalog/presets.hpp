#pragma once
// Lists of models with the prices of known systems (presets/*.toml, built into the program), and the
// [[model]] sections that `nebula models import` writes.

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace nebula::catalog {

struct Preset {
    std::string_view name;  // "nebula-ai"
    std::string_view text;  // [[model]] sections without routes
};
std::span<const Preset> presets();
/// Error: invalid_request naming those that there are.
Result<Preset> preset_named(std::string_view name);

/// One [[model]] section as text, without routes; ends with a line feed.
struct Section {
    std::string id;
    std::string text;
};
std::vector<Section> sections_of(const Preset& preset);
/// What any preset says of that model, with the preset's name.
struct Known {
    std::string_view preset;
    Section section;
};
std::optional<Known> known_model(std::string_view id);

/// What a provider told of one of its models.
struct FoundModel {
    std::string id;
    std::int64_t context_length = 0;  // 0: not told
    std::int64_t max_output_tokens = 0;
    std::string endpoint = "chat";
};
/// The known model's section, else one that says that the price is missing.
Section section_of(const FoundModel& model);
/// The section with its route, as it stands in a configuration file.
/// `more`: further lines of it.
std::string routed(const Section& section, std::string_view provider, std::string_view more = {});

/// May stand in a configuration file, in URLs and logs.
bool is_id(std::string_view text);

/// Names of what a configuration file has already. Error: invalid_request when it is no TOML.
struct Taken {
    std::set<std::string, std::less<>> models;
    std::set<std::string, std::less<>> providers;
};
Result<Taken> taken_in(std::string_view toml);

}  // namespace nebula::catalog

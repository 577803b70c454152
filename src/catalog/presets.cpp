#include "catalog/presets.hpp"

#include <toml++/toml.h>

#include <algorithm>

namespace nebula::catalog {
namespace {

constexpr std::size_t id_bytes_max = 256;
constexpr std::string_view head = "[[model]]";

// The value of a line `id = "…"`.
std::string id_in(std::string_view line) {
    constexpr std::string_view start = "id = \"";
    if (!line.starts_with(start)) return {};
    line.remove_prefix(start.size());
    return std::string(line.substr(0, line.find('"')));
}

void add_names(const toml::table& root, const char* list, const char* member,
               std::set<std::string, std::less<>>& names) {
    const toml::array* sections = root[list].as_array();
    if (sections == nullptr) return;
    for (const toml::node& section : *sections) {
        const toml::table* table = section.as_table();
        if (table == nullptr) continue;
        if (auto name = (*table)[member].value<std::string>()) names.insert(*name);
    }
}

}  // namespace

bool is_id(std::string_view text) {
    return !text.empty() && text.size() <= id_bytes_max &&
           std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7F && c != '"' && c != '\\'; });
}

Result<Preset> preset_named(std::string_view name) {
    std::string names;
    for (const Preset& preset : presets()) {
        if (preset.name == name) return preset;
        names += (names.empty() ? "" : ", ") + std::string(preset.name);
    }
    return fail(Code::invalid_request, "there is no preset \"" + std::string(name) + "\", but " + names,
                "preset");
}

std::vector<Section> sections_of(const Preset& preset) {
    std::vector<Section> sections;
    std::string_view text = preset.text;
    while (!text.empty()) {
        std::size_t end = text.find('\n');
        std::string_view line = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line == head) sections.emplace_back();
        if (sections.empty() || line.empty()) continue;  // comments before the first
        Section& section = sections.back();
        if (section.id.empty()) section.id = id_in(line);
        section.text += std::string(line) + "\n";
    }
    return sections;
}

std::optional<Known> known_model(std::string_view id) {
    for (const Preset& preset : presets())
        for (Section& section : sections_of(preset))
            if (section.id == id) return Known{preset.name, std::move(section)};
    return std::nullopt;
}

Section section_of(const FoundModel& model) {
    if (auto known = known_model(model.id)) {
        known->section.text += "# prices: preset " + std::string(known->preset) + "\n";
        return std::move(known->section);
    }
    std::string text = std::string(head) + "\nid = \"" + model.id + "\"\n";
    if (model.context_length > 0) text += "context_length = " + std::to_string(model.context_length) + "\n";
    if (model.max_output_tokens > 0)
        text += "max_output_tokens = " + std::to_string(model.max_output_tokens) + "\n";
    if (model.endpoint != "chat") text += "endpoints = [\"" + model.endpoint + "\"]\n";
    text +=
        "# Set its prices (USD per million tokens); without them it is free:\n"
        "# price_input_per_m = \"0.20\"\n"
        "# price_output_per_m = \"0.60\"\n";
    return {model.id, std::move(text)};
}

std::string routed(const Section& section, std::string_view provider, std::string_view more) {
    return section.text + std::string(more) + "routes = [{ provider = \"" + std::string(provider) + "\" }]\n";
}

Result<Taken> taken_in(std::string_view toml) {
    Taken taken;
    try {
        toml::table root = toml::parse(toml);
        add_names(root, "model", "id", taken.models);
        add_names(root, "provider", "name", taken.providers);
    } catch (const toml::parse_error& error) {
        return fail(Code::invalid_request, "line " + std::to_string(error.source().begin.line) + ": " +
                                               std::string(error.description()));
    }
    return taken;
}

}  // namespace nebula::catalog

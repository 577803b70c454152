// `nebula models import`.
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "app/services.hpp"
#include "base/text.hpp"
#include "catalog/presets.hpp"
#include "tokenizer/tokenizer.hpp"

namespace nebula::app {
namespace {

namespace json = boost::json;

std::int64_t count_in(const json::object& object, const char* name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_int64() ? value->get_int64() : 0;
}

Result<std::vector<catalog::FoundModel>> ask(const AppSettings& settings, const ImportOptions& options) {
    auto connected = connect_operator(settings);
    if (!connected) return fail(std::move(connected.error()));
    json::object arguments;
    if (options.url.empty())
        arguments["provider"] = options.provider;
    else
        arguments = {{"url", options.url}, {"kind", options.kind.empty() ? "openai" : options.kind}};
    auto answer = (*connected)->call("models.discover", std::move(arguments));
    if (!answer) return fail(std::move(answer.error()));
    std::vector<catalog::FoundModel> found;
    for (const json::value& one : answer->at("data").as_array()) {
        const json::object& model = one.as_object();
        found.push_back({std::string(model.at("id").as_string()), count_in(model, "context_length"),
                         count_in(model, "max_output_tokens"),
                         std::string(model.at("endpoint").as_string())});
    }
    return found;
}

Result<void> append(const std::string& path, const std::string& text) {
    int file = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    bool ok = file >= 0;
    for (std::size_t at = 0; ok && at < text.size();) {
        ssize_t written = ::write(file, text.data() + at, text.size() - at);
        ok = written > 0;
        at += ok ? static_cast<std::size_t>(written) : 0;
    }
    ok = ok && ::fsync(file) == 0;
    if (file >= 0) ::close(file);
    if (!ok) return fail(Code::internal, path + " cannot be written");
    return {};
}

std::string provider_section(const ImportOptions& options) {
    bool is_openai = options.url.starts_with("https://api.openai.com/");
    return "[[provider]]\nname = \"" + options.provider + "\"\nkind = \"" +
           (options.kind.empty() ? "openai" : options.kind) + "\"\nbase_url = \"" + options.url + "\"\n" +
           (is_openai ? "responses = true\n\n" : "\n");
}

// Lines of a [[model]] section. The server may start in another folder.
Result<std::string> tokenizer_lines(const ImportOptions& options, std::string& what) {
    if (options.tokenizer.empty()) return std::string();
    auto loaded = tokenizer::Tokenizer::load(options.tokenizer, options.tokenizer_family);
    if (!loaded) return fail(std::move(loaded.error()));
    what = (*loaded)->describe();
    std::error_code failed;
    auto path = std::filesystem::absolute(options.tokenizer, failed);
    std::string lines = "tokenizer = " + json_string(failed ? options.tokenizer : path.string()) + "\n";
    if (!options.tokenizer_family.empty())
        lines += "tokenizer_family = " + json_string(options.tokenizer_family) + "\n";
    return lines;
}

}  // namespace

std::string preset_names() {
    std::string names;
    for (const catalog::Preset& preset : catalog::presets())
        names += (names.empty() ? "" : ", ") + std::string(preset.name);
    return names;
}

Result<Imported> import_models(const AppSettings& settings, const ImportOptions& options) {
    if (!catalog::is_id(options.provider))
        return fail(Code::invalid_request, "the provider's name must have no spaces, quotes and backslashes",
                    "provider");
    std::vector<catalog::Section> sections;
    Imported done;
    auto tokenizer = tokenizer_lines(options, done.tokenizer);
    if (!tokenizer) return fail(std::move(tokenizer.error()));
    auto add = [&](catalog::Section section, std::int64_t context, std::int64_t output, json::value preset) {
        done.models.push_back(json::object{{"id", section.id},
                                           {"context_length", context},
                                           {"max_output_tokens", output},
                                           {"preset", std::move(preset)}});
        sections.push_back(std::move(section));
    };
    if (!options.preset.empty()) {
        auto preset = catalog::preset_named(options.preset);
        if (!preset) return fail(std::move(preset.error()));
        for (catalog::Section& section : catalog::sections_of(*preset))
            add(std::move(section), 0, 0, json::value(options.preset));
    } else {
        auto found = ask(settings, options);
        if (!found) return fail(std::move(found.error()));
        for (const catalog::FoundModel& model : *found) {
            auto known = catalog::known_model(model.id);
            add(catalog::section_of(model), model.context_length, model.max_output_tokens,
                known ? json::value(std::string(known->preset)) : json::value(nullptr));
        }
    }
    catalog::Taken taken;
    bool exists = !options.write_to.empty() && std::filesystem::exists(options.write_to);
    std::string before;
    if (exists) {
        auto text = read_file(options.write_to);
        if (!text) return fail(std::move(text.error()));
        before = std::move(*text);
        auto names = catalog::taken_in(before);
        if (!names) return fail(Code::invalid_request, options.write_to + ": " + names.error().message);
        taken = std::move(*names);
    }
    if (!options.url.empty() && !taken.providers.contains(options.provider))
        done.text = provider_section(options);
    for (const catalog::Section& section : sections) {
        if (taken.models.insert(section.id).second)
            done.text += catalog::routed(section, options.provider, *tokenizer) + "\n";
        else
            done.left_out.push_back(section.id);
    }
    if (options.write_to.empty() || done.text.empty()) return done;
    if (!before.empty()) done.text.insert(0, before.back() == '\n' ? "\n" : "\n\n");
    if (auto ok = append(options.write_to, done.text); !ok) return fail(std::move(ok.error()));
    return done;
}

}  // namespace nebula::app

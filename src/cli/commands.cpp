#include "cli/commands.hpp"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cstdio>

namespace nebula::cli {
namespace {

namespace json = boost::json;

std::string cell(const json::object& row, const char* member) {
    const json::value* value = row.if_contains(member);
    if (value == nullptr || value->is_null()) return "-";
    if (value->is_string()) return std::string(value->get_string());
    return json::serialize(*value);
}

void print_table(const json::array& rows, const std::vector<Column>& columns) {
    std::vector<std::vector<std::string>> lines(1);
    for (const Column& column : columns) lines[0].push_back(column.heading);
    for (const json::value& row : rows) {
        auto& line = lines.emplace_back();
        for (const Column& column : columns) line.push_back(cell(row.get_object(), column.member));
    }
    for (const auto& line : lines) {
        std::string text;
        for (std::size_t i = 0; i < line.size(); ++i) {
            std::size_t width = 0;
            for (const auto& other : lines) width = std::max(width, other[i].size());
            text += line[i];
            if (i + 1 < line.size()) text.append(width - line[i].size() + 2, ' ');
        }
        std::printf("%s\n", text.c_str());
    }
}

}  // namespace

int print_error(const Error& error) {
    std::fprintf(stderr, "nebula: %s\n", error.message.c_str());
    if (!error.detail.empty()) std::fprintf(stderr, "nebula: (%s)\n", error.detail.c_str());
    return 1;
}

std::optional<app::AppSettings> settings_of(const Common& common) {
    app::Loaded loaded = app::load_settings(common.config);
    for (const auto& problem : loaded.problems)
        std::fprintf(stderr, "%s\n", app::problem_text(loaded, problem).c_str());
    if (!loaded.problems.empty()) return std::nullopt;
    return std::move(loaded.settings);
}

int run_operation(const Common& common, const std::string& operation, json::object arguments,
                  const std::vector<Column>& columns) {
    auto settings = settings_of(common);
    if (!settings) return 2;
    auto connected = app::connect_operator(*settings);
    if (!connected) return print_error(connected.error());
    auto answer = (*connected)->call(operation, std::move(arguments));
    if (!answer) return print_error(answer.error());
    const json::value* data = answer->if_contains("data");
    if (common.json) {
        // A listing is printed as the array itself.
        std::printf("%s\n", (data != nullptr ? json::serialize(*data) : json::serialize(*answer)).c_str());
    } else if (data != nullptr) {
        print_table(data->as_array(), columns);
    } else {
        for (const auto& member : *answer)
            std::printf("%s: %s\n", std::string(member.key()).c_str(),
                        cell(*answer, std::string(member.key()).c_str()).c_str());
    }
    const json::value* balanced = answer->if_contains("balanced");
    return balanced != nullptr && balanced->is_bool() && !balanced->get_bool() ? 1 : 0;
}

int run_import(const Common& common, const app::ImportOptions& options) {
    auto settings = settings_of(common);
    if (!settings) return 2;
    auto done = app::import_models(*settings, options);
    if (!done) return print_error(done.error());
    if (common.json)
        std::printf("%s\n", json::serialize(done->models).c_str());
    else if (options.write_to.empty())
        std::fputs(done->text.c_str(), stdout);
    if (!done->tokenizer.empty()) std::fprintf(stderr, "tokenizer: %s\n", done->tokenizer.c_str());
    for (const std::string& id : done->left_out) std::fprintf(stderr, "%s is there already\n", id.c_str());
    if (!options.write_to.empty())
        std::fprintf(stderr, "%zu models added to %s; reload the server (SIGHUP) to serve them\n",
                     done->models.size() - done->left_out.size(), options.write_to.c_str());
    return 0;
}

}  // namespace nebula::cli

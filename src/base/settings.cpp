#include "base/settings.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "base/text.hpp"

namespace nebula::settings {
namespace {

// Keeps now + duration far inside what a steady clock can count.
constexpr std::int64_t milliseconds_max = 10LL * 365 * 24 * 3600 * 1000;

std::string upper(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c == '-' ? '_' : c;
    return out;
}

std::size_t line_of(const toml::source_region& region) { return region.begin.line; }

const char* type_word(const toml::node& node) {
    switch (node.type()) {
        case toml::node_type::none:
            return "nothing";
        case toml::node_type::table:
            return "a section";
        case toml::node_type::array:
            return "a list";
        case toml::node_type::string:
            return "text";
        case toml::node_type::integer:
            return "a whole number";
        case toml::node_type::floating_point:
            return "a number with a fraction";
        case toml::node_type::boolean:
            return "true or false";
        case toml::node_type::date:
        case toml::node_type::time:
        case toml::node_type::date_time:
            return "a date or time";
    }
    return "something else";
}

// Insertions, deletions, replacements and swaps of neighbours that turn one name into the other.
std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
    for (std::size_t i = 0; i <= a.size(); ++i) {
        for (std::size_t j = 0; j <= b.size(); ++j) {
            if (i == 0 || j == 0) {
                cost[i][j] = i + j;
                continue;
            }
            std::size_t replace = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replace});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
        }
    }
    return cost[a.size()][b.size()];
}

std::string join(const std::vector<std::string_view>& words) {
    std::string out;
    for (std::string_view word : words) {
        if (!out.empty()) out += ", ";
        out += word;
    }
    return out;
}

// One value with where it comes from: a node of the file or the text of an environment variable.
struct Source {
    const toml::node* node = nullptr;
    std::optional<std::string> text;
    std::string name;  // what problems call it
    std::size_t line = 0;
};

class Loader final : public Visitor {
   public:
    Loader(const toml::table& root, const std::vector<Tombstone>& tombstones, bool applies)
        : tombstones_(tombstones), applies_(applies) {
        scopes_.push_back({.table = &root, .path = "", .plain_path = "", .environment = "NEBULA"});
    }

    void run(const Describe& describe) {
        describe(*this);
        report_unknown(scopes_.back());
    }
    std::vector<Problem> take_problems() { return std::move(problems_); }

    void field(const Field& about, std::string& value) override {
        read<std::string>(about, value, [&](const Source& from) -> std::optional<std::string> {
            auto text = as_text(from, "text");
            if (text && !check_word(about, *text, from)) return std::nullopt;
            if (text && about.required && text->empty()) {
                problem(from.line, from.name + " must not be empty");
                return std::nullopt;
            }
            return text;
        });
    }
    void field(const Field& about, bool& value) override {
        read<bool>(about, value, [&](const Source& from) -> std::optional<bool> {
            if (from.node != nullptr && from.node->is_boolean()) return **from.node->as_boolean();
            if (from.text == "true" || from.text == "1") return true;
            if (from.text == "false" || from.text == "0") return false;
            return wrong_type(from, "true or false");
        });
    }
    void field(const Field& about, std::int64_t& value) override {
        read<std::int64_t>(about, value, [&](const Source& from) {
            return as_integer(from, "a whole number", about.min, about.max);
        });
    }
    void field(const Field& about, std::chrono::milliseconds& value) override {
        read<std::chrono::milliseconds>(
            about, value, [&](const Source& from) -> std::optional<std::chrono::milliseconds> {
                auto count = as_integer(from, "a whole number of milliseconds", about.min,
                                        std::min(about.max, milliseconds_max));
                if (!count) return std::nullopt;
                return std::chrono::milliseconds(*count);
            });
    }
    void field(const Field& about, Secret& value) override {
        read<Secret>(about, value, [&](const Source& from) -> std::optional<Secret> {
            auto text = as_text(from, "text");
            if (!text) return std::nullopt;
            return Secret(std::move(*text));
        });
    }
    void field(const Field& about, Nanos& value) override {
        read<Nanos>(about, value, [&](const Source& from) -> std::optional<Nanos> {
            auto text = as_text(from, "a decimal number in quotes, as \"0.20\"");
            if (!text) return std::nullopt;
            auto amount = Nanos::parse(*text);
            if (!amount) {
                problem(from.line, from.name +
                                       " must be a decimal number with at most 9 fraction digits, not " +
                                       json_string(*text));
            } else if (amount->value < about.min || amount->value > about.max) {
                problem(from.line, from.name + " must be between " + Nanos{about.min}.text() + " and " +
                                       Nanos{about.max}.text() + ", not " + *text);
                return std::nullopt;
            }
            return amount;
        });
    }
    void field(const Field& about, std::vector<std::string>& value) override {
        read<std::vector<std::string>>(about, value,
                                       [&](const Source& from) { return as_texts(about, from); });
    }

   protected:
    void visit_section(const Field& about, const std::function<void()>& inner) override {
        Scope& outer = scopes_.back();
        outer.known.emplace_back(about.name);
        const toml::node* node = outer.table != nullptr ? outer.table->get(about.name) : nullptr;
        Scope scope = inner_scope(about.name);
        if (node != nullptr && !node->is_table())
            problem(line_of(node->source()), scope.path + " must be a section, not " + type_word(*node));
        else if (node != nullptr)
            scope.table = node->as_table();
        enter(std::move(scope), inner);
    }

    void visit_list(const Field& about, std::size_t, const std::function<void(bool, std::size_t)>& item,
                    const std::function<void()>& describe_sample) override {
        Scope& outer = scopes_.back();
        outer.known.emplace_back(about.name);
        const toml::node* node = outer.table != nullptr ? outer.table->get(about.name) : nullptr;
        std::string path = inner_scope(about.name).path;
        if (node == nullptr) {
            if (about.required) problem(outer.line, path + " needs at least one entry");
            return;
        }
        const toml::array* array = node->as_array();
        if (array == nullptr) {
            problem(line_of(node->source()),
                    path + " must be a list of sections, [[" + path + "]], not " + type_word(*node));
            return;
        }
        if (about.required && array->empty())
            problem(line_of(node->source()), path + " needs at least one entry");
        std::size_t index = 0;
        for (const toml::node& element : *array) {
            Scope scope = inner_scope(about.name);
            scope.path += "[" + std::to_string(index + 1) + "]";
            scope.environment.clear();
            scope.line = line_of(element.source());
            scope.table = element.as_table();
            if (scope.table == nullptr) {
                problem(scope.line, scope.path + " must be a section, not " + type_word(element));
            } else {
                // Checking describes a sample in place of each item, so that the list itself stays untouched.
                enter(std::move(scope), [&] { applies_ ? item(true, index) : describe_sample(); });
            }
            ++index;
        }
    }

   private:
    struct Scope {
        const toml::table* table = nullptr;
        std::string path;         // as in problems: "provider[2]"
        std::string plain_path;   // as in tombstones: "provider"
        std::string environment;  // prefix of variable names; empty inside lists
        std::size_t line = 0;     // of a list item
        std::vector<std::string> known = {};
    };

    Scope inner_scope(std::string_view name) const {
        const Scope& outer = scopes_.back();
        std::string dot = outer.path.empty() ? "" : ".";
        return {.table = nullptr,
                .path = outer.path + dot + std::string(name),
                .plain_path = outer.plain_path + dot + std::string(name),
                .environment = outer.environment.empty() ? "" : outer.environment + "_" + upper(name),
                .line = outer.line};
    }

    void enter(Scope scope, const std::function<void()>& inner) {
        scopes_.push_back(std::move(scope));
        inner();
        report_unknown(scopes_.back());
        scopes_.pop_back();
    }

    void problem(std::size_t line, std::string message) { problems_.push_back({line, std::move(message)}); }

    void report_unknown(const Scope& scope) {
        if (scope.table == nullptr) return;
        for (const auto& [key, node] : *scope.table) {
            std::string_view name = key.str();
            if (std::ranges::find(scope.known, name) != scope.known.end()) continue;
            std::string prefix = scope.plain_path.empty() ? "" : scope.plain_path + ".";
            std::size_t line = line_of(key.source()) != 0 ? line_of(key.source()) : line_of(node.source());
            auto removed = std::ranges::find(tombstones_, prefix + std::string(name), &Tombstone::name);
            if (removed != tombstones_.end()) {
                problem(line, prefix + std::string(name) +
                                  " is no longer a setting: " + std::string(removed->instead));
                continue;
            }
            bool is_section = node.is_table() || node.is_array_of_tables();
            std::string within = scope.path.empty() ? "" : scope.path + ".";
            std::string message = std::string(is_section ? "unknown section " : "unknown setting ") + within +
                                  std::string(name);
            std::string_view near = nearest(scope, name);
            if (!near.empty()) message += "; did you mean " + within + std::string(near) + "?";
            problem(line, std::move(message));
        }
    }

    static std::string_view nearest(const Scope& scope, std::string_view name) {
        std::string_view best;
        std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
        if (name.size() > 64) return best;
        for (const std::string& known : scope.known) {
            std::size_t distance = edit_distance(to_lower(name), known);
            if (distance >= best_distance) continue;
            best = known;
            best_distance = distance;
        }
        return best;
    }

    // File first, then the environment: both are checked, the later one wins.
    template <class T, class Convert>
    void read(const Field& about, T& value, Convert convert) {
        Scope& scope = scopes_.back();
        scope.known.emplace_back(about.name);
        std::string path = inner_scope(about.name).path;
        const toml::node* node = scope.table != nullptr ? scope.table->get(about.name) : nullptr;
        if (node != nullptr) {
            std::optional<T> read_value =
                convert(Source{.node = node, .text = {}, .name = path, .line = line_of(node->source())});
            if (read_value && applies_) value = std::move(*read_value);
        }
        std::string variable = inner_scope(about.name).environment;
        const char* text = variable.empty() ? nullptr : std::getenv(variable.c_str());
        if (text != nullptr) {
            std::optional<T> read_value = convert(Source{
                .node = nullptr, .text = text, .name = path + " (environment " + variable + ")", .line = 0});
            if (read_value && applies_) value = std::move(*read_value);
        }
        if (node == nullptr && text == nullptr && about.required) problem(scope.line, path + " is missing");
    }

    std::nullopt_t wrong_type(const Source& from, const std::string& wanted) {
        std::string got = from.node != nullptr ? type_word(*from.node) : json_string(*from.text);
        problem(from.line, from.name + " must be " + wanted + ", not " + got);
        return std::nullopt;
    }

    std::optional<std::string> as_text(const Source& from, const std::string& wanted) {
        if (from.node == nullptr) return from.text;
        if (!from.node->is_string()) return wrong_type(from, wanted);
        return **from.node->as_string();
    }

    std::optional<std::int64_t> as_integer(const Source& from, const std::string& wanted, std::int64_t min,
                                           std::int64_t max) {
        std::optional<std::int64_t> number;
        if (from.node == nullptr)
            number = parse_int<std::int64_t>(*from.text);
        else if (from.node->is_integer())
            number = **from.node->as_integer();
        if (!number) return wrong_type(from, wanted);
        if (*number >= min && *number <= max) return number;
        std::string range = max == std::numeric_limits<std::int64_t>::max()
                                ? "at least " + std::to_string(min)
                                : "between " + std::to_string(min) + " and " + std::to_string(max);
        problem(from.line, from.name + " must be " + range + ", not " + std::to_string(*number));
        return std::nullopt;
    }

    std::optional<std::vector<std::string>> as_texts(const Field& about, const Source& from) {
        std::vector<std::string> texts;
        bool is_right = true;
        if (from.node == nullptr) {
            for (std::string_view part : split(*from.text, ','))
                if (std::string_view word = trim(part); !word.empty()) texts.emplace_back(word);
            for (const std::string& text : texts) is_right = check_word(about, text, from) && is_right;
        } else if (const toml::array* array = from.node->as_array()) {
            for (const toml::node& element : *array) {
                Source item{.node = &element,
                            .text = {},
                            .name = from.name + "[" + std::to_string(texts.size() + 1) + "]",
                            .line = line_of(element.source())};
                auto text = as_text(item, "text");
                is_right = text && check_word(about, *text, item) && is_right;
                texts.push_back(text.value_or(""));
            }
        } else {
            return wrong_type(from, "a list of texts");
        }
        auto count = static_cast<std::int64_t>(texts.size());
        if (is_right && (count < about.min || count > about.max || (about.required && count == 0))) {
            problem(from.line, from.name + " has " + std::to_string(count) + " entries, too " +
                                   (count > about.max ? "many" : "few"));
            is_right = false;
        }
        if (!is_right) return std::nullopt;
        return texts;
    }

    bool check_word(const Field& about, const std::string& text, const Source& from) {
        if (about.one_of.empty() || std::ranges::find(about.one_of, text) != about.one_of.end()) return true;
        problem(from.line,
                from.name + " must be one of " + join(about.one_of) + ", not " + json_string(text));
        return false;
    }

    const std::vector<Tombstone>& tombstones_;
    bool applies_;
    std::vector<Scope> scopes_;
    std::vector<Problem> problems_;
};

}  // namespace

std::vector<Problem> load(std::string_view toml_text, const Describe& describe,
                          const std::vector<Tombstone>& tombstones) {
    toml::table root;
    try {
        root = toml::parse(toml_text);
    } catch (const toml::parse_error& e) {
        return {{line_of(e.source()), "not valid TOML: " + std::string(e.description())}};
    }
    Loader check(root, tombstones, false);
    check.run(describe);
    auto problems = check.take_problems();
    // What comes from no line (environment, missing settings) stands last.
    std::ranges::sort(problems, {}, [](const Problem& p) {
        return std::pair(p.line == 0 ? SIZE_MAX : p.line, std::string_view(p.message));
    });
    if (problems.empty()) Loader(root, tombstones, true).run(describe);
    return problems;
}

}  // namespace nebula::settings

// The other reader of a description: prints every setting as TOML.
#include <algorithm>
#include <map>

#include "base/settings.hpp"
#include "base/text.hpp"

namespace nebula::settings {
namespace {

struct Entry {
    std::string name;
    std::string help;
    std::string notes;  // allowed values, when it applies
    std::string value;  // as TOML
    bool is_secret = false;
};

// A section, a list (its items are nodes of the same name) or one item.
struct Node {
    std::string path;
    std::string help;
    std::string environment;  // empty inside lists
    bool is_item = false;
    bool is_sample = false;  // printed as a comment
    std::vector<Entry> entries = {};
    std::vector<Node> children = {};
};

class Collector final : public Visitor {
   public:
    Collector() { stack_.push_back({.path = "", .help = "", .environment = "NEBULA"}); }
    Node take() { return std::move(stack_.back()); }

    void field(const Field& about, std::string& value) override {
        add(about, json_string(value), words(about));
    }
    void field(const Field& about, bool& value) override { add(about, value ? "true" : "false", ""); }
    void field(const Field& about, std::int64_t& value) override {
        add(about, std::to_string(value), range(about));
    }
    void field(const Field& about, std::chrono::milliseconds& value) override {
        add(about, std::to_string(value.count()), "milliseconds; " + range(about));
    }
    void field(const Field& about, Secret& value) override {
        add(about, value.empty() ? "\"\"" : "\"***\"", "secret; ");
        stack_.back().entries.back().is_secret = true;
    }
    void field(const Field& about, Nanos& value) override { add(about, json_string(value.text()), ""); }
    void field(const Field& about, std::vector<std::string>& value) override {
        std::string list;
        for (const std::string& text : value) list += (list.empty() ? "" : ", ") + json_string(text);
        add(about, "[" + list + "]", words(about));
    }

   protected:
    void visit_section(const Field& about, const std::function<void()>& inner) override {
        const Node& outer = stack_.back();
        std::string name = join(outer.path, about.name);
        std::string variable =
            outer.environment.empty() ? "" : outer.environment + "_" + to_upper(about.name);
        descend({.path = name, .help = std::string(about.help), .environment = variable}, inner);
    }
    void visit_list(const Field& about, std::size_t existing,
                    const std::function<void(bool, std::size_t)>& item,
                    const std::function<void()>& describe_sample) override {
        std::string name = join(stack_.back().path, about.name);
        Node node{.path = name, .help = std::string(about.help), .environment = "", .is_item = true};
        for (std::size_t i = 0; i < existing; ++i) descend(node, [&] { item(false, i); });
        node.is_sample = true;
        if (existing == 0) descend(node, describe_sample);
    }

   private:
    static std::string join(const std::string& path, std::string_view name) {
        return path.empty() ? std::string(name) : path + "." + std::string(name);
    }
    static std::string to_upper(std::string_view name) {
        std::string out(name);
        for (char& c : out) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c == '-' ? '_' : c;
        return out;
    }
    static std::string words(const Field& about) {
        std::string out;
        for (std::string_view word : about.one_of)
            out += (out.empty() ? "one of " : ", ") + std::string(word.empty() ? "\"\"" : word);
        return out.empty() ? out : out + "; ";
    }
    static std::string range(const Field& about) {
        if (about.max != std::numeric_limits<std::int64_t>::max())
            return std::to_string(about.min) + " to " + std::to_string(about.max) + "; ";
        return about.min == 0 ? "" : "at least " + std::to_string(about.min) + "; ";
    }

    void descend(Node node, const std::function<void()>& inner) {
        stack_.push_back(std::move(node));
        inner();
        Node done = std::move(stack_.back());
        stack_.pop_back();
        stack_.back().children.push_back(std::move(done));
    }

    void add(const Field& about, std::string value, std::string notes) {
        Node& node = stack_.back();
        if (about.required) notes += "required; ";
        if (!node.environment.empty()) notes += "env " + node.environment + "_" + to_upper(about.name) + "; ";
        notes += about.apply == Apply::live ? "applies on SIGHUP" : "applies at the next start";
        node.entries.push_back(
            {std::string(about.name), std::string(about.help), std::move(notes), std::move(value), false});
    }

    std::vector<Node> stack_;
};

// "http.listen" → printed default; items of a list share one name, so the first one (a sample) speaks for
// all.
using Defaults = std::map<std::string, std::string>;

void collect_defaults(const Node& node, Defaults& defaults) {
    for (const Entry& entry : node.entries) {
        std::string name = node.path.empty() ? entry.name : node.path + "." + entry.name;
        if (!entry.is_secret) defaults.emplace(name, entry.value);
    }
    for (const Node& child : node.children) collect_defaults(child, defaults);
}

void print(const Node& node, const Defaults& defaults, bool as_comment, std::string& out) {
    std::string lead = as_comment ? "# " : "";
    if (!node.path.empty()) {
        out += '\n';
        if (!node.help.empty()) out += lead + "# " + node.help + "\n";
        out += lead + (node.is_item ? "[[" + node.path + "]]" : "[" + node.path + "]") + "\n";
    }
    for (const Entry& entry : node.entries) {
        auto known = defaults.find(node.path.empty() ? entry.name : node.path + "." + entry.name);
        std::string about = known != defaults.end() ? "default " + known->second + "; " : "";
        out += lead + "# " + entry.help + "\n" + lead + "#   " + about + entry.notes + "\n";
        // Stars are no value: read back they would replace the real secret.
        out += lead + (entry.is_secret ? "# " : "") + entry.name + " = " + entry.value + "\n";
    }
    for (const Node& child : node.children) print(child, defaults, as_comment || child.is_sample, out);
}

}  // namespace

std::string explain(const Describe& describe, const Describe& defaults) {
    Collector collector;
    describe(collector);
    Node root = collector.take();
    Defaults known;
    if (defaults) {
        Collector fresh;
        defaults(fresh);
        collect_defaults(fresh.take(), known);
    } else {
        collect_defaults(root, known);
    }
    std::string out = "# Order: default < this file < environment.\n";
    print(root, known, false, out);
    return out;
}

}  // namespace nebula::settings

#pragma once
// Settings are declared once, in the module that uses them, as a struct with a describe() member:
//
//   struct HttpSettings {
//       std::string listen = "127.0.0.1:8080";
//       std::int64_t body_bytes_max = 32 << 20;
//       void describe(settings::Visitor& v) {
//           v.field({.name = "listen", .help = "Address and port of the API; port 0 takes any."}, listen);
//           v.field({.name = "body_bytes_max", .help = "Largest request body, in bytes.", .min = 1024},
//           body_bytes_max);
//       }
//   };
//
// From this one description come the parser, `nebula config explain`, the sample file and the environment
// names. Order: default < file < environment. Every mistake is collected with its line; nothing is applied if
// there is any.

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/nanos.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"

namespace nebula::settings {

/// `live` settings take effect on SIGHUP, the others at the next start.
enum class Apply { restart, live };

struct Field {
    std::string_view name;
    std::string_view help;
    Apply apply = Apply::restart;
    std::int64_t min = 0;
    std::int64_t max = std::numeric_limits<std::int64_t>::max();
    std::vector<std::string_view> one_of = {};  // allowed words of a text setting; empty = any
    bool required = false;
};

class Visitor {
   public:
    virtual ~Visitor() = default;
    virtual void field(const Field& about, std::string& value) = 0;
    virtual void field(const Field& about, bool& value) = 0;
    virtual void field(const Field& about, std::int64_t& value) = 0;
    virtual void field(const Field& about,
                       std::chrono::milliseconds& value) = 0;  // whole milliseconds in the file
    virtual void field(const Field& about, Secret& value) = 0;
    virtual void field(const Field& about, Nanos& value) = 0;  // decimal text in the file
    virtual void field(const Field& about, std::vector<std::string>& value) = 0;

    /// An array of tables: [[name]]. Item must have describe(Visitor&).
    template <class Item>
    void list(const Field& about, std::vector<Item>& items) {
        auto add = [&items, this](bool fresh, std::size_t index) {
            if (fresh && index == 0) items.clear();  // the file's list replaces the default one whole
            if (fresh) items.emplace_back();
            items[index].describe(*this);
        };
        Item sample;
        auto describe_sample = [&sample, this] { sample.describe(*this); };
        visit_list(about, items.size(), add, describe_sample);
    }
    /// A nested table: [name].
    template <class Section>
    void section(const Field& about, Section& value) {
        visit_section(about, [&value, this] { value.describe(*this); });
    }

   protected:
    virtual void visit_list(const Field& about, std::size_t existing,
                            const std::function<void(bool fresh, std::size_t index)>& item,
                            const std::function<void()>& describe_sample) = 0;
    virtual void visit_section(const Field& about, const std::function<void()>& inner) = 0;
};

struct Problem {
    std::size_t line = 0;  // 0 = not from a line of the file (environment, missing setting)
    std::string message;   // names the setting
};

/// Removed settings stay known: name ("http.old_name") and what to do instead.
struct Tombstone {
    std::string_view name;
    std::string_view instead;
};

using Describe = std::function<void(Visitor&)>;

/// Reads TOML text into what `describe` describes, then applies environment variables:
/// NEBULA_<SECTION>_<NAME> in upper case for plain sections (lists have none; a list of texts is comma
/// separated). Returns every problem, in the order of lines; unknown names are problems. Calls `describe`
/// twice: nothing is written unless everything is right, so a describe() must not depend on the values it
/// reads. Durations reach up to ten years.
std::vector<Problem> load(std::string_view toml_text, const Describe& describe,
                          const std::vector<Tombstone>& tombstones = {});
/// Every setting with its value (secrets as ***), default comment, environment name and help, as TOML that
/// load() takes. `defaults` describes a never loaded object; without it the values of `describe` count as the
/// defaults.
std::string explain(const Describe& describe, const Describe& defaults = {});

}  // namespace nebula::settings

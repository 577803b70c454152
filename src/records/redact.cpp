#include "records/redact.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.hpp"

namespace nebula::records {
namespace {

namespace json = boost::json;

void redact(json::value& value, const std::vector<std::string>& members) {
    if (json::array* list = value.if_array()) {
        for (json::value& one : *list) redact(one, members);
    } else if (json::object* object = value.if_object()) {
        for (auto& member : *object) {
            if (std::ranges::find(members, std::string_view(member.key())) != members.end())
                member.value() = "[redacted]";
            else
                redact(member.value(), members);
        }
    }
}

}  // namespace

std::string redacted(std::string_view text, const std::vector<std::string>& members) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 128;
    json::value whole = json::parse(text, failed, {}, options);
    if (failed) {
        json::array lines;
        for (std::string_view line : split(text, '\n')) {
            if (line.empty()) continue;
            failed.clear();
            json::value one = json::parse(line, failed, {}, options);
            if (failed) return "null";
            lines.push_back(std::move(one));
        }
        if (lines.empty()) return "null";
        whole = std::move(lines);
    }
    redact(whole, members);
    return json::serialize(whole);
}

}  // namespace nebula::records

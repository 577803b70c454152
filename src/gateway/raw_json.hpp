#pragma once
// Reading events without decoding their texts: what is only passed on is copied as the JSON that it is. A raw
// string has its quotes and may be written again as it stands.

#include <simdjson.h>

#include <string>
#include <string_view>
#include <vector>

namespace nebula::gateway::raw {

namespace ondemand = simdjson::ondemand;

inline bool is_of(ondemand::value& value, ondemand::json_type wanted) {
    ondemand::json_type type;
    return !value.type().get(type) && type == wanted;
}
inline bool is_string(ondemand::value& value) { return is_of(value, ondemand::json_type::string); }

/// The string with its quotes, as it stands in the event. False when it is no string of JSON.
bool string(ondemand::value& value, std::string_view& raw);
/// A number, true, false or null as it stands; a string with its quotes. False for objects and arrays.
bool scalar(ondemand::value& value, std::string_view& raw);
/// An object or array, checked to be JSON all through.
bool structure(ondemand::value& value, std::string_view& raw);

/// The string with its quotes when it is one; anything else is passed over. False when it is no string of
/// JSON.
inline bool take(ondemand::value& value, std::string_view& raw) {
    return !is_string(value) || string(value, raw);
}
/// The same, decoded.
inline bool take_text(ondemand::value& value, std::string& out) {
    if (!is_string(value)) return true;
    std::string_view text;
    if (value.get_string().get(text)) return false;
    out = text;
    return true;
}

/// Whether the whole text is one value of JSON.
bool is_json(std::string_view text);

/// Calls `take` with key and value of each member of the object; false when the JSON is broken or `take` says
/// so. Anything but an object is passed over.
template <class Take>
bool each_member(ondemand::value& value, Take take) {
    if (!is_of(value, ondemand::json_type::object)) return true;
    ondemand::object object;
    if (value.get_object().get(object)) return false;
    for (auto field : object) {
        ondemand::field member;
        if (std::move(field).get(member)) return false;
        ondemand::value inner = member.value();
        if (!take(member.key(), inner)) return false;
    }
    return true;
}

/// What stands between the quotes of a raw string: pieces of one text may be put together before anybody
/// decodes them.
inline std::string_view inside(std::string_view raw) {
    return raw.size() < 2 ? std::string_view() : raw.substr(1, raw.size() - 2);
}

/// The text itself; empty when it cannot be decoded (half a surrogate pair).
std::string decoded(std::string_view raw);

/// One event after the other through the same buffers.
class Document {
   public:
    /// False when the text does not begin with an object.
    bool open(std::string_view json, ondemand::object& object);
    /// Whether nothing follows the object that was read.
    bool is_at_end();

   private:
    ondemand::parser parser_;
    std::vector<char> text_;
    ondemand::document document_;
};

}  // namespace nebula::gateway::raw

#pragma once
// Members of JSON objects that strangers sent: empty or null where there is none of that type.

#include <boost/json/value.hpp>
#include <cstdint>
#include <string_view>

namespace nebula::gateway::members {

inline std::string_view text_of(const boost::json::object& object, std::string_view name) {
    const boost::json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string_view(value->get_string())
                                                  : std::string_view();
}
inline const boost::json::object* object_of(const boost::json::object& object, std::string_view name) {
    const boost::json::value* value = object.if_contains(name);
    return value != nullptr ? value->if_object() : nullptr;
}
inline const boost::json::array* array_of(const boost::json::object& object, std::string_view name) {
    const boost::json::value* value = object.if_contains(name);
    return value != nullptr ? value->if_array() : nullptr;
}
inline std::int64_t count_of(const boost::json::object& object, std::string_view name) {
    const boost::json::value* value = object.if_contains(name);
    return value != nullptr && value->is_int64() ? value->get_int64() : 0;
}
/// Neither absent nor null.
inline bool is_given(const boost::json::object& object, std::string_view name) {
    const boost::json::value* value = object.if_contains(name);
    return value != nullptr && !value->is_null();
}

}  // namespace nebula::gateway::members

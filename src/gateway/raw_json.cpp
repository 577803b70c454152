#include "gateway/raw_json.hpp"

#include <boost/json/parse.hpp>
#include <cstring>

namespace nebula::gateway::raw {
namespace {

bool is_hex(char c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }

// The parser checks escapes only where it decodes them; ours go out undecoded. Halves of surrogate pairs are
// let through: providers cut texts between them.
bool has_valid_escapes(std::string_view raw) {
    for (std::size_t at = raw.find('\\'); at != std::string_view::npos; at = raw.find('\\', at + 2)) {
        char escaped = at + 1 < raw.size() ? raw[at + 1] : '\0';
        if (escaped != 'u') {
            if (std::string_view("\"\\/bfnrt").find(escaped) == std::string_view::npos) return false;
            continue;
        }
        for (std::size_t digit = at + 2; digit < at + 6; ++digit)
            if (digit >= raw.size() || !is_hex(raw[digit])) return false;
    }
    return true;
}

// A token carries the white space behind it.
std::string_view trimmed(std::string_view token) {
    while (!token.empty() && static_cast<unsigned char>(token.back()) <= ' ') token.remove_suffix(1);
    return token;
}

}  // namespace

bool is_json(std::string_view text) {
    boost::system::error_code failed;
    boost::json::parse_options options;
    options.max_depth = 256;
    (void)boost::json::parse(text, failed, {}, options);
    return !failed;
}

bool string(ondemand::value& value, std::string_view& raw) {
    std::string_view token = value.raw_json_token();
    raw = token.substr(0, token.rfind('"') + 1);
    return raw.size() >= 2 && has_valid_escapes(raw);
}

bool scalar(ondemand::value& value, std::string_view& raw) {
    ondemand::json_type type;
    if (value.type().get(type)) return false;
    switch (type) {
        case ondemand::json_type::string:
            return string(value, raw);
        case ondemand::json_type::number:
        case ondemand::json_type::boolean:
        case ondemand::json_type::null:
            raw = trimmed(value.raw_json_token());
            return is_json(raw);
        default:
            return false;
    }
}

bool structure(ondemand::value& value, std::string_view& raw) {
    ondemand::json_type type;
    if (value.type().get(type)) return false;
    if (type == ondemand::json_type::object) {
        ondemand::object object;
        if (value.get_object().get(object) || object.raw_json().get(raw)) return false;
    } else if (type == ondemand::json_type::array) {
        ondemand::array array;
        if (value.get_array().get(array) || array.raw_json().get(raw)) return false;
    } else {
        return false;
    }
    raw = trimmed(raw);
    return is_json(raw);
}

std::string decoded(std::string_view raw) {
    if (raw.find('\\') == std::string_view::npos) return std::string(inside(raw));
    boost::system::error_code failed;
    boost::json::value text = boost::json::parse(raw, failed);
    return failed || !text.is_string() ? std::string() : std::string(text.get_string());
}

bool Document::open(std::string_view json, ondemand::object& object) {
    // One huge answer must not pin its size for ever.
    constexpr std::size_t kept_max = 4 * 1024 * 1024;
    if (text_.size() > kept_max && json.size() < kept_max) text_ = {};
    if (text_.size() < json.size() + simdjson::SIMDJSON_PADDING)
        text_.resize(json.size() + simdjson::SIMDJSON_PADDING + 1024);
    std::memcpy(text_.data(), json.data(), json.size());
    if (parser_.iterate(text_.data(), json.size(), text_.size()).get(document_)) return false;
    return !document_.get_object().get(object);
}

bool Document::is_at_end() {
    const char* more = nullptr;
    return document_.current_location().get(more) != simdjson::SUCCESS;
}

}  // namespace nebula::gateway::raw

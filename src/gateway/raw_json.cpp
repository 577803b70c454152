#include "gateway/raw_json.hpp"

namespace nebula::gateway {
namespace {

bool is_hex(char c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }

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

}  // namespace

bool raw_string(simdjson::ondemand::value& value, std::string_view& raw) {
    std::string_view token = value.raw_json_token();
    raw = token.substr(0, token.rfind('"') + 1);
    return raw.size() >= 2 && has_valid_escapes(raw);
}

}  // namespace nebula::gateway

#include "tokenizer/utf8.hpp"

#include <simdjson.h>

namespace nebula::tokenizer {
namespace {

bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// Bytes of the character or of the maximal part of one that begins at `at`; `whole` says which.
std::size_t part_at(std::string_view text, std::size_t at, bool& whole) {
    auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
    const auto first = static_cast<unsigned char>(text[at]);
    whole = first < 0x80;
    if (whole || first < 0xC2 || first > 0xF4) return 1;
    std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    int low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    int high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (byte(at + 1) < low || byte(at + 1) > high) return 1;
    std::size_t seen = 2;
    while (seen < length && is_continuation(static_cast<unsigned char>(byte(at + seen)))) ++seen;
    whole = seen == length;
    return seen;
}

}  // namespace

bool is_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

std::string repaired(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        bool whole = false;
        std::size_t length = part_at(text, at, whole);
        if (whole)
            out += text.substr(at, length);
        else
            out += "\xEF\xBF\xBD";
        at += length;
    }
    return out;
}

}  // namespace nebula::tokenizer

#pragma once
// Characters of texts that are known to be valid UTF-8.

#include <cstddef>
#include <string>
#include <string_view>

namespace nebula::tokenizer {

/// The character at `at`, which moves behind it.
inline char32_t next_character(std::string_view text, std::size_t& at) {
    auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
    char32_t first = byte(at);
    std::size_t more = first < 0x80 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    char32_t c = more == 0 ? first : first & (0x3Fu >> more);
    for (std::size_t i = 1; i <= more; ++i) c = c << 6 | (byte(at + i) & 0x3F);
    at += more + 1;
    return c;
}

inline void append_utf8(std::string& out, char32_t c) {
    auto add = [&](char32_t byte) { out += static_cast<char>(byte); };
    if (c < 0x80) return add(c);
    if (c < 0x800) {
        add(0xC0 | c >> 6);
    } else {
        if (c < 0x10000) {
            add(0xE0 | c >> 12);
        } else {
            add(0xF0 | c >> 18);
            add(0x80 | (c >> 12 & 0x3F));
        }
        add(0x80 | (c >> 6 & 0x3F));
    }
    add(0x80 | (c & 0x3F));
}

bool is_utf8(std::string_view text);
/// With U+FFFD for what is no UTF-8, one for each maximal part of a character, as decoders do.
std::string repaired(std::string_view text);

}  // namespace nebula::tokenizer

#pragma once
// Unicode's normal form C: what vocabularies with the normalizer NFC do to a text first.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace nebula::tokenizer {

/// The tables, written by tools/write_composition.py when the program is built; each in order of its first
/// member.
struct ClassOf {
    char32_t character;
    std::uint8_t combining_class;
};
struct Decomposition {  // one step; `second` is 0 where one character stands for another
    char32_t character, first, second;
};
struct Composition {
    char32_t first, second, character;
};
std::span<const ClassOf> combining_classes();
std::span<const Decomposition> decompositions();
std::span<const Composition> compositions();
/// Characters that may change, or change with, those before them.
std::span<const char32_t> joining_characters();

/// True when NFC surely leaves it as it is, which is so for most texts: all below U+0300.
bool is_plain(std::string_view text);
/// Of valid UTF-8.
std::string composed(std::string_view text);
/// Bytes from the front that what follows the text cannot change.
std::size_t settled_bytes(std::string_view text);

}  // namespace nebula::tokenizer

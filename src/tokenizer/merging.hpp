#pragma once
// Byte pair encoding of one word.

#include <cstdint>
#include <string_view>

#include "tokenizer/tokenizer.hpp"
#include "tokenizer/vocabulary.hpp"

namespace nebula::tokenizer {

/// How a vocabulary's merges are ordered.
enum class Ranking : std::uint8_t {
    by_bytes,  // rank files: two neighbours merge when their bytes together are an entry, lowest rank first
    by_pairs,  // tokenizer.json: when the pair is listed, in the list's order
};

/// Tokens of one word. Every single byte is an entry of the vocabulary. n bytes take O(n log n).
std::int64_t count_word(const Vocabulary& vocabulary, Ranking ranking, std::string_view word, Work& work);

}  // namespace nebula::tokenizer

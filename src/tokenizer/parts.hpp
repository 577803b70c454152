#pragma once
// What the readers of both kinds of files make: a tokenizer's parts.

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "tokenizer/merging.hpp"
#include "tokenizer/splitting.hpp"
#include "tokenizer/tokenizer.hpp"
#include "tokenizer/vocabulary.hpp"

namespace nebula::tokenizer {

struct Tokenizer::Parts {
    Family family = Family::other;
    Vocabulary vocabulary;
    Ranking ranking = Ranking::by_bytes;
    bool takes_whole_words = true;    // a word that is an entry is one token, whatever its merges
    bool composes = false;            // normal form C comes first
    bool begins_with_blank = false;   // one is put before a text that begins with none
    std::vector<Splitter> splitters;  // each cuts what the one before it left

    /// `text` is valid and composed. False: above the bounds.
    bool count(std::string_view text, std::size_t splitter, std::int64_t& tokens, Work& work) const;
};

/// Errors without the file's name.
Result<std::unique_ptr<Tokenizer::Parts>> read_rank_file(std::string_view content, std::string_view family);
Result<std::unique_ptr<Tokenizer::Parts>> read_tokenizer_json(std::string_view content);

}  // namespace nebula::tokenizer

#pragma once
// Where vocabularies' rules cut texts into words, before anything is merged: regular expressions, by PCRE2.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "tokenizer/tokenizer.hpp"

// PCRE2's own names, so that its header is needed in one file only.
struct pcre2_real_code_8;

namespace nebula::tokenizer {

/// The pattern of a family, in PCRE2's words.
std::string pattern_of(Family family);
/// Whose pattern a tokenizer.json spells; other: none that is known.
Family family_of_pattern(std::string_view pattern);
/// A pattern of a tokenizer.json, written for Oniguruma, in PCRE2's words. Errors: invalid_request for what
/// both might read otherwise.
Result<std::string> translated_pattern(std::string_view pattern);

/// One step of splitting. For any thread.
class Splitter {
   public:
    enum class Gaps : std::uint8_t { kept, dropped };  // what lies between matches

    static Result<Splitter> compile(const std::string& pattern, Gaps gaps);

    struct Match {
        enum class Kind : std::uint8_t {
            found,
            none,
            unfinished,  // more text may change it
            failed,      // beyond PCRE2's limits
        } kind = Kind::none;
        std::size_t begin = 0, end = 0;
    };
    /// The next match from `from` on in valid UTF-8; never an empty one. `is_end`: no text follows.
    Match next(std::string_view text, std::size_t from, bool is_end) const;
    bool keeps_gaps() const { return gaps_ == Gaps::kept; }

   private:
    struct Free {
        void operator()(pcre2_real_code_8* code) const;
    };
    std::unique_ptr<pcre2_real_code_8, Free> code_;
    Gaps gaps_ = Gaps::kept;
};

}  // namespace nebula::tokenizer

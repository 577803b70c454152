#pragma once
// What a guard rail looks for in text. Every search takes time linear in the text and finds the same matches
// however the text arrives, because no match is longer than reach() and none is decided before so much text
// behind its start is known.

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace nebula::gateway::guardrails {

struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
};

/// Immutable; any thread.
class Matcher {
   public:
    virtual ~Matcher() = default;
    /// Bounded word for metrics and placeholders: "EMAIL", "WORD", "PATTERN" …
    virtual std::string_view kind() const = 0;
    /// Longest match, in bytes.
    virtual std::size_t reach() const = 0;
    /// The first match that begins in [from, until). Text before and behind is context.
    virtual std::optional<Match> find(std::string_view text, std::size_t from, std::size_t until) const = 0;
    /// Where the first match may begin that more text could complete; at least `text.size() - reach()`.
    virtual std::size_t undecided(std::string_view text) const {
        return text.size() > reach() ? text.size() - reach() : 0;
    }
};

using Matchers = std::vector<std::shared_ptr<const Matcher>>;

/// Any of the words, in any case, not inside of longer words.
Result<std::shared_ptr<const Matcher>> make_words(const std::vector<std::string>& words);
/// A regular expression in RE2's syntax, which has no exponential cases. Refused: what matches nothing at
/// all.
Result<std::shared_ptr<const Matcher>> make_pattern(const std::string& pattern, std::size_t reach);
/// email, phone, iban, credit_card, ip, api_key; null for other words.
std::shared_ptr<const Matcher> make_personal(std::string_view entity);

}  // namespace nebula::gateway::guardrails

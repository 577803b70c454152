#include "gateway/guardrails/matcher.hpp"

#include <re2/re2.h>

#include <algorithm>

namespace nebula::gateway::guardrails {
namespace {

constexpr std::int64_t memory_max = 8 << 20;  // of one expression's automata

// RE2's automata are linear; what is bounded here is the length of a match.
class Expression final : public Matcher {
   public:
    Expression(const std::string& pattern, const RE2::Options& options, std::string_view kind,
               std::size_t reach)
        : expression_(pattern, options), kind_(kind), reach_(reach) {}

    bool ok() const { return expression_.ok(); }
    const std::string& error() const { return expression_.error(); }
    bool matches_nothing() const { return RE2::FullMatch("", expression_); }

    std::string_view kind() const override { return kind_; }
    std::size_t reach() const override { return reach_ + 1; }  // one byte of context behind it

    std::optional<Match> find(std::string_view text, std::size_t from, std::size_t until) const override {
        re2::StringPiece whole(text.data(), text.size()), found;
        for (std::size_t at = from; at < until;) {
            // A window of twice the reach holds every match that begins in its first half.
            std::size_t stop = std::min(text.size(), at + 2 * reach_);
            bool is_last = stop == text.size();
            bool hit = expression_.Match(whole, at, stop, RE2::UNANCHORED, &found, 1);
            std::size_t begin = hit ? static_cast<std::size_t>(found.data() - text.data()) : stop;
            if (!is_last && begin > at + reach_) {
                at += reach_;
                continue;
            }
            if (!hit || begin >= until) return std::nullopt;
            std::size_t limit = std::min(text.size(), begin + reach_);
            if (expression_.Match(whole, begin, limit, RE2::ANCHOR_START, &found, 1) && !found.empty())
                return Match{begin, begin + found.size()};
            at = begin + 1;
        }
        return std::nullopt;
    }

   private:
    RE2 expression_;
    std::string_view kind_;
    std::size_t reach_;
};

RE2::Options options() {
    RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(memory_max);
    return options;
}

bool is_word_byte(char c) {
    auto u = static_cast<unsigned char>(c);
    return (u >= '0' && u <= '9') || ((u | 0x20) >= 'a' && (u | 0x20) <= 'z') || u == '_';
}

}  // namespace

Result<std::shared_ptr<const Matcher>> make_words(const std::vector<std::string>& words) {
    std::string pattern = "(?:";
    std::size_t longest = 1;
    for (const std::string& word : words) {
        if (word.empty()) return fail(Code::invalid_request, "a word is empty", "words");
        if (pattern.size() > 3) pattern += '|';
        // RE2's word boundary knows ASCII only.
        if (is_word_byte(word.front())) pattern += "\\b";
        pattern += RE2::QuoteMeta(word);
        if (is_word_byte(word.back())) pattern += "\\b";
        longest = std::max(longest, word.size());
    }
    pattern += ')';
    RE2::Options any_case = options();
    any_case.set_case_sensitive(false);
    // Another case of a letter may take up to three times the bytes.
    auto made = std::make_shared<Expression>(pattern, any_case, "WORD", 3 * longest);
    if (!made->ok())
        return fail(Code::invalid_request, "the words cannot be used: " + made->error(), "words");
    return made;
}

Result<std::shared_ptr<const Matcher>> make_pattern(const std::string& pattern, std::size_t reach) {
    auto made = std::make_shared<Expression>(pattern, options(), "PATTERN", reach);
    if (!made->ok())
        return fail(Code::invalid_request, "the pattern '" + pattern + "' is wrong: " + made->error(),
                    "patterns");
    if (made->matches_nothing())
        return fail(Code::invalid_request, "the pattern '" + pattern + "' matches the empty text",
                    "patterns");
    return made;
}

}  // namespace nebula::gateway::guardrails

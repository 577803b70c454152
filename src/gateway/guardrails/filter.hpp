#pragma once
// Text that arrives in pieces and leaves without what a rail forbids. The result does not depend on where the
// pieces were cut; what may still become a match is held back, at most the longest reach of the matchers.

#include <cstdint>
#include <functional>

#include "gateway/guardrails/matcher.hpp"

namespace nebula::gateway::guardrails {

/// What happens with a match: a text to put in its place, or nothing to end here.
using OnMatch = std::function<std::optional<std::string>(const Matcher& matcher, std::string_view found)>;

/// One stream of text, one thread. Keeps references to matchers and `on_match`.
class Filter {
   public:
    Filter(const Matchers& matchers, const OnMatch& on_match) : matchers_(matchers), on_match_(on_match) {}

    /// Appends what is decided by now. Pieces may be cut anywhere between characters, and what leaves is too.
    void push(std::string_view piece, std::string& out);
    /// Appends the rest: the text is whole.
    void finish(std::string& out);
    /// A match ended the text: what follows is dropped.
    bool is_stopped() const { return is_stopped_; }

   private:
    void decide(std::size_t until, std::string& out);

    const Matchers& matchers_;
    const OnMatch& on_match_;
    std::string text_;    // one byte of context, then what is not decided
    std::size_t at_ = 0;  // where that begins
    bool is_stopped_ = false;
};

/// The whole text at once: the same as one push() and finish(). Nothing when no rail changed it.
std::optional<std::string> filter_text(const Matchers& matchers, const OnMatch& on_match,
                                       std::string_view text, bool& is_stopped);

}  // namespace nebula::gateway::guardrails

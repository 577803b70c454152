#include "gateway/guardrails/filter.hpp"

#include <algorithm>

namespace nebula::gateway::guardrails {

void Filter::push(std::string_view piece, std::string& out) {
    if (is_stopped_) return;
    text_ += piece;
    std::size_t until = text_.size();
    for (const auto& matcher : matchers_) until = std::min(until, matcher->undecided(text_));
    // Never between the bytes of one character.
    while (until > at_ && until < text_.size() && (static_cast<unsigned char>(text_[until]) & 0xC0) == 0x80)
        --until;
    if (until <= at_) return;
    decide(until, out);
    if (at_ > 1) {
        text_.erase(0, at_ - 1);
        at_ = 1;
    }
}

void Filter::finish(std::string& out) {
    if (!is_stopped_) decide(text_.size(), out);
    text_.clear();
    at_ = 0;
}

// Matches that begin before `until`, the first one first.
void Filter::decide(std::size_t until, std::string& out) {
    constexpr std::size_t unknown = static_cast<std::size_t>(-1);
    // What each matcher finds next; looked for again only once the text has passed it.
    std::vector<Match> next(matchers_.size(), Match{unknown, unknown});
    std::vector<bool> is_done(matchers_.size(), false);
    while (at_ < until && !is_stopped_) {
        std::size_t best = unknown;
        for (std::size_t k = 0; k < matchers_.size(); ++k) {
            if (is_done[k]) continue;
            if (next[k].begin == unknown || next[k].begin < at_) {
                auto found = matchers_[k]->find(text_, at_, until);
                is_done[k] = !found;
                if (!found) continue;
                next[k] = *found;
            }
            if (best == unknown || next[k].begin < next[best].begin) best = k;
        }
        if (best == unknown) {
            out.append(text_, at_, until - at_);
            at_ = until;
            return;
        }
        Match match = next[best];
        out.append(text_, at_, match.begin - at_);
        auto instead =
            on_match_(*matchers_[best], std::string_view(text_).substr(match.begin, match.end - match.begin));
        if (instead) out += *instead;
        is_stopped_ = !instead;
        at_ = match.end;
    }
}

std::optional<std::string> filter_text(const Matchers& matchers, const OnMatch& on_match,
                                       std::string_view text, bool& is_stopped) {
    bool is_changed = false;
    OnMatch noting = [&](const Matcher& matcher, std::string_view found) {
        auto instead = on_match(matcher, found);
        is_changed = is_changed || !instead || *instead != found;
        return instead;
    };
    Filter filter(matchers, noting);
    std::string out;
    filter.push(text, out);
    filter.finish(out);
    is_stopped = is_stopped || filter.is_stopped();
    if (!is_changed) return std::nullopt;
    return out;
}

}  // namespace nebula::gateway::guardrails

#include "tokenizer/merging.hpp"

#include <algorithm>
#include <array>
#include <queue>
#include <vector>

namespace nebula::tokenizer {
namespace {

constexpr std::size_t short_word = 48;  // below, looking at all pairs again is cheaper than a heap
constexpr std::uint32_t none = Vocabulary::none;

// One symbol: bytes [at, at of the next).
struct Symbol {
    std::uint32_t at = 0;
    std::uint32_t number = none;  // by_pairs only
    std::uint32_t rank = none;    // of the merge with the next one
};

class Ranker {
   public:
    Ranker(const Vocabulary& vocabulary, Ranking ranking, std::string_view word, Work& work)
        : vocabulary_(vocabulary), ranking_(ranking), word_(word), work_(work) {}

    std::uint32_t first_number(std::size_t at) const {
        return ranking_ == Ranking::by_pairs ? vocabulary_.of_byte(word_[at]) : none;
    }
    // Of `left` and `right`, which ends at `end`.
    std::uint32_t rank(const Symbol& left, const Symbol& right, std::size_t end) const {
        ++work_.steps;
        if (ranking_ == Ranking::by_pairs) return vocabulary_.find_merge(left.number, right.number).rank;
        std::uint32_t found = vocabulary_.find(word_.substr(left.at, end - left.at));
        return found == none ? none : vocabulary_.rank(found);
    }
    std::uint32_t made(const Symbol& left, const Symbol& right) const {
        return ranking_ == Ranking::by_pairs ? vocabulary_.find_merge(left.number, right.number).made : none;
    }

   private:
    const Vocabulary& vocabulary_;
    const Ranking ranking_;
    std::string_view word_;
    Work& work_;
};

std::int64_t count_short(const Ranker& ranker, std::size_t length) {
    std::array<Symbol, short_word + 1> symbols;
    std::size_t count = length;
    auto end_of = [&](std::size_t i) { return i + 1 < count ? symbols[i + 1].at : length; };
    auto set_rank = [&](std::size_t i) {
        symbols[i].rank = i + 1 < count ? ranker.rank(symbols[i], symbols[i + 1], end_of(i + 1)) : none;
    };
    for (std::size_t i = 0; i < count; ++i)
        symbols[i] = {static_cast<std::uint32_t>(i), ranker.first_number(i), none};
    for (std::size_t i = 0; i < count; ++i) set_rank(i);
    while (count > 1) {
        auto best = std::ranges::min_element(symbols.begin(), symbols.begin() + static_cast<long>(count), {},
                                             &Symbol::rank);
        if (best->rank == none) break;
        auto at = static_cast<std::size_t>(best - symbols.begin());
        symbols[at].number = ranker.made(symbols[at], symbols[at + 1]);
        std::copy(symbols.begin() + static_cast<long>(at) + 2, symbols.begin() + static_cast<long>(count),
                  symbols.begin() + static_cast<long>(at) + 1);
        --count;
        set_rank(at);
        if (at > 0) set_rank(at - 1);
    }
    return static_cast<std::int64_t>(count);
}

// The same with a heap of possible merges and links between neighbours.
class LongWord {
   public:
    LongWord(const Ranker& ranker, std::size_t length, Work& work)
        : ranker_(ranker), length_(static_cast<std::uint32_t>(length)), work_(work) {
        symbols_.resize(length);
        next_.resize(length);
        previous_.resize(length);
        for (std::uint32_t i = 0; i < length_; ++i) {
            symbols_[i] = {i, ranker.first_number(i), none};
            next_[i] = i + 1;
            previous_[i] = i == 0 ? none : i - 1;
        }
    }

    std::int64_t count() {
        for (std::uint32_t i = 0; i < length_; ++i) offer(i);
        std::uint32_t left = length_;
        while (!heap_.empty()) {
            auto [rank, at] = heap_.top();
            heap_.pop();
            ++work_.steps;
            // Merged away meanwhile, or its neighbour is another one: then it was offered again.
            if (symbols_[at].rank != rank) continue;
            merge(at);
            --left;
        }
        return left;
    }

   private:
    struct Offer {
        std::uint32_t rank, at;
        bool operator<(const Offer& other) const {  // the best is the largest
            return rank != other.rank ? rank > other.rank : at > other.at;
        }
    };

    void offer(std::uint32_t at) {
        std::uint32_t right = next_[at];
        std::uint32_t rank =
            right < length_ ? ranker_.rank(symbols_[at], symbols_[right], next_[right]) : none;
        symbols_[at].rank = rank;
        if (rank != none) heap_.push({rank, at});
    }
    void merge(std::uint32_t at) {
        std::uint32_t right = next_[at];
        symbols_[at].number = ranker_.made(symbols_[at], symbols_[right]);
        symbols_[right].rank = none;
        next_[at] = next_[right];
        if (next_[at] < length_) previous_[next_[at]] = at;
        offer(at);
        if (previous_[at] != none) offer(previous_[at]);
    }

    const Ranker& ranker_;
    const std::uint32_t length_;
    Work& work_;
    std::vector<Symbol> symbols_;
    std::vector<std::uint32_t> next_, previous_;
    std::priority_queue<Offer> heap_;
};

}  // namespace

std::int64_t count_word(const Vocabulary& vocabulary, Ranking ranking, std::string_view word, Work& work) {
    if (word.size() <= 1) return static_cast<std::int64_t>(word.size());
    Ranker ranker(vocabulary, ranking, word, work);
    if (word.size() <= short_word) return count_short(ranker, word.size());
    return LongWord(ranker, word.size(), work).count();
}

}  // namespace nebula::tokenizer

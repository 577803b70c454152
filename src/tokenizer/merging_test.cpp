// Money is counted by these merges: the fast way must give what the definition gives, for every vocabulary
// and every word, and no word may take long.
#include "tokenizer/merging.hpp"

#include <gtest/gtest.h>

#include "tokenizer/test_support/vocabularies.hpp"

namespace nebula::tokenizer {
namespace {

// The definition, word for word: of all neighbours that may merge, those of the lowest rank, the first of
// them.
std::int64_t by_definition(const Vocabulary& vocabulary, Ranking ranking, std::string_view word) {
    std::vector<std::string> parts;
    for (char c : word) parts.push_back(std::string(1, c));
    while (true) {
        std::size_t best = parts.size();
        std::uint32_t best_rank = Vocabulary::none;
        for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
            std::uint32_t rank = Vocabulary::none;
            if (ranking == Ranking::by_pairs) {
                rank = vocabulary.find_merge(vocabulary.find(parts[i]), vocabulary.find(parts[i + 1])).rank;
            } else if (auto found = vocabulary.find(parts[i] + parts[i + 1]); found != Vocabulary::none) {
                rank = vocabulary.rank(found);
            }
            if (rank < best_rank) {
                best = i;
                best_rank = rank;
            }
        }
        if (best == parts.size()) return static_cast<std::int64_t>(parts.size());
        parts[best] += parts[best + 1];
        parts.erase(parts.begin() + static_cast<long>(best) + 1);
    }
}

Vocabulary vocabulary_of(const std::vector<std::string>& entries, std::mt19937& random) {
    Vocabulary vocabulary(entries.size());
    for (std::size_t i = 0; i < entries.size(); ++i)
        vocabulary.add(entries[i], static_cast<std::uint32_t>(i));
    vocabulary.reserve_merges(4 * entries.size());
    // Each longer entry is made by some of the pairs that could make it.
    std::uint32_t rank = 0;
    for (std::size_t i = 256; i < entries.size(); ++i) {
        for (std::size_t cut = 1; cut < entries[i].size() && rank < 4 * entries.size(); ++cut) {
            std::uint32_t left = vocabulary.find(entries[i].substr(0, cut));
            std::uint32_t right = vocabulary.find(entries[i].substr(cut));
            bool is_pair = left != Vocabulary::none && right != Vocabulary::none && random() % 3 > 0;
            if (is_pair) vocabulary.add_merge(left, right, {rank++, static_cast<std::uint32_t>(i)});
        }
    }
    return vocabulary;
}

TEST(CountWord, GivesWhatTheDefinitionGives) {
    std::mt19937 random(20260101);
    for (int round = 0; round < 60; ++round) {
        std::string_view letters = round % 2 == 0 ? "ab" : "abcde\xC3\xA9";
        auto entries = test::random_entries(random, 20 + random() % 300, letters);
        Vocabulary vocabulary = vocabulary_of(entries, random);
        for (int i = 0; i < 60; ++i) {
            std::string word;
            for (std::size_t length = random() % 150; length > 0; --length)
                word += letters[random() % letters.size()];
            for (Ranking ranking : {Ranking::by_bytes, Ranking::by_pairs}) {
                Work work;
                EXPECT_EQ(count_word(vocabulary, ranking, word, work),
                          by_definition(vocabulary, ranking, word))
                    << word << " in round " << round;
            }
        }
    }
}

// A word of a megabyte is an attack; what it takes is told in steps, since time is nothing to test by.
TEST(CountWord, TakesHardlyMoreStepsThanThereAreBytes) {
    std::vector<std::string> entries;
    for (int byte = 0; byte < 256; ++byte) entries.push_back(std::string(1, static_cast<char>(byte)));
    for (std::size_t length = 2; length <= 64; ++length) entries.push_back(std::string(length, 'a'));
    for (std::string_view pair : {"ab", "abab", "ba", "aba"}) entries.emplace_back(pair);
    std::mt19937 random(1);
    Vocabulary vocabulary = vocabulary_of(entries, random);
    for (std::string_view unit : {"a", "ab", "aab"}) {
        std::string word;
        while (word.size() < 1'000'000) word += unit;
        for (Ranking ranking : {Ranking::by_bytes, Ranking::by_pairs}) {
            Work work;
            EXPECT_GT(count_word(vocabulary, ranking, word, work), 0);
            EXPECT_LT(work.steps, 8 * word.size()) << unit;
        }
    }
}

TEST(CountWord, CountsNothingAndSingleBytes) {
    std::mt19937 random(2);
    Vocabulary vocabulary = vocabulary_of(test::random_entries(random, 0, "a"), random);
    Work work;
    EXPECT_EQ(count_word(vocabulary, Ranking::by_bytes, "", work), 0);
    EXPECT_EQ(count_word(vocabulary, Ranking::by_bytes, "\xFF", work), 1);
    EXPECT_EQ(count_word(vocabulary, Ranking::by_bytes, "\xFF\xFE", work), 2);
}

}  // namespace
}  // namespace nebula::tokenizer

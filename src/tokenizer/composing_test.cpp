// Qwen's vocabularies see texts in normal form C. What another form leaves is other bytes, hence other
// tokens.
#include "tokenizer/composing.hpp"

#include <gtest/gtest.h>

#include "tokenizer/utf8.hpp"

namespace nebula::tokenizer {
namespace {

TEST(Composing, GivesNormalFormC) {
    struct Row {
        const char* text;
        const char* composed;
    };
    const Row rows[] = {
        {"e\u0301", "\u00E9"},
        {"plain \u00E9", "plain \u00E9"},
        {"a\u0323\u0302", "\u1EAD"},
        {"a\u0302\u0323", "\u1EAD"},        // marks are put in order
        {"a\u0315\u0300", "\u00E0\u0315"},  // over a mark of another class
        {"a\u0300\u0300", "\u00E0\u0300"},  // but not over one of the same
        {"\u212B", "\u00C5"},               // one character for another
        {"\u0958", "\u0915\u093C"},         // excluded from composition
        {"\u1100\u1161\u11A8", "\uAC01"},   // Hangul
        {"\uAC00\u11A8", "\uAC01"},
        {"\u1100\u1161\u11A7", "\uAC00\u11A7"},  // no tail
        {"\u0301", "\u0301"},                    // a mark alone
        {"\u0344", "\u0308\u0301"},
        {"\u09C7\u09BE", "\u09CB"},  // two starters
        {"", ""},
    };
    for (const Row& row : rows) EXPECT_EQ(composed(row.text), row.composed) << row.text;
}

TEST(Composing, LeavesWhatIsComposed) {
    for (std::string_view text : {"ascii", "\u00E9t\u00E9", "\uAC01", "世界", "\U0001F600"})
        EXPECT_EQ(composed(text), text);
    EXPECT_TRUE(is_plain("abc\u00E9"));
    EXPECT_FALSE(is_plain("e\u0301"));
}

// A stream may be cut between a letter and its mark.
TEST(Composing, SettlesWhatNothingCanChangeAnyMore) {
    EXPECT_EQ(settled_bytes("abc"), 2u);
    EXPECT_EQ(settled_bytes("abe\u0301"), 2u);
    EXPECT_EQ(settled_bytes("\u0301\u0301"), 0u);
    EXPECT_EQ(settled_bytes("\u1100\u1161"), 0u);
    EXPECT_EQ(settled_bytes(""), 0u);
}

TEST(Repaired, PutsOneMarkForEachPartOfACharacter) {
    EXPECT_EQ(repaired("a\xFF\xC3z"), "a\uFFFD\uFFFDz");
    EXPECT_EQ(repaired("\xE4\xBD"), "\uFFFD");  // the begin of one
    EXPECT_EQ(repaired("\xF0\x9F\x98"), "\uFFFD");
    EXPECT_EQ(repaired("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // half a surrogate pair
    EXPECT_EQ(repaired("\xC0\x80"), "\uFFFD\uFFFD");            // overlong
    EXPECT_EQ(repaired("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
    EXPECT_EQ(repaired("\u00E9\U0001F600"), "\u00E9\U0001F600");
}

}  // namespace
}  // namespace nebula::tokenizer

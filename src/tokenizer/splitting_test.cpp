// A text cut at other places than the model's own tokenizer cuts it has another number of tokens. The
// expected cuts are those of the published patterns.
#include "tokenizer/splitting.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace nebula::tokenizer {
namespace {

std::vector<std::string> pieces(const Splitter& splitter, std::string_view text) {
    std::vector<std::string> out;
    for (std::size_t at = 0; at < text.size();) {
        auto match = splitter.next(text, at, true);
        if (match.kind != Splitter::Match::Kind::found) {
            out.push_back("REST:" + std::string(text.substr(at)));
            break;
        }
        EXPECT_EQ(match.begin, at) << "a gap in " << text;
        out.emplace_back(text.substr(match.begin, match.end - match.begin));
        at = match.end;
    }
    return out;
}

std::vector<std::string> pieces(Family family, std::string_view text) {
    auto splitter = Splitter::compile(pattern_of(family), Splitter::Gaps::dropped);
    if (!splitter) return {splitter.error().message};
    return pieces(*splitter, text);
}

using Texts = std::vector<std::string>;

TEST(Splitting, CutsAsEachFamilyDoes) {
    EXPECT_EQ(pieces(Family::gpt2, "Hello world's 12345  end\n\n x"),
              (Texts{"Hello", " world", "'s", " 12345", " ", " end", "\n\n", " x"}));
    EXPECT_EQ(pieces(Family::cl100k, "Hello WORLD'S 12345  (end)\n\n x\n  "),
              (Texts{"Hello", " WORLD", "'S", " ", "123", "45", " ", " (", "end", ")\n\n", " x", "\n  "}));
    EXPECT_EQ(pieces(Family::llama3, "x\n  "), (Texts{"x", "\n", "  "}));
    EXPECT_EQ(pieces(Family::qwen2, "a 123"), (Texts{"a", " ", "1", "2", "3"}));
    EXPECT_EQ(pieces(Family::o200k, "CamelCase HTTPServer's https://x.y/"),
              (Texts{"Camel", "Case", " HTTPServer's", " https", "://", "x", ".y", "/"}));
    EXPECT_EQ(pieces(Family::cl100k, "你好，世界 Привет, м\xC3\xA9"),
              (Texts{"你好", "，世界", " Привет", ",", " м\xC3\xA9"}));
}

// PCRE2's own \s has U+180E, tiktoken's and Oniguruma's have not.
TEST(Splitting, TakesForWhiteSpaceWhatUnicodeDoes) {
    EXPECT_EQ(pieces(Family::gpt2, "a\u00A0\u3000b"), (Texts{"a", "\u00A0", "\u3000", "b"}));
    EXPECT_EQ(pieces(Family::gpt2, "a \u180Eb"), (Texts{"a", " \u180E", "b"}));
}

TEST(Splitting, SaysWhatMoreTextMayChange) {
    auto splitter = Splitter::compile(pattern_of(Family::cl100k), Splitter::Gaps::dropped);
    ASSERT_TRUE(splitter) << splitter.error().message;
    using Kind = Splitter::Match::Kind;
    EXPECT_EQ(splitter->next("Hello", 0, false).kind, Kind::unfinished);
    EXPECT_EQ(splitter->next("Hello", 0, true).kind, Kind::found);
    auto match = splitter->next("Hello wor", 0, false);
    EXPECT_EQ(match.kind, Kind::found);
    EXPECT_EQ(match.end, 5u);
    EXPECT_EQ(splitter->next("   ", 0, false).kind, Kind::unfinished);
}

TEST(Splitting, ReadsPatternsOfTokenizerFiles) {
    auto published = translated_pattern(
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
    ASSERT_TRUE(published) << published.error().message;
    EXPECT_EQ(*published, pattern_of(Family::llama3));
    auto own = translated_pattern(R"([\p{Han}一-龥]+|\d{1,3}|\s+|[^\s\d]+)");
    ASSERT_TRUE(own) << own.error().message;
    auto splitter = Splitter::compile(*own, Splitter::Gaps::kept);
    ASSERT_TRUE(splitter) << splitter.error().message;
    EXPECT_EQ(pieces(*splitter, "世界12345 ab"), (Texts{"世界", "123", "45", " ", "ab"}));
}

TEST(Splitting, ReadsDeepSeeksThreeSteps) {
    for (
        std::string_view pattern :
        {R"(\p{N}{1,3})", R"([一-龥぀-ゟ゠-ヿ]+)",
         R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)"
         R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"}) {
        auto read = translated_pattern(pattern);
        ASSERT_TRUE(read) << pattern << ": " << read.error().message;
        EXPECT_TRUE(Splitter::compile(*read, Splitter::Gaps::kept)) << pattern;
    }
}

// What two libraries read differently would be counted wrongly without anybody noticing.
TEST(Splitting, RefusesWhatLibrariesReadDifferently) {
    for (std::string_view pattern :
         {R"(\w+)", R"(\bx)", R"(.+)", R"(^x)", R"(x$)", R"((?<=a)b)", R"([a&&b])", R"([[:alpha:]])",
          R"(\p{N}{1,3}+)", R"([\S])", R"(\h)", R"([a)", R"(\)", R"(\p{^L})", R"((?<name>x))", R"(\1)"}) {
        auto read = translated_pattern(pattern);
        EXPECT_FALSE(read) << pattern;
    }
    EXPECT_FALSE(Splitter::compile("x*", Splitter::Gaps::kept)) << "matches nothing";
    EXPECT_FALSE(Splitter::compile("(x", Splitter::Gaps::kept));
    EXPECT_FALSE(Splitter::compile("\\p{sc:Nowhere}", Splitter::Gaps::kept));
}

}  // namespace
}  // namespace nebula::tokenizer

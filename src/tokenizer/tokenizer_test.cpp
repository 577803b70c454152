// Vocabularies are files of others: what is wrong with one must be said with its place, not counted with.
#include "tokenizer/tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include <unistd.h>

#include "tokenizer/test_support/vocabularies.hpp"

namespace nebula::tokenizer {
namespace {

using testing::HasSubstr;

std::vector<std::string> bytes_and(std::initializer_list<std::string_view> more) {
    std::vector<std::string> entries;
    for (int byte = 0; byte < 256; ++byte) entries.push_back(std::string(1, static_cast<char>(byte)));
    for (std::string_view one : more) entries.emplace_back(one);
    return entries;
}

std::shared_ptr<const Tokenizer> small(std::string_view family = "cl100k") {
    auto read = Tokenizer::parse(
        test::rank_file(bytes_and({"he", "ll", "hell", "hello", " w", "or", " wor", "12"})), "small", family);
    EXPECT_TRUE(read) << read.error().message;
    return *read;
}

TEST(RankFile, CountsByItsMerges) {
    auto tokenizer = small();
    EXPECT_EQ(tokenizer->count("hello"), 1);
    EXPECT_EQ(tokenizer->count("hello world"), 1 + 3);  // " wor" l d
    EXPECT_EQ(tokenizer->count("12"), 1);
    EXPECT_EQ(tokenizer->count(""), 0);
    EXPECT_EQ(tokenizer->count("<|endoftext|>"), 13) << "a special token's spelling is text";
    EXPECT_EQ(tokenizer->count("\xFF"), 3) << "as U+FFFD";
    EXPECT_EQ(tokenizer->describe(), "cl100k, 264 entries");
    EXPECT_EQ(tokenizer->chat().message, 3);
}

TEST(RankFile, SaysWhichLineIsWrong) {
    std::string good = test::rank_file(bytes_and({}));
    auto problem = [&](const std::string& text, std::string_view family = "gpt2") {
        auto read = Tokenizer::parse(text, "x.tiktoken", family);
        return read ? "none" : read.error().message;
    };
    EXPECT_EQ(problem(good), "none");
    EXPECT_EQ(problem(good + "\r\n\n"), "none") << "empty lines are nothing";
    EXPECT_THAT(problem(good + "aGVsbG8= x\n"), HasSubstr("tokenizer x.tiktoken: line 257 is not an entry"));
    EXPECT_THAT(problem(good + "aGVsbG8=\n"), HasSubstr("line 257"));
    EXPECT_THAT(problem(good + "aGVsbG8 300\n"), HasSubstr("line 257"));
    EXPECT_THAT(problem(good + "a=Vs 300\n"), HasSubstr("line 257"));
    EXPECT_THAT(problem(good + "aGVs -1\n"), HasSubstr("line 257"));
    EXPECT_THAT(problem(good + "aGVs 300\naGVs 301\n"), HasSubstr("line 258 repeats an entry"));
    EXPECT_THAT(problem(good + "aGVs 7\n"), HasSubstr("the rank 7 twice"));
    EXPECT_THAT(problem("aGVs 7\n"), HasSubstr("lacks the entry of the byte 0"));
    EXPECT_THAT(problem(""), HasSubstr("lacks the entry"));
    EXPECT_THAT(problem(good, ""), HasSubstr("has 256 entries"));
    EXPECT_THAT(problem(good, "gpt9"), HasSubstr("unknown family \"gpt9\""));
}

// A tokenizer.json over bytes whose entries are all bytes and what `merges` make.
std::string json_file(std::string_view merges, std::string_view pre_tokenizer,
                      std::string_view more_model = "", std::string_view more = "") {
    std::string vocab;
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
        bool is_itself = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        char text[16];
        std::snprintf(text, sizeof text, "\"\\u%04x\":%d,", is_itself ? byte : next++, byte);
        vocab += text;
    }
    vocab += R"("he":256,"ll":257,"hell":258,"hello":259,"Ġw":260,"<|end|>":261)";
    return R"({"version":"1.0","added_tokens":[],)" + std::string(more) + R"("pre_tokenizer":)" +
           std::string(pre_tokenizer) + R"(,"model":{"type":"BPE",)" + std::string(more_model) +
           R"("vocab":{)" + vocab + R"(},"merges":)" + std::string(merges) + "}}";
}

constexpr std::string_view byte_level = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";
constexpr std::string_view merges = R"(["h e","l l","he ll","Ġ w"])";

TEST(TokenizerJson, CountsByItsListOfMerges) {
    auto read = Tokenizer::parse(json_file(merges, byte_level), "t.json");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ((*read)->count("hello"), 2) << "the entry exists, but nothing makes it";
    EXPECT_EQ((*read)->count("hell w"), 2);
    EXPECT_EQ((*read)->family(), Family::gpt2);
    auto whole = Tokenizer::parse(
        json_file(R"([["h","e"],["l","l"],["he","ll"]])", byte_level, R"("ignore_merges":true,)"), "t.json");
    ASSERT_TRUE(whole) << whole.error().message;
    EXPECT_EQ((*whole)->count("hello"), 1);
    auto prefixed = Tokenizer::parse(
        json_file(merges, R"({"type":"ByteLevel","add_prefix_space":true,"use_regex":true})"), "t.json");
    ASSERT_TRUE(prefixed) << prefixed.error().message;
    EXPECT_EQ((*prefixed)->count("w"), 1);
    EXPECT_EQ((*prefixed)->count(" w"), 1);
}

TEST(TokenizerJson, ReadsItsSplittingAndNormalizer) {
    std::string split =
        R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"},)"
        R"("behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})";
    auto read = Tokenizer::parse(json_file(merges, split, "", R"("normalizer":{"type":"NFC"},)"), "t.json");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ((*read)->count("hell-hell!"), 1 + 2 + 1);
    EXPECT_EQ((*read)->count("e\u0301"), 2) << "composed: two bytes";
    EXPECT_EQ((*read)->family(), Family::other);
}

TEST(TokenizerJson, NamesTheMemberThatCannotBeCounted) {
    auto problem = [](const std::string& text) {
        auto read = Tokenizer::parse(text, "t.json");
        return read ? "none" : read.error().message;
    };
    EXPECT_EQ(problem(json_file(merges, byte_level)), "none");
    EXPECT_THAT(problem("{"), HasSubstr("tokenizer t.json: is no JSON"));
    EXPECT_THAT(problem("{}"), HasSubstr("model is missing"));
    EXPECT_THAT(problem(R"({"model":{"type":"WordPiece"}})"), HasSubstr(R"(model.type is "WordPiece")"));
    EXPECT_THAT(problem(R"({"model":{"type":"BPE","byte_fallback":true}})"),
                HasSubstr("model.byte_fallback"));
    EXPECT_THAT(problem(R"({"model":{"type":"BPE","end_of_word_suffix":"</w>"}})"),
                HasSubstr("model.end_of_word_suffix"));
    EXPECT_THAT(problem(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})"),
                HasSubstr("model.vocab lacks the entry of the byte 0"));
    EXPECT_THAT(problem(json_file(R"(["h e","h x"])", byte_level)), HasSubstr("model.merges[1] is no pair"));
    EXPECT_THAT(problem(json_file(R"(["he"])", byte_level)), HasSubstr("model.merges[0]"));
    EXPECT_THAT(problem(json_file(R"([["h"]])", byte_level)), HasSubstr("model.merges[0]"));
    EXPECT_THAT(problem(json_file("7", byte_level)), HasSubstr("model.merges is no list"));
    EXPECT_THAT(problem(json_file(merges, "null")), HasSubstr("pre_tokenizer is missing"));
    EXPECT_THAT(problem(json_file(merges, R"({"type":"Metaspace"})")),
                HasSubstr(R"(pre_tokenizer of type "Metaspace")"));
    EXPECT_THAT(problem(json_file(merges, R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":)"
                                          R"({"Regex":"\\w+"},"behavior":"Isolated"}]})")),
                HasSubstr("pre_tokenizer[0].pattern has \\w"));
    EXPECT_THAT(
        problem(json_file(merges, R"({"type":"Split","pattern":{"String":" "},"behavior":"Removed"})")),
        HasSubstr("behavior \"Removed\""));
    EXPECT_THAT(problem(json_file(merges, byte_level, "", R"("normalizer":{"type":"Lowercase"},)")),
                HasSubstr(R"(normalizer of type "Lowercase")"));
    EXPECT_THAT(problem(json_file(merges, byte_level, "",
                                  R"("normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"}]},)")),
                HasSubstr(R"(normalizer[0] of type "NFKC")"));
}

// A stream is counted as the text that it makes, wherever it is cut.
TEST(Counter, CountsAStreamLikeItsText) {
    std::mt19937 random(42);
    std::string split = R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},)" +
                        std::string(byte_level) + "]}";
    std::vector<std::shared_ptr<const Tokenizer>> all = {small("gpt2"), small("cl100k"), small("o200k"),
                                                         small("llama3"), small("qwen2")};
    for (std::string_view pre : {std::string_view(split), byte_level}) {
        auto read = Tokenizer::parse(json_file(merges, pre, "", R"("normalizer":{"type":"NFC"},)"), "t.json");
        ASSERT_TRUE(read) << read.error().message;
        all.push_back(*read);
    }
    const std::vector<std::string> units = {"hello", " wor",   "\n",     "  ",     "12",
                                            "e",     "\u0301", "世",     "'s",     "A",
                                            "!",     "\u3000", "\uAC00", "\u11A8", "\xFF"};
    for (int round = 0; round < 40; ++round) {
        std::vector<std::string> pieces;
        std::string text;
        std::size_t favourite = random() % units.size();
        for (std::size_t i = random() % 30'000; i > 0; --i) {
            pieces.push_back(units[round % 4 == 0 || random() % 3 > 0 ? random() % units.size() : favourite]);
            text += pieces.back();
        }
        for (const auto& tokenizer : all) {
            Counter counter(tokenizer);
            for (const std::string& piece : pieces) counter.add(piece);
            ASSERT_EQ(counter.finish(), tokenizer->count(text))
                << tokenizer->describe() << " in round " << round;
        }
    }
}

TEST(Counter, KeepsLittleOfALongStreamAndGivesUpOnAnEndlessWord) {
    Counter counter(small());
    for (int i = 0; i < 500'000; ++i) {
        counter.add(" hello");
        ASSERT_LE(counter.held_bytes(), 40'000u);
    }
    EXPECT_GE(counter.finish().value_or(0), 500'000);
    Counter endless(small());
    for (int i = 0; i < 4'000; ++i) endless.add(std::string(1'000, 'a'));
    EXPECT_LE(endless.held_bytes(), 2 * Tokenizer::piece_bytes_max);
    EXPECT_EQ(endless.finish(), std::nullopt);
}

TEST(Tokenizer, BoundsWhatItCounts) {
    auto tokenizer = small();
    EXPECT_EQ(tokenizer->count(std::string(Tokenizer::text_bytes_max + 1, ' ')), std::nullopt);
    EXPECT_EQ(tokenizer->count(std::string(Tokenizer::piece_bytes_max + 1, 'a')), std::nullopt);
    for (std::string_view unit : {"a", " ", "\n", "A", "!", "\u4E16", "aA", " \n"}) {
        std::string text;
        while (text.size() < 500'000) text += unit;
        Work work;
        ASSERT_TRUE(tokenizer->count(text, &work)) << unit;
        EXPECT_LT(work.steps, 8 * text.size()) << unit;
    }
}

// Every model that names the file shares one object; a changed file is read anew, a bad one leaves the old.
TEST(Tokenizer, IsLoadedOncePerFile) {
    auto path = std::filesystem::temp_directory_path() / ("tokenizer_test_" + std::to_string(::getpid()));
    auto write = [&](const std::string& text) { std::ofstream(path) << text; };
    write(test::rank_file(bytes_and({"he"})));
    auto first = Tokenizer::load(path.string(), "gpt2"), second = Tokenizer::load(path.string(), "gpt2");
    ASSERT_TRUE(first && second);
    EXPECT_EQ(*first, *second);
    write(test::rank_file(bytes_and({"he", "hel"})));
    auto third = Tokenizer::load(path.string(), "gpt2");
    ASSERT_TRUE(third);
    EXPECT_NE(*first, *third);
    EXPECT_EQ((*third)->entries(), 258u);
    write("nonsense\n");
    EXPECT_FALSE(Tokenizer::load(path.string(), "gpt2"));
    EXPECT_EQ((*third)->count("hel"), 1);
    std::filesystem::remove(path);
    EXPECT_THAT(Tokenizer::load(path.string(), "gpt2").error().message, HasSubstr("cannot be read"));
    EXPECT_THAT(Tokenizer::load("/tmp", "gpt2").error().message, HasSubstr("cannot be read"));
}

}  // namespace
}  // namespace nebula::tokenizer

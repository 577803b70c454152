// What is taken for personal data decides what leaves the house and what a model can still understand: each
// form with its checksum, and its look-alikes.
#include <gtest/gtest.h>

#include <random>

#include "gateway/guardrails/filter.hpp"

namespace nebula::gateway::guardrails {
namespace {

// Every match in angle brackets.
std::string marked(const Matchers& matchers, std::string_view text) {
    OnMatch mark = [](const Matcher&, std::string_view found) { return "<" + std::string(found) + ">"; };
    bool is_stopped = false;
    return filter_text(matchers, mark, text, is_stopped).value_or(std::string(text));
}

std::string marked(std::string_view entity, std::string_view text) {
    return marked({make_personal(entity)}, text);
}

struct Row {
    const char* entity;
    const char* text;  // with the matches marked
};

const Row rows[] = {
    {"email", "write to <ada.l+x@mail.example.co.uk>."},
    {"email", "(<a@b.io>)"},
    {"email", "<first@example.com>,<second@example.com>"},
    {"email", "no@domain, @handle, a@b, a@.com, a@b-.com, x@example.c0m"},
    {"email", "mailto:<a@example.com>?x"},
    {"phone", "call <+49 30 1234567> now"},
    {"phone", "call <+49 (0)30 1234-567>"},
    {"phone", "<+14155552671>"},
    {"phone", "<(415) 555-2671> or <415-555-2671> or <415.555.2671>"},
    {"phone", "<004930123456>"},
    {"phone", "in 2026 4155552671 of 1234567 and +123 and 1-2-3 and +1234567890123456789"},
    {"iban", "to <DE89 3704 0044 0532 0130 00> please"},
    {"iban", "<GB82WEST12345698765432>"},
    {"iban", "<DE89370400440532013000>"},
    {"iban", "DE88370400440532013000 has a wrong checksum, AB12 is none"},
    {"credit_card", "<4111 1111 1111 1111> exp"},
    {"credit_card", "<4111-1111-1111-1111>, <378282246310005>"},
    {"credit_card", "id 12 <5555555555554444>"},
    {"credit_card", "4111 1111 1111 1112 is wrong, 1111111111111117 is none, x4111111111111111"},
    {"ip", "from <192.168.0.1> and <10.0.0.255>:8080."},
    {"ip", "<2001:db8::8a2e:370:7334> and <fe80::1ff:fe23:4567:890a>"},
    {"ip", "version 1.2.3 or 1.2.3.4.5 or 256.1.1.1 at 12:30:45, std::abc a::b"},
    {"api_key", "key=<sk-proj-abcdefghij0123456789>"},
    {"api_key", "<ghp_0123456789abcdefghijABCDEFGHIJ012345> <AKIAIOSFODNN7EXAMPLE>"},
    {"api_key", "task-force, sk-short, desk-abcdefghijklmnopqrstuvwxyz"},
};

TEST(Personal, IsFoundByItsFormAndChecksum) {
    for (const Row& row : rows) {
        std::string text;
        for (const char* c = row.text; *c != '\0'; ++c)
            if (*c != '<' && *c != '>') text += *c;
        EXPECT_EQ(marked(row.entity, text), row.text);
    }
}

TEST(Personal, OtherWordsAreNoEntities) { EXPECT_EQ(make_personal("shoe_size"), nullptr); }

TEST(Words, AreFoundInAnyCaseAndOnlyWhole) {
    auto words = make_words({"cat", "c++", "Größe"});
    ASSERT_TRUE(words);
    EXPECT_EQ(marked({*words}, "Cat, concat, CAT-like, C++ and the größe"),
              "<Cat>, concat, <CAT>-like, <C++> and the <größe>");
    EXPECT_FALSE(make_words({""}));
}

TEST(Patterns, AreLinearAndBoundedInLength) {
    auto pattern = make_pattern("a+b", 8);
    ASSERT_TRUE(pattern);
    EXPECT_EQ(marked({*pattern}, "xaab aaaaaaaaaaaab"), "x<aab> aaaaa<aaaaaaab>")
        << "no match is longer than its reach";
    EXPECT_FALSE(make_pattern("(", 8));
    EXPECT_FALSE(make_pattern("a*", 8)) << "it matches nothing at all";
    auto evil = make_pattern("(a+)+$", 64);
    ASSERT_TRUE(evil);
    EXPECT_EQ(marked({*evil}, std::string(20'000, 'a') + "!"), std::string(20'000, 'a') + "!");
}

// The property that streams rest on: pieces may be cut anywhere.
TEST(Filter, TheResultDoesNotDependOnWhereTheTextWasCut) {
    Matchers all;
    for (const char* entity : {"email", "phone", "iban", "credit_card", "ip", "api_key"})
        all.push_back(make_personal(entity));
    all.push_back(*make_words({"secret", "größe", "top secret"}));
    all.push_back(*make_pattern("\\b[a-z]{2,9}=[^ ]+", 24));
    all.push_back(*make_pattern("^start|end$|x.*y", 16));
    std::mt19937 random(7);
    auto pick = [&random](std::size_t count) { return random() % count; };
    const std::string parts[] = {"start",
                                 "end",
                                 " ",
                                 "x",
                                 "y",
                                 "größe",
                                 "Top secret",
                                 "a@b.example.com",
                                 "@",
                                 "+49 30 1234567",
                                 "DE89 3704 0044 0532 0130 00",
                                 "4111 1111 1111 1111",
                                 "10.0.0.1",
                                 "::1",
                                 "sk-",
                                 "abcdefghij0123456789",
                                 "key=",
                                 "🙂",
                                 ".",
                                 "-",
                                 "4",
                                 "[EMAIL_1]",
                                 "ab=cd"};
    for (int round = 0; round < 3'000; ++round) {
        std::string text;
        for (std::size_t k = pick(30); k > 0; --k) text += parts[pick(std::size(parts))];
        std::string whole = marked(all, text);
        OnMatch mark = [](const Matcher&, std::string_view found) { return "<" + std::string(found) + ">"; };
        Filter filter(all, mark);
        std::string out;
        for (std::size_t at = 0; at < text.size();) {
            std::size_t size = std::min(text.size() - at, 1 + pick(12));
            filter.push(std::string_view(text).substr(at, size), out);
            at += size;
        }
        filter.finish(out);
        ASSERT_EQ(out, whole) << text;
    }
}

TEST(Filter, HoldsBackNoMoreThanTheLongestMatch) {
    Matchers words{*make_words({"secret"})};
    OnMatch mask = [](const Matcher&, std::string_view) -> std::optional<std::string> { return "*"; };
    Filter filter(words, mask);
    std::string out;
    filter.push(std::string(1'000, 'a') + " ", out);
    EXPECT_GE(out.size(), 1'001 - words[0]->reach());
    filter.push("sec", out);
    filter.push("ret", out);
    filter.finish(out);
    EXPECT_EQ(out, std::string(1'000, 'a') + " *");
}

TEST(Filter, AMatchThatBlocksEndsTheText) {
    Matchers words{*make_words({"secret"})};
    OnMatch block = [](const Matcher&, std::string_view) -> std::optional<std::string> {
        return std::nullopt;
    };
    Filter filter(words, block);
    std::string out;
    for (std::string_view piece : {"a sec", "ret and ", "more secret"}) filter.push(piece, out);
    filter.finish(out);
    EXPECT_EQ(out, "a ");
    EXPECT_TRUE(filter.is_stopped());
}

}  // namespace
}  // namespace nebula::gateway::guardrails

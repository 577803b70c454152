// Readers of vocabularies, and counting: files of others and texts of strangers. A text in pieces must count
// like the whole.
#include <cstdlib>
#include <vector>

#include "tokenizer/test_support/vocabularies.hpp"
#include "tokenizer/tokenizer.hpp"

namespace {

using nebula::tokenizer::Counter;
using nebula::tokenizer::Tokenizer;

const std::vector<std::shared_ptr<const Tokenizer>>& all() {
    static const std::vector<std::shared_ptr<const Tokenizer>> made = [] {
        std::mt19937 random(7);
        std::string file = nebula::tokenizer::test::rank_file(
            nebula::tokenizer::test::random_entries(random, 500, "abc \n12'sA\xC3\xA9"));
        std::vector<std::shared_ptr<const Tokenizer>> list;
        for (const char* family : {"gpt2", "cl100k", "o200k", "llama3", "qwen2"})
            list.push_back(*Tokenizer::parse(file, "fuzz", family));
        return list;
    }();
    return made;
}

void count(const Tokenizer& tokenizer, std::string_view text) {
    auto whole = tokenizer.count(text);
    // At most a token a byte; what is no UTF-8 has three for each.
    if (whole && *whole > static_cast<std::int64_t>(3 * text.size() + 1)) std::abort();
}

// Pieces end between characters, as those of JSON texts do.
void count_pieces(std::shared_ptr<const Tokenizer> tokenizer, std::string_view text, std::size_t step) {
    Counter counter(tokenizer);
    std::string repeated;
    while (repeated.size() < 17'000) repeated.append(text).append(" ");
    for (std::size_t at = 0; at < repeated.size();) {
        std::size_t end = std::min(at + step, repeated.size());
        while (end < repeated.size() && static_cast<unsigned char>(repeated[end]) >= 0x80) ++end;
        counter.add(std::string_view(repeated).substr(at, end - at));
        at = end;
    }
    if (counter.finish() != tokenizer->count(repeated)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    if (size < 2) return 0;
    std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
    if (data[0] % 4 == 0) {
        auto read = Tokenizer::parse(text, "fuzz", data[1] % 2 == 0 ? "cl100k" : "");
        if (read) count(**read, text);
        return 0;
    }
    const auto& tokenizer = all()[data[0] / 4 % all().size()];
    if (data[0] % 4 == 1)
        count_pieces(tokenizer, text, 1 + data[1]);
    else
        count(*tokenizer, text);
    return 0;
}

// OpenAI's rank files: lines of an entry in base64 and its rank.
#include <algorithm>
#include <array>

#include "base/text.hpp"
#include "tokenizer/parts.hpp"

namespace nebula::tokenizer {
namespace {

constexpr std::size_t entry_bytes_max = 1'024;

struct Known {
    std::size_t entries;
    Family family;
};
// Numbers of entries of the published vocabularies, special tokens not counted.
constexpr Known by_entries[] = {{50'256, Family::gpt2},    {50'280, Family::p50k},
                                {100'256, Family::cl100k}, {128'000, Family::llama3},
                                {151'643, Family::qwen2},  {199'998, Family::o200k}};

// Strict: the padding must be there and nothing behind it.
bool decode_base64(std::string_view text, std::string& out) {
    out.clear();
    if (text.empty() || text.size() % 4 != 0) return false;
    std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        std::uint32_t value = 0;
        if (c >= 'A' && c <= 'Z')
            value = static_cast<std::uint32_t>(c - 'A');
        else if (c >= 'a' && c <= 'z')
            value = static_cast<std::uint32_t>(c - 'a' + 26);
        else if (c >= '0' && c <= '9')
            value = static_cast<std::uint32_t>(c - '0' + 52);
        else if (c == '+' || c == '/')
            value = c == '+' ? 62 : 63;
        else if (i + padding < text.size())
            return false;
        bits = bits << 6 | value;
        if (i % 4 == 3) {
            for (int shift : {16, 8, 0}) out += static_cast<char>(bits >> shift & 0xFF);
            bits = 0;
        }
    }
    out.resize(out.size() - padding);
    return true;
}

Result<Family> choose_family(std::size_t entries, std::string_view family) {
    if (family.empty()) {
        auto known = std::ranges::find(by_entries, entries, &Known::entries);
        if (known != std::end(by_entries)) return known->family;
        return fail(Code::invalid_request,
                    "has " + std::to_string(entries) +
                        " entries, which is no vocabulary that is known: say how it splits texts with "
                        "tokenizer_family");
    }
    for (Family known :
         {Family::gpt2, Family::p50k, Family::cl100k, Family::o200k, Family::llama3, Family::qwen2})
        if (family == family_name(known)) return known;
    return fail(Code::invalid_request, "cannot be of the unknown family \"" + std::string(family) + "\"");
}

}  // namespace

Result<std::unique_ptr<Tokenizer::Parts>> read_rank_file(std::string_view content, std::string_view family) {
    auto lines = static_cast<std::size_t>(std::ranges::count(content, '\n')) + 1;
    if (lines > Tokenizer::entries_max + 1)
        return fail(Code::invalid_request,
                    "has more than " + std::to_string(Tokenizer::entries_max) + " lines");
    auto parts = std::make_unique<Tokenizer::Parts>();
    parts->vocabulary = Vocabulary(lines);
    std::vector<std::uint32_t> ranks;
    ranks.reserve(lines);
    std::string bytes;
    std::size_t number = 0;
    while (!content.empty()) {
        ++number;
        std::size_t end = content.find('\n');
        std::string_view line = content.substr(0, end);
        content.remove_prefix(end == std::string_view::npos ? content.size() : end + 1);
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.empty()) continue;
        std::size_t space = line.find(' ');
        auto rank = parse_int<std::uint32_t>(space == std::string_view::npos ? "" : line.substr(space + 1));
        std::string where = "line " + std::to_string(number);
        if (!rank || *rank == Vocabulary::none || !decode_base64(line.substr(0, space), bytes))
            return fail(Code::invalid_request, where + " is not an entry in base64 and its rank");
        if (bytes.size() > entry_bytes_max)
            return fail(Code::invalid_request, where + " has an entry of more than 1024 bytes");
        if (!parts->vocabulary.add(bytes, *rank))
            return fail(Code::invalid_request, where + " repeats an entry");
        ranks.push_back(*rank);
    }
    for (int byte = 0; byte < 256; ++byte)
        if (parts->vocabulary.of_byte(static_cast<char>(byte)) == Vocabulary::none)
            return fail(Code::invalid_request,
                        "lacks the entry of the byte " + std::to_string(byte) + ": no vocabulary over bytes");
    std::ranges::sort(ranks);
    if (auto twice = std::ranges::adjacent_find(ranks); twice != ranks.end())
        return fail(Code::invalid_request, "has the rank " + std::to_string(*twice) + " twice");
    auto chosen = choose_family(parts->vocabulary.size(), family);
    if (!chosen) return fail(std::move(chosen.error()));
    parts->family = *chosen;
    parts->composes = *chosen == Family::qwen2;
    auto splitter = Splitter::compile(pattern_of(*chosen), Splitter::Gaps::dropped);
    if (!splitter) return fail(std::move(splitter.error()));
    parts->splitters.push_back(std::move(*splitter));
    return parts;
}

}  // namespace nebula::tokenizer

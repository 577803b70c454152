#include "tokenizer/composing.hpp"

#include <algorithm>
#include <vector>

#include "tokenizer/utf8.hpp"

namespace nebula::tokenizer {
namespace {

constexpr char32_t hangul_first = 0xAC00, hangul_count = 11'172;
constexpr char32_t lead_first = 0x1100, vowel_first = 0x1161, tail_first = 0x11A7;
constexpr char32_t lead_count = 19, vowel_count = 21, tail_count = 28;

std::uint8_t class_of(char32_t c) {
    if (c < 0x300) return 0;
    auto all = combining_classes();
    auto found = std::ranges::lower_bound(all, c, {}, &ClassOf::character);
    return found != all.end() && found->character == c ? found->combining_class : 0;
}

bool joins(char32_t c) {
    if (c < 0x300) return false;
    if (c >= vowel_first && c < tail_first + tail_count) return true;
    return std::ranges::binary_search(joining_characters(), c);
}

bool is_composite(char32_t c) {
    auto all = decompositions();
    auto found = std::ranges::lower_bound(all, c, {}, &Decomposition::character);
    return found != all.end() && found->character == c;
}

void decompose(char32_t c, std::u32string& out) {
    if (c >= hangul_first && c < hangul_first + hangul_count) {
        char32_t at = c - hangul_first;
        out += lead_first + at / (vowel_count * tail_count);
        out += vowel_first + at % (vowel_count * tail_count) / tail_count;
        if (at % tail_count != 0) out += tail_first + at % tail_count;
        return;
    }
    auto all = decompositions();
    auto found = std::ranges::lower_bound(all, c, {}, &Decomposition::character);
    if (c < 0xC0 || found == all.end() || found->character != c) {
        out += c;
        return;
    }
    decompose(found->first, out);
    if (found->second != 0) decompose(found->second, out);
}

char32_t pair_of(char32_t first, char32_t second) {
    if (first >= lead_first && first < lead_first + lead_count && second >= vowel_first &&
        second < vowel_first + vowel_count)
        return hangul_first + ((first - lead_first) * vowel_count + (second - vowel_first)) * tail_count;
    bool is_open = first >= hangul_first && first < hangul_first + hangul_count &&
                   (first - hangul_first) % tail_count == 0;
    if (is_open && second > tail_first && second < tail_first + tail_count)
        return first + (second - tail_first);
    auto all = compositions();
    auto before = [](const Composition& a, const Composition& b) {
        return a.first != b.first ? a.first < b.first : a.second < b.second;
    };
    auto found = std::ranges::lower_bound(all, Composition{first, second, 0}, before);
    return found != all.end() && found->first == first && found->second == second ? found->character : 0;
}

// One starter with all that joins it.
void compose(std::u32string_view cluster, std::string& out) {
    if (cluster.size() == 1 && !is_composite(cluster.front())) return append_utf8(out, cluster.front());
    std::u32string text;
    for (char32_t c : cluster) decompose(c, text);
    // Marks stand in the order of their classes; those between starters are sorted among themselves.
    for (std::size_t i = 0; i < text.size();) {
        std::size_t end = i;
        while (end < text.size() && class_of(text[end]) != 0) ++end;
        // Class, place, character: one number, so that equal classes keep their order.
        std::vector<std::uint64_t> marks;
        for (std::size_t k = i; k < end; ++k)
            marks.push_back(std::uint64_t{class_of(text[k])} << 56 | (k - i) << 21 | text[k]);
        std::ranges::sort(marks);
        for (std::size_t k = i; k < end; ++k) text[k] = static_cast<char32_t>(marks[k - i] & 0x1FFFFF);
        i = end + 1;
    }
    std::u32string kept;
    std::size_t starter = std::u32string::npos;
    std::uint8_t last_class = 0;
    for (char32_t c : text) {
        std::uint8_t own = class_of(c);
        bool is_blocked = starter == std::u32string::npos ||
                          (kept.size() > starter + 1 && (last_class == 0 || last_class >= own));
        char32_t both = is_blocked ? 0 : pair_of(kept[starter], c);
        if (both != 0) {
            kept[starter] = both;
            continue;
        }
        if (own == 0) starter = kept.size();
        last_class = own;
        kept += c;
    }
    for (char32_t c : kept) append_utf8(out, c);
}

}  // namespace

bool is_plain(std::string_view text) {
    // U+0300 begins with 0xCC.
    return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
}

std::string composed(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    std::u32string cluster;
    for (std::size_t at = 0; at < text.size();) {
        char32_t c = next_character(text, at);
        if (!joins(c) && !cluster.empty()) {
            compose(cluster, out);
            cluster.clear();
        }
        cluster += c;
    }
    if (!cluster.empty()) compose(cluster, out);
    return out;
}

std::size_t settled_bytes(std::string_view text) {
    std::size_t at = text.size();
    while (at > 0) {
        --at;
        if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
        std::size_t next = at;
        if (!joins(next_character(text, next))) return at;
    }
    return 0;
}

}  // namespace nebula::tokenizer

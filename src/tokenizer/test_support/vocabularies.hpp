#pragma once
// Small vocabularies for tests: trained on the spot, so that no file of somebody else's is needed.

#include <map>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nebula::tokenizer::test {

inline std::string base64(std::string_view bytes) {
    constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t bits = 0;
        for (std::size_t k = 0; k < 3; ++k)
            bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
        for (std::size_t k = 0; k < 4; ++k)
            out += i + k <= bytes.size() ? alphabet[bits >> (18 - 6 * k) & 63] : '=';
    }
    return out;
}

/// Entries in order of their ranks: all bytes, then what random merges of entries make.
inline std::vector<std::string> random_entries(std::mt19937& random, std::size_t merges,
                                               std::string_view letters) {
    std::vector<std::string> entries;
    std::map<std::string, bool> seen;
    for (int byte = 0; byte < 256; ++byte) entries.push_back(std::string(1, static_cast<char>(byte)));
    std::vector<std::string> parts;
    for (char c : letters) parts.push_back(std::string(1, c));
    while (merges > 0) {
        std::string made = parts[random() % parts.size()] + parts[random() % parts.size()];
        if (made.size() > 24 || seen[made]) {
            --merges;  // a try, too: there may be nothing new
            continue;
        }
        seen[made] = true;
        entries.push_back(made);
        parts.push_back(made);
        --merges;
    }
    return entries;
}

inline std::string rank_file(const std::vector<std::string>& entries) {
    std::string text;
    for (std::size_t i = 0; i < entries.size(); ++i)
        text += base64(entries[i]) + " " + std::to_string(i) + "\n";
    return text;
}

}  // namespace nebula::tokenizer::test

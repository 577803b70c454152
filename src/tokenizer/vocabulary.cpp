#include "tokenizer/vocabulary.hpp"

#include <algorithm>
#include <bit>
#include <functional>

namespace nebula::tokenizer {
namespace {

constexpr std::uint32_t number_mask = (1u << 20) - 1;

std::uint64_t mixed(std::uint64_t value) {
    value ^= value >> 32;
    value *= 0x9E3779B97F4A7C15;
    return value ^ (value >> 29);
}

std::uint32_t tag_of(std::size_t hash) { return static_cast<std::uint32_t>(hash >> 52) << 20; }

}  // namespace

Vocabulary::Vocabulary(std::size_t entries) {
    of_byte_.fill(none);
    slots_.resize(std::bit_ceil(std::max<std::size_t>(16, entries * 2)));
    entries_.reserve(entries);
    buffer_.reserve(entries * 8);
}

bool Vocabulary::add(std::string_view bytes, std::uint32_t rank) {
    std::size_t hash = std::hash<std::string_view>{}(bytes);
    std::size_t at = hash & (slots_.size() - 1);
    for (; slots_[at] != 0; at = (at + 1) & (slots_.size() - 1))
        if (bytes_of(entries_[(slots_[at] & number_mask) - 1]) == bytes) return false;
    entries_.push_back(
        {static_cast<std::uint32_t>(buffer_.size()), static_cast<std::uint32_t>(bytes.size()), rank});
    buffer_ += bytes;
    slots_[at] = static_cast<std::uint32_t>(entries_.size()) | tag_of(hash);
    longest_ = std::max(longest_, bytes.size());
    if (bytes.size() == 1)
        of_byte_[static_cast<unsigned char>(bytes.front())] = static_cast<std::uint32_t>(entries_.size() - 1);
    return true;
}

std::uint32_t Vocabulary::find(std::string_view bytes) const {
    if (bytes.size() > longest_) return none;
    std::size_t hash = std::hash<std::string_view>{}(bytes);
    std::uint32_t tag = tag_of(hash);
    for (std::size_t at = hash & (slots_.size() - 1); slots_[at] != 0; at = (at + 1) & (slots_.size() - 1)) {
        if ((slots_[at] & ~number_mask) != tag) continue;
        std::uint32_t number = (slots_[at] & number_mask) - 1;
        if (bytes_of(entries_[number]) == bytes) return number;
    }
    return none;
}

void Vocabulary::reserve_merges(std::size_t count) {
    pairs_.assign(std::bit_ceil(std::max<std::size_t>(16, count + count / 3)), {});
}

std::size_t Vocabulary::pair_slot(std::uint64_t pair) const {
    std::size_t at = mixed(pair) & (pairs_.size() - 1);
    while (pairs_[at].pair != pair && pairs_[at].pair != ~std::uint64_t{0})
        at = (at + 1) & (pairs_.size() - 1);
    return at;
}

void Vocabulary::add_merge(std::uint32_t left, std::uint32_t right, Merge merge) {
    std::uint64_t pair = static_cast<std::uint64_t>(left) << 32 | right;
    pairs_[pair_slot(pair)] = {pair, merge};
}

Vocabulary::Merge Vocabulary::find_merge(std::uint32_t left, std::uint32_t right) const {
    return pairs_[pair_slot(static_cast<std::uint64_t>(left) << 32 | right)].merge;
}

}  // namespace nebula::tokenizer

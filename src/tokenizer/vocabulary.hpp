#pragma once
// The entries of a vocabulary and what may be merged: flat tables, immutable once read.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nebula::tokenizer {

class Vocabulary {
   public:
    static constexpr std::uint32_t none = 0xFFFFFFFF;

    /// Room for that many entries, at most 2^20 - 1.
    explicit Vocabulary(std::size_t entries = 0);
    /// Entries are numbered from 0 as they come. False: it is there already.
    bool add(std::string_view bytes, std::uint32_t rank);
    /// Its number, or none.
    std::uint32_t find(std::string_view bytes) const;
    std::uint32_t of_byte(char byte) const { return of_byte_[static_cast<unsigned char>(byte)]; }
    std::uint32_t rank(std::uint32_t number) const { return entries_[number].rank; }
    std::size_t size() const { return entries_.size(); }
    std::size_t longest() const { return longest_; }

    /// Merges by pairs, where the file lists them; the last one of a pair counts.
    struct Merge {
        std::uint32_t rank = none;
        std::uint32_t made = none;  // number of what both become
    };
    void reserve_merges(std::size_t count);
    void add_merge(std::uint32_t left, std::uint32_t right, Merge merge);
    Merge find_merge(std::uint32_t left, std::uint32_t right) const;

   private:
    struct Entry {
        std::uint32_t at = 0, length = 0, rank = 0;
    };
    struct PairSlot {
        std::uint64_t pair = ~std::uint64_t{0};
        Merge merge;
    };
    std::string_view bytes_of(const Entry& entry) const { return {&buffer_[entry.at], entry.length}; }
    std::size_t pair_slot(std::uint64_t pair) const;

    std::string buffer_;
    std::vector<Entry> entries_;
    std::vector<std::uint32_t> slots_;  // number + 1 in 20 bits, 12 bits of the hash above; 0: free
    std::vector<PairSlot> pairs_;
    std::array<std::uint32_t, 256> of_byte_;
    std::size_t longest_ = 0;
};

}  // namespace nebula::tokenizer

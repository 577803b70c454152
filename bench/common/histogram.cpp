#include "common/histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace nebula::bench {

std::size_t Histogram::bucket_of(std::uint64_t value) {
    unsigned width = static_cast<unsigned>(std::bit_width(value));
    if (width <= sub_bits) return value;
    // The leading sub_bits + 1 bits; the first of them is always set and is replaced by the octave's number.
    unsigned shift = width - sub_bits - 1;
    std::uint64_t lead = value >> shift;
    return (static_cast<std::size_t>(shift) << sub_bits) + lead;
}

std::uint64_t Histogram::upper_edge(std::size_t bucket) {
    if (bucket < (std::size_t{2} << sub_bits)) return bucket;
    std::size_t shift = (bucket >> sub_bits) - 1;
    std::uint64_t lead = (bucket & ((std::size_t{1} << sub_bits) - 1)) + (std::uint64_t{1} << sub_bits);
    return ((lead + 1) << shift) - 1;
}

void Histogram::add(std::uint64_t nanoseconds) {
    ++buckets_[bucket_of(nanoseconds)];
    ++count_;
    max_ = std::max(max_, nanoseconds);
}

std::uint64_t Histogram::quantile(double share) const {
    if (count_ == 0) return 0;
    auto rank = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(count_)));
    rank = std::clamp<std::uint64_t>(rank, 1, count_);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
        seen += buckets_[i];
        if (seen >= rank) return std::min(upper_edge(i), max_);
    }
    return max_;
}

}  // namespace nebula::bench

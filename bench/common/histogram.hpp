#pragma once
// Latencies of any size in fixed memory, with a bounded relative error.

#include <array>
#include <cstdint>

namespace nebula::bench {

/// Counts nanosecond values in log-linear buckets: 64 per power of two, so a reported quantile is at most 1.6
/// % above the true one. Values from 0 to 2^63. Not thread safe.
class Histogram {
   public:
    void add(std::uint64_t nanoseconds);
    std::uint64_t count() const { return count_; }
    std::uint64_t max() const { return max_; }
    /// The smallest value that at least `share` (0..1) of the counted values do not exceed; 0 when nothing
    /// was counted.
    std::uint64_t quantile(double share) const;

   private:
    static constexpr unsigned sub_bits = 6;
    static constexpr std::size_t bucket_count = (64 - sub_bits + 1) << sub_bits;
    static std::size_t bucket_of(std::uint64_t value);
    static std::uint64_t upper_edge(std::size_t bucket);

    std::array<std::uint64_t, bucket_count> buckets_{};
    std::uint64_t count_ = 0;
    std::uint64_t max_ = 0;
};

}  // namespace nebula::bench

#pragma once
// Counters, gauges and histograms in the Prometheus text format. Looking a metric up takes a lock: do it once
// and keep the reference, which stays valid as long as the registry. Updating is wait-free and safe from any
// thread.

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nebula::metrics {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
   public:
    void add(std::uint64_t by = 1) { shards_[shard()].value.fetch_add(by, std::memory_order_relaxed); }
    std::uint64_t value() const;

   private:
    static std::size_t shard();  // a small number per thread, so threads rarely share a cache line
    struct alignas(64) Shard {
        std::atomic<std::uint64_t> value{0};
    };
    std::array<Shard, 4> shards_;
};

class Gauge {
   public:
    void set(std::int64_t to) { value_.store(to, std::memory_order_relaxed); }
    void add(std::int64_t by) { value_.fetch_add(by, std::memory_order_relaxed); }
    std::int64_t value() const { return value_.load(std::memory_order_relaxed); }

   private:
    std::atomic<std::int64_t> value_{0};
};

/// Seconds, in buckets 1-2.5-5 per decade from 100 µs to 100 s.
class Histogram {
   public:
    static constexpr std::size_t bucket_count = 19;
    void observe_us(std::int64_t microseconds);
    std::uint64_t count() const;

   private:
    friend class Registry;
    std::array<std::atomic<std::uint64_t>, bucket_count + 1> buckets_{};
    std::atomic<std::uint64_t> sum_us_{0};
};

class Registry {
   public:
    /// Same name and labels return the same object. Names follow Prometheus: nebula_requests_total,
    /// …_seconds. Label values must come from a bounded set (model ids, codes), never from client text.
    Counter& counter(std::string name, std::string help, Labels labels = {});
    Gauge& gauge(std::string name, std::string help, Labels labels = {});
    Histogram& histogram(std::string name, std::string help, Labels labels = {});
    /// A gauge read when scraped (queue lengths and the like); must be thread-safe.
    void gauge_callback(std::string name, std::string help, std::function<std::int64_t()> read,
                        Labels labels = {});
    std::string prometheus_text() const;

   private:
    struct Family {
        std::string help;
        const char* type = "";
        std::map<std::string, Counter*> counters;
        std::map<std::string, Gauge*> gauges;
        std::map<std::string, Histogram*> histograms;
        std::map<std::string, std::function<std::int64_t()>> callbacks;
    };
    Family& family(const std::string& name, const std::string& help, const char* type);

    mutable std::mutex mutex_;
    std::map<std::string, Family> families_;
    std::deque<Counter> counters_;  // deque: references stay valid
    std::deque<Gauge> gauges_;
    std::deque<Histogram> histograms_;
};

}  // namespace nebula::metrics

#include "base/metrics.hpp"

#include <algorithm>
#include <string>

#include "base/text.hpp"

namespace nebula::metrics {
namespace {

constexpr std::array<std::int64_t, Histogram::bucket_count> bounds_us = {
    100,       250,        500,        1'000,      2'500,      5'000,     10'000,
    25'000,    50'000,     100'000,    250'000,    500'000,    1'000'000, 2'500'000,
    5'000'000, 10'000'000, 25'000'000, 50'000'000, 100'000'000};

std::string label_text(const Labels& labels) {
    std::string text;
    for (const auto& [name, value] : labels) {
        if (!text.empty()) text += ',';
        text += name + "=" + json_string(value);
    }
    return text;
}

std::string seconds_text(std::int64_t us) {
    std::string fraction = std::to_string(us % 1'000'000);
    fraction.insert(0, 6 - fraction.size(), '0');
    return std::to_string(us / 1'000'000) + "." + fraction;
}

void line(std::string& out, const std::string& name, const std::string& labels, const std::string& value) {
    out += name;
    if (!labels.empty()) out += "{" + labels + "}";
    out += " " + value + "\n";
}

}  // namespace

std::size_t Counter::shard() {
    static std::atomic<std::size_t> next{0};
    thread_local const std::size_t mine = next.fetch_add(1) % 4;
    return mine;
}

std::uint64_t Counter::value() const {
    std::uint64_t sum = 0;
    for (const Shard& shard : shards_) sum += shard.value.load(std::memory_order_relaxed);
    return sum;
}

void Histogram::observe_us(std::int64_t microseconds) {
    auto at = std::ranges::lower_bound(bounds_us, microseconds) - bounds_us.begin();
    buckets_[static_cast<std::size_t>(at)].fetch_add(1, std::memory_order_relaxed);
    sum_us_.fetch_add(static_cast<std::uint64_t>(std::max<std::int64_t>(microseconds, 0)),
                      std::memory_order_relaxed);
}

std::uint64_t Histogram::count() const {
    std::uint64_t sum = 0;
    for (const auto& bucket : buckets_) sum += bucket.load(std::memory_order_relaxed);
    return sum;
}

Registry::Family& Registry::family(const std::string& name, const std::string& help, const char* type) {
    Family& found = families_[name];
    if (found.help.empty()) found.help = help;
    found.type = type;
    return found;
}

Counter& Registry::counter(std::string name, std::string help, Labels labels) {
    std::lock_guard lock(mutex_);
    Counter*& slot = family(name, help, "counter").counters[label_text(labels)];
    if (slot == nullptr) slot = &counters_.emplace_back();
    return *slot;
}

Gauge& Registry::gauge(std::string name, std::string help, Labels labels) {
    std::lock_guard lock(mutex_);
    Gauge*& slot = family(name, help, "gauge").gauges[label_text(labels)];
    if (slot == nullptr) slot = &gauges_.emplace_back();
    return *slot;
}

Histogram& Registry::histogram(std::string name, std::string help, Labels labels) {
    std::lock_guard lock(mutex_);
    Histogram*& slot = family(name, help, "histogram").histograms[label_text(labels)];
    if (slot == nullptr) slot = &histograms_.emplace_back();
    return *slot;
}

void Registry::gauge_callback(std::string name, std::string help, std::function<std::int64_t()> read,
                              Labels labels) {
    std::lock_guard lock(mutex_);
    family(name, help, "gauge").callbacks[label_text(labels)] = std::move(read);
}

std::string Registry::prometheus_text() const {
    std::lock_guard lock(mutex_);
    std::string out;
    for (const auto& [name, family] : families_) {
        out += "# HELP " + name + " " + family.help + "\n# TYPE " + name + " " + family.type + "\n";
        for (const auto& [labels, metric] : family.counters)
            line(out, name, labels, std::to_string(metric->value()));
        for (const auto& [labels, metric] : family.gauges)
            line(out, name, labels, std::to_string(metric->value()));
        for (const auto& [labels, read] : family.callbacks) line(out, name, labels, std::to_string(read()));
        for (const auto& [labels, metric] : family.histograms) {
            std::string prefix = labels.empty() ? "" : labels + ",";
            std::uint64_t running = 0;
            for (std::size_t i = 0; i <= Histogram::bucket_count; ++i) {
                running += metric->buckets_[i].load(std::memory_order_relaxed);
                std::string bound = i < Histogram::bucket_count ? seconds_text(bounds_us[i]) : "+Inf";
                line(out, name + "_bucket", prefix + "le=\"" + bound + "\"", std::to_string(running));
            }
            auto sum = static_cast<std::int64_t>(metric->sum_us_.load(std::memory_order_relaxed));
            line(out, name + "_sum", labels, seconds_text(sum));
            line(out, name + "_count", labels, std::to_string(running));
        }
    }
    return out;
}

}  // namespace nebula::metrics

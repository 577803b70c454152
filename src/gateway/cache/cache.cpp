#include "gateway/cache/cache.hpp"

#include <algorithm>

namespace nebula::gateway {
namespace {

constexpr std::size_t padding = 64;  // that simdjson reads beyond the end

}  // namespace

void CacheSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "bytes_max", .help = "Memory for answers that are kept, per node, in bytes; 0 keeps none."},
        bytes_max);
    v.field({.name = "entry_bytes_max",
             .help = "Largest answer that is kept, in bytes.",
             .min = 1024,
             .max = 1'000'000'000},
            entry_bytes_max);
    v.field({.name = "ttl_ms",
             .help = "How long an answer is kept unless the request says otherwise.",
             .min = 1000,
             .max = 86'400'000},
            ttl);
    v.field({.name = "hit_price_percent",
             .help = "What an answer from the cache costs, in percent of the model's price.",
             .max = 100},
            hit_price_percent);
    v.field(
        {.name = "shared",
         .help =
             "Accounts get each other's answers. Off: an answer is only for the account it was made for."},
        shared);
    v.field(
        {.name = "waiters_max",
         .help = "Requests that may wait for the answer to the same request, per node; further ones ask the "
                 "provider themselves."},
        waiters_max);
    v.field({.name = "wait_ms",
             .help = "How long they wait before they ask the provider themselves.",
             .max = 3'600'000},
            wait);
}

ResponseCache::ResponseCache(const CacheSettings& settings, const Clock& clock, metrics::Registry& metrics)
    : hits(metrics.counter("nebula_cache_hits_total", "Answers from the cache.")),
      misses(metrics.counter("nebula_cache_misses_total",
                             "Requests that may be cached and were answered by a provider.")),
      stores(metrics.counter("nebula_cache_stores_total", "Answers that were kept.")),
      dropped(metrics.counter("nebula_cache_dropped_total", "Answers too large to be kept.")),
      settings_(settings),
      clock_(clock),
      evictions_(metrics.counter("nebula_cache_evictions_total", "Answers that made room for others.")),
      expired_(metrics.counter("nebula_cache_expired_total", "Answers found too old.")),
      bytes_gauge_(metrics.gauge("nebula_cache_bytes", "Memory of the answers that are kept.")),
      entries_gauge_(metrics.gauge("nebula_cache_entries", "Answers that are kept.")),
      recording_(
          metrics.gauge("nebula_cache_recording_bytes", "Memory of answers that are being recorded.")) {
    metrics.gauge("nebula_cache_bytes_max", "Bound of nebula_cache_bytes and nebula_cache_recording_bytes.")
        .set(settings.bytes_max);
}

void ResponseCache::erase(Order::iterator kept) {
    bytes_ -= kept->entry->size();
    by_key_.erase(kept->key);
    order_.erase(kept);
    bytes_gauge_.set(static_cast<std::int64_t>(bytes_));
    entries_gauge_.set(static_cast<std::int64_t>(order_.size()));
}

std::shared_ptr<const CacheEntry> ResponseCache::find(const Sha256& key) {
    std::lock_guard lock(mutex_);
    auto found = by_key_.find(key);
    if (found == by_key_.end()) return nullptr;
    if (clock_.ticks() >= found->second->entry->expires_at) {
        expired_.add();
        erase(found->second);
        return nullptr;
    }
    order_.splice(order_.begin(), order_, found->second);
    return found->second->entry;
}

void ResponseCache::store(const Sha256& key, std::shared_ptr<const CacheEntry> entry) {
    std::size_t size = entry->size();
    std::lock_guard lock(mutex_);
    if (auto found = by_key_.find(key); found != by_key_.end()) erase(found->second);
    auto bytes_max = static_cast<std::size_t>(settings_.bytes_max);
    if (size > bytes_max) {
        dropped.add();
        return;
    }
    while (bytes_ + size > bytes_max) {
        evictions_.add();
        erase(std::prev(order_.end()));
    }
    order_.push_front({key, std::move(entry)});
    by_key_[key] = order_.begin();
    bytes_ += size;
    stores.add();
    bytes_gauge_.set(static_cast<std::int64_t>(bytes_));
    entries_gauge_.set(static_cast<std::int64_t>(order_.size()));
}

void ResponseCache::forget(const Sha256& key) {
    std::lock_guard lock(mutex_);
    if (auto found = by_key_.find(key); found != by_key_.end()) erase(found->second);
}

bool ResponseCache::reserve(std::size_t bytes) {
    recording_.add(static_cast<std::int64_t>(bytes));
    if (recording_.value() <= settings_.bytes_max) return true;
    give_back(bytes);
    return false;
}

std::size_t ResponseCache::bytes() const {
    std::lock_guard lock(mutex_);
    return bytes_;
}

std::size_t ResponseCache::entries() const {
    std::lock_guard lock(mutex_);
    return order_.size();
}

void Recording::begin(const Provider& kind, std::string_view content_type) {
    entry_ = std::make_shared<CacheEntry>();
    entry_->kind = &kind;
    entry_->content_type = content_type;
    is_good_ = true;
}

bool Recording::add(std::string_view piece) {
    if (!is_good_) return false;
    std::size_t wanted = entry_->bytes.size() + piece.size() + padding;
    is_good_ = wanted <= static_cast<std::size_t>(cache_.settings().entry_bytes_max);
    if (is_good_ && wanted > reserved_) {
        std::size_t more = std::max<std::size_t>(wanted - reserved_, 4096);
        is_good_ = cache_.reserve(more);
        if (is_good_) reserved_ += more;
    }
    if (!is_good_) {
        cache_.dropped.add();
        entry_.reset();
        return false;
    }
    entry_->bytes += piece;
    entry_->ends.push_back(static_cast<std::uint32_t>(entry_->bytes.size()));
    return true;
}

std::shared_ptr<const CacheEntry> Recording::finish(RequestId source, const billing::TokenUsage& usage,
                                                    const billing::Prices& prices,
                                                    std::chrono::milliseconds ttl) {
    if (!is_good_ || entry_->ends.empty()) return nullptr;
    is_good_ = false;
    entry_->bytes.append(padding, '\0');
    entry_->bytes.shrink_to_fit();
    entry_->ends.shrink_to_fit();
    entry_->source = source;
    entry_->usage = usage;
    entry_->prices = prices;
    entry_->stored_at = cache_.clock().ticks();
    entry_->expires_at = entry_->stored_at + ttl;
    return std::move(entry_);
}

namespace {

class Replay final : public http::ClientResponse {
   public:
    explicit Replay(std::shared_ptr<const CacheEntry> entry) : entry_(std::move(entry)) {}

    int status() const override { return 200; }
    std::optional<std::string_view> header(std::string_view name) const override {
        if (name != "content-type") return std::nullopt;
        return entry_->content_type;
    }
    std::span<const http::Header> headers() const override { return {}; }
    std::optional<std::uint64_t> content_length() const override { return std::nullopt; }
    bool ends_with_connection() const override { return false; }
    Async<Result<std::string_view>> read() override {
        if (next_ == entry_->ends.size()) co_return std::string_view();
        std::size_t from = next_ == 0 ? 0 : entry_->ends[next_ - 1];
        std::size_t to = entry_->ends[next_++];
        co_return std::string_view(entry_->bytes).substr(from, to - from);
    }
    void detach(std::chrono::milliseconds) override {}

   private:
    std::shared_ptr<const CacheEntry> entry_;
    std::size_t next_ = 0;
};

}  // namespace

std::unique_ptr<http::ClientResponse> replay(std::shared_ptr<const CacheEntry> entry) {
    return std::make_unique<Replay>(std::move(entry));
}

billing::Prices hit_prices(const billing::Prices& prices, std::int64_t percent) {
    billing::Prices hit = prices;
    for (Nanos* price : {&hit.input_per_m, &hit.output_per_m, &hit.cached_input_per_m, &hit.request,
                         &hit.cache_write_per_m, &hit.reasoning_per_m, &hit.unit}) {
        auto whole = static_cast<__int128>(price->value) * percent;
        price->value = static_cast<std::int64_t>((whole + 99) / 100);
    }
    return hit;
}

}  // namespace nebula::gateway

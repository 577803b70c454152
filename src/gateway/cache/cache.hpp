#pragma once
// Answers kept in memory for requests that are the same again. What is kept is what the provider sent: a hit
// goes the way of a fresh answer, so every client reads it in its own API's words, with ids of its own.

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/crypto.hpp"
#include "base/ids.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/settings.hpp"
#include "billing/billing.hpp"
#include "catalog/catalog.hpp"
#include "http/client.hpp"

namespace nebula::gateway {

class Provider;

struct CacheSettings {  // [cache]
    std::int64_t bytes_max = 64 * 1024 * 1024;
    std::int64_t entry_bytes_max = 1024 * 1024;
    std::chrono::milliseconds ttl{300'000};
    std::int64_t hit_price_percent = 0;
    bool shared = false;
    std::int64_t waiters_max = 10'000;
    std::chrono::milliseconds wait{30'000};
    void describe(settings::Visitor& v);
};

/// One answer as the provider sent it: the body, or each event of its stream.
struct CacheEntry {
    std::string bytes;                // the pieces one behind the other, then 64 readable bytes
    std::vector<std::uint32_t> ends;  // of each piece
    std::string content_type;
    const Provider* kind = nullptr;  // who understands it
    RequestId source;                // that was answered with it first
    billing::TokenUsage usage;
    billing::Prices prices;  // that the first one paid
    Ticks stored_at{}, expires_at{};

    /// What it counts against the bounds.
    std::size_t size() const { return bytes.capacity() + ends.capacity() * 4 + content_type.size() + 256; }
};

/// Any thread; the lock is held for a few instructions. Least recently used entries make room.
class ResponseCache {
   public:
    ResponseCache(const CacheSettings& settings, const Clock& clock, metrics::Registry& metrics);

    const CacheSettings& settings() const { return settings_; }
    const Clock& clock() const { return clock_; }
    /// Null: none, or too old.
    std::shared_ptr<const CacheEntry> find(const Sha256& key);
    /// Replaces an older one. An entry above a bound is not kept.
    void store(const Sha256& key, std::shared_ptr<const CacheEntry> entry);
    void forget(const Sha256& key);

    /// Memory of recordings in progress, bounded by bytes_max beside what is stored.
    bool reserve(std::size_t bytes);
    void give_back(std::size_t bytes) { recording_.add(-static_cast<std::int64_t>(bytes)); }

    std::size_t bytes() const;
    std::size_t entries() const;

    metrics::Counter &hits, &misses, &stores, &dropped;

   private:
    struct Kept {
        Sha256 key;
        std::shared_ptr<const CacheEntry> entry;
    };
    using Order = std::list<Kept>;
    void erase(Order::iterator kept);

    const CacheSettings& settings_;
    const Clock& clock_;
    metrics::Counter &evictions_, &expired_;
    metrics::Gauge &bytes_gauge_, &entries_gauge_, &recording_;
    mutable std::mutex mutex_;
    Order order_;  // most recently used first
    std::unordered_map<Sha256, Order::iterator> by_key_;
    std::size_t bytes_ = 0;
};

/// Collects what becomes an entry. One thread.
class Recording {
   public:
    explicit Recording(ResponseCache& cache) : cache_(cache) {}
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;
    ~Recording() { cache_.give_back(reserved_); }

    /// Of one provider's answer; forgets what another one began.
    void begin(const Provider& kind, std::string_view content_type);
    /// A body or one event. False from the first one on that a bound refuses.
    bool add(std::string_view piece);
    bool is_good() const { return is_good_; }
    /// The entry, complete; null when a bound was reached.
    std::shared_ptr<const CacheEntry> finish(RequestId source, const billing::TokenUsage& usage,
                                             const billing::Prices& prices, std::chrono::milliseconds ttl);

   private:
    ResponseCache& cache_;
    std::shared_ptr<CacheEntry> entry_;
    std::size_t reserved_ = 0;
    bool is_good_ = false;
};

/// An entry as an answer that has arrived: one piece, or event, with each read().
std::unique_ptr<http::ClientResponse> replay(std::shared_ptr<const CacheEntry> entry);

/// The list price's share that a hit costs; each price rounded up.
billing::Prices hit_prices(const billing::Prices& prices, std::int64_t percent);

/// What the client, its key and the model say about the cache.
struct CacheWish {
    bool is_on = false;
    bool clear = false;  // forget what is stored first
    std::chrono::milliseconds ttl{};
};
/// Headers go before the key's and the model's setting, but never beyond a model that forbids it. Errors:
/// invalid_request naming the header.
Result<CacheWish> read_wish(const http::RequestHead& head, bool by_key, catalog::Caching by_model,
                            const CacheSettings& settings);

/// What makes two requests the same.
struct CacheScope {
    std::uint64_t account = 0;  // 0: all of them
    std::string_view endpoint;
    std::string_view model;
    std::string_view wire;          // the client's API, where its bytes may pass through
    std::string_view path = {};     // of that API: one body may mean something at two of them
    std::string_view headers = {};  // that providers see
    bool is_stream = false;
    bool is_repeated = false;  // answers repeat members that change nothing else: they are not left out
};
/// SHA-256 over the scope and the members of `body` sorted by name, without white space and without those
/// that do not change the answer. Nothing when `body` is no JSON object.
std::optional<Sha256> cache_key(const CacheScope& scope, std::string_view body);

}  // namespace nebula::gateway

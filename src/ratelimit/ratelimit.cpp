#include "ratelimit/ratelimit.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "base/check.hpp"
#include "base/log.hpp"
#include "ratelimit/table.hpp"

namespace nebula::ratelimit {
namespace {

constexpr std::size_t shard_count = 64;
constexpr std::size_t checks_max = 8;
constexpr std::array<const char*, 5> kind_names = {"key", "account", "model", "ip", "credits_ip"};

std::uint64_t hash_bytes(std::uint64_t seed, std::string_view bytes) {
    std::uint64_t h = 0xCBF29CE484222325ULL ^ seed * 0x9E3779B97F4A7C15ULL;
    for (char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
    return hash_subject({Kind::ip, h});
}

std::int64_t milliseconds(Ticks at) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()).count();
}

struct Found {
    const Check* check = nullptr;
    std::uint64_t hash = 0;
    Bucket* bucket = nullptr;
};

/// The checks that limit anything, their shards locked in order (so two callers never wait for each other in
/// a circle).
class Locked {
   public:
    Locked(std::array<Shard, shard_count>& shards, const Check* checks, std::size_t count) : shards_(shards) {
        CHECK(count <= checks_max, "a request is checked against a handful of subjects");
        for (std::size_t i = 0; i < count; ++i) {
            if (checks[i].limits.rpm <= 0 && checks[i].limits.tpm <= 0) continue;
            found_[count_++] = {&checks[i], hash_subject(checks[i].subject), nullptr};
        }
        for (std::size_t i = 0; i < count_; ++i) order_[i] = shard_index(found_[i]);
        std::sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(count_));
        locks_ = static_cast<std::size_t>(
            std::unique(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(count_)) -
            order_.begin());
        for (std::size_t i = 0; i < locks_; ++i) shards_[order_[i]].mutex.lock();
    }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
    ~Locked() {
        for (std::size_t i = 0; i < locks_; ++i) shards_[order_[i]].mutex.unlock();
    }

    Found* begin() { return found_.data(); }
    Found* end() { return found_.data() + count_; }
    Shard& shard(const Found& found) { return shards_[shard_index(found)]; }

   private:
    static std::size_t shard_index(const Found& found) { return found.hash % shard_count; }

    std::array<Shard, shard_count>& shards_;
    std::array<Found, checks_max> found_{};
    std::array<std::size_t, checks_max> order_{};
    std::size_t count_ = 0;
    std::size_t locks_ = 0;
};

}  // namespace

std::uint64_t hash_ip(std::string_view ip) {
    char text[INET6_ADDRSTRLEN] = {};
    unsigned char bytes[16];
    if (ip.find(':') == std::string_view::npos || ip.size() >= sizeof text) return hash_bytes(0, ip);
    std::memcpy(text, ip.data(), ip.size());
    if (inet_pton(AF_INET6, text, bytes) != 1) return hash_bytes(0, ip);
    static constexpr unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    if (std::memcmp(bytes, mapped, sizeof mapped) == 0) {
        char v4[INET_ADDRSTRLEN];
        return hash_bytes(0, inet_ntop(AF_INET, bytes + 12, v4, sizeof v4));
    }
    return hash_bytes(1, std::string_view(reinterpret_cast<const char*>(bytes), 8));
}

std::uint64_t hash_pair(std::uint64_t id, std::string_view text) { return hash_bytes(id, text); }

void LimitSettings::describe(settings::Visitor& v) {
    auto limit = [&v](std::string_view name, std::string_view help, std::int64_t& value) {
        v.field({.name = name, .help = help, .max = 1'000'000'000}, value);
    };
    limit("key_rpm", "Requests per minute of one API key that has no limit of its own; 0 = no limit.",
          key_rpm);
    limit("key_tpm", "Tokens per minute of one API key that has no limit of its own; 0 = no limit.", key_tpm);
    limit("account_rpm", "Requests per minute of all keys of an account together; 0 = no limit.",
          account_rpm);
    limit("account_tpm", "Tokens per minute of all keys of an account together; 0 = no limit.", account_tpm);
    limit("ip_rpm", "Requests per minute from one IP address (IPv6: one /64 network); 0 = no limit.", ip_rpm);
    v.field(
        {.name = "shadow",
         .help =
             "Count what the limits would refuse (nebula_ratelimit_shadow_refused_total), refuse nothing."},
        shadow);
}

struct RateLimiter::Impl {
    struct Refusals {
        metrics::Counter* requests = nullptr;
        metrics::Counter* tokens = nullptr;
    };

    Impl(const LimitSettings& settings, const Clock& source, metrics::Registry& metrics,
         std::size_t buckets_max);
    Bucket* bucket_for(Locked& locked, const Found& found, std::int64_t second);
    /// The whole answer before anything is taken; `admitted` tells whether everything fits.
    Standing judge(Locked& locked, std::int64_t tokens, std::int64_t now_ms) const;
    void correct(const Check* checks, std::size_t count, std::int64_t tokens,
                 const std::int64_t* taken_second);

    const Clock& clock;
    const bool shadow;
    std::array<Shard, shard_count> shards;
    // Shared with the registry's callback, which may outlive this object.
    std::shared_ptr<std::atomic<std::int64_t>> buckets = std::make_shared<std::atomic<std::int64_t>>(0);
    metrics::Counter& admitted;
    metrics::Counter& untracked;
    std::array<Refusals, kind_names.size()> refused;
};

RateLimiter::Impl::Impl(const LimitSettings& settings, const Clock& source, metrics::Registry& metrics,
                        std::size_t buckets_max)
    : clock(source),
      shadow(settings.shadow),
      admitted(
          metrics.counter("nebula_ratelimit_admitted_total", "Requests that the rate limits let through.")),
      untracked(metrics.counter("nebula_ratelimit_untracked_total",
                                "Subjects let through uncounted because every bucket was in use.")) {
    for (Shard& shard : shards) shard.set_max(std::max<std::size_t>(1, buckets_max / shard_count));
    const char* name = shadow ? "nebula_ratelimit_shadow_refused_total" : "nebula_ratelimit_refused_total";
    const char* help =
        shadow ? "Requests that the rate limits would have refused." : "Requests refused by a rate limit.";
    for (std::size_t kind = 0; kind < kind_names.size(); ++kind) {
        refused[kind].requests =
            &metrics.counter(name, help, {{"scope", kind_names[kind]}, {"by", "requests"}});
        refused[kind].tokens = &metrics.counter(name, help, {{"scope", kind_names[kind]}, {"by", "tokens"}});
    }
    metrics.gauge_callback("nebula_ratelimit_buckets", "Subjects with a bucket.",
                           [count = buckets] { return count->load(); });
    metrics.gauge("nebula_ratelimit_buckets_max", "Subjects that can have a bucket at a time.")
        .set(static_cast<std::int64_t>(buckets_max));
}

Bucket* RateLimiter::Impl::bucket_for(Locked& locked, const Found& found, std::int64_t second) {
    Shard& shard = locked.shard(found);
    auto before = static_cast<std::int64_t>(shard.size());
    Bucket* bucket = shard.find_or_add(found.check->subject, found.hash, second);
    if (auto change = static_cast<std::int64_t>(shard.size()) - before; change != 0) *buckets += change;
    if (bucket == nullptr) {
        untracked.add();
        LOG_WARN("rate limit table is full, subject not counted",
                 {"scope", kind_names[static_cast<std::size_t>(found.check->subject.kind)]});
        return nullptr;
    }
    if (found.check->limits.tpm > 0 && !bucket->tokens) bucket->tokens = std::make_unique<Window>();
    return bucket;
}

Standing RateLimiter::Impl::judge(Locked& locked, std::int64_t tokens, std::int64_t now_ms) const {
    Standing standing;
    auto refuse = [&standing](const Found& found, bool by_tokens, std::int64_t wait_ms) {
        if (standing.admitted) {  // the first that refuses names the scope
            standing.admitted = false;
            standing.scope = kind_names[static_cast<std::size_t>(found.check->subject.kind)];
            standing.tokens = by_tokens;
            standing.retry_after_ms = wait_ms;
        } else if (standing.retry_after_ms > 0) {
            standing.retry_after_ms = wait_ms == 0 ? 0 : std::max(standing.retry_after_ms, wait_ms);
        }
    };
    for (const Found& found : locked) {
        if (found.bucket == nullptr) continue;
        const Limits& limits = found.check->limits;
        const Window& requests = found.bucket->requests;
        if (limits.rpm > 0 && requests.sum() + 1 > limits.rpm)
            refuse(found, false, requests.ms_until_at_most(limits.rpm - 1, now_ms));
        if (limits.tpm > 0 && tokens > limits.tpm)
            refuse(found, true, 0);
        else if (limits.tpm > 0 && found.bucket->tokens->sum() + tokens > limits.tpm)
            refuse(found, true, found.bucket->tokens->ms_until_at_most(limits.tpm - tokens, now_ms));
    }
    return standing;
}

namespace {

void tighten(std::int64_t limit, const Window& window, std::int64_t now_ms, std::int64_t& standing_limit,
             std::int64_t& remaining, std::int64_t& reset_ms) {
    std::int64_t left = std::max<std::int64_t>(0, limit - window.sum());
    if (standing_limit >= 0 && remaining <= left) return;
    standing_limit = limit;
    remaining = left;
    reset_ms = window.ms_until_empty(now_ms);
}

}  // namespace

RateLimiter::RateLimiter(const LimitSettings& settings, const Clock& clock, metrics::Registry& metrics,
                         std::size_t buckets_max, store::Db*, store::Node*, store::Notices*)
    : impl_(std::make_unique<Impl>(settings, clock, metrics, buckets_max)) {}
RateLimiter::~RateLimiter() = default;

Standing RateLimiter::take(const Check* checks, std::size_t count, std::int64_t tokens) {
    Impl& impl = *impl_;
    tokens = std::max<std::int64_t>(0, tokens);
    Locked locked(impl.shards, checks, count);
    if (locked.begin() == locked.end()) return {};
    // Read under the locks, so that time never goes back for a bucket.
    std::int64_t now_ms = milliseconds(impl.clock.ticks());
    std::int64_t second = now_ms / 1000;
    for (Found& found : locked) found.bucket = impl.bucket_for(locked, found, second);

    Standing standing = impl.judge(locked, tokens, now_ms);
    standing.taken = standing.admitted;
    for (Found& found : locked) {
        if (found.bucket == nullptr) continue;
        Bucket& bucket = *found.bucket;
        const Limits& limits = found.check->limits;
        if (standing.taken) {
            bucket.requests.add(second, 1);
            if (bucket.tokens) bucket.tokens->add(second, tokens);
        }
        if (limits.rpm > 0)
            tighten(limits.rpm, bucket.requests, now_ms, standing.limit_requests, standing.remaining_requests,
                    standing.reset_requests_ms);
        if (limits.tpm > 0)
            tighten(limits.tpm, *bucket.tokens, now_ms, standing.limit_tokens, standing.remaining_tokens,
                    standing.reset_tokens_ms);
    }
    if (standing.admitted) {
        impl.admitted.add();
        return standing;
    }
    for (std::size_t kind = 0; kind < kind_names.size(); ++kind) {
        if (standing.scope != kind_names[kind]) continue;
        (standing.tokens ? impl.refused[kind].tokens : impl.refused[kind].requests)->add();
    }
    if (impl.shadow) {
        standing.admitted = true;
        standing.scope = "";
        standing.retry_after_ms = 0;
    }
    return standing;
}

void RateLimiter::Impl::correct(const Check* checks, std::size_t count, std::int64_t tokens,
                                const std::int64_t* taken_second) {
    if (tokens == 0) return;
    Locked locked(shards, checks, count);
    std::int64_t second = milliseconds(clock.ticks()) / 1000;
    for (Found& found : locked) {
        if (found.check->limits.tpm <= 0) continue;
        if (tokens > 0) {
            if (Bucket* bucket = bucket_for(locked, found, second)) bucket->tokens->add(second, tokens);
            continue;
        }
        Bucket* bucket = locked.shard(found).find(found.check->subject, found.hash, second);
        if (bucket == nullptr || !bucket->tokens) continue;
        std::int64_t oldest = second + 1 - Window::seconds;
        if (taken_second == nullptr)
            bucket->tokens->give_back(second, oldest, -tokens);
        else if (*taken_second >= oldest)  // else it has left the window already
            bucket->tokens->give_back(std::min(*taken_second, second), second, -tokens);
    }
}

void RateLimiter::correct(const Check* checks, std::size_t count, std::int64_t tokens) {
    impl_->correct(checks, count, tokens, nullptr);
}

void RateLimiter::correct(const Check* checks, std::size_t count, std::int64_t tokens, Ticks taken_at) {
    std::int64_t second = milliseconds(taken_at) / 1000;
    impl_->correct(checks, count, tokens, &second);
}

}  // namespace nebula::ratelimit

#pragma once
// Requests and tokens per minute, per subject (key, account, model of an account, IP). In memory: a restart forgives at
// most one window. Exact over a sliding minute (60 one-second slots): never admits more than the limit in any minute.

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/settings.hpp"

namespace nebula::ratelimit {

struct LimitSettings {  // [limits]; 0 = no limit
    std::int64_t key_rpm = 0;
    std::int64_t key_tpm = 0;
    std::int64_t account_rpm = 0;
    std::int64_t account_tpm = 0;
    std::int64_t ip_rpm = 0;
    bool shadow = false;  // count what would be refused, refuse nothing
    void describe(settings::Visitor& v);
};

/// Who a limit counts for: `kind` and a 64-bit id (key id, account id, hash of account and model, hash of an IP).
enum class Kind : std::uint8_t { key, account, model, ip };
struct Subject {
    Kind kind;
    std::uint64_t id;
};
std::uint64_t hash_ip(std::string_view ip);
std::uint64_t hash_pair(std::uint64_t id, std::string_view text);

struct Limits {
    std::int64_t rpm = 0;  // 0 = none
    std::int64_t tpm = 0;
};

/// What the tightest of the checked subjects leaves; for x-ratelimit-* and retry-after. -1 = no such limit.
struct Standing {
    bool admitted = true;
    const char* scope = "";       // kind that refused: "key", "account", "model", "ip"
    bool tokens = false;          // refused by tokens rather than requests
    std::int64_t limit_requests = -1, remaining_requests = -1, reset_requests_ms = 0;
    std::int64_t limit_tokens = -1, remaining_tokens = -1, reset_tokens_ms = 0;
    std::int64_t retry_after_ms = 0;
};

struct Check {
    Subject subject;
    Limits limits;
};

/// Safe from any thread; a bucket is locked for nanoseconds. Bounded: 1,000,000 buckets, idle ones are reused.
class RateLimiter {
   public:
    RateLimiter(const LimitSettings& settings, const Clock& clock, metrics::Registry& metrics);
    ~RateLimiter();

    /// Takes one request and `tokens` from every subject, or from none when any refuses. A request whose tokens alone
    /// exceed a subject's whole limit is refused.
    Standing take(const Check* checks, std::size_t count, std::int64_t tokens);
    /// Corrects the estimate after the fact: adds (or gives back, negative) tokens in the current second.
    void correct(const Check* checks, std::size_t count, std::int64_t tokens);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::ratelimit

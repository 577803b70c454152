#pragma once
// Requests and tokens per minute, per subject (key, account, model of an account, IP). In memory: a restart
// forgives at most one window. Exact over a sliding minute: a use counts through its own second and the 60
// that follow, so no minute whatever ever sees more than the limit, and a client that pushes gets at least
// 60/61 of it.

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

/// Who a limit counts for: `kind` and a 64-bit id (key id, account id, hash of account and model, hash of an
/// IP).
enum class Kind : std::uint8_t { key, account, model, ip };
struct Subject {
    Kind kind;
    std::uint64_t id;
};
/// IPv6 addresses count per /64 network (one customer owns all of it), IPv4-mapped ones as IPv4.
std::uint64_t hash_ip(std::string_view ip);
std::uint64_t hash_pair(std::uint64_t id, std::string_view text);

struct Limits {
    std::int64_t rpm = 0;  // 0 = none
    std::int64_t tpm = 0;
};

/// What the tightest of the checked subjects leaves; for x-ratelimit-* and retry-after. -1 = no such limit.
struct Standing {
    bool admitted = true;
    bool taken = true;  // use was counted; false when refused, also in shadow mode: then never correct() it
    const char* scope = "";  // kind that refused: "key", "account", "model", "ip"
    bool tokens = false;     // refused by tokens rather than requests
    std::int64_t limit_requests = -1, remaining_requests = -1, reset_requests_ms = 0;
    std::int64_t limit_tokens = -1, remaining_tokens = -1, reset_tokens_ms = 0;
    std::int64_t retry_after_ms =
        0;  // 0 with admitted == false: waiting does not help, the request is too large
};

struct Check {
    Subject subject;
    Limits limits;
};

/// Safe from any thread; a bucket is locked for nanoseconds. Bounded: `buckets_max` subjects within one
/// minute, idle buckets are reused. A subject that finds no bucket is let through uncounted, and that is
/// counted and logged.
class RateLimiter {
   public:
    RateLimiter(const LimitSettings& settings, const Clock& clock, metrics::Registry& metrics,
                std::size_t buckets_max = 1'000'000);
    ~RateLimiter();

    /// Takes one request and `tokens` from every subject, or from none when any refuses. A request whose
    /// tokens alone exceed a subject's whole limit is refused. At most 8 checks; those without limits cost
    /// nothing. A check without an rpm counts requests all the same once its subject has a bucket.
    Standing take(const Check* checks, std::size_t count, std::int64_t tokens);
    /// Corrects the estimate after the fact: adds tokens in the current second, or gives back (negative) the
    /// newest ones. Prefer the second form, which gives back where the tokens were taken: `taken_at` is the
    /// time of take().
    void correct(const Check* checks, std::size_t count, std::int64_t tokens);
    void correct(const Check* checks, std::size_t count, std::int64_t tokens, Ticks taken_at);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::ratelimit

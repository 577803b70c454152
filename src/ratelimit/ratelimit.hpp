#pragma once
// Requests, tokens and images per minute, and requests per day, per subject (key, account, model of an
// account, IP). Minutes are in memory: a restart forgives at most one window. Exact over a sliding minute: a
// use counts through its own second and the 60 that follow, so no minute whatever ever sees more than the
// limit, and a client that pushes gets at least 60/61 of it. Days are in the database, when there is one.
//
// Several nodes on one PostgreSQL lease shares of the limits of keys, accounts and models (see README.md).
// Limits of IP addresses are divided evenly by the number of live nodes: a flood of addresses must not become
// a flood of transactions.

#include <cstdint>
#include <memory>
#include <string_view>

#include "async/async.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/settings.hpp"
#include "store/node.hpp"
#include "store/notices.hpp"
#include "store/store.hpp"

namespace nebula::ratelimit {

std::span<const store::Migration> migrations();

struct LimitSettings {  // [limits]; 0 = no limit
    std::int64_t key_rpm = 0;
    std::int64_t key_tpm = 0;
    std::int64_t account_rpm = 0;
    std::int64_t account_tpm = 0;
    std::int64_t ip_rpm = 0;
    std::int64_t account_rpd = 0;      // requests per UTC day
    std::int64_t credits_ip_rpm = 60;  // of the credit API (POST /api/v1/chat), per IP
    bool shadow = false;               // count what would be refused, refuse nothing
    void describe(settings::Visitor& v);
};

/// Who a limit counts for: `kind` and a 64-bit id (key id, account id, hash of account and model, hash of an
/// IP).
enum class Kind : std::uint8_t { key, account, model, ip, credits_ip };
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
    std::int64_t ipm = 0;  // images per minute
    std::int64_t rpd = 0;  // requests per UTC day, midnight to midnight; durable (table rate_days)
};

/// What one request uses.
struct Use {
    std::int64_t tokens = 0;
    std::int64_t images = 0;
};

/// What the tightest of the checked subjects leaves; for x-ratelimit-* and retry-after. -1 = no such limit.
struct Standing {
    bool admitted = true;
    bool taken = true;  // use was counted; false when refused, also in shadow mode: then never correct() it
    const char* scope = "";  // kind that refused: "key", "account", "model", "ip", "credits_ip"
    bool tokens = false;     // refused by tokens rather than requests
    const char* unit = "";   // what refused: "requests", "tokens", "images", "requests per day"
    /// Not decided (`admitted` and `taken` are false): this node has no share of some limit left, or has not
    /// loaded the day's count. Await acquire() with the same checks, then take() again (at most twice; then
    /// it is refused for good). Never for IP addresses.
    bool needs_share = false;
    std::int64_t limit_requests = -1, remaining_requests = -1, reset_requests_ms = 0;
    std::int64_t limit_tokens = -1, remaining_tokens = -1, reset_tokens_ms = 0;
    std::int64_t limit_day = -1, remaining_day = -1, reset_day_ms = 0;
    std::int64_t limit_images = -1, remaining_images = -1;
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
    /// `db`: keeps daily counts (without it they live in memory). `node`, when shared: limits are divided
    /// into shares that nodes lease by demand, so that all nodes together never admit more than the limit.
    /// All must outlive stop(). Create it before notices->start() and right after Node::start().
    RateLimiter(const LimitSettings& settings, const Clock& clock, metrics::Registry& metrics,
                std::size_t buckets_max = 1'000'000, store::Db* db = nullptr, store::Node* node = nullptr,
                store::Notices* notices = nullptr);
    ~RateLimiter();
    /// Writes daily counts back, returns shares; before the database closes and the node gives its lease
    /// back.
    void stop();
    /// What its thread does every second when the node is shared (giving shares back), now and on the calling
    /// thread. For tests with a FakeClock.
    void tick();

    /// Takes one request and `tokens` from every subject, or from none when any refuses. A request whose
    /// tokens alone exceed a subject's whole limit is refused. At most 8 checks; those without limits cost
    /// nothing. A check without an rpm counts requests all the same once its subject has a bucket.
    Standing take(const Check* checks, std::size_t count, std::int64_t tokens);
    Standing take(const Check* checks, std::size_t count, Use use);
    /// After needs_share. `checks` are copied.
    Async<void> acquire(const Check* checks, std::size_t count, Use use);
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

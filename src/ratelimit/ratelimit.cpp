#include "ratelimit/ratelimit.hpp"

#include <algorithm>
#include <array>
#include <atomic>

#include "base/log.hpp"
#include "ratelimit/keeper.hpp"
#include "ratelimit/locked.hpp"

namespace nebula::ratelimit {
namespace {

constexpr std::array<const char*, 5> kind_names = {"key", "account", "model", "ip", "credits_ip"};
constexpr std::size_t by_day = unit_count;
constexpr std::array<const char*, unit_count + 1> unit_names = {"requests", "tokens", "images",
                                                                "requests per day"};
constexpr std::array<const char*, unit_count + 1> unit_labels = {"requests", "tokens", "images", "day"};
constexpr std::int64_t retry_soon_ms = 1000;

bool is_address(Kind kind) { return kind == Kind::ip || kind == Kind::credits_ip; }
std::size_t index_of(Kind kind) { return static_cast<std::size_t>(kind); }
std::size_t index_of(Unit unit) { return static_cast<std::size_t>(unit); }

/// One moment, read under the locks, so that time never goes back for a bucket.
struct Now {
    std::int64_t ms;
    std::int64_t second;
};

/// What a decision found, beyond what the caller is told.
struct Verdict {
    Standing& standing;
    bool is_undecided = false;
    std::size_t refused_kind = 0;
    std::size_t refused_by = 0;

    void refuse(Kind kind, std::size_t by, std::int64_t wait_ms) {
        if (standing.admitted) {  // the first that refuses names the scope
            standing.admitted = false;
            refused_kind = index_of(kind);
            refused_by = by;
            standing.retry_after_ms = wait_ms;
        } else if (standing.retry_after_ms > 0) {
            standing.retry_after_ms = wait_ms == 0 ? 0 : std::max(standing.retry_after_ms, wait_ms);
        }
    }
};

}  // namespace

struct RateLimiter::Impl {
    Impl(const LimitSettings& settings, const Clock& source, metrics::Registry& metrics,
         std::size_t buckets_max, store::Db* db, store::Node* node_of, store::Notices* notices);

    Standing take(const Check* checks, std::size_t count, Use use);
    void correct(const Check* checks, std::size_t count, std::int64_t tokens,
                 const std::int64_t* taken_second);

    Bucket* bucket_for(Locked& locked, const Found& found, Now now);
    /// The whole answer before anything is taken; `admitted` tells whether everything fits.
    void judge(Locked& locked, const Use& use, Now now, Verdict& verdict);
    /// By the windows of this process alone.
    void judge_alone(const Found& found, const Use& use, Now now, Verdict& verdict) const;
    /// By this node's share of the limit.
    void judge_leased(const Found& found, Unit unit, std::int64_t amount, Now now, Verdict& verdict) const;
    void judge_day(const Found& found, Now now, Verdict& verdict);
    void count_use(const Found& found, const Use& use, Now now) const;
    void describe(const Found& found, Now now, Standing& standing) const;
    void conclude(Verdict& verdict);

    bool is_leased(Kind kind) const { return is_shared && !is_address(kind); }
    /// Of an address's limit, when there are several nodes.
    std::int64_t part_of(std::int64_t limit) const {
        return std::max<std::int64_t>(1, limit / node->live_count());
    }

    const Clock& clock;
    const bool shadow;
    store::Node* const node;
    const bool is_shared;
    const bool keeps_days;  // in the database
    Table table;
    // Shared with the registry's callback, which may outlive this object.
    std::shared_ptr<std::atomic<std::int64_t>> buckets = std::make_shared<std::atomic<std::int64_t>>(0);
    metrics::Counter& admitted;
    metrics::Counter& untracked;
    metrics::Counter& undecided;
    std::array<std::array<metrics::Counter*, unit_count + 1>, kind_names.size()> refused{};
    std::unique_ptr<Keeper> keeper;  // last: its thread uses the table
};

RateLimiter::Impl::Impl(const LimitSettings& settings, const Clock& source, metrics::Registry& metrics,
                        std::size_t buckets_max, store::Db* db, store::Node* node_of, store::Notices* notices)
    : clock(source),
      shadow(settings.shadow),
      node(node_of),
      is_shared(db != nullptr && node_of != nullptr && node_of->is_shared()),
      keeps_days(db != nullptr),
      admitted(
          metrics.counter("nebula_ratelimit_admitted_total", "Requests that the rate limits let through.")),
      untracked(metrics.counter("nebula_ratelimit_untracked_total",
                                "Subjects let through uncounted because every bucket was in use.")),
      undecided(metrics.counter("nebula_ratelimit_undecided_total",
                                "Decisions put off until a share or the count of the day was there.")) {
    for (Shard& shard : table.shards)
        shard.set_max(std::max<std::size_t>(1, buckets_max / Table::shard_count));
    const char* name = shadow ? "nebula_ratelimit_shadow_refused_total" : "nebula_ratelimit_refused_total";
    const char* help =
        shadow ? "Requests that the rate limits would have refused." : "Requests refused by a rate limit.";
    for (std::size_t kind = 0; kind < kind_names.size(); ++kind)
        for (std::size_t by = 0; by < unit_labels.size(); ++by)
            refused[kind][by] =
                &metrics.counter(name, help, {{"scope", kind_names[kind]}, {"by", unit_labels[by]}});
    metrics.gauge_callback("nebula_ratelimit_buckets", "Subjects with a bucket.",
                           [count = buckets] { return count->load(); });
    metrics.gauge("nebula_ratelimit_buckets_max", "Subjects that can have a bucket at a time.")
        .set(static_cast<std::int64_t>(buckets_max));
    if (db != nullptr)
        keeper = std::make_unique<Keeper>(table, clock, metrics, *db, is_shared ? node : nullptr, notices);
}

Bucket* RateLimiter::Impl::bucket_for(Locked& locked, const Found& found, Now now) {
    Shard& shard = locked.shard(found);
    auto before = static_cast<std::int64_t>(shard.size());
    Bucket* bucket = shard.find_or_add(found.check->subject, found.hash, now.second);
    if (auto change = static_cast<std::int64_t>(shard.size()) - before; change != 0) *buckets += change;
    const char* scope = kind_names[index_of(found.check->subject.kind)];
    if (bucket == nullptr) {
        untracked.add();
        LOG_WARN("rate limit table is full, subject not counted", {"scope", scope});
        return nullptr;
    }
    const Limits& limits = found.check->limits;
    if (limits.tpm > 0 && !bucket->tokens) bucket->tokens = std::make_unique<Window>();
    if (limits.ipm > 0 && !bucket->images) bucket->images = std::make_unique<Window>();
    if (!bucket->extra && (limits.rpd > 0 || is_leased(found.check->subject.kind)))
        bucket->extra = std::make_unique<Extra>();
    return bucket;
}

void RateLimiter::Impl::judge_leased(const Found& found, Unit unit, std::int64_t amount, Now now,
                                     Verdict& verdict) const {
    std::int64_t limit = limit_of(found.check->limits, unit);
    if (limit <= 0) return;
    const Window& window = *found.bucket->window(unit);
    auto refuse = [&](std::int64_t wait_ms) {
        verdict.refuse(found.check->subject.kind, index_of(unit), wait_ms);
    };
    if (amount > limit) return refuse(0);
    Share& share = found.bucket->extra->shares[index_of(unit)];
    share.limit = limit;
    share.ask(amount, now.second);
    std::int64_t room = std::min({limit, share.held, share.cap});
    if (window.sum() + amount <= room) return;
    if (window.sum() + amount > limit) return refuse(window.ms_until_at_most(limit - amount, now.ms));
    if (now.ms >= share.denied_until_ms) {
        verdict.is_undecided = true;
        return;
    }
    // Other nodes hold the rest. Our own uses leave in so long; a share may come sooner.
    std::int64_t wait_ms =
        room >= amount ? window.ms_until_at_most(room - amount, now.ms) : Window::seconds * 1000;
    refuse(std::max({wait_ms, share.denied_until_ms - now.ms, std::int64_t{1}}));
}

void RateLimiter::Impl::judge_alone(const Found& found, const Use& use, Now now, Verdict& verdict) const {
    const Limits& limits = found.check->limits;
    Kind kind = found.check->subject.kind;
    auto judge_unit = [&](const Window& window, std::int64_t limit, std::int64_t amount, Unit unit) {
        if (is_shared) limit = part_of(limit);
        if (amount > limit)
            verdict.refuse(kind, index_of(unit), 0);
        else if (window.sum() + amount > limit)
            verdict.refuse(kind, index_of(unit), window.ms_until_at_most(limit - amount, now.ms));
    };
    if (limits.rpm > 0) judge_unit(found.bucket->requests, limits.rpm, 1, Unit::requests);
    if (limits.tpm > 0) judge_unit(*found.bucket->tokens, limits.tpm, use.tokens, Unit::tokens);
    if (limits.ipm > 0) judge_unit(*found.bucket->images, limits.ipm, use.images, Unit::images);
}

void RateLimiter::Impl::judge_day(const Found& found, Now now, Verdict& verdict) {
    std::int64_t limit = found.check->limits.rpd;
    Day& day = found.bucket->extra->day;
    std::int64_t until_midnight_ms = enter_day(day, clock.now(), now.ms);
    auto refuse = [&](std::int64_t wait_ms) { verdict.refuse(found.check->subject.kind, by_day, wait_ms); };
    if (!keeps_days) {
        if (day.taken >= limit) refuse(until_midnight_ms);
        return;
    }
    bool is_spent = day.is_known && day.taken - day.left >= limit;
    if (day.left > 0 && !is_spent) return;
    if (now.ms < day.denied_until_ms) return refuse(is_spent ? until_midnight_ms : retry_soon_ms);
    if (is_spent && day.left > 0) return refuse(until_midnight_ms);  // the limit was lowered
    verdict.is_undecided = true;
}

void RateLimiter::Impl::judge(Locked& locked, const Use& use, Now now, Verdict& verdict) {
    for (const Found& found : locked) {
        if (found.bucket == nullptr) continue;
        if (!is_leased(found.check->subject.kind)) {
            judge_alone(found, use, now, verdict);
        } else {
            // Others may be taking over what this node held.
            if (!node->is_live()) verdict.refuse(found.check->subject.kind, 0, retry_soon_ms);
            for (Unit unit : all_units) judge_leased(found, unit, amount_of(use, unit), now, verdict);
        }
        if (found.check->limits.rpd > 0) judge_day(found, now, verdict);
    }
}

void RateLimiter::Impl::count_use(const Found& found, const Use& use, Now now) const {
    Bucket& bucket = *found.bucket;
    bucket.requests.add(now.second, 1);
    if (bucket.tokens) bucket.tokens->add(now.second, use.tokens);
    if (bucket.images) bucket.images->add(now.second, use.images);
    if (found.check->limits.rpd <= 0) return;
    if (keeps_days)
        --bucket.extra->day.left;
    else
        ++bucket.extra->day.taken;
}

void RateLimiter::Impl::describe(const Found& found, Now now, Standing& standing) const {
    const Limits& limits = found.check->limits;
    Bucket& bucket = *found.bucket;
    auto tell = [&](const Window& window, std::int64_t limit, Unit unit, std::int64_t& of,
                    std::int64_t& remaining, std::int64_t& reset_ms) {
        std::int64_t left = limit - window.sum();
        if (is_shared) [[unlikely]] {
            if (is_address(found.check->subject.kind)) {
                limit = part_of(limit);
                left = limit - window.sum();
            } else {
                const Share& share = bucket.extra->shares[index_of(unit)];
                left = std::min(left, std::min(share.held, share.cap) - window.sum() + share.pool);
            }
        }
        left = std::max<std::int64_t>(0, left);
        if (of >= 0 && remaining <= left) return;
        of = limit;
        remaining = left;
        reset_ms = window.ms_until_empty(now.ms);
    };
    std::int64_t ignored = 0;
    if (limits.rpm > 0)
        tell(bucket.requests, limits.rpm, Unit::requests, standing.limit_requests,
             standing.remaining_requests, standing.reset_requests_ms);
    if (limits.tpm > 0)
        tell(*bucket.tokens, limits.tpm, Unit::tokens, standing.limit_tokens, standing.remaining_tokens,
             standing.reset_tokens_ms);
    if (limits.ipm > 0)
        tell(*bucket.images, limits.ipm, Unit::images, standing.limit_images, standing.remaining_images,
             ignored);
    if (limits.rpd <= 0) return;
    const Day& day = bucket.extra->day;
    std::int64_t left = std::max<std::int64_t>(0, limits.rpd - (day.taken - day.left));
    if (standing.limit_day >= 0 && standing.remaining_day <= left) return;
    standing.limit_day = limits.rpd;
    standing.remaining_day = left;
    standing.reset_day_ms = day.until_second * 1000 - now.ms;
}

void RateLimiter::Impl::conclude(Verdict& verdict) {
    Standing& standing = verdict.standing;
    if (standing.admitted) {
        admitted.add();
        return;
    }
    if (standing.needs_share) {
        undecided.add();
        return;
    }
    refused[verdict.refused_kind][verdict.refused_by]->add();
    if (shadow) {
        standing.admitted = true;
        standing.retry_after_ms = 0;
        return;
    }
    standing.scope = kind_names[verdict.refused_kind];
    standing.unit = unit_names[verdict.refused_by];
    standing.tokens = verdict.refused_by == index_of(Unit::tokens);
}

Standing RateLimiter::Impl::take(const Check* checks, std::size_t count, Use use) {
    use.tokens = std::max<std::int64_t>(0, use.tokens);
    use.images = std::max<std::int64_t>(0, use.images);
    Locked locked(table, checks, count);
    Standing standing;
    Verdict verdict{standing};
    if (locked.begin() == locked.end()) return standing;
    std::int64_t ms = milliseconds(clock.ticks());
    Now now{ms, ms / 1000};
    for (Found& found : locked) found.bucket = bucket_for(locked, found, now);

    judge(locked, use, now, verdict);
    if (standing.admitted && verdict.is_undecided) {
        standing.admitted = false;
        standing.needs_share = true;
        standing.retry_after_ms = retry_soon_ms;
        standing.scope = kind_names[index_of(locked.begin()->check->subject.kind)];
        standing.unit = unit_names[0];
    }
    standing.taken = standing.admitted;
    for (Found& found : locked) {
        if (found.bucket == nullptr) continue;
        if (standing.taken) count_use(found, use, now);
        describe(found, now, standing);
    }
    conclude(verdict);
    return standing;
}

void RateLimiter::Impl::correct(const Check* checks, std::size_t count, std::int64_t tokens,
                                const std::int64_t* taken_second) {
    if (tokens == 0) return;
    Locked locked(table, checks, count);
    std::int64_t ms = milliseconds(clock.ticks());
    Now now{ms, ms / 1000};
    for (Found& found : locked) {
        if (found.check->limits.tpm <= 0) continue;
        if (tokens > 0) {
            if (Bucket* bucket = bucket_for(locked, found, now)) bucket->tokens->add(now.second, tokens);
            continue;
        }
        Bucket* bucket = locked.shard(found).find(found.check->subject, found.hash, now.second);
        if (bucket == nullptr || !bucket->tokens) continue;
        std::int64_t oldest = now.second + 1 - Window::seconds;
        if (taken_second == nullptr)
            bucket->tokens->give_back(now.second, oldest, -tokens);
        else if (*taken_second >= oldest)  // else it has left the window already
            bucket->tokens->give_back(std::min(*taken_second, now.second), now.second, -tokens);
    }
}

RateLimiter::RateLimiter(const LimitSettings& settings, const Clock& clock, metrics::Registry& metrics,
                         std::size_t buckets_max, store::Db* db, store::Node* node, store::Notices* notices)
    : impl_(std::make_unique<Impl>(settings, clock, metrics, buckets_max, db, node, notices)) {}
RateLimiter::~RateLimiter() { stop(); }

void RateLimiter::stop() {
    if (impl_->keeper) impl_->keeper->stop();
}
void RateLimiter::tick() {
    if (impl_->keeper) impl_->keeper->tick();
}

Standing RateLimiter::take(const Check* checks, std::size_t count, std::int64_t tokens) {
    return impl_->take(checks, count, Use{.tokens = tokens});
}
Standing RateLimiter::take(const Check* checks, std::size_t count, Use use) {
    return impl_->take(checks, count, use);
}

Async<void> RateLimiter::acquire(const Check* checks, std::size_t count, Use use) {
    std::vector<Check> wanted;
    for (std::size_t i = 0; i < count; ++i)
        if (!is_address(checks[i].subject.kind) && limits_anything(checks[i].limits))
            wanted.push_back(checks[i]);
    return Keeper::acquire(impl_->keeper.get(), std::move(wanted), use);
}

void RateLimiter::correct(const Check* checks, std::size_t count, std::int64_t tokens) {
    impl_->correct(checks, count, tokens, nullptr);
}

void RateLimiter::correct(const Check* checks, std::size_t count, std::int64_t tokens, Ticks taken_at) {
    std::int64_t second = milliseconds(taken_at) / 1000;
    impl_->correct(checks, count, tokens, &second);
}

}  // namespace nebula::ratelimit

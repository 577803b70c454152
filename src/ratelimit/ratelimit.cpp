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
    Standing standing;
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

void tighten(std::int64_t limit, std::int64_t left, std::int64_t& standing_limit, std::int64_t& remaining,
             std::int64_t& reset_ms, std::int64_t new_reset_ms) {
    left = std::max<std::int64_t>(0, left);
    if (standing_limit >= 0 && remaining <= left) return;
    standing_limit = limit;
    remaining = left;
    reset_ms = new_reset_ms;
}

}  // namespace

struct RateLimiter::Impl {
    Impl(const LimitSettings& settings, const Clock& source, metrics::Registry& metrics,
         std::size_t buckets_max, store::Db* db, store::Node* node_of, store::Notices* notices);

    Standing take(const Check* checks, std::size_t count, Use use);
    void correct(const Check* checks, std::size_t count, std::int64_t tokens,
                 const std::int64_t* taken_second);

    Bucket* bucket_for(Locked& locked, const Found& found, Now now);
    /// The whole answer before anything is taken; `admitted` tells whether everything fits.
    Verdict judge(Locked& locked, const Use& use, Now now);
    void judge_unit(const Found& found, Unit unit, std::int64_t amount, Now now, Verdict& verdict);
    void judge_day(const Found& found, Now now, Verdict& verdict);
    void count_use(const Found& found, const Use& use, Now now) const;
    void describe(const Found& found, Now now, Standing& standing) const;
    Standing conclude(Verdict verdict);

    bool is_leased(Kind kind) const { return is_shared && !is_address(kind); }
    std::int64_t limit_here(const Check& check, Unit unit) const {
        std::int64_t limit = limit_of(check.limits, unit);
        if (!is_shared || limit <= 0 || !is_address(check.subject.kind)) return limit;
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
                                "Subjects let through uncounted because every bucket was in use.")) {
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

void RateLimiter::Impl::judge_unit(const Found& found, Unit unit, std::int64_t amount, Now now,
                                   Verdict& verdict) {
    std::int64_t limit = limit_here(*found.check, unit);
    if (limit <= 0) return;
    Kind kind = found.check->subject.kind;
    const Window& window = *found.bucket->window(unit);
    auto refuse = [&](std::int64_t wait_ms) { verdict.refuse(kind, index_of(unit), wait_ms); };
    if (amount > limit) return refuse(0);
    if (!is_leased(kind)) {
        if (window.sum() + amount > limit) refuse(window.ms_until_at_most(limit - amount, now.ms));
        return;
    }
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

void RateLimiter::Impl::judge_day(const Found& found, Now now, Verdict& verdict) {
    std::int64_t limit = found.check->limits.rpd;
    if (limit <= 0) return;
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

Verdict RateLimiter::Impl::judge(Locked& locked, const Use& use, Now now) {
    Verdict verdict;
    bool is_cut_off = is_shared && !node->is_live();
    for (const Found& found : locked) {
        if (found.bucket == nullptr) continue;
        // Others may be taking over what this node held.
        if (is_cut_off && is_leased(found.check->subject.kind))
            verdict.refuse(found.check->subject.kind, 0, retry_soon_ms);
        for (Unit unit : all_units) judge_unit(found, unit, amount_of(use, unit), now, verdict);
        judge_day(found, now, verdict);
    }
    return verdict;
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
    const Check& check = *found.check;
    std::int64_t ignored = 0;
    for (Unit unit : all_units) {
        std::int64_t limit = limit_here(check, unit);
        if (limit <= 0) continue;
        const Window& window = *found.bucket->window(unit);
        std::int64_t left = limit - window.sum();
        if (is_leased(check.subject.kind)) {
            const Share& share = found.bucket->extra->shares[index_of(unit)];
            left = std::min(left, std::min(share.held, share.cap) - window.sum() + share.pool);
        }
        std::int64_t reset = window.ms_until_empty(now.ms);
        if (unit == Unit::requests)
            tighten(limit, left, standing.limit_requests, standing.remaining_requests,
                    standing.reset_requests_ms, reset);
        else if (unit == Unit::tokens)
            tighten(limit, left, standing.limit_tokens, standing.remaining_tokens, standing.reset_tokens_ms,
                    reset);
        else
            tighten(limit, left, standing.limit_images, standing.remaining_images, ignored, reset);
    }
    if (check.limits.rpd <= 0) return;
    const Day& day = found.bucket->extra->day;
    tighten(check.limits.rpd, check.limits.rpd - (day.taken - day.left), standing.limit_day,
            standing.remaining_day, standing.reset_day_ms, day.until_second * 1000 - now.ms);
}

Standing RateLimiter::Impl::conclude(Verdict verdict) {
    Standing& standing = verdict.standing;
    if (standing.admitted) {
        admitted.add();
        return standing;
    }
    if (standing.needs_share) return standing;
    refused[verdict.refused_kind][verdict.refused_by]->add();
    if (shadow) {
        standing.admitted = true;
        standing.retry_after_ms = 0;
        return standing;
    }
    standing.scope = kind_names[verdict.refused_kind];
    standing.unit = unit_names[verdict.refused_by];
    standing.tokens = verdict.refused_by == index_of(Unit::tokens);
    return standing;
}

Standing RateLimiter::Impl::take(const Check* checks, std::size_t count, Use use) {
    use.tokens = std::max<std::int64_t>(0, use.tokens);
    use.images = std::max<std::int64_t>(0, use.images);
    Locked locked(table, checks, count);
    if (locked.begin() == locked.end()) return {};
    std::int64_t ms = milliseconds(clock.ticks());
    Now now{ms, ms / 1000};
    for (Found& found : locked) found.bucket = bucket_for(locked, found, now);

    Verdict verdict = judge(locked, use, now);
    Standing& standing = verdict.standing;
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
    return conclude(verdict);
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

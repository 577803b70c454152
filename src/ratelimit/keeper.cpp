#include "ratelimit/keeper.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "base/text.hpp"
#include "ratelimit/locked.hpp"

namespace nebula::ratelimit {
namespace {

constexpr std::size_t batch_max = 256;  // requests served in one transaction
constexpr std::size_t waiters_max = 20'000;
constexpr std::int64_t backoff_min_ms = 250;
constexpr std::int64_t backoff_max_ms = 2'000;
constexpr std::int64_t recall_ms = 1'000;       // while below the fair share
constexpr std::int64_t recall_slow_ms = 8'000;  // else: others may want less by now
constexpr std::int64_t day_recheck_ms = 5'000;  // another node may give a block back

Share& share_of(Bucket& bucket, Unit unit) { return bucket.extra->shares[static_cast<std::size_t>(unit)]; }

/// "node:kind:id"; false when it is not ours to read.
bool parse_recall(std::string_view text, std::int64_t& node, Subject& subject) {
    auto first = text.find(':');
    auto second = text.find(':', first == std::string_view::npos ? first : first + 1);
    if (second == std::string_view::npos) return false;
    auto from = parse_int<std::int64_t>(text.substr(0, first));
    auto kind = parse_int<std::int64_t>(text.substr(first + 1, second - first - 1));
    auto id = parse_int<std::int64_t>(text.substr(second + 1));
    if (!from || !kind || !id) return false;
    node = *from;
    subject = {static_cast<Kind>(*kind), static_cast<std::uint64_t>(*id)};
    return true;
}

}  // namespace

Keeper::Keeper(Table& table, const Clock& clock, metrics::Registry& metrics, store::Db& db, store::Node* node,
               store::Notices* notices)
    : table_(table),
      clock_(clock),
      db_(db),
      node_(node),
      notices_(notices),
      transactions_(metrics.counter("nebula_ratelimit_transactions_total",
                                    "Transactions for daily blocks and shares of limits.")),
      failures_(metrics.counter("nebula_ratelimit_transaction_failures_total",
                                "Of those, the ones that failed; requests that need them are refused.")),
      recalls_sent_(metrics.counter("nebula_ratelimit_recalls_total",
                                    "Shares of limits called back from other nodes.", {{"way", "sent"}})),
      recalls_heard_(metrics.counter("nebula_ratelimit_recalls_total",
                                     "Shares of limits called back from other nodes.", {{"way", "heard"}})) {
    if (node_ != nullptr) {
        node_->on_reclaim([](store::Tx& tx, std::int64_t dead) { leave_all_rows(tx, dead); });
        if (notices_ != nullptr)
            notices_->subscribe("rate", [inbox = inbox_, own = node_->id()](std::string_view payload) {
                std::int64_t from = 0;
                Subject subject{};
                if (!parse_recall(payload, from, subject) || from == own) return;
                std::lock_guard lock(inbox->mutex);
                inbox->recalls.push_back(subject);
                inbox->arrived.notify_one();
            });
    }
    thread_ = std::thread([this] { run(); });
}

Keeper::Instant Keeper::now() const {
    std::int64_t ms = milliseconds(clock_.ticks());
    return {ms, ms / 1000};
}

Async<void> Keeper::acquire(Keeper* keeper, std::vector<Check> checks, Use use) {
    if (keeper == nullptr || checks.empty()) co_return;
    Waiter waiter{std::move(checks), use, {}};
    {
        std::lock_guard lock(keeper->inbox_->mutex);
        if (keeper->inbox_->is_stopping || keeper->inbox_->waiters.size() >= waiters_max) co_return;
        keeper->inbox_->waiters.push_back(&waiter);
        keeper->inbox_->arrived.notify_one();
    }
    co_await waiter.done;
}

void Keeper::run() {
    Inbox& inbox = *inbox_;
    while (true) {
        std::vector<Waiter*> waiters;
        bool is_stopping = false;
        {
            std::unique_lock lock(inbox.mutex);
            auto has_work = [&] {
                return inbox.is_stopping || !inbox.waiters.empty() || !inbox.recalls.empty();
            };
            if (node_ != nullptr)
                inbox.arrived.wait_for(lock, std::chrono::seconds(1), has_work);
            else
                inbox.arrived.wait(lock, has_work);
            is_stopping = inbox.is_stopping;
            std::size_t count =
                is_stopping ? inbox.waiters.size() : std::min(inbox.waiters.size(), batch_max);
            auto end = inbox.waiters.begin() + static_cast<std::ptrdiff_t>(count);
            waiters.assign(inbox.waiters.begin(), end);
            inbox.waiters.erase(inbox.waiters.begin(), end);
        }
        if (!waiters.empty() && !is_stopping) serve(waiters);
        // A waiter may be gone as soon as it is told.
        for (Waiter* waiter : waiters) waiter->done.set(true);
        if (is_stopping) return;
        if (node_ != nullptr) tick();
    }
}

void Keeper::stop() {
    {
        std::lock_guard lock(inbox_->mutex);
        inbox_->is_stopping = true;
        inbox_->arrived.notify_one();
    }
    if (!thread_.joinable()) return;
    thread_.join();
    std::lock_guard working(work_mutex_);
    return_days();
    if (node_ != nullptr) return_all();
}

bool Keeper::in_tx(const char* what, const std::function<Result<bool>(store::Tx&)>& work) {
    transactions_.add();
    try {
        auto done = db_.in_tx_blocking([&](store::Tx& tx) { return work(tx); });
        if (done) return true;
        LOG_WARN("a rate limit could not be leased", {"doing", what}, {"error", done.error().message});
    } catch (const std::exception& e) {
        LOG_WARN("a rate limit could not be leased", {"doing", what}, {"error", e.what()});
    }
    failures_.add();
    return false;
}

void Keeper::add_shares(Batch& batch, const Check& check, const Use& use) {
    for (Unit unit : all_units) {
        std::int64_t limit = limit_of(check.limits, unit);
        if (limit <= 0) continue;
        auto known = std::ranges::find_if(batch.shares, [&](const ShareWant& want) {
            return want.unit == unit && want.subject == check.subject;
        });
        if (known == batch.shares.end())
            known =
                batch.shares.insert(known, ShareWant{.subject = check.subject, .unit = unit, .limit = limit});
        known->limit = std::min(known->limit, limit);
        known->use += amount_of(use, unit);
    }
}

void Keeper::add_day(Batch& batch, const Check& check) {
    if (check.limits.rpd <= 0) return;
    auto known =
        std::ranges::find_if(batch.days, [&](const DayWant& want) { return want.subject == check.subject; });
    if (known == batch.days.end())
        known = batch.days.insert(known, DayWant{.subject = check.subject, .limit = check.limits.rpd});
    known->limit = std::max(known->limit, check.limits.rpd);
    ++known->waiting;
}

void Keeper::look_up(Batch& batch, Instant at) {
    std::int64_t today = day_of(clock_.now());
    std::erase_if(batch.shares, [&](ShareWant& want) {
        bool is_wanted = false;
        table_.with(want.subject, at.second, [&](Bucket& bucket) {
            if (!bucket.extra) return;
            const Share& share = share_of(bucket, want.unit);
            want.used = bucket.used(want.unit);
            want.demand = share.demand(at.second);
            want.is_shrinking = at.ms < share.shrinking_until_ms;
            is_wanted = want.used + want.use > share.held && at.ms >= share.denied_until_ms;
        });
        return !is_wanted;
    });
    std::erase_if(batch.days, [&](DayWant& want) {
        bool is_wanted = false;
        table_.with(want.subject, at.second, [&](Bucket& bucket) {
            if (!bucket.extra || bucket.extra->day.day != today) return;
            const Day& day = bucket.extra->day;
            want.day = today;
            want.left = day.left;
            is_wanted = day.left < want.waiting && at.ms >= day.denied_until_ms;
        });
        return !is_wanted;
    });
}

Keeper::Batch Keeper::collect(const std::vector<Waiter*>& waiters, Instant at) {
    Batch batch;
    for (const Waiter* waiter : waiters) {
        for (const Check& check : waiter->checks) {
            if (node_ != nullptr) add_shares(batch, check, waiter->use);
            add_day(batch, check);
        }
    }
    look_up(batch, at);
    std::ranges::sort(batch.days, [](const DayWant& a, const DayWant& b) { return a.subject < b.subject; });
    for (const ShareWant& want : batch.shares) batch.subjects.push_back(want.subject);
    std::ranges::sort(batch.subjects, [](Subject a, Subject b) { return a < b; });
    batch.subjects.erase(std::unique(batch.subjects.begin(), batch.subjects.end()), batch.subjects.end());
    return batch;
}

void Keeper::call_back(store::Tx& tx, const ShareWant& want, Instant at) {
    if (notices_ == nullptr || !want.calls_back) return;
    bool is_due = false;
    table_.with(want.subject, at.second, [&](Bucket& bucket) {
        if (!bucket.extra) return;
        Share& share = share_of(bucket, want.unit);
        is_due = at.ms >= share.recall_after_ms;
        if (is_due) share.recall_after_ms = at.ms + (want.is_entitled ? recall_ms : recall_slow_ms);
    });
    if (!is_due) return;
    std::string payload = std::to_string(node_->id()) + ':' +
                          std::to_string(static_cast<int>(want.subject.kind)) + ':' +
                          std::to_string(static_cast<std::int64_t>(want.subject.id));
    notices_->publish(tx, "rate", payload);
    recalls_sent_.add();
}

void Keeper::lease_shares(store::Tx& tx, Batch& batch, Instant at) {
    std::vector<ShareRow> rows = read_rows(tx, batch.subjects);
    std::vector<ShareRow> changed;
    for (ShareWant& want : batch.shares) {
        decide(want, Holdings(rows, want.subject, want.unit, node_->id()));
        changed.push_back(
            {.subject = want.subject, .unit = want.unit, .share = want.share, .demand = want.demand});
        call_back(tx, want, at);
    }
    write_rows(tx, node_->id(), changed);
}

Result<bool> Keeper::lease(store::Tx& tx, Batch& batch, Instant at) {
    std::int64_t today = day_of(clock_.now());
    if (!batch.days.empty() && forgot_day_ != today) forget_days_before(tx, today - 1);
    take_blocks(tx, batch.days, node_ != nullptr ? node_->live_count() : 1);
    if (batch.shares.empty()) return true;
    lock_subjects(tx, batch.subjects);
    if (!node_->confirm(tx)) return fail(Code::conflict, "the lease of this node has run out");
    lease_shares(tx, batch, at);
    return true;
}

void Keeper::apply(const Batch& batch, bool done, Instant at) {
    for (const ShareWant& want : batch.shares) {
        table_.with(want.subject, at.second, [&](Bucket& bucket) {
            if (!bucket.extra) return;
            Share& share = share_of(bucket, want.unit);
            share.has_row = true;  // also when nobody knows: the row is deleted when idle
            if (done) {
                bool got_more = want.share > share.held;
                share.held = want.share;
                share.pool = want.pool;
                share.stored_demand = want.demand;
                if (got_more) share.backoff_ms = 0;
                if (want.is_contended || want.calls_back)
                    contended_[want.subject] = at.ms + Window::seconds * 1000;
                if (!want.is_short) return;
            }
            share.backoff_ms = std::clamp(share.backoff_ms * 2, backoff_min_ms, backoff_max_ms);
            share.denied_until_ms = at.ms + share.backoff_ms;
        });
    }
    for (const DayWant& want : batch.days) {
        table_.with(want.subject, at.second, [&](Bucket& bucket) {
            if (!bucket.extra || bucket.extra->day.day != want.day) return;
            Day& day = bucket.extra->day;
            if (!done) {
                day.denied_until_ms = at.ms + backoff_min_ms;
                return;
            }
            day.is_known = true;
            day.taken = want.taken;
            day.left += want.granted;
            if (want.granted == 0)
                day.denied_until_ms = node_ != nullptr ? at.ms + day_recheck_ms : day.until_second * 1000;
        });
    }
}

void Keeper::serve(const std::vector<Waiter*>& waiters) {
    std::lock_guard working(work_mutex_);
    Instant at = now();
    Batch batch = collect(waiters, at);
    if (batch.shares.empty() && batch.days.empty()) return;
    bool done = in_tx("acquire", [&](store::Tx& tx) { return lease(tx, batch, at); });
    if (done && !batch.days.empty()) forgot_day_ = day_of(clock_.now());
    apply(batch, done, at);
}

void Keeper::tick() {
    std::vector<Subject> recalls;
    {
        std::lock_guard lock(inbox_->mutex);
        recalls.swap(inbox_->recalls);
    }
    std::lock_guard working(work_mutex_);
    if (node_ == nullptr) return;
    Instant at = now();
    recalls_heard_.add(recalls.size());
    for (Subject subject : recalls) {
        recalled_[subject] = at.ms;
        contended_[subject] = at.ms + Window::seconds * 1000;
    }
    bool is_due = at.second != refreshed_second_;
    if (!is_due && recalled_.empty()) return;
    std::vector<Subject> subjects;
    if (is_due) {
        refreshed_second_ = at.second;
        std::erase_if(contended_, [&](const auto& entry) { return entry.second < at.ms; });
        for (const auto& [subject, until] : contended_) subjects.push_back(subject);
    } else {
        for (const auto& [subject, since] : recalled_) subjects.push_back(subject);
    }
    give_back(std::move(subjects), at);
    recalled_.clear();
    if (at.second - dropped_second_ < 10) return;
    dropped_second_ = at.second;
    drop_idle(at);
}

}  // namespace nebula::ratelimit

#include "billing/admission/slicer.hpp"

#include <pthread.h>

#include <algorithm>

#include "base/log.hpp"

namespace nebula::billing {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t jobs_max = 64;     // purses in one transaction
constexpr auto retry_interval = 50ms;    // for purses that wait for other nodes
constexpr auto recall_interval = 500ms;  // how often others are asked again
constexpr auto scarce_time = 3s;         // after a recall: what becomes free goes back at once
constexpr auto sweep_interval = 5s;
constexpr auto idle_time = 60s;  // then a purse's free part goes back
constexpr int last_tries = 3;

Error not_live() {
    Error error{Code::overloaded, "this server has lost touch with its database; try again"};
    error.retry_after_ms = 1000;
    return error;
}

}  // namespace

Slicer::Slicer(store::Db& db, const Clock& clock, metrics::Registry& metrics, store::Node& node,
               store::Notices* notices)
    : db_(db),
      clock_(clock),
      node_(node),
      notices_(notices),
      moves_(metrics.counter("nebula_billing_slice_moves_total",
                             "Movements between this node's slices and the pool.")),
      recalls_(metrics.counter("nebula_billing_recalls_total",
                               "Times this node asked the others to return what they do not use.")),
      failures_(metrics.counter("nebula_billing_slice_failures_total",
                                "Transactions of slices that the database did not answer.")) {}

void Slicer::start() {
    thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), "slicer");
        run();
    });
}

void Slicer::stop(bool returns) {
    {
        std::lock_guard lock(mutex_);
        if (is_stopping_) return;
        is_stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
    for (int left = last_tries; returns && left > 0 && node_.is_live() && !leased_.empty(); --left) {
        if (resolve_doubt()) work(leased(), true);
        bool is_rest =
            std::ranges::any_of(leased_, [](const auto& one) { return one.first->available() > 0; });
        if (!is_rest) break;
    }
    std::lock_guard lock(mutex_);
    has_ended_ = true;
    queue_.clear();
    recalled_.clear();
}

void Slicer::attend(Purse& purse) {
    if (purse.is_attended.exchange(true)) return;
    {
        std::lock_guard lock(mutex_);
        if (has_ended_) return;
        queue_.push_back(purse.self());
    }
    wake_.notify_one();
}

void Slicer::recall(const PursePtr& purse) {
    {
        std::lock_guard lock(mutex_);
        if (has_ended_) return;
        recalled_.push_back(purse);
    }
    wake_.notify_one();
}

void Slicer::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        auto has_work = [this] { return is_stopping_ || !queue_.empty() || !recalled_.empty(); };
        wake_.wait_for(lock,
                       needy_.empty() && doubt_.empty() ? std::chrono::milliseconds(500)
                                                        : std::chrono::milliseconds(retry_interval),
                       has_work);
        if (is_stopping_) return;
        auto purses = std::exchange(queue_, {});
        auto recalled = std::exchange(recalled_, {});
        lock.unlock();
        for (auto& purse : purses) purse->is_attended = false;
        Ticks until = clock_.ticks() + scarce_time;
        for (auto& purse : recalled) {
            purse->set_scarce(true);
            scarce_[purse.get()] = {purse, until};
        }
        purses.insert(purses.end(), recalled.begin(), recalled.end());
        for (auto& [key, needy] : needy_) purses.push_back(needy.purse);
        if (!purses.empty()) work(std::move(purses), false);
        tick();
        lock.lock();
    }
}

void Slicer::tick() {
    Ticks now = clock_.ticks();
    std::erase_if(scarce_, [now](auto& one) {
        if (now < one.second.until) return false;
        one.second.purse->set_scarce(false);
        return true;
    });
    if (!doubt_.empty()) resolve_doubt();
    if (now - swept_at_ >= sweep_interval) {
        swept_at_ = now;
        sweep();
    }
}

// Idle purses give back what is free.
void Slicer::sweep() {
    Ticks now = clock_.ticks();
    std::vector<PursePtr> idle;
    for (auto& [key, one] : leased_) {
        std::uint64_t activity = one.purse->activity();
        if (activity != one.activity) {
            one.activity = activity;
            one.since = now;
        } else if (now - one.since >= idle_time) {
            idle.push_back(one.purse);
        }
    }
    if (idle.empty() || !doubt_.empty() || !node_.is_live()) return;
    work(std::move(idle), true);
    std::erase_if(leased_, [](const auto& one) {
        return one.second.purse->available() <= 0 && one.second.purse->held() == 0;
    });
    if (!doubt_.empty()) return;
    auto purge = [this](store::Tx& tx) -> Result<bool> {
        purge_slices(tx, node_.id());
        return true;
    };
    try {
        (void)db_.in_tx_blocking(purge);
    } catch (const std::exception& e) {
        LOG_WARN("empty slices could not be removed", {"what", e.what()});
    }
}

std::vector<Slicer::PursePtr> Slicer::leased() const {
    std::vector<PursePtr> all;
    for (const auto& [key, one] : leased_) all.push_back(one.purse);
    return all;
}

void Slicer::refuse(const std::vector<PursePtr>& purses) {
    for (auto& purse : purses) purse->fail_waiters(not_live());
    needy_.clear();
}

void Slicer::work(std::vector<PursePtr> purses, bool returns) {
    std::ranges::sort(purses, [](const auto& a, const auto& b) { return a->id < b->id; });
    purses.erase(std::unique(purses.begin(), purses.end()), purses.end());
    if (!node_.is_live()) return refuse(purses);
    if (!resolve_doubt()) {
        for (auto& purse : purses) {
            if (purse->has_waiters()) needy_.try_emplace(purse.get(), Needy{purse});
            purse->mark_late(clock_.ticks());
            purse->end_late();
        }
        return;
    }
    for (std::size_t from = 0; from < purses.size() && doubt_.empty(); from += jobs_max) {
        std::vector<Job> jobs;
        for (std::size_t i = from; i < std::min(purses.size(), from + jobs_max); ++i) {
            Purse& purse = *purses[i];
            purse.mark_late(clock_.ticks());
            if (purse.is_scarce())
                scarce_.try_emplace(&purse, Scarce{purses[i], clock_.ticks() + scarce_time});
            Job job{purses[i], purse.begin(returns), returns};
            if (job.view.has_waiters || job.view.parked > 0)
                jobs.push_back(std::move(job));
            else
                needy_.erase(&purse);
        }
        if (jobs.empty()) continue;
        Outcome outcome = transact(jobs);
        if (outcome == Outcome::unknown) {
            for (Job& job : jobs)
                if (job.view.has_waiters) needy_.try_emplace(job.purse.get(), Needy{job.purse});
            doubt_ = std::move(jobs);
            return;
        }
        for (Job& job : jobs) finish(job, outcome == Outcome::committed);
    }
}

Slicer::Outcome Slicer::transact(std::vector<Job>& jobs) {
    ++change_;
    bool is_written = false;
    Ticks now = clock_.ticks();
    auto transaction = [&](store::Tx& tx) -> Result<bool> {
        is_written = false;
        if (!node_.confirm(tx)) return fail(Code::internal, "the lease is lost");
        for (Job& job : jobs) decide(tx, job, now);
        is_written = true;
        return true;
    };
    try {
        if (db_.in_tx_blocking(transaction)) return Outcome::committed;
    } catch (const std::exception& e) {
        failures_.add();
        LOG_WARN("slices could not be moved", {"purses", jobs.size()}, {"what", e.what()});
        bool has_moved = std::ranges::any_of(jobs, [](const Job& job) { return job.delta != 0; });
        if (is_written && has_moved) return Outcome::unknown;
    }
    return Outcome::failed;
}

void Slicer::decide(store::Tx& tx, Job& job, Ticks now) {
    const Purse::View& view = job.view;
    SliceRows rows = lock_slices(tx, job.purse->id, view.limit, node_.id(), clock_);
    std::int64_t pool = std::max<std::int64_t>(0, rows.pool), there = view.parked;
    bool is_scarce = scarce_.contains(job.purse.get());
    job.delta = 0;
    job.is_dry = false;
    if (job.is_returning || !view.has_waiters) {
        job.delta = -there;
    } else if (there >= view.head_most || pool >= view.head_most - there) {
        // Plenty: more than is asked for, so that the next ones need not ask.
        std::int64_t goal = std::max<std::int64_t>(0, view.wanted - there);
        if (!is_scarce) goal = std::max(goal, pool / (2 * std::max(1, node_.live_count())));
        job.delta = std::min(pool, goal);
    } else if (rows.others == 0) {
        // All there is, or will be when this node's holds end. While others ask for less, they go first.
        job.delta = is_scarce && view.held > 0 ? -there : pool;
    } else {
        // Others have it. What this node cannot use alone may be enough for one of them.
        job.delta = -there;
        job.is_dry = true;
    }
    // Whose time is over gets what there is.
    if (view.is_late && job.delta <= 0) job.delta = std::clamp<std::int64_t>(view.wanted - there, 0, pool);
    if (job.delta != 0) move_slice(tx, job.purse->id, rows, job.delta, node_.id(), change_);
    job.is_all = rows.others == 0 && rows.pool <= 0;
    job.pool = rows.pool;
    if (notices_ == nullptr) return;
    if (job.delta < 0) publish_free(tx, *notices_, job.purse->id);
    if (!job.is_dry) return;
    Needy& needy = needy_.try_emplace(job.purse.get(), Needy{job.purse}).first->second;
    if (needy.recalled_at != Ticks::min() && now - needy.recalled_at < recall_interval) return;
    needy.recalled_at = now;
    notices_->publish(tx, "recall", purse_text(job.purse->id));
    recalls_.add();
}

void Slicer::finish(Job& job, bool is_committed) {
    Purse& purse = *job.purse;
    if (is_committed) {
        purse.pool_seen = job.pool;
        if (job.delta != 0) moves_.add();
        if (job.delta > 0) leased_.try_emplace(&purse, Leased{job.purse, purse.activity(), clock_.ticks()});
    }
    purse.end(job.view.parked, is_committed ? job.delta : 0, is_committed && job.is_all);
    if (job.view.is_late) purse.end_late();
    if (purse.has_waiters())
        needy_.try_emplace(&purse, Needy{job.purse});
    else
        needy_.erase(&purse);
}

bool Slicer::resolve_doubt() {
    if (doubt_.empty()) return true;
    bool is_committed = false;
    auto look = [&](store::Tx& tx) -> Result<bool> {
        for (const Job& job : doubt_)
            if (job.delta != 0) is_committed = has_change(tx, job.purse->id, node_.id(), change_);
        return true;
    };
    try {
        // In a writing transaction: a read may be sent to a standby that is behind.
        (void)db_.in_tx_blocking(look);
    } catch (const std::exception&) {
        return false;
    }
    for (Job& job : doubt_) finish(job, is_committed);
    doubt_.clear();
    return true;
}

}  // namespace nebula::billing

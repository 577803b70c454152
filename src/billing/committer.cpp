#include "billing/committer.hpp"

#include <pthread.h>

#include <algorithm>
#include <unordered_set>

#include "base/check.hpp"
#include "base/log.hpp"
#include "billing/admission/allowances.hpp"
#include "billing/admission/slices.hpp"

namespace nebula::billing {
namespace {

using namespace std::chrono_literals;

// While records come fast, waiting a little makes one transaction of many: a commit costs CPU and a sync, a
// record in it only a few microseconds. A lone record never waits.
constexpr std::chrono::microseconds gather_time = 500us;
constexpr std::int64_t gather_expected_min =
    2;  // records expected within gather_time, else it is not worth it
constexpr std::size_t gather_max = 256;
constexpr auto stop_retry_max = 5'000ms;
constexpr auto review_interval = 1s;
constexpr std::size_t isolate_failures_max = 8;

std::int64_t micros_between(Ticks from, Ticks to) {
    return std::chrono::duration_cast<std::chrono::microseconds>(to - from).count();
}

// Nothing was charged, so that trying again is safe; as before admission, the database is what is missing.
Error unrecorded(std::string why) {
    return {.code = Code::overloaded,
            .message = "the request could not be recorded; it was not charged",
            .detail = std::move(why),
            .retry_after_ms = unrecorded_retry_ms};
}

Error doubtful(std::string why) {
    return {Code::internal, "the request may or may not have been recorded and charged", "", std::move(why)};
}

std::uint64_t unsigned_nanos(Nanos amount) { return static_cast<std::uint64_t>(amount.value); }

}  // namespace

Committer::Committer(const BillingSettings& settings, store::Db& db, const Clock& clock,
                     metrics::Registry& metrics, const Shared& shared, store::Node* node)
    : db_(db),
      clock_(clock),
      shared_(shared),
      node_(node),
      queue_max_(settings.queue_max),
      batch_max_(static_cast<std::size_t>(std::max<std::int64_t>(1, settings.batch_max))),
      commit_retry_(settings.commit_retry),
      batches_(metrics.counter("nebula_billing_batches_total", "Committed transactions of usage records.")),
      batch_size_(metrics.gauge("nebula_billing_batch_size", "Records in the last committed batch.")),
      commit_seconds_(
          metrics.histogram("nebula_billing_commit_seconds", "Time of one transaction of usage records.")),
      failures_(metrics.counter("nebula_billing_commit_failures_total",
                                "Failed attempts to commit usage records.")),
      duplicates_(
          metrics.counter("nebula_billing_duplicates_total", "Records whose id was recorded before.")),
      lost_(metrics.counter("nebula_billing_records_lost_total",
                            "Records given up; their charge was returned.")),
      estimated_(metrics.counter("nebula_billing_estimated_total", "Records whose tokens were estimated.")),
      written_off_(
          metrics.counter("nebula_billing_written_off_nanos_total", "Price that no balance covered.")),
      charged_(metrics.counter("nebula_billing_charged_nanos_total", "Committed charges.")) {
    for (std::size_t i = 0; i < records_.size(); ++i)
        records_[i] = &metrics.counter("nebula_billing_records_total", "Committed usage records.",
                                       {{"outcome", outcome_name(static_cast<Outcome>(i))}});
    metrics.gauge_callback("nebula_billing_queue", "Records accepted but not yet committed.",
                           [depth = depth_] { return depth->load(); });
    metrics.gauge("nebula_billing_queue_max", "Above this, new requests are refused.").set(queue_max_);
    metrics.gauge("nebula_billing_batch_max", "Records in one transaction at most.").set(settings.batch_max);
}

void Committer::start() {
    CHECK(!thread_.joinable() && !is_stopped_, "a committer starts once");
    thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), "committer");
        run();
    });
}

void Committer::stop() {
    {
        std::lock_guard lock(mutex_);
        is_stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
    Entries left;
    {
        std::lock_guard lock(mutex_);
        is_stopped_ = true;
        take(left);
    }
    // Only when it was never started, or records came after the last look at the queue.
    while (!left.empty()) {
        give_up(left, unrecorded("the committer has stopped"), false);
        std::lock_guard lock(mutex_);
        take(left);
    }
}

bool Committer::enqueue(Entry* entry) {
    bool is_to_wake = false;
    {
        std::lock_guard lock(mutex_);
        if (is_stopped_) return false;
        (last_ != nullptr ? last_->next : first_) = entry;
        last_ = entry;
        ++length_;
        is_to_wake = phase_ == Phase::idle || (phase_ == Phase::gathering && length_ >= wanted_);
        if (is_to_wake) phase_ = Phase::busy;  // one wake-up is enough
        depth_->fetch_add(1, std::memory_order_relaxed);
    }
    if (is_to_wake) wake_.notify_one();
    return true;
}

void Committer::run() {
    Entries batch;
    std::unique_lock lock(mutex_);
    while (true) {
        while (first_ == nullptr && !is_stopping_) {
            phase_ = Phase::idle;
            if (unresolved_.empty()) {
                wake_.wait(lock, [this] { return first_ != nullptr || is_stopping_; });
            } else if (!wake_.wait_for(lock, review_interval,
                                       [this] { return first_ != nullptr || is_stopping_; })) {
                lock.unlock();
                review_unresolved();
                lock.lock();
            }
        }
        if (first_ == nullptr) return;
        if (!unresolved_.empty() && clock_.ticks() - reviewed_at_ >= review_interval) {
            // A queue that is never empty must not keep doubtful money for ever.
            lock.unlock();
            review_unresolved();
            lock.lock();
        }
        gather(lock);
        phase_ = Phase::busy;
        take(batch);
        lock.unlock();
        commit(batch);
        lock.lock();
    }
}

void Committer::gather(std::unique_lock<std::mutex>& lock) {
    // The rate at which records came lately, from one batch to the next.
    Ticks now = clock_.ticks();
    std::int64_t elapsed = std::clamp<std::int64_t>(micros_between(gathered_at_, now), 1, 1'000'000);
    gathered_at_ = now;
    auto per_second = static_cast<std::int64_t>(length_) * 1'000'000 / elapsed;
    records_per_second_ += (per_second - records_per_second_) / 4;
    if (records_per_second_ * gather_time.count() < gather_expected_min * 1'000'000) return;
    // Everybody in progress may settle within that time; once all have, there is nothing to wait for.
    auto in_progress = static_cast<std::size_t>(std::max<std::int64_t>(shared_.holds(), 0));
    wanted_ = std::min({length_ + in_progress, batch_max_, gather_max});
    if (is_stopping_ || length_ >= wanted_) return;
    phase_ = Phase::gathering;
    wake_.wait_for(lock, gather_time, [this] { return length_ >= wanted_ || is_stopping_; });
}

void Committer::take(Entries& batch) {
    while (first_ != nullptr && batch.size() < batch_max_) {
        batch.push_back(first_);
        first_ = first_->next;
        --length_;
    }
    if (first_ == nullptr) last_ = nullptr;
}

void Committer::commit(Entries& batch) {
    std::chrono::milliseconds waited{0}, pause{5};
    Entries later;  // second records of an id that is in the batch
    for (int round = 0; !batch.empty() || !later.empty(); ++round) {
        if (batch.empty()) batch.swap(later);
        std::size_t before = batch.size();
        // Not knowing is no ground for anything but asking again.
        Attempt attempt = is_unknown_ ? Attempt::duplicate : write(batch);
        switch (attempt) {
            case Attempt::committed:
                for (Entry* entry : batch) succeed(entry);
                batch.clear();
                break;
            case Attempt::duplicate: {
                bool was_unknown = is_unknown_;
                bool is_clear = settle_recorded(batch, later);
                if (!is_clear || (batch.size() == before && !was_unknown)) attempt = Attempt::failed;
                break;
            }
            case Attempt::failed:
                if (round > 0 && !is_unknown_) isolate(batch);
                break;
            case Attempt::lost:
                // Others may have what this node believed to have: nothing of it is charged.
                batch.insert(batch.end(), later.begin(), later.end());
                later.clear();
                give_up(batch, unrecorded("this node has lost its lease"), false);
                break;
        }
        resume_finished();
        if (attempt != Attempt::failed || batch.empty() || back_off(waited, pause)) continue;
        batch.insert(batch.end(), later.begin(), later.end());
        later.clear();
        give_up(batch, is_unknown_ ? doubtful(problem_) : unrecorded(problem_), is_unknown_);
        is_unknown_ = false;
    }
}

bool Committer::back_off(std::chrono::milliseconds& waited, std::chrono::milliseconds& pause) {
    std::unique_lock lock(mutex_);
    auto limit =
        is_stopping_ ? std::min<std::chrono::milliseconds>(commit_retry_, stop_retry_max) : commit_retry_;
    if (waited >= limit) return false;
    pause = std::min<std::chrono::milliseconds>({pause * 2, 1'000ms, limit - waited});
    wake_.wait_for(lock, pause, [] { return false; });
    waited += pause;
    return true;
}

// Gives every account with charges one posting. An entry keeps its posting id through all attempts: that is
// how it is recognised when a COMMIT failed and nobody knows whether it happened.
void Committer::plan(std::span<Entry* const> entries) {
    auto& postings = buffer_.postings;
    postings.clear();
    charges_.clear();
    ++batch_number_;
    std::unordered_map<PostingId, std::size_t> planned;  // stays empty unless something is tried again
    for (Entry* entry : entries) {
        for (const PursePart& part : entry->parts) add_charge(part.purse, part.amount);
        if (entry->settled.charge == Nanos{}) continue;
        AccountState& state = *entry->state;
        if (node_ != nullptr) add_charge(state.credits.self(), entry->settled.charge.value);
        std::size_t at;
        if (entry->posting) {
            at = planned.try_emplace(entry->posting, postings.size()).first->second;
            if (at == postings.size()) postings.push_back({entry->posting, &state, {}});
        } else {
            if (state.batch != batch_number_) {
                state.batch = batch_number_;
                state.batch_posting = postings.size();
                postings.push_back({PostingId::next(clock_), &state, {}});
            }
            at = state.batch_posting;
            entry->posting = postings[at].id;
        }
        postings[at].amount += entry->settled.charge;
        if (node_ != nullptr) postings[at].unsliced = postings[at].amount;
    }
    std::ranges::sort(charges_, {}, [](const PursePart& part) { return part.purse->id; });
}

void Committer::add_charge(const std::shared_ptr<Purse>& purse, std::int64_t amount) {
    if (amount == 0) return;
    if (purse->batch != batch_number_) {
        purse->batch = batch_number_;
        purse->batch_row = charges_.size();
        charges_.push_back({purse, 0});
    }
    charges_[purse->batch_row].amount += amount;
}

bool Committer::write_all(store::Tx& tx, std::span<Entry* const> entries) {
    if (!insert_batch(tx, entries, buffer_, clock_.now())) return false;
    if (charges_.empty()) return true;
    // Credits come first.
    auto allowances = std::ranges::find_if(
        charges_, [](const PursePart& part) { return part.purse->id.kind != PurseKind::credits; });
    add_used(tx, {allowances, charges_.end()}, node_ != nullptr, buffer_.values);
    if (node_ != nullptr) charge_slices(tx, charges_, node_->id(), is_careful_, clock_, buffer_.values);
    return true;
}

Committer::Attempt Committer::write(std::span<Entry* const> entries) {
    plan(entries);
    bool is_written = false, is_lost = false;
    auto work = [&](store::Tx& tx) -> Result<bool> {
        is_lost = node_ != nullptr && !node_->confirm(tx);
        if (is_lost) return fail(Code::internal, "this node has lost its lease");
        if (!write_all(tx, entries)) return fail(Code::conflict, "recorded before");
        is_written = true;
        return true;
    };
    Ticks start = clock_.ticks();
    try {
        auto written = db_.in_tx_blocking(work);
        if (!written) return is_lost ? Attempt::lost : Attempt::duplicate;
        is_careful_ = false;
    } catch (const SliceLost& e) {
        is_careful_ = true;
        problem_ = e.what();
        failures_.add();
        return Attempt::failed;
    } catch (const std::exception& e) {
        is_unknown_ = is_written;  // then it was the COMMIT
        problem_ = e.what();
        failures_.add();
        LOG_ERROR("usage records could not be committed", {"records", entries.size()}, {"what", problem_},
                  {"outcome_unknown", is_unknown_});
        return Attempt::failed;
    }
    commit_seconds_.observe_us(micros_between(start, clock_.ticks()));
    batch_size_.set(static_cast<std::int64_t>(entries.size()));
    batches_.add();
    return Attempt::committed;
}

bool Committer::settle_recorded(Entries& batch, Entries& later) {
    std::vector<std::optional<Recorded>> found(batch.size());
    auto look = [&](store::Tx& tx) -> Result<bool> {
        for (std::size_t i = 0; i < batch.size(); ++i)
            found[i] = recorded_usage(tx, batch[i]->record.account, batch[i]->record.id);
        return true;
    };
    try {
        // In a writing transaction: on PostgreSQL a read may be sent to a standby that is behind.
        auto looked = db_.in_tx_blocking(look);
        if (!looked) return false;
    } catch (const std::exception& e) {
        problem_ = e.what();
        failures_.add();
        return false;
    }
    bool was_unknown = std::exchange(is_unknown_, false);

    Entries rest;
    std::unordered_map<AccountId, std::unordered_set<RequestId>> seen;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        Entry* entry = batch[i];
        if (found[i] && was_unknown && found[i]->posting == entry->posting) {
            succeed(entry);
        } else if (found[i]) {
            duplicates_.add();
            LOG_WARN("usage record was settled twice", {"request", entry->record.id.text()},
                     {"account", entry->record.account.text()});
            give_back(*entry->state, entry->settled.charge, entry->parts);
            finish(entry, found[i]->settled);
        } else if (seen[entry->record.account].insert(entry->record.id).second) {
            rest.push_back(entry);
        } else {
            entry->posting = {};  // the first one's, which can be committed only without this entry
            later.push_back(entry);
        }
    }
    batch.swap(rest);
    return true;
}

void Committer::isolate(Entries& batch) {
    {
        // With newcomers in the batch, one account that cannot be written shows as such.
        std::lock_guard lock(mutex_);
        take(batch);
    }
    std::ranges::sort(batch, {}, [](const Entry* entry) { return entry->record.account; });
    if (batch.front()->record.account == batch.back()->record.account) return;
    Entries failed, rest;
    std::size_t failures = 0, successes = 0;
    for (std::size_t from = 0; from < batch.size();) {
        std::size_t to = from;
        while (to < batch.size() && batch[to]->record.account == batch[from]->record.account) ++to;
        std::span<Entry* const> group(batch.data() + from, to - from);
        bool is_hopeless = is_unknown_ || (successes == 0 && failures >= isolate_failures_max);
        Attempt attempt = is_hopeless ? Attempt::duplicate : write(group);
        if (attempt == Attempt::committed) {
            ++successes;
            for (Entry* entry : group) succeed(entry);
        } else if ((attempt == Attempt::failed || attempt == Attempt::lost) && !is_unknown_) {
            ++failures;
            failed.insert(failed.end(), group.begin(), group.end());
        } else {
            rest.insert(rest.end(), group.begin(), group.end());
        }
        from = to;
    }
    batch.swap(rest);
    if (successes > 0) {
        if (!failed.empty()) give_up(failed, unrecorded(problem_), false);
    } else {
        batch.insert(batch.end(), failed.begin(), failed.end());
    }
}

void Committer::give_up(Entries& batch, const Error& why, bool is_in_doubt) {
    for (Entry* entry : batch) {
        LOG_ERROR("usage record lost", {"request", entry->record.id.text()},
                  {"account", entry->record.account.text()}, {"charge_nanos", entry->settled.charge.value},
                  {"outcome_unknown", is_in_doubt}, {"why", why.detail});
        lost_.add();
        Nanos charge = entry->settled.charge;
        if (is_in_doubt && (charge > Nanos{} || !entry->parts.empty()))
            unresolved_.push_back(
                {entry->state, entry->record.id, entry->posting, charge, std::move(entry->parts)});
        else
            give_back(*entry->state, charge, entry->parts);
        finish(entry, fail(why));
    }
    batch.clear();
    resume_finished();
}

// Money of records that were given up in doubt comes back when the database says they are not there.
void Committer::review_unresolved() {
    reviewed_at_ = clock_.ticks();
    std::vector<bool> is_there(unresolved_.size());
    auto look = [&](store::Tx& tx) -> Result<bool> {
        for (std::size_t i = 0; i < unresolved_.size(); ++i) {
            const Unresolved& one = unresolved_[i];
            auto found = recorded_usage(tx, one.state->id, one.request);
            is_there[i] = found && found->posting == one.posting;
        }
        return true;
    };
    try {
        auto looked = db_.in_tx_blocking(look);
        if (!looked) return;
    } catch (const std::exception&) {
        return;  // still gone; asked again in a second
    }
    for (std::size_t i = 0; i < unresolved_.size(); ++i) {
        const Unresolved& one = unresolved_[i];
        LOG_WARN("doubtful usage record resolved", {"request", one.request.text()},
                 {"account", one.state->id.text()}, {"is_committed", bool(is_there[i])});
        if (!is_there[i]) give_back(*one.state, one.charge, one.parts);
    }
    unresolved_.clear();
}

void Committer::give_back(AccountState& state, Nanos charge, std::span<const PursePart> parts) {
    if (charge > Nanos{}) state.credits.give_back(charge.value);
    for (const PursePart& part : parts) part.purse->give_back(part.amount);
}

void Committer::succeed(Entry* entry) {
    records_[static_cast<std::size_t>(entry->record.outcome)]->add();
    if (entry->record.is_estimated) estimated_.add();
    if (entry->settled.written_off > Nanos{}) written_off_.add(unsigned_nanos(entry->settled.written_off));
    charged_.add(unsigned_nanos(entry->settled.charge));
    finish(entry, entry->settled);
}

void Committer::finish(Entry* entry, Result<Settled> result) {
    depth_->fetch_sub(1, std::memory_order_relaxed);
    if (!entry->is_awaited) {
        delete entry;
        return;
    }
    IoThread* thread = nullptr;
    auto handle = entry->done.set_deferred(std::move(result), thread);  // the entry may be gone from here on
    if (!handle) return;
    auto at = std::ranges::find(finished_, thread, &Waiting::thread);
    if (at == finished_.end()) at = finished_.insert(at, {thread, {}});
    at->handles.push_back(handle);
}

// One wake-up per I/O thread, however many of its requests were in the batch.
void Committer::resume_finished() {
    for (Waiting& waiting : finished_) {
        if (waiting.handles.empty()) continue;
        auto handles = std::exchange(waiting.handles, {});
        if (waiting.thread != nullptr) {
            waiting.thread->post_resume(std::move(handles));
        } else {
            for (auto handle : handles) handle.resume();
        }
    }
}

}  // namespace nebula::billing

#include "gateway/routing/slot_queue.hpp"

#include <algorithm>

#include "async/io_thread.hpp"

namespace nebula::gateway::routing {

Async<Turn> SlotWait::run(std::int64_t queue_max, std::int64_t concurrency_max, Ticks deadline) {
    std::optional<Deadline> timer;
    if (IoThread* thread = IoThread::current()) {
        timer.emplace(
            thread->deadlines(), [](void* wait) { static_cast<SlotWait*>(wait)->end(Turn::timeout); }, this);
        timer->arm(deadline);
    }
    queue_.join(*this, queue_max, concurrency_max);
    co_return co_await done_;
}

void SlotWait::end(Turn turn) {
    // Who was unlinked by another has an answer already, or on its way.
    if (!queue_.withdraw(*this)) return;
    (turn == Turn::left ? queue_.left_ : queue_.timeouts_).add();
    done_.set(turn);
}

SlotQueue::SlotQueue(std::function<bool(std::int64_t)> take, const std::string& provider,
                     metrics::Registry& metrics)
    : take_(std::move(take)),
      waiting_gauge_(metrics.gauge("nebula_upstream_queue", "Requests that wait for a slot of a provider.",
                                   {{"provider", provider}})),
      max_gauge_(metrics.gauge("nebula_upstream_queue_max", "Bound of that.", {{"provider", provider}})),
      waits_(metrics.counter("nebula_upstream_queue_waits_total", "Requests that had to wait for a slot.",
                             {{"provider", provider}})),
      full_(metrics.counter("nebula_upstream_queue_refused_total", "Waits that ended without a slot.",
                            {{"provider", provider}, {"reason", "full"}})),
      timeouts_(metrics.counter("nebula_upstream_queue_refused_total", "Waits that ended without a slot.",
                                {{"provider", provider}, {"reason", "timeout"}})),
      left_(metrics.counter("nebula_upstream_queue_refused_total", "Waits that ended without a slot.",
                            {{"provider", provider}, {"reason", "client_left"}})) {}

void SlotQueue::count(std::int64_t by) {
    waiting_.fetch_add(by);
    waiting_gauge_.set(waiting_.load());
}

void SlotQueue::join(SlotWait& wait, std::int64_t queue_max, std::int64_t concurrency_max) {
    Ended ended;
    {
        std::lock_guard lock(mutex_);
        concurrency_max_ = concurrency_max;
        max_gauge_.set(queue_max);
        if (queue_max == 0 || (waiting_.load() >= queue_max && !make_room(wait, ended))) {
            full_.add();
            ended.emplace_back(&wait, Turn::full);
        } else {
            Line& line = lines_[wait.account_];
            if (line.waits.empty()) turns_.push_back(wait.account_);
            line.waits.push_back(&wait);
            waits_.add();
            // Counted before it tries: either this sees the slot that somebody gives back meanwhile, or he
            // sees this one waiting.
            count(1);
            grant(ended);
        }
    }
    for (auto [done, turn] : ended) done->done_.set(turn);
}

// The newest of the longest line, if that is longer than the newcomer's would be.
bool SlotQueue::make_room(const SlotWait& newcomer, Ended& ended) {
    auto longest =
        std::ranges::max_element(lines_, {}, [](const auto& line) { return line.second.waits.size(); });
    auto own = lines_.find(newcomer.account_);
    std::size_t own_length = own == lines_.end() ? 0 : own->second.waits.size();
    if (longest == lines_.end() || longest->second.waits.size() <= own_length + 1) return false;
    ended.emplace_back(longest->second.waits.back(), Turn::full);
    longest->second.waits.pop_back();
    full_.add();
    count(-1);
    if (longest->second.waits.empty()) drop_line(longest->first);
    return true;
}

void SlotQueue::drop_line(std::uint64_t account) {
    std::erase(turns_, account);
    lines_.erase(account);
}

bool SlotQueue::withdraw(SlotWait& wait) {
    std::lock_guard lock(mutex_);
    auto line = lines_.find(wait.account_);
    if (line == lines_.end()) return false;
    auto& waits = line->second.waits;
    auto at = std::ranges::find(waits, &wait);
    if (at == waits.end()) return false;
    waits.erase(at);
    count(-1);
    if (waits.empty()) drop_line(wait.account_);
    return true;
}

void SlotQueue::hand_on() {
    Ended ended;
    {
        std::lock_guard lock(mutex_);
        grant(ended);
    }
    for (auto [done, turn] : ended) done->done_.set(turn);
}

void SlotQueue::grant(Ended& ended) {
    while (!turns_.empty() && take_(concurrency_max_)) {
        std::uint64_t account = turns_.front();
        turns_.pop_front();
        auto& waits = lines_[account].waits;
        ended.emplace_back(waits.front(), Turn::granted);
        waits.pop_front();
        count(-1);
        if (waits.empty())
            lines_.erase(account);
        else
            turns_.push_back(account);
    }
}

}  // namespace nebula::gateway::routing

#include "store/subscriptions.hpp"

#include "base/log.hpp"

namespace nebula::store::detail {
namespace {

template <class F, class... Args>
void call(const F& callback, Args... args) {
    try {
        callback(args...);
    } catch (const std::exception& e) {
        LOG_ERROR("a subscriber to notices failed", {"error", e.what()});
    }
}

}  // namespace

class Subscriptions::Entry {
   public:
    explicit Entry(Subscriptions& of) : of_(of) { ++of_.running_; }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry() {
        --of_.running_;
        of_.running_.notify_all();
    }
    bool is_open() const { return !of_.closed_; }

   private:
    Subscriptions& of_;
};

Subscriptions::Subscriptions(metrics::Registry& metrics)
    : heard_(metrics.counter("nebula_store_notices_heard_total",
                             "Change notices that reached this process, its own included.")),
      gap_count_(metrics.counter("nebula_store_notice_gaps_total",
                                 "Times that change notices may have been missed.")) {}

void Subscriptions::add(std::string topic, std::function<void(std::string_view)> callback) {
    std::lock_guard lock(mutex_);
    auto more = std::make_shared<Lists>(*lists_);
    more->subscribers.push_back({std::move(topic), std::move(callback)});
    lists_ = std::move(more);
}

void Subscriptions::add_gap(std::function<void()> callback) {
    std::lock_guard lock(mutex_);
    auto more = std::make_shared<Lists>(*lists_);
    more->gaps.push_back(std::move(callback));
    lists_ = std::move(more);
}

std::shared_ptr<const Subscriptions::Lists> Subscriptions::lists() const {
    std::lock_guard lock(mutex_);
    return lists_;
}

void Subscriptions::deliver(std::string_view topic, std::string_view payload) {
    Entry entry(*this);
    if (!entry.is_open()) return;
    heard_.add();
    auto now = lists();
    for (const Subscriber& subscriber : now->subscribers)
        if (subscriber.topic == topic) call(subscriber.callback, payload);
}

void Subscriptions::gap() {
    Entry entry(*this);
    if (!entry.is_open()) return;
    gap_count_.add();
    auto now = lists();
    for (const auto& callback : now->gaps) call(callback);
}

void Subscriptions::close() {
    closed_ = true;
    for (int running = running_; running > 0; running = running_) running_.wait(running);
}

}  // namespace nebula::store::detail

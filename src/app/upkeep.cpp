#include "app/upkeep.hpp"

#include <pthread.h>

#include "base/log.hpp"

namespace nebula::app {
namespace {

constexpr std::chrono::seconds interval{5};
constexpr int rounds_per_minute = 12;
constexpr int expire_steps_max = 20;  // of 500 rows

}  // namespace

void Upkeep::start() {
    thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), "upkeep");
        run();
    });
}

void Upkeep::stop() {
    {
        std::lock_guard lock(mutex_);
        is_stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void Upkeep::run() {
    int count = 0;
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, interval, [this] { return is_stopping_; })) {
        lock.unlock();
        bool is_minute = ++count % rounds_per_minute == 0;
        try {
            if (is_minute) {
                services_.accounts->flush_last_used();
                auto expired = services_.billing->expire_bonuses();
                if (!expired) LOG_WARN("bonus credits not expired", {"detail", expired.error().detail});
            }
            if (is_minute) expire_records();
            sync_wait(round(is_minute));
        } catch (const std::exception& e) {
            // The database may be away for a while; the next round tries again.
            LOG_WARN("upkeep failed", {"what", e.what()});
        }
        lock.lock();
    }
}

// A step at a time: other transactions come in between, and a stop does not wait for long.
void Upkeep::expire_records() {
    for (int steps = 0; steps < expire_steps_max; ++steps) {
        auto more = services_.log->expire();
        if (!more) LOG_WARN("old requests not deleted", {"detail", more.error().detail});
        if (!more || !*more) break;
    }
    for (int steps = 0; steps < expire_steps_max; ++steps) {
        auto more = services_.responses->expire();
        if (!more) LOG_WARN("old responses not deleted", {"detail", more.error().detail});
        if (!more || !*more) return;
    }
}

Async<void> Upkeep::round(bool is_minute) {
    co_await resume_on(services_.threads[0]);
    co_await services_.commerce->run_due();
    if (is_minute) co_await services_.bills->run_due();
}

}  // namespace nebula::app

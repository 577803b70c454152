#include "app/upkeep.hpp"

#include <pthread.h>

#include "base/log.hpp"

namespace nebula::app {
namespace {

constexpr std::chrono::seconds interval{5};
constexpr int rounds_per_minute = 12;

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
            sync_wait(round(is_minute));
        } catch (const std::exception& e) {
            // The database may be away for a while; the next round tries again.
            LOG_WARN("upkeep failed", {"what", e.what()});
        }
        lock.lock();
    }
}

Async<void> Upkeep::round(bool is_minute) {
    co_await resume_on(services_.threads[0]);
    co_await services_.commerce->run_due();
    if (is_minute) co_await services_.bills->run_due();
}

}  // namespace nebula::app

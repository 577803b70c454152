#include "async/blocking_pool.hpp"

namespace nebula {

BlockingPool::BlockingPool(std::size_t threads, std::size_t queue_max) : queue_max_(queue_max) {
    for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work_loop(); });
}

BlockingPool::~BlockingPool() { stop(); }

void BlockingPool::stop() {
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    threads_.clear();
}

bool BlockingPool::submit(std::move_only_function<void()> job) {
    {
        std::lock_guard lock(mutex_);
        if (queue_.size() >= queue_max_ || stopping_) return false;
        queue_.push_back(std::move(job));
    }
    wake_.notify_one();
    return true;
}

std::size_t BlockingPool::queued() const {
    std::lock_guard lock(mutex_);
    return queue_.size();
}

void BlockingPool::work_loop() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) return;
        auto job = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        job();
        lock.lock();
    }
}

}  // namespace nebula

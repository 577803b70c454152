#pragma once
// A bounded set of connections, opened when first needed. Private to this module. Thread-safe.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "store/store.hpp"

namespace nebula::store::detail {

template <class Connection>
class ConnectionPool {
   public:
    using Open = std::function<std::unique_ptr<Connection>()>;

    ConnectionPool(std::size_t max, std::chrono::milliseconds wait_max, Open open)
        : max_(max), wait_max_(wait_max), open_(std::move(open)) {}

    /// Waits at most `wait_max` for a free one; throws DbError then, or when a new one cannot be opened.
    std::unique_ptr<Connection> take() {
        {
            std::unique_lock lock(mutex_);
            bool got =
                freed_.wait_for(lock, wait_max_, [this] { return !idle_.empty() || open_count_ < max_; });
            if (!got) throw DbError("no database connection became free in time");
            if (!idle_.empty()) {
                auto connection = std::move(idle_.back());  // the warmest
                idle_.pop_back();
                return connection;
            }
            ++open_count_;
        }
        try {
            return open_();
        } catch (...) {
            forget();
            throw;
        }
    }

    void put_back(std::unique_ptr<Connection> connection) {
        {
            std::lock_guard lock(mutex_);
            idle_.push_back(std::move(connection));
        }
        freed_.notify_one();
    }

    /// For a connection that is not worth keeping; the caller destroys it.
    void forget() {
        {
            std::lock_guard lock(mutex_);
            --open_count_;
        }
        freed_.notify_one();
    }

    /// When one connection turns out dead, the idle ones most likely are too.
    void drop_idle() {
        std::vector<std::unique_ptr<Connection>> dropped;
        {
            std::lock_guard lock(mutex_);
            dropped.swap(idle_);
            open_count_ -= dropped.size();
        }
        freed_.notify_all();
    }

   private:
    const std::size_t max_;
    const std::chrono::milliseconds wait_max_;
    const Open open_;
    std::mutex mutex_;
    std::condition_variable freed_;
    std::vector<std::unique_ptr<Connection>> idle_;
    std::size_t open_count_ = 0;
};

}  // namespace nebula::store::detail

#pragma once
// Who hears which notices. Private to this module. Thread-safe.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.hpp"

namespace nebula::store::detail {

class Subscriptions {
   public:
    explicit Subscriptions(metrics::Registry& metrics);

    void add(std::string topic, std::function<void(std::string_view)> callback);
    void add_gap(std::function<void()> callback);

    void deliver(std::string_view topic, std::string_view payload);
    void gap();
    /// Nothing is called any more when it returns.
    void close();

   private:
    struct Subscriber {
        std::string topic;
        std::function<void(std::string_view)> callback;
    };
    struct Lists {
        std::vector<Subscriber> subscribers;
        std::vector<std::function<void()>> gaps;
    };
    /// Counts the deliveries under way; false once closed.
    class Entry;
    std::shared_ptr<const Lists> lists() const;

    mutable std::mutex mutex_;
    std::shared_ptr<const Lists> lists_ = std::make_shared<Lists>();  // replaced whole, so calls need no lock
    std::atomic<bool> closed_{false};
    std::atomic<int> running_{0};
    metrics::Counter& heard_;
    metrics::Counter& gap_count_;
};

}  // namespace nebula::store::detail

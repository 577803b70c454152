#pragma once
// Who hears which notices. Private to this module. Thread-safe once the subscribers are in.

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.hpp"

namespace nebula::store::detail {

class Subscriptions {
   public:
    explicit Subscriptions(metrics::Registry& metrics);

    /// Both before anything is delivered.
    void add(std::string topic, std::function<void(std::string_view)> callback);
    void add_gap(std::function<void()> callback) { gaps_.push_back(std::move(callback)); }

    void deliver(std::string_view topic, std::string_view payload);
    void gap();
    /// Nothing is called any more when it returns.
    void close();

   private:
    struct Subscriber {
        std::string topic;
        std::function<void(std::string_view)> callback;
    };
    /// Counts the deliveries under way; false once closed.
    class Entry;

    std::vector<Subscriber> subscribers_;
    std::vector<std::function<void()>> gaps_;
    std::atomic<bool> closed_{false};
    std::atomic<int> running_{0};
    metrics::Counter& heard_;
    metrics::Counter& gap_count_;
};

}  // namespace nebula::store::detail

#pragma once
// Hears what other processes wrote to `changes`: a connection and a thread of its own. Private to this
// module.

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "store/postgres_connection.hpp"
#include "store/subscriptions.hpp"

namespace nebula::store::detail {

/// Which changes have been read. Ids are given out before the commit, so a row may appear below others that
/// were read already: ids that were passed over are asked for again for a minute.
class ChangeFeed {
   public:
    using Deliver = std::function<void(std::string_view topic, std::string_view payload)>;

    /// Reads all that is new, in order of id.
    void read(PgConnection& connection, const Deliver& deliver);

   private:
    using Instant = std::chrono::steady_clock::time_point;
    bool read_page(PgConnection& connection, const Deliver& deliver);
    void pass_over(std::int64_t from, std::int64_t to, Instant now);

    std::int64_t newest_ = 0;
    std::map<std::int64_t, Instant> missing_;  // when it was passed over first
};

struct ListenerOptions {
    std::chrono::milliseconds poll_interval;
    std::chrono::milliseconds keep;
};

class Listener {
   public:
    /// Connects on the calling thread, so that what is published after this is heard; failing that, goes on
    /// trying.
    Listener(const StoreSettings& settings, ListenerOptions options, metrics::Registry& metrics,
             std::shared_ptr<Subscriptions> subscriptions);
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    ~Listener();

   private:
    using Instant = std::chrono::steady_clock::time_point;
    void run();
    void connect();
    void read();
    void prune();
    /// Until a notification, stop() or `time` has passed.
    void wait(std::chrono::milliseconds time);
    bool is_stopping() const { return stopping_; }

    const StoreSettings settings_;
    const ListenerOptions options_;
    std::shared_ptr<Subscriptions> subscriptions_;
    Meters meters_;
    metrics::Counter& reconnects_;
    ChangeFeed feed_;
    std::unique_ptr<PgConnection> connection_;
    Instant read_at_{};
    Instant pruned_at_{};
    bool has_started_ = false;  // the feed stands where this process began to listen
    bool has_missed_ = false;   // it could not begin when it was started
    int wake_ = -1;
    std::atomic<bool> stopping_{false};
    std::thread thread_;
};

}  // namespace nebula::store::detail

#pragma once
// Change notices between the processes that share a database: "key 42 was revoked", "account 7 has more
// money". PostgreSQL: a row in `changes` plus NOTIFY in the same transaction, one listening connection, and a
// poll as safety net (every second), so a lost connection delays a notice but never loses it. SQLite has one
// process: notices are delivered after the commit, in it.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/metrics.hpp"
#include "store/store.hpp"

namespace nebula::store {

/// Thread-safe. Create before anything publishes; start() after migrating.
class Notices {
   public:
    /// `poll_interval` of the safety net. `keep`: how long changes stay in the table.
    Notices(Db& db, const StoreSettings& settings, metrics::Registry& metrics,
            std::chrono::milliseconds poll_interval = std::chrono::seconds(1),
            std::chrono::milliseconds keep = std::chrono::minutes(10));
    ~Notices();  // stop()

    /// What is published from now on is heard. When the listening connection cannot be made now, that is
    /// logged and tried again, and on_gap() is called once it stands.
    void start();
    /// No callback runs any more when it returns; not from a callback. Publishing goes on working.
    void stop();

    /// Part of the transaction: nobody hears of it when it rolls back. Topic: a short word ("key", "funds");
    /// payload: at most 200 bytes of UTF-8. Throws DbError. Commits that publish run one after the other on
    /// PostgreSQL: for changes, not for every request.
    void publish(Tx& tx, std::string_view topic, std::string_view payload);

    /// Called on the listening thread (on SQLite: on the committing thread, after the commit, also before
    /// start()); must be quick and must not throw. Every process hears every notice at least once, its own
    /// included; order is kept per publisher only. A subscription lasts until stop(); it hears what is
    /// published after it was made and after start().
    void subscribe(std::string topic, std::function<void(std::string_view payload)> callback);
    /// Called when notices may have been missed (connection lost for longer than changes are kept, 10
    /// minutes): forget what was cached.
    void on_gap(std::function<void()> callback);

   private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::store

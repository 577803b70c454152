#pragma once
// This process among those that share a PostgreSQL database. A node has a number (0…1023, for ids) and a
// lease in `nodes` that it renews; everything other nodes may take over when it dies (slices of balance,
// quota, rate) hangs on that lease. Only the database's clock is compared with the database's clock, and only
// this process's monotonic clock with itself, so wall clocks may differ.
//
// SQLite: one process owns the database (Ownership); the node is number 0, always live and alone.

#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/settings.hpp"
#include "store/store.hpp"

namespace nebula::store {

struct NodeSettings {                         // [node]
    std::chrono::milliseconds lease{10'000};  // how long others wait before they take over
    std::chrono::milliseconds renew_interval{2'000};
    void describe(settings::Visitor& v);
};

/// Thread-safe. is_live() is a comparison of two numbers: call it on the hot path.
class Node {
   public:
    /// Registers (PostgreSQL: takes the lowest free number, a new random id) and starts renewing on a thread;
    /// after migrating. Errors: Code::invalid_request for settings that do not fit together, Code::overloaded
    /// when all 1024 numbers are taken, Code::internal when the database fails.
    static Result<std::unique_ptr<Node>> start(const NodeSettings& settings, Db& db, const Clock& clock,
                                               metrics::Registry& metrics);
    virtual ~Node() = default;  // release()
    /// Gives the lease back and calls the reclaims for this node, so that what it still held returns at once;
    /// is_live() is false from now on. Call it while what the callbacks use still lives.
    virtual void release() {}

    /// Unique for every start of every process; what slices refer to. 0 on SQLite.
    virtual std::int64_t id() const = 0;
    virtual unsigned number() const = 0;
    /// False when the lease could not be renewed in time: stop admitting NOW. Becomes false before any other
    /// node may take over (margin: the renewal is counted from before it was sent, and a tenth of the lease
    /// is kept back). A lease that was lost for good stays lost: `is_lost()`; the process should end.
    virtual bool is_live() const = 0;
    virtual bool is_lost() const = 0;
    /// Live nodes as of the last renewal, this one included; at least 1.
    virtual int live_count() const = 0;
    /// True when several processes may share the database: PostgreSQL.
    virtual bool is_shared() const = 0;
    /// Calls back (renewal thread, in a transaction) when a dead node's lease was taken away, with its id, so
    /// that modules return what it held. What it throws leaves the dead node where it is, for the next try.
    /// Work on the transaction alone, and capture only what lives until release(). Register right after
    /// start(): no node is taken over by the thread before one lease has passed since the last registration,
    /// nor without any.
    using Reclaim = std::function<void(Tx& tx, std::int64_t dead_node)>;
    virtual void on_reclaim(Reclaim reclaim) = 0;

    /// What the thread does by itself, now and on the calling thread (tests, the end of start-up). renew():
    /// is_live() afterwards. reclaim(): how many dead nodes were taken over.
    virtual bool renew() { return is_live(); }
    virtual int reclaim() { return 0; }

    /// In a transaction that spends what the lease guards: true when this node's lease row is still there and
    /// not expired by the database's clock. Nobody takes this node over before the transaction ends (the row
    /// is locked FOR KEY SHARE, which does not hold up renewals). SQLite: true.
    virtual bool confirm(Tx& tx) = 0;
};

}  // namespace nebula::store

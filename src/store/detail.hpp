#pragma once
// Shared by both engines; private to this module.

#include <array>
#include <chrono>
#include <memory>
#include <string>

#include "store/store.hpp"

namespace nebula::store::detail {

/// Metrics of one Db.
struct Meters {
    Meters(metrics::Registry& registry, Engine engine, std::int64_t connections_max);

    struct PerMode {
        metrics::Counter& committed;
        metrics::Counter& rolled_back;
        metrics::Counter& failed;
        metrics::Histogram& seconds;
    };
    PerMode write;
    PerMode read;
    metrics::Histogram& wait_seconds;  // for a connection
    metrics::Counter& unique_violations;
    metrics::Counter& errors;
    metrics::Counter& reconnects;
    metrics::Gauge& in_use;
};

using AfterCommit = std::vector<std::function<void()>>;
/// Logs what they throw: the transaction is committed, its caller must not take it for failed.
void run_after_commit(const AfterCommit& actions);

/// A transaction that has begun; knows how to end.
class EngineTx : public Tx {
   public:
    /// Runs `work`, then commits or rolls back. Work that goes on after a failed statement is refused at the
    /// end: its transaction is lost on PostgreSQL, so it is on SQLite too.
    void run(const std::function<bool(Tx&)>& work, Meters::PerMode& meters);
    void after_commit(std::function<void()> action) final { after_commit_.push_back(std::move(action)); }
    /// What run() committed wants done now; the engine calls it when the connection is free again.
    AfterCommit take_after_commit() { return std::move(after_commit_); }

   protected:
    virtual void commit() = 0;
    virtual void rollback() noexcept = 0;

    /// A statement that fails loses the transaction.
    template <class F>
    auto guarded(F statement) -> std::invoke_result_t<F&> {
        try {
            return statement();
        } catch (...) {
            lost_ = true;
            throw;
        }
    }

   private:
    bool lost_ = false;
    AfterCommit after_commit_;
};

/// Logs a statement that took longer than 200 ms.
class StatementTimer {
   public:
    explicit StatementTimer(const char* name) : name_(name) {}
    StatementTimer(const StatementTimer&) = delete;
    StatementTimer& operator=(const StatementTimer&) = delete;
    ~StatementTimer();

   private:
    const char* name_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::int64_t micros_since(std::chrono::steady_clock::time_point start);

/// Throws DbError unless the text can be stored alike on both engines.
void check_text(const char* statement, std::string_view text);

/// Lets the engines count a connection as in use.
class InUse {
   public:
    explicit InUse(metrics::Gauge& gauge) : gauge_(gauge) { gauge_.add(1); }
    InUse(const InUse&) = delete;
    InUse& operator=(const InUse&) = delete;
    ~InUse() { gauge_.add(-1); }

   private:
    metrics::Gauge& gauge_;
};

/// Transparent hash, so that statements are looked up by a view of their text.
struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

/// `path` is a file path or ":memory:". Both throw DbError.
std::unique_ptr<Db> open_sqlite(const std::string& path, const StoreSettings& settings,
                                metrics::Registry& metrics);
std::unique_ptr<Db> open_postgres(const StoreSettings& settings, metrics::Registry& metrics);

}  // namespace nebula::store::detail

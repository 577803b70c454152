#pragma once
// SQL behind one interface over SQLite and PostgreSQL. Statements are written once, with $1, $2 … parameters
// (both engines accept them), and a second text only where the engines differ. Nothing here knows a table of
// any module.
//
// Transactions are plain functions of a Tx&, run start to finish on a database thread: nothing suspends while
// a connection is held. Returning a value commits; returning an Error or throwing rolls back. Never start one
// inside another: it would wait for the connection that the outer one holds.
//   auto work = [id](Tx& tx) -> Result<Account> { … };
//   auto found = co_await db.in_tx(std::move(work));
//
// Isolation: SQLite runs write transactions one after the other. PostgreSQL uses READ COMMITTED:
// read-modify-write needs a row lock (SELECT … FOR UPDATE in the PostgreSQL text) or one UPDATE that does it
// all. A read() sees one snapshot on both.

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "async/async.hpp"
#include "async/blocking_pool.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/settings.hpp"
#include "store/migrations.hpp"

namespace nebula::store {

/// The store's own tables: nodes and change notices.
std::span<const Migration> migrations();

enum class Engine { sqlite, postgres };

/// The database is gone, full or broken; caught at request, job and start-up boundaries.
class DbError : public std::runtime_error {
   public:
    using std::runtime_error::runtime_error;
};
/// A UNIQUE or PRIMARY KEY constraint refused the row. The transaction is lost: return or rethrow.
class UniqueViolation : public DbError {
   public:
    using DbError::DbError;
};

/// A named statement; the name appears in errors, traces and slow-query logs.
struct Sql {
    const char* name;
    const char* text;
    const char* postgres = nullptr;  // where PostgreSQL needs another text
};

struct Blob {
    std::string_view bytes;
};
/// A bound value; text and blobs must live until the call returns. Text is UTF-8 without NUL. A whole number
/// is a BIGINT for PostgreSQL. The number of values must be that of the statement's parameters.
using Param = std::variant<std::nullptr_t, std::int64_t, std::string_view, Blob>;

/// The current row of a query; views are valid inside the callback only. Columns count from 0.
class Row {
   public:
    virtual ~Row() = default;
    virtual bool is_null(int column) const = 0;
    virtual std::int64_t i64(int column) const = 0;  // throws DbError when it is not a whole number (or null)
    virtual std::string_view text(int column) const = 0;
    virtual std::string_view blob(int column) const = 0;
};

class Tx {
   public:
    virtual ~Tx() = default;
    virtual Engine engine() const = 0;
    /// Rows changed. Throws UniqueViolation or DbError; after either the transaction can only be rolled back.
    virtual std::int64_t exec(const Sql& sql, std::span<const Param> params) = 0;
    /// PostgreSQL holds the whole result in memory: page through what may be large.
    virtual void query(const Sql& sql, std::span<const Param> params,
                       const std::function<void(const Row&)>& each) = 0;
    /// The same statement for many rows: `values` holds rows × per_row parameters. One prepared statement in
    /// a loop on SQLite, one pipeline on PostgreSQL. Returns rows changed in total.
    virtual std::int64_t exec_many(const Sql& sql, std::size_t per_row, std::span<const Param> values) = 0;
    /// Several statements separated by ';', without parameters: schema changes and tests.
    virtual void script(const Sql& sql) = 0;
    /// Runs `action` on this thread once the transaction has been committed and its connection is free again;
    /// never when it rolls back or its COMMIT fails. In the order of the calls. Must be quick; what it throws
    /// is logged.
    virtual void after_commit(std::function<void()> action) = 0;

    std::int64_t exec(const Sql& sql, std::initializer_list<Param> params = {}) {
        return exec(sql, std::span(params.begin(), params.size()));
    }
    void query(const Sql& sql, std::initializer_list<Param> params,
               const std::function<void(const Row&)>& each) {
        query(sql, std::span(params.begin(), params.size()), each);
    }
    /// True when there was a row; calls back for the first.
    bool one(const Sql& sql, std::initializer_list<Param> params,
             const std::function<void(const Row&)>& first);
};

struct StoreSettings {
    std::string url = "sqlite:./data/nebula.db";
    std::int64_t connections_max = 8;  // PostgreSQL; SQLite: one writer and at most 4 readers
    std::int64_t queue_max = 4096;     // transactions waiting for a database thread, then Code::overloaded
    std::chrono::milliseconds statement_timeout{30'000};
    void describe(settings::Visitor& v);
};

/// The right to serve the database, released on destruction or death of the process. SQLite: exclusive, a
/// lock on <file>.lock. PostgreSQL: several processes may serve one database (see node.hpp), so the session
/// advisory lock is shared; it keeps out only a program that insists on being alone.
class Ownership {
   public:
    virtual ~Ownership() = default;
    /// False once the lock is lost for good: the owner must stop.
    virtual bool held() const = 0;
    /// Asks the server whether the lock is still there, takes it again when its connection was lost (which
    /// does not end it: see Node::is_live()), and answers held(). Blocks: call it every few seconds from a
    /// thread that may. The Db must still live.
    virtual bool ping() { return held(); }
};

class Db {
   public:
    /// Opens (SQLite: creates, WAL, synchronous=FULL, foreign keys) and checks the connection.
    /// Errors: Code::invalid_request for a bad URL, Code::internal when it cannot be reached.
    static Result<std::unique_ptr<Db>> open(const StoreSettings& settings, metrics::Registry& metrics);
    virtual ~Db() = default;

    virtual Engine engine() const = 0;
    /// Null when another process holds it (PostgreSQL: holds it alone). Throws DbError when the database
    /// cannot be asked.
    virtual std::unique_ptr<Ownership> try_own() = 0;

    /// Applies what is missing, in order of number, each step in its own transaction. Refuses a schema newer
    /// than `all` and an applied step whose text changed. Returns how many were applied.
    Result<int> migrate(std::span<const Migration> all);

    /// On the calling thread: for start-up, the command line, the committer's own thread and tests.
    template <class F>
    auto in_tx_blocking(F work) -> std::invoke_result_t<F&, Tx&>;
    /// On a database thread; resumes where it was awaited. Code::overloaded when the queue is full.
    /// DbError is turned into Code::internal with the text in `detail`.
    template <class F>
    auto in_tx(F work) -> Async<std::invoke_result_t<F&, Tx&>>;
    /// Like in_tx, read only: on SQLite it does not wait for the writer.
    template <class F>
    auto read(F work) -> Async<std::invoke_result_t<F&, Tx&>>;
    template <class F>
    auto read_blocking(F work) -> std::invoke_result_t<F&, Tx&>;

   protected:
    enum class Mode { write, read };
    /// `read_threads` 0: reads share the threads of the writes.
    Db(std::size_t write_threads, std::size_t read_threads, std::size_t queue_max,
       metrics::Registry& metrics);
    /// Finishes what is queued. Engines call it first in their destructor, while their connections still
    /// live.
    void stop_threads();
    /// BEGIN, work, then COMMIT when it returned true, else ROLLBACK; ROLLBACK and rethrow on an exception.
    virtual void transaction(Mode mode, const std::function<bool(Tx&)>& work) = 0;

   private:
    template <class F>
    auto run(Mode mode, F& work) -> std::invoke_result_t<F&, Tx&>;
    BlockingPool& pool(Mode mode) { return mode == Mode::read && read_pool_ ? *read_pool_ : *write_pool_; }

    struct QueueGauge;
    std::unique_ptr<BlockingPool> write_pool_;
    std::unique_ptr<BlockingPool> read_pool_;
    std::shared_ptr<QueueGauge> queue_gauge_;
};

template <class F>
auto Db::run(Mode mode, F& work) -> std::invoke_result_t<F&, Tx&> {
    using R = std::invoke_result_t<F&, Tx&>;
    std::optional<R> result;
    transaction(mode, [&](Tx& tx) {
        result.emplace(work(tx));
        return result->has_value();
    });
    return std::move(*result);
}

template <class F>
auto Db::in_tx_blocking(F work) -> std::invoke_result_t<F&, Tx&> {
    return run(Mode::write, work);
}
template <class F>
auto Db::read_blocking(F work) -> std::invoke_result_t<F&, Tx&> {
    return run(Mode::read, work);
}

namespace detail {
/// Code::internal with the text of the exception in `detail`.
Error db_error(const std::exception& e);
}  // namespace detail

template <class F>
auto Db::in_tx(F work) -> Async<std::invoke_result_t<F&, Tx&>> {
    using R = std::invoke_result_t<F&, Tx&>;
    auto job = [this, work = std::move(work)]() mutable -> R {
        try {
            return run(Mode::write, work);
        } catch (const DbError& e) {
            return fail(detail::db_error(e));
        }
    };
    co_return co_await pool(Mode::write).run(std::move(job));
}

template <class F>
auto Db::read(F work) -> Async<std::invoke_result_t<F&, Tx&>> {
    using R = std::invoke_result_t<F&, Tx&>;
    auto job = [this, work = std::move(work)]() mutable -> R {
        try {
            return run(Mode::read, work);
        } catch (const DbError& e) {
            return fail(detail::db_error(e));
        }
    };
    co_return co_await pool(Mode::read).run(std::move(job));
}

}  // namespace nebula::store

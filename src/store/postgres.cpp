// PostgreSQL over libpq: a pool of connections, one per running transaction.

#include <libpq-fe.h>

#include <atomic>
#include <mutex>

#include "base/log.hpp"
#include "base/text.hpp"
#include "store/connection_pool.hpp"
#include "store/postgres_connection.hpp"

namespace nebula::store::detail {
namespace {

constexpr Oid oid_bool = 16;
constexpr Oid oid_bytea = 17;
constexpr int begin_attempts_max = 3;
// "nebula" in ASCII: advisory locks are numbers shared by everybody who uses the database.
constexpr Sql sql_own{"ownership.lock", "SELECT pg_try_advisory_lock_shared(121348097010785)"};
constexpr Sql sql_ping{"ownership.ping", "SELECT 1"};

class PgRow final : public Row {
   public:
    PgRow(const char* name, const pg_result* result) : name_(name), result_(result) {}

    void move_to(int row) {
        row_ = row;
        for (auto& bytes : decoded_) bytes.reset();
    }

    bool is_null(int column) const override {
        check_column(column);
        return PQgetisnull(result_, row_, column) == 1;
    }

    std::int64_t i64(int column) const override {
        std::string_view value = text(column);
        if (PQftype(result_, column) == oid_bool && !value.empty()) return value == "t" ? 1 : 0;
        if (auto number = parse_int<std::int64_t>(value)) return *number;
        throw DbError(std::string(name_) + ": column " + std::to_string(column) + " is not a whole number");
    }

    std::string_view text(int column) const override {
        check_column(column);
        return {PQgetvalue(result_, row_, column),
                static_cast<std::size_t>(PQgetlength(result_, row_, column))};
    }

    std::string_view blob(int column) const override {
        std::string_view value = text(column);
        if (PQftype(result_, column) != oid_bytea) return value;
        auto index = static_cast<std::size_t>(column);
        if (decoded_.size() <= index) decoded_.resize(index + 1);
        if (!decoded_[index]) decoded_[index] = std::make_unique<std::string>(decode(value));
        return *decoded_[index];
    }

   private:
    void check_column(int column) const {
        if (column < 0 || column >= PQnfields(result_))
            throw DbError(std::string(name_) + ": no column " + std::to_string(column));
    }

    static int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

    static std::string decode(std::string_view hex) {  // "\x00ff…"
        std::string bytes;
        if (hex.size() < 2) return bytes;
        bytes.reserve(hex.size() / 2);
        for (std::size_t at = 2; at + 1 < hex.size(); at += 2)
            bytes += static_cast<char>(digit(hex[at]) << 4 | digit(hex[at + 1]));
        return bytes;
    }

    const char* name_;
    const pg_result* result_;
    int row_ = 0;
    mutable std::vector<std::unique_ptr<std::string>>
        decoded_;  // of this row; pointers, so that views stay valid
};

class PgTx final : public EngineTx {
   public:
    explicit PgTx(PgConnection& connection) : connection_(connection) {}

    Engine engine() const override { return Engine::postgres; }

    std::int64_t exec(const Sql& sql, std::span<const Param> params) override {
        StatementTimer timer(sql.name);
        PgResult result = guarded([&] { return connection_.execute(sql, params); });
        return changed_rows(result.get());
    }

    void query(const Sql& sql, std::span<const Param> params,
               const std::function<void(const Row&)>& each) override {
        StatementTimer timer(sql.name);
        PgResult result = guarded([&] { return connection_.execute(sql, params); });
        PgRow row(sql.name, result.get());
        int count = PQntuples(result.get());
        for (int k = 0; k < count; ++k) {
            row.move_to(k);
            each(row);
        }
    }

    std::int64_t exec_many(const Sql& sql, std::size_t per_row, std::span<const Param> values) override {
        StatementTimer timer(sql.name);
        return guarded([&] { return connection_.execute_many(sql, per_row, values); });
    }

    void script(const Sql& sql) override {
        StatementTimer timer(sql.name);
        const char* text = sql.postgres != nullptr ? sql.postgres : sql.text;
        guarded([&] { return connection_.script(sql.name, text); });
    }

   private:
    void commit() override {
        PgResult result = connection_.script("commit", "COMMIT");
        // A transaction that has failed answers COMMIT with success and the tag ROLLBACK.
        if (std::string_view(PQcmdStatus(result.get())) != "COMMIT") throw DbError("commit: was rolled back");
    }

    void rollback() noexcept override {
        try {
            if (connection_.is_connected() && !connection_.is_reusable())
                connection_.script("rollback", "ROLLBACK");
        } catch (const std::exception& e) {
            // The connection is not reusable then, so the pool drops it and the server rolls back.
            LOG_WARN("rollback failed", {"error", e.what()});
        }
    }

    PgConnection& connection_;
};

class PgOwnership final : public Ownership {
   public:
    using Lock = std::function<std::unique_ptr<PgConnection>()>;
    explicit PgOwnership(std::unique_ptr<PgConnection> connection, Lock lock)
        : connection_(std::move(connection)), lock_(std::move(lock)) {}

    bool held() const override { return held_.load(std::memory_order_acquire); }

    /// A lost connection is made again: the lock is shared, and what stops a process that is cut off is the
    /// lease of its node. It is lost only when somebody holds it alone by then.
    bool ping() override {
        std::lock_guard guard(mutex_);
        if (!held()) return false;
        try {
            if (connection_ != nullptr) connection_->execute(sql_ping, {});
        } catch (const DbError& e) {
            LOG_WARN("the connection that owns the database was lost", {"error", e.what()});
            connection_.reset();
        }
        if (connection_ == nullptr) take_again();
        return held();
    }

   private:
    void take_again() {
        try {
            connection_ = lock_();
            if (connection_ != nullptr) return;
            LOG_ERROR("lost the ownership of the database");
            held_.store(false, std::memory_order_release);
        } catch (const DbError& e) {
            LOG_WARN("the database cannot be reached", {"error", e.what()});
        }
    }

    std::mutex mutex_;
    std::unique_ptr<PgConnection> connection_;  // its end is the end of the lock; null while it is away
    const Lock lock_;
    std::atomic<bool> held_{true};
};

class PgDb final : public Db {
   public:
    PgDb(const StoreSettings& settings, metrics::Registry& metrics)
        : Db(static_cast<std::size_t>(settings.connections_max), 0,
             static_cast<std::size_t>(settings.queue_max), metrics),
          settings_(settings),
          meters_(metrics, Engine::postgres, settings.connections_max),
          connections_(static_cast<std::size_t>(settings.connections_max), settings.statement_timeout,
                       [this] { return std::make_unique<PgConnection>(settings_, meters_); }) {}
    ~PgDb() override { stop_threads(); }

    Engine engine() const override { return Engine::postgres; }

    std::unique_ptr<Ownership> try_own() override {
        auto connection = lock_shared();
        if (connection == nullptr) return nullptr;
        return std::make_unique<PgOwnership>(std::move(connection), [this] { return lock_shared(); });
    }

    void check() { connections_.put_back(connections_.take()); }

   protected:
    void transaction(Mode mode, const std::function<bool(Tx&)>& work) override {
        run_after_commit(on_connection(mode, work));
    }

   private:
    /// A connection that holds the lock; null when somebody holds it alone.
    std::unique_ptr<PgConnection> lock_shared() {
        auto connection = std::make_unique<PgConnection>(settings_, meters_);
        connection->script("setup", "SET idle_session_timeout = 0");
        PgResult result = connection->execute(sql_own, {});
        if (std::string_view(PQgetvalue(result.get(), 0, 0)) != "t") return nullptr;
        return connection;
    }

    struct Lease {
        ConnectionPool<PgConnection>& pool;
        std::unique_ptr<PgConnection> connection;
        ~Lease() {
            if (connection->is_reusable())
                pool.put_back(std::move(connection));
            else
                pool.forget();
        }
    };

    AfterCommit on_connection(Mode mode, const std::function<bool(Tx&)>& work) {
        auto asked = std::chrono::steady_clock::now();
        Lease lease{connections_, begin(mode)};
        meters_.wait_seconds.observe_us(micros_since(asked));
        InUse in_use(meters_.in_use);
        PgTx tx(*lease.connection);
        // Once the work has started nothing is tried again: only the caller knows whether that is safe.
        tx.run(work, mode == Mode::write ? meters_.write : meters_.read);
        return tx.take_after_commit();
    }

    /// A connection in a transaction. Idle connections die with the server or the network: they are replaced
    /// here, where nothing has been done yet.
    std::unique_ptr<PgConnection> begin(Mode mode) {
        const char* text = mode == Mode::write ? "BEGIN" : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        for (int attempt = 1;; ++attempt) {
            auto connection = connections_.take();
            try {
                connection->script("begin", text);
                return connection;
            } catch (const DbError&) {
                connections_.forget();
                connections_.drop_idle();
                meters_.reconnects.add();
                if (attempt >= begin_attempts_max) throw;
            }
        }
    }

    const StoreSettings settings_;
    Meters meters_;
    ConnectionPool<PgConnection> connections_;
};

}  // namespace

std::unique_ptr<Db> open_postgres(const StoreSettings& settings, metrics::Registry& metrics) {
    auto db = std::make_unique<PgDb>(settings, metrics);
    db->check();
    return db;
}

}  // namespace nebula::store::detail

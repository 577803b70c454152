// SQLite: one writing connection behind a mutex, a few reading ones that never wait for it (WAL).

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "base/text.hpp"
#include "store/connection_pool.hpp"
#include "store/sqlite_connection.hpp"

namespace nebula::store::detail {
namespace {

constexpr Sql sql_begin_write{"begin", "BEGIN IMMEDIATE"};
constexpr Sql sql_begin_read{"begin", "BEGIN"};
constexpr Sql sql_commit{"commit", "COMMIT"};

class SqliteRow final : public Row {
   public:
    SqliteRow(const char* name, sqlite3_stmt* statement) : name_(name), statement_(statement) {}

    bool is_null(int column) const override { return type(column) == SQLITE_NULL; }

    std::int64_t i64(int column) const override {
        int kind = type(column);
        if (kind == SQLITE_INTEGER) return sqlite3_column_int64(statement_, column);
        if (kind == SQLITE_TEXT) {
            if (auto number = parse_int<std::int64_t>(text(column))) return *number;
        }
        throw DbError(std::string(name_) + ": column " + std::to_string(column) + " is not a whole number");
    }

    std::string_view text(int column) const override {
        if (is_null(column)) return {};
        const unsigned char* start = sqlite3_column_text(statement_, column);
        auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
        return {reinterpret_cast<const char*>(start), size};
    }

    std::string_view blob(int column) const override {
        if (is_null(column)) return {};
        const void* start = sqlite3_column_blob(statement_, column);  // null when empty
        auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
        return {static_cast<const char*>(start), size};
    }

   private:
    int type(int column) const {
        if (column < 0 || column >= sqlite3_column_count(statement_))
            throw DbError(std::string(name_) + ": no column " + std::to_string(column));
        return sqlite3_column_type(statement_, column);
    }

    const char* name_;
    sqlite3_stmt* statement_;
};

class SqliteTx final : public EngineTx {
   public:
    SqliteTx(SqliteConnection& connection, const Sql& begin) : connection_(connection) {
        connection_.run(begin);
    }

    Engine engine() const override { return Engine::sqlite; }

    std::int64_t exec(const Sql& sql, std::span<const Param> params) override {
        return guarded([&] {
            StatementTimer timer(sql.name);
            SqliteConnection::Use use(connection_, sql);
            use.bind(params);
            return changed_by(use);
        });
    }

    void query(const Sql& sql, std::span<const Param> params,
               const std::function<void(const Row&)>& each) override {
        StatementTimer timer(sql.name);
        std::optional<SqliteConnection::Use> use;
        guarded([&] {
            use.emplace(connection_, sql);
            use->bind(params);
        });
        SqliteRow row(sql.name, use->handle());
        while (guarded([&] { return use->step(); })) each(row);
    }

    std::int64_t exec_many(const Sql& sql, std::size_t per_row, std::span<const Param> values) override {
        return guarded([&] {
            if (per_row == 0 || values.size() % per_row != 0)
                throw DbError(std::string(sql.name) + ": the values are not whole rows");
            StatementTimer timer(sql.name);
            SqliteConnection::Use use(connection_, sql);
            std::int64_t changed = 0;
            for (std::size_t at = 0; at < values.size(); at += per_row) {
                auto row = values.subspan(at, per_row);
                if (at == 0)
                    use.bind(row);
                else
                    use.bind_changed(row, values.subspan(at - per_row, per_row));
                changed += changed_by(use);
                use.reset();
            }
            return changed;
        });
    }

    void script(const Sql& sql) override {
        guarded([&] {
            StatementTimer timer(sql.name);
            connection_.script(sql.name, sql.text);
        });
    }

   private:
    void commit() override { connection_.run(sql_commit); }

    void rollback() noexcept override {
        // Some errors have rolled back already.
        if (connection_.in_transaction())
            sqlite3_exec(connection_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
    }

    std::int64_t changed_by(SqliteConnection::Use& use) {
        std::int64_t before = sqlite3_total_changes64(connection_.handle());
        while (use.step()) {
        }
        // sqlite3_changes64 keeps its old value when a statement changes nothing by its nature.
        bool any = sqlite3_total_changes64(connection_.handle()) != before;
        return any ? sqlite3_changes64(connection_.handle()) : 0;
    }

    SqliteConnection& connection_;
};

class FileOwnership final : public Ownership {
   public:
    explicit FileOwnership(int file) : file_(file) {}
    ~FileOwnership() override { close(file_); }
    bool held() const override { return true; }  // the kernel takes it back only with the process

   private:
    int file_;
};

class MemoryOwnership final : public Ownership {
   public:
    explicit MemoryOwnership(std::atomic<bool>& owned) : owned_(owned) {}
    ~MemoryOwnership() override { owned_ = false; }
    bool held() const override { return true; }

   private:
    std::atomic<bool>& owned_;
};

constexpr std::int64_t readers_max = 4;

std::int64_t reader_count(const std::string& path, const StoreSettings& settings) {
    return path == ":memory:" ? 0 : std::clamp<std::int64_t>(settings.connections_max - 1, 1, readers_max);
}

class SqliteDb final : public Db {
   public:
    SqliteDb(const std::string& path, const StoreSettings& settings, metrics::Registry& metrics)
        : Db(1, static_cast<std::size_t>(std::max<std::int64_t>(1, reader_count(path, settings))),
             static_cast<std::size_t>(settings.queue_max), metrics),
          path_(path),
          is_memory_(path == ":memory:"),
          meters_(metrics, Engine::sqlite, 1 + reader_count(path, settings)),
          writer_(path, SqliteConnection::Access::read_write, settings.statement_timeout, meters_),
          readers_(static_cast<std::size_t>(reader_count(path, settings)), settings.statement_timeout,
                   [this, timeout = settings.statement_timeout] {
                       return std::make_unique<SqliteConnection>(path_, SqliteConnection::Access::read_only,
                                                                 timeout, meters_);
                   }) {}
    ~SqliteDb() override { stop_threads(); }

    Engine engine() const override { return Engine::sqlite; }

    std::unique_ptr<Ownership> try_own() override {
        if (is_memory_) {
            if (owned_.exchange(true)) return nullptr;
            return std::make_unique<MemoryOwnership>(owned_);
        }
        std::string name = path_ + ".lock";
        int file = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (file < 0) throw DbError("cannot open " + name + ": " + std::strerror(errno));
        if (flock(file, LOCK_EX | LOCK_NB) == 0) return std::make_unique<FileOwnership>(file);
        int problem = errno;
        close(file);
        if (problem == EWOULDBLOCK) return nullptr;
        throw DbError("cannot lock " + name + ": " + std::strerror(problem));
    }

   protected:
    void transaction(Mode mode, const std::function<bool(Tx&)>& work) override {
        bool on_reader = mode == Mode::read && !is_memory_;
        run_after_commit(on_reader ? read_on_own_connection(work) : on_writer(mode, work));
    }

   private:
    AfterCommit on_writer(Mode mode, const std::function<bool(Tx&)>& work) {
        auto asked = std::chrono::steady_clock::now();
        std::lock_guard lock(writer_mutex_);
        meters_.wait_seconds.observe_us(micros_since(asked));
        InUse in_use(meters_.in_use);
        if (mode == Mode::write) {
            SqliteTx tx(writer_, sql_begin_write);
            tx.run(work, meters_.write);
            return tx.take_after_commit();
        }
        struct QueryOnly {
            SqliteConnection& connection;
            explicit QueryOnly(SqliteConnection& on) : connection(on) { connection.set_query_only(true); }
            ~QueryOnly() { connection.set_query_only(false); }
        } query_only(writer_);
        SqliteTx tx(writer_, sql_begin_read);
        tx.run(work, meters_.read);
        return tx.take_after_commit();
    }

    AfterCommit read_on_own_connection(const std::function<bool(Tx&)>& work) {
        auto asked = std::chrono::steady_clock::now();
        auto connection = readers_.take();
        meters_.wait_seconds.observe_us(micros_since(asked));
        InUse in_use(meters_.in_use);
        struct GiveBack {
            ConnectionPool<SqliteConnection>& pool;
            std::unique_ptr<SqliteConnection>& connection;
            ~GiveBack() { pool.put_back(std::move(connection)); }
        } give_back{readers_, connection};
        SqliteTx tx(*connection, sql_begin_read);
        tx.run(work, meters_.read);
        return tx.take_after_commit();
    }

    const std::string path_;
    const bool is_memory_;
    std::atomic<bool> owned_{false};
    Meters meters_;
    std::mutex writer_mutex_;
    SqliteConnection writer_;
    ConnectionPool<SqliteConnection> readers_;
};

/// Missing folders are made for the owner alone; so is the file, whose mode SQLite copies to its companions.
void prepare_file(const std::string& path) {
    std::filesystem::path folder = std::filesystem::path(path).parent_path();
    std::filesystem::path made;
    for (const auto& part : folder) {
        made /= part;
        if (mkdir(made.c_str(), 0700) != 0 && errno != EEXIST && errno != EISDIR)
            throw DbError("cannot create the folder " + made.string() + ": " + std::strerror(errno));
    }
    int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) throw DbError("cannot open " + path + ": " + std::strerror(errno));
    close(file);
}

}  // namespace

std::unique_ptr<Db> open_sqlite(const std::string& path, const StoreSettings& settings,
                                metrics::Registry& metrics) {
    if (path != ":memory:") prepare_file(path);
    return std::make_unique<SqliteDb>(path, settings, metrics);
}

}  // namespace nebula::store::detail

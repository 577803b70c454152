#pragma once
// One SQLite connection with its prepared statements. Private to this module; used by one thread at a time.

#include <chrono>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/detail.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace nebula::store::detail {

/// A prepared statement; `places[k]` is SQLite's index of parameter $(k+1).
struct SqliteStatement {
    sqlite3_stmt* handle = nullptr;
    std::vector<int> places;
    bool is_busy = false;
};

/// Statements are long and differ at their ends: to hash all of one would cost more than to bind its values.
struct StatementHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
        constexpr std::size_t ends = 24;
        std::size_t tail = text.size() > ends ? text.size() - ends : 0;
        return TextHash()(text.substr(0, ends)) ^ TextHash()(text.substr(tail)) * 31 ^ text.size();
    }
};

class SqliteConnection {
   public:
    enum class Access { read_write, read_only };
    /// Throws DbError.
    SqliteConnection(const std::string& path, Access access, std::chrono::milliseconds statement_timeout,
                     Meters& meters);
    SqliteConnection(const SqliteConnection&) = delete;
    SqliteConnection& operator=(const SqliteConnection&) = delete;
    ~SqliteConnection();

    sqlite3* handle() const { return handle_; }
    /// Statements without parameters. `name` appears in errors.
    void script(const char* name, const char* text);
    /// One statement without parameters that is run again and again: prepared once.
    void run(const Sql& sql);
    /// Forbids or allows writing, for reads on the only connection of a database in memory.
    void set_query_only(bool on) {
        script("query_only", on ? "PRAGMA query_only = 1" : "PRAGMA query_only = 0");
    }
    bool in_transaction() const;
    /// Restarts the time that one statement may take.
    void start_timeout() { deadline_ = std::chrono::steady_clock::now() + statement_timeout_; }
    /// Throws UniqueViolation or DbError for the connection's last error.
    [[noreturn]] void raise(const char* name);

    /// Takes a statement from the cache (prepares it if needed) and gives it back, reset, on destruction.
    class Use {
       public:
        Use(SqliteConnection& connection, const Sql& sql);
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;
        ~Use();

        void bind(std::span<const Param> params);
        /// Binds what differs from `before`, which are the values bound last, and must still be there.
        void bind_changed(std::span<const Param> params, std::span<const Param> before);
        bool step();  // true: a row
        void reset();
        sqlite3_stmt* handle() const { return statement_->handle; }

       private:
        void bind_one(std::size_t k, const Param& value);

        SqliteConnection& connection_;
        const char* name_;
        SqliteStatement* statement_;
        SqliteStatement own_;  // when the cached one is busy further up the stack
    };

   private:
    static int on_progress(void* self);
    SqliteStatement prepare(const Sql& sql);
    void make_room();

    sqlite3* handle_ = nullptr;
    std::chrono::milliseconds statement_timeout_;
    std::chrono::steady_clock::time_point deadline_;
    Meters& meters_;
    std::unordered_map<std::string, SqliteStatement, StatementHash, std::equal_to<>> statements_;
};

}  // namespace nebula::store::detail

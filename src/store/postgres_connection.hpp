#pragma once
// One PostgreSQL connection with its prepared statements. Private to this module; used by one thread at a
// time.

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/detail.hpp"

struct pg_conn;
struct pg_result;

namespace nebula::store::detail {

struct PgResultFree {
    void operator()(pg_result* result) const;
};
using PgResult = std::unique_ptr<pg_result, PgResultFree>;

/// Values in the form libpq takes them. Numbers travel as text: cheap beside a round trip, and right for
/// every integer type of the server. Blobs travel as they are.
class PgParams {
   public:
    void set(const char* statement, std::span<const Param> params);
    int count() const { return static_cast<int>(values_.size()); }
    const char* const* values() const { return values_.data(); }
    const int* lengths() const { return lengths_.data(); }
    const int* formats() const { return formats_.data(); }

   private:
    std::string arena_;
    std::vector<const char*> values_;
    std::vector<int> lengths_;
    std::vector<int> formats_;
};

class PgConnection {
   public:
    /// Throws DbError when the server cannot be reached.
    PgConnection(const StoreSettings& settings, Meters& meters);
    PgConnection(const PgConnection&) = delete;
    PgConnection& operator=(const PgConnection&) = delete;
    ~PgConnection();

    /// Connected and outside a transaction.
    bool is_reusable() const;
    bool is_connected() const;
    /// One or more statements without parameters.
    PgResult script(const char* name, const char* text);
    PgResult execute(const Sql& sql, std::span<const Param> params);
    /// Rows changed in total.
    std::int64_t execute_many(const Sql& sql, std::size_t per_row, std::span<const Param> values);

    /// To wait for input with poll().
    int socket() const;
    /// Reads what has arrived, without waiting, and forgets the notifications in it. Returns how many there
    /// were; throws DbError when the connection is gone.
    std::size_t take_notifications();

   private:
    [[noreturn]] void raise(const char* name, const pg_result* result);
    /// Name of the prepared statement. `sample` gives the types of the numbers and blobs.
    const char* prepared(const Sql& sql, std::span<const Param> sample);
    std::int64_t pipeline(const Sql& sql, const char* statement, std::size_t per_row,
                          std::span<const Param> values);
    PgResult next_result(const Sql& sql);

    Meters& meters_;
    pg_conn* handle_ = nullptr;
    PgParams params_;
    std::unordered_map<std::string, std::string, TextHash, std::equal_to<>> statements_;
    std::size_t statement_number_ = 0;
};

/// Rows that the statement inserted, updated or deleted; 0 for others.
std::int64_t changed_rows(pg_result* result);

}  // namespace nebula::store::detail

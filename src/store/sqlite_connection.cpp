#include "store/sqlite_connection.hpp"

#include <sqlite3.h>

namespace nebula::store::detail {
namespace {

constexpr int busy_timeout_ms = 5000;      // another process has the file locked: the command line, a backup
constexpr int progress_interval = 20'000;  // virtual machine steps between two looks at the clock
constexpr std::size_t statements_max = 512;

bool is_same(const Param& a, const Param& b) {
    if (a.index() != b.index()) return false;
    if (auto* number = std::get_if<std::int64_t>(&a)) return *number == std::get<std::int64_t>(b);
    if (auto* text = std::get_if<std::string_view>(&a)) return *text == std::get<std::string_view>(b);
    if (auto* blob = std::get_if<Blob>(&a)) return blob->bytes == std::get<Blob>(b).bytes;
    return true;
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n;") == std::string_view::npos; }

}  // namespace

SqliteConnection::SqliteConnection(const std::string& path, Access access,
                                   std::chrono::milliseconds statement_timeout, Meters& meters)
    : statement_timeout_(statement_timeout), meters_(meters) {
    // Nobody reads SQLite's own memory statistics, and each of its allocations would take a lock for them.
    // Refused once SQLite is in use, which does no harm.
    static const int no_statistics = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    static_cast<void>(no_statistics);
    // No mutex inside SQLite: a connection is used by one thread at a time.
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    if (access == Access::read_write) flags |= SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(path.c_str(), &handle_, flags, nullptr) != SQLITE_OK) {
        std::string problem = handle_ != nullptr ? sqlite3_errmsg(handle_) : "out of memory";
        sqlite3_close(handle_);
        throw DbError("cannot open " + path + ": " + problem);
    }
    try {
        sqlite3_extended_result_codes(handle_, 1);
        sqlite3_busy_timeout(handle_, busy_timeout_ms);
        start_timeout();
        sqlite3_progress_handler(handle_, progress_interval, &SqliteConnection::on_progress, this);
        if (access == Access::read_write) script("journal_mode", "PRAGMA journal_mode = WAL");
        // mmap off: an I/O error must be a result, not a signal.
        script("pragmas",
               "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA mmap_size = 0;"
               "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF");
        if (access == Access::read_only) set_query_only(true);
    } catch (...) {
        sqlite3_close(handle_);
        throw;
    }
}

SqliteConnection::~SqliteConnection() {
    for (auto& [text, statement] : statements_) sqlite3_finalize(statement.handle);
    sqlite3_close(handle_);
}

int SqliteConnection::on_progress(void* self) {
    return std::chrono::steady_clock::now() > static_cast<SqliteConnection*>(self)->deadline_ ? 1 : 0;
}

bool SqliteConnection::in_transaction() const { return sqlite3_get_autocommit(handle_) == 0; }

void SqliteConnection::raise(const char* name) {
    int code = sqlite3_extended_errcode(handle_);
    std::string text = std::string(name) + ": ";
    text += (code & 0xff) == SQLITE_INTERRUPT ? "statement timeout" : sqlite3_errmsg(handle_);
    if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY ||
        code == SQLITE_CONSTRAINT_ROWID) {
        meters_.unique_violations.add();
        throw UniqueViolation(text);
    }
    meters_.errors.add();
    throw DbError(text);
}

void SqliteConnection::script(const char* name, const char* text) {
    start_timeout();
    if (sqlite3_exec(handle_, text, nullptr, nullptr, nullptr) != SQLITE_OK) raise(name);
}

void SqliteConnection::run(const Sql& sql) {
    Use use(*this, sql);
    while (use.step()) {
    }
}

SqliteStatement SqliteConnection::prepare(const Sql& sql) {
    SqliteStatement statement;
    const char* rest = nullptr;
    if (sqlite3_prepare_v3(handle_, sql.text, -1, SQLITE_PREPARE_PERSISTENT, &statement.handle, &rest) !=
        SQLITE_OK)
        raise(sql.name);
    std::string problem;
    if (statement.handle == nullptr || !is_blank(rest)) problem = "is not exactly one statement";
    auto count = static_cast<std::size_t>(sqlite3_bind_parameter_count(statement.handle));
    for (std::size_t k = 1; k <= count && problem.empty(); ++k) {
        std::string name = "$" + std::to_string(k);
        int place = sqlite3_bind_parameter_index(statement.handle, name.c_str());
        if (place == 0) problem = "has " + std::to_string(count) + " parameters, but " + name + " is missing";
        statement.places.push_back(place);
    }
    if (!problem.empty()) {
        sqlite3_finalize(statement.handle);
        throw DbError(std::string(sql.name) + ": " + problem);
    }
    return statement;
}

void SqliteConnection::make_room() {
    if (statements_.size() < statements_max) return;
    std::erase_if(statements_, [](auto& entry) {
        if (entry.second.is_busy) return false;
        sqlite3_finalize(entry.second.handle);
        return true;
    });
}

SqliteConnection::Use::Use(SqliteConnection& connection, const Sql& sql)
    : connection_(connection), name_(sql.name) {
    auto& cache = connection.statements_;
    auto found = cache.find(std::string_view(sql.text));
    if (found == cache.end()) {
        connection.make_room();
        found = cache.emplace(sql.text, connection.prepare(sql)).first;
    }
    statement_ = &found->second;
    if (statement_->is_busy) {
        own_ = connection.prepare(sql);
        statement_ = &own_;
    }
    statement_->is_busy = true;
    connection.start_timeout();
}

SqliteConnection::Use::~Use() {
    sqlite3_reset(statement_->handle);
    sqlite3_clear_bindings(statement_->handle);
    statement_->is_busy = false;
    sqlite3_finalize(own_.handle);
}

void SqliteConnection::Use::bind(std::span<const Param> params) {
    if (params.size() != statement_->places.size())
        throw DbError(std::string(name_) + ": " + std::to_string(params.size()) + " values for " +
                      std::to_string(statement_->places.size()) + " parameters");
    for (std::size_t k = 0; k < params.size(); ++k) bind_one(k, params[k]);
}

void SqliteConnection::Use::bind_changed(std::span<const Param> params, std::span<const Param> before) {
    // Rows of one statement are mostly alike, and a comparison costs a tenth of a binding.
    for (std::size_t k = 0; k < params.size(); ++k)
        if (!is_same(params[k], before[k])) bind_one(k, params[k]);
}

void SqliteConnection::Use::bind_one(std::size_t k, const Param& value) {
    sqlite3_stmt* to = statement_->handle;
    int place = statement_->places[k];
    int rc = SQLITE_OK;
    // The values outlive the call, so nothing is copied. A null pointer would bind NULL instead of empty
    // text.
    if (auto* number = std::get_if<std::int64_t>(&value)) {
        rc = sqlite3_bind_int64(to, place, *number);
    } else if (auto* text = std::get_if<std::string_view>(&value)) {
        check_text(name_, *text);
        rc = sqlite3_bind_text64(to, place, text->empty() ? "" : text->data(), text->size(), SQLITE_STATIC,
                                 SQLITE_UTF8);
    } else if (auto* blob = std::get_if<Blob>(&value)) {
        rc = sqlite3_bind_blob64(to, place, blob->bytes.empty() ? "" : blob->bytes.data(), blob->bytes.size(),
                                 SQLITE_STATIC);
    } else {
        rc = sqlite3_bind_null(to, place);
    }
    if (rc != SQLITE_OK) connection_.raise(name_);
}

bool SqliteConnection::Use::step() {
    int rc = sqlite3_step(statement_->handle);
    if (rc == SQLITE_ROW) return true;
    if (rc == SQLITE_DONE) return false;
    connection_.raise(name_);
}

void SqliteConnection::Use::reset() { sqlite3_reset(statement_->handle); }

}  // namespace nebula::store::detail

#include "store/postgres_connection.hpp"

#include <libpq-fe.h>

#include <algorithm>
#include <charconv>

#include "base/log.hpp"
#include "base/text.hpp"

namespace nebula::store::detail {
namespace {

constexpr Oid oid_int8 = 20;  // these numbers are part of PostgreSQL's protocol
constexpr Oid oid_bytea = 17;
constexpr std::size_t statements_max = 512;
// Statements sent before their results are read: enough to hide the round trip, few enough to keep memory
// small.
constexpr std::size_t pipeline_rows = 512;

const char* text_of(const Sql& sql) { return sql.postgres != nullptr ? sql.postgres : sql.text; }

bool is_success(const pg_result* result) {
    switch (PQresultStatus(result)) {
        case PGRES_COMMAND_OK:
        case PGRES_TUPLES_OK:
        case PGRES_EMPTY_QUERY:
            return true;
        default:
            return false;
    }
}

/// libpq ends its messages with a line end.
std::string without_line_end(const char* text) {
    std::string_view view = text != nullptr ? text : "";
    return std::string(view.substr(0, view.find_last_not_of(" \n") + 1));
}

void log_notice(void*, const char* text) { LOG_DEBUG("database notice", {"text", without_line_end(text)}); }

}  // namespace

void PgResultFree::operator()(pg_result* result) const { PQclear(result); }

void PgParams::set(const char* statement, std::span<const Param> params) {
    constexpr std::size_t number_room = 24;
    std::size_t room = 0;
    for (const Param& value : params) {
        room += number_room;
        if (auto* text = std::get_if<std::string_view>(&value)) room += text->size();
    }
    arena_.clear();
    arena_.reserve(room);  // pointers into it stay valid below
    values_.assign(params.size(), nullptr);
    lengths_.assign(params.size(), 0);
    formats_.assign(params.size(), 0);
    for (std::size_t k = 0; k < params.size(); ++k) {
        const Param& value = params[k];
        const char* start = arena_.data() + arena_.size();
        if (auto* number = std::get_if<std::int64_t>(&value)) {
            char digits[number_room];
            auto end = std::to_chars(digits, digits + sizeof digits, *number).ptr;
            arena_.append(digits, end);
        } else if (auto* text = std::get_if<std::string_view>(&value)) {
            check_text(statement, *text);
            arena_ += *text;
        } else if (auto* blob = std::get_if<Blob>(&value)) {
            values_[k] = blob->bytes.empty() ? "" : blob->bytes.data();
            lengths_[k] = static_cast<int>(blob->bytes.size());
            formats_[k] = 1;
            continue;
        } else {
            continue;
        }
        arena_ += '\0';
        values_[k] = start;
    }
}

PgConnection::PgConnection(const StoreSettings& settings, Meters& meters) : meters_(meters) {
    // The later of two settings wins, so a URL may override what stands before it. Keep-alives find a dead
    // network that the server's own statement timeout cannot report.
    std::string user_timeout = std::to_string(settings.statement_timeout.count() + 5000);
    const char* const names[] = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
                                 "keepalives_count", "tcp_user_timeout", "fallback_application_name",
                                 "dbname",           "client_encoding",  nullptr};
    const char* const values[] = {
        "5", "10", "5", "3", user_timeout.c_str(), "nebula", settings.url.c_str(), "UTF8", nullptr};
    handle_ = PQconnectdbParams(names, values, 1);
    try {
        if (PQstatus(handle_) != CONNECTION_OK)
            throw DbError("cannot connect: " + without_line_end(PQerrorMessage(handle_)));
        PQsetNoticeProcessor(handle_, &log_notice, nullptr);
        // A transaction whose client is cut off must not keep its locks: others wait for them. Ours never
        // pause between two statements.
        std::string timeout = std::to_string(settings.statement_timeout.count());
        std::string idle = std::to_string(std::min<std::int64_t>(settings.statement_timeout.count(), 5'000));
        std::string setup =
            "SET statement_timeout = " + timeout + "; SET idle_in_transaction_session_timeout = " + idle +
            "; SET client_min_messages = warning; SET TimeZone = 'UTC'; SET bytea_output = 'hex';"
            " SET synchronous_commit = on; SET default_transaction_isolation = 'read committed'";
        script("setup", setup.c_str());
    } catch (...) {
        meters_.errors.add();
        PQfinish(handle_);
        throw;
    }
}

PgConnection::~PgConnection() { PQfinish(handle_); }

bool PgConnection::is_connected() const { return PQstatus(handle_) == CONNECTION_OK; }

bool PgConnection::is_reusable() const {
    return is_connected() && PQtransactionStatus(handle_) == PQTRANS_IDLE;
}

int PgConnection::socket() const { return PQsocket(handle_); }

std::size_t PgConnection::take_notifications() {
    if (PQconsumeInput(handle_) != 1) raise("notifications", nullptr);
    std::size_t count = 0;
    while (PGnotify* notification = PQnotifies(handle_)) {
        PQfreemem(notification);
        ++count;
    }
    return count;
}

void PgConnection::raise(const char* name, const pg_result* result) {
    const char* state = result != nullptr ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : nullptr;
    const char* primary = result != nullptr ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : nullptr;
    std::string text = std::string(name) + ": ";
    // The server's DETAIL is left out: it quotes the values.
    text += primary != nullptr ? std::string(primary) : without_line_end(PQerrorMessage(handle_));
    if (state != nullptr) text += " (SQLSTATE " + std::string(state) + ")";
    if (state != nullptr && std::string_view(state) == "23505") {
        meters_.unique_violations.add();
        throw UniqueViolation(text);
    }
    meters_.errors.add();
    throw DbError(text);
}

PgResult PgConnection::script(const char* name, const char* text) {
    PgResult result(PQexec(handle_, text));
    if (!is_success(result.get())) raise(name, result.get());
    return result;
}

const char* PgConnection::prepared(const Sql& sql, std::span<const Param> sample) {
    const char* text = text_of(sql);
    auto found = statements_.find(std::string_view(text));
    if (found != statements_.end()) return found->second.c_str();
    if (statements_.size() >= statements_max) {
        script("deallocate", "DEALLOCATE ALL");
        statements_.clear();
    }
    // Without a type the server would take `$1 + 1` for a 32-bit number. Text is left to the server to infer.
    std::vector<Oid> types(sample.size(), 0);
    for (std::size_t k = 0; k < sample.size(); ++k) {
        if (std::holds_alternative<std::int64_t>(sample[k])) types[k] = oid_int8;
        if (std::holds_alternative<Blob>(sample[k])) types[k] = oid_bytea;
    }
    std::string name = "s" + std::to_string(++statement_number_);
    PgResult result(PQprepare(handle_, name.c_str(), text, static_cast<int>(types.size()), types.data()));
    if (!is_success(result.get())) raise(sql.name, result.get());
    return statements_.emplace(text, std::move(name)).first->second.c_str();
}

PgResult PgConnection::execute(const Sql& sql, std::span<const Param> params) {
    const char* statement = prepared(sql, params);
    params_.set(sql.name, params);
    PgResult result(PQexecPrepared(handle_, statement, params_.count(), params_.values(), params_.lengths(),
                                   params_.formats(), 0));
    if (!is_success(result.get())) raise(sql.name, result.get());
    return result;
}

std::int64_t PgConnection::execute_many(const Sql& sql, std::size_t per_row, std::span<const Param> values) {
    if (per_row == 0 || values.size() % per_row != 0)
        throw DbError(std::string(sql.name) + ": the values are not whole rows");
    if (values.empty()) return 0;
    const char* statement = prepared(sql, values.first(per_row));
    std::int64_t changed = 0;
    for (std::size_t at = 0; at < values.size();) {
        std::size_t size = std::min(values.size() - at, pipeline_rows * per_row);
        changed += pipeline(sql, statement, per_row, values.subspan(at, size));
        at += size;
    }
    return changed;
}

PgResult PgConnection::next_result(const Sql& sql) {
    PgResult result(PQgetResult(handle_));
    if (!is_connected()) raise(sql.name, result.get());
    return result;
}

std::int64_t PgConnection::pipeline(const Sql& sql, const char* statement, std::size_t per_row,
                                    std::span<const Param> values) {
    // A text that cannot be sent must not leave a half-sent pipeline behind.
    for (const Param& value : values)
        if (auto* text = std::get_if<std::string_view>(&value)) check_text(sql.name, *text);
    if (PQenterPipelineMode(handle_) != 1) raise(sql.name, nullptr);
    std::size_t rows = values.size() / per_row;
    for (std::size_t row = 0; row < rows; ++row) {
        params_.set(sql.name, values.subspan(row * per_row, per_row));
        if (PQsendQueryPrepared(handle_, statement, params_.count(), params_.values(), params_.lengths(),
                                params_.formats(), 0) != 1)
            raise(sql.name, nullptr);
    }
    if (PQpipelineSync(handle_) != 1) raise(sql.name, nullptr);

    std::int64_t changed = 0;
    PgResult failure;
    for (std::size_t row = 0; row < rows; ++row) {
        PgResult result = next_result(sql);
        if (result != nullptr && is_success(result.get())) changed += changed_rows(result.get());
        // The first failure is the cause; the rest of the pipeline reports only that it was skipped.
        else if (failure == nullptr)
            failure = std::move(result);
        while (PgResult rest = next_result(sql)) {
        }
    }
    PgResult sync = next_result(sql);
    if (PQresultStatus(sync.get()) != PGRES_PIPELINE_SYNC || PQexitPipelineMode(handle_) != 1)
        raise(sql.name, failure.get());
    if (failure != nullptr) raise(sql.name, failure.get());
    return changed;
}

std::int64_t changed_rows(pg_result* result) {
    if (std::string_view(PQcmdStatus(result)).starts_with("SELECT")) return 0;
    return parse_int<std::int64_t>(PQcmdTuples(result)).value_or(0);
}

}  // namespace nebula::store::detail

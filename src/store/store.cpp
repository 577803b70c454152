#include "store/store.hpp"

#include "base/log.hpp"
#include "store/detail.hpp"

namespace nebula::store {

void StoreSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "url", .help = "The database: sqlite:PATH for a file, or postgres://USER@HOST/DATABASE."},
        url);
    v.field(
        {.name = "connections_max",
         .help = "Connections to PostgreSQL at the same time. SQLite has one writer and at most 4 readers.",
         .min = 1,
         .max = 1000},
        connections_max);
    v.field({.name = "queue_max",
             .help = "Transactions that may wait for a database thread; beyond it requests are refused as "
                     "overloaded.",
             .min = 1,
             .max = 1'000'000},
            queue_max);
    v.field({.name = "statement_timeout_ms",
             .help = "Milliseconds after which a single statement is cancelled.",
             .min = 100,
             .max = 3'600'000},
            statement_timeout);
}

bool Tx::one(const Sql& sql, std::initializer_list<Param> params,
             const std::function<void(const Row&)>& first) {
    bool found = false;
    query(sql, params, [&](const Row& row) {
        if (!found) first(row);
        found = true;
    });
    return found;
}

Result<std::unique_ptr<Db>> Db::open(const StoreSettings& settings, metrics::Registry& metrics) {
    constexpr std::string_view sqlite_scheme = "sqlite:";
    std::string_view url = settings.url;
    bool is_sqlite = url.starts_with(sqlite_scheme) && url.size() > sqlite_scheme.size();
    bool is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    if (!is_sqlite && !is_postgres)
        return fail(Code::invalid_request,
                    "the database URL must be sqlite:PATH or postgres://USER@HOST/DATABASE", "store.url");
    try {
        if (is_postgres) return detail::open_postgres(settings, metrics);
        return detail::open_sqlite(std::string(url.substr(sqlite_scheme.size())), settings, metrics);
    } catch (const DbError& e) {
        return fail(Code::internal, "the database cannot be opened", "store.url", e.what());
    }
}

/// What the scraper reads; outlives the Db, because callbacks cannot be taken out of a registry.
struct Db::QueueGauge {
    std::mutex mutex;
    const BlockingPool* write = nullptr;
    const BlockingPool* read = nullptr;

    std::int64_t length() {
        std::lock_guard lock(mutex);
        std::size_t sum = (write != nullptr ? write->queued() : 0) + (read != nullptr ? read->queued() : 0);
        return static_cast<std::int64_t>(sum);
    }
};

Db::Db(std::size_t write_threads, std::size_t read_threads, std::size_t queue_max, metrics::Registry& metrics)
    : write_pool_(std::make_unique<BlockingPool>(write_threads, queue_max)),
      read_pool_(read_threads > 0 ? std::make_unique<BlockingPool>(read_threads, queue_max) : nullptr),
      queue_gauge_(std::make_shared<QueueGauge>()) {
    queue_gauge_->write = write_pool_.get();
    queue_gauge_->read = read_pool_.get();
    metrics.gauge_callback("nebula_store_queue", "Transactions waiting for a database thread",
                           [gauge = queue_gauge_] { return gauge->length(); });
}

void Db::stop_threads() {
    {
        std::lock_guard lock(queue_gauge_->mutex);
        queue_gauge_->write = nullptr;
        queue_gauge_->read = nullptr;
    }
    // The threads end before the pointers change: a coroutine that one of them resumes may still ask for a
    // transaction.
    BlockingPool* pools[] = {write_pool_.get(), read_pool_.get()};
    for (BlockingPool* pool : pools)
        if (pool != nullptr) pool->stop();
}

namespace detail {

Error db_error(const std::exception& e) {
    return Error{Code::internal, "the database failed; try again", "", e.what()};
}

namespace {

Meters::PerMode per_mode(metrics::Registry& registry, const std::string& mode) {
    auto counter = [&](const char* outcome) -> metrics::Counter& {
        return registry.counter("nebula_store_transactions_total", "Database transactions by outcome",
                                {{"mode", mode}, {"outcome", outcome}});
    };
    return {counter("committed"), counter("rolled_back"), counter("failed"),
            registry.histogram("nebula_store_transaction_seconds",
                               "Time from BEGIN to the end of a transaction", {{"mode", mode}})};
}

}  // namespace

Meters::Meters(metrics::Registry& registry, Engine engine, std::int64_t connections_max)
    : write(per_mode(registry, "write")),
      read(per_mode(registry, "read")),
      wait_seconds(
          registry.histogram("nebula_store_wait_seconds", "Time transactions waited for a connection")),
      unique_violations(registry.counter("nebula_store_errors_total", "Failed statements and connections",
                                         {{"kind", "unique"}})),
      errors(registry.counter("nebula_store_errors_total", "Failed statements and connections",
                              {{"kind", "other"}})),
      reconnects(registry.counter("nebula_store_reconnects_total", "Dead connections replaced")),
      in_use(registry.gauge("nebula_store_connections_in_use", "Database connections inside a transaction")) {
    registry
        .gauge("nebula_store_connections_max", "Most database connections at the same time",
               {{"engine", engine == Engine::sqlite ? "sqlite" : "postgres"}})
        .set(connections_max);
}

void EngineTx::run(const std::function<bool(Tx&)>& work, Meters::PerMode& meters) {
    auto start = std::chrono::steady_clock::now();
    bool keep = false;
    try {
        keep = work(*this);
        if (keep && lost_) throw DbError("the transaction went on after a failed statement");
        if (keep) commit();
    } catch (...) {
        rollback();
        meters.failed.add();
        meters.seconds.observe_us(micros_since(start));
        throw;
    }
    if (!keep) {
        rollback();
        after_commit_.clear();
    }
    (keep ? meters.committed : meters.rolled_back).add();
    meters.seconds.observe_us(micros_since(start));
}

void run_after_commit(const AfterCommit& actions) {
    for (const auto& action : actions) {
        try {
            action();
        } catch (const std::exception& e) {
            LOG_ERROR("an action after a commit failed", {"error", e.what()});
        }
    }
}

StatementTimer::~StatementTimer() {
    constexpr std::int64_t slow_us = 200'000;
    std::int64_t us = micros_since(start_);
    if (us > slow_us) LOG_WARN("slow statement", {"statement", name_}, {"ms", us / 1000});
}

std::int64_t micros_since(std::chrono::steady_clock::time_point start) {
    auto passed = std::chrono::steady_clock::now() - start;
    return std::chrono::duration_cast<std::chrono::microseconds>(passed).count();
}

void check_text(const char* statement, std::string_view text) {
    if (text.find('\0') != std::string_view::npos)
        throw DbError(std::string(statement) + ": text with a NUL character cannot be stored");
}

}  // namespace detail
}  // namespace nebula::store

#include "store/listener.hpp"

#include <libpq-fe.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.hpp"
#include "base/text.hpp"

namespace nebula::store::detail {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t page_rows = 500;
// No transaction lives that long: a statement has 30 s.
constexpr auto missing_kept = 60s;
// A sequence may jump when a server was restored; rolled back rows leave a hole each.
constexpr std::int64_t missing_max = 10'000;
constexpr auto prune_interval = 60s;
constexpr auto backoff_min = 100ms;
constexpr auto backoff_max = 5'000ms;

// One statement, so that one snapshot decides: a publisher's later change is never read before its earlier
// one.
constexpr Sql sql_read{"changes.read",
                       "SELECT id, topic, payload FROM changes"
                       " WHERE id > $1 OR id = ANY(CAST($2 AS BIGINT[])) ORDER BY id LIMIT $3"};
constexpr Sql sql_prune{"changes.prune",
                        "DELETE FROM changes WHERE created_at <"
                        " CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) - $1"};

std::string_view text_at(const pg_result* result, int row, int column) {
    return {PQgetvalue(result, row, column), static_cast<std::size_t>(PQgetlength(result, row, column))};
}

}  // namespace

void ChangeFeed::pass_over(std::int64_t from, std::int64_t to, Instant now) {
    for (std::int64_t id = std::max(from, to - missing_max); id < to; ++id) missing_.emplace(id, now);
    while (missing_.size() > missing_max) missing_.erase(missing_.begin());
}

bool ChangeFeed::read_page(PgConnection& connection, const Deliver& deliver) {
    std::string missing = "{";
    for (const auto& [id, since] : missing_) {
        if (missing.size() > 1) missing += ',';
        missing += std::to_string(id);
    }
    missing += '}';
    const Param params[] = {newest_, std::string_view(missing), page_rows};
    auto asked = std::chrono::steady_clock::now();
    PgResult result = connection.execute(sql_read, params);
    int rows = PQntuples(result.get());
    for (int row = 0; row < rows; ++row) {
        std::int64_t id = parse_int<std::int64_t>(text_at(result.get(), row, 0)).value_or(0);
        if (id > newest_) {
            pass_over(newest_ + 1, id, asked);
            newest_ = id;
        } else {
            missing_.erase(id);
        }
        deliver(text_at(result.get(), row, 1), text_at(result.get(), row, 2));
    }
    bool is_last = rows < page_rows;
    // Only what was asked for in vain after its minute is given up: the connection may have been away.
    if (is_last)
        std::erase_if(missing_, [&](const auto& entry) { return asked - entry.second > missing_kept; });
    return !is_last;
}

void ChangeFeed::read(PgConnection& connection, const Deliver& deliver) {
    while (read_page(connection, deliver)) {
    }
}

Listener::Listener(const StoreSettings& settings, ListenerOptions options, metrics::Registry& metrics,
                   std::shared_ptr<Subscriptions> subscriptions)
    : settings_(settings),
      options_(options),
      subscriptions_(std::move(subscriptions)),
      meters_(metrics, Engine::postgres, settings.connections_max),
      reconnects_(metrics.counter("nebula_store_notice_reconnects_total",
                                  "Times the connection that hears change notices was lost.")) {
    wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0) throw DbError("no event descriptor for the listening thread");
    try {
        connect();
        read();
    } catch (const DbError& e) {
        LOG_WARN("cannot listen for change notices yet", {"error", e.what()});
        connection_.reset();
        has_missed_ = true;
    }
    pruned_at_ = std::chrono::steady_clock::now();
    thread_ = std::thread([this] { run(); });
}

Listener::~Listener() {
    stopping_ = true;
    eventfd_write(wake_, 1);
    thread_.join();
    close(wake_);
}

void Listener::connect() {
    connection_ = std::make_unique<PgConnection>(settings_, meters_);
    connection_->script("listen", "SET idle_session_timeout = 0; LISTEN nebula");
}

void Listener::read() {
    auto now = std::chrono::steady_clock::now();
    if (!has_started_) {
        // What is there already is older than anything this process can have cached.
        feed_.read(*connection_, [](std::string_view, std::string_view) {});
        has_started_ = true;
        if (has_missed_) subscriptions_->gap();
    } else {
        if (now - read_at_ > options_.keep * 9 / 10) subscriptions_->gap();
        feed_.read(*connection_, [this](std::string_view topic, std::string_view payload) {
            subscriptions_->deliver(topic, payload);
        });
    }
    read_at_ = now;
}

void Listener::prune() {
    auto now = std::chrono::steady_clock::now();
    if (now - pruned_at_ < prune_interval) return;
    pruned_at_ = now;
    const Param params[] = {std::chrono::duration_cast<std::chrono::microseconds>(options_.keep).count()};
    connection_->execute(sql_prune, params);
}

void Listener::wait(std::chrono::milliseconds time) {
    // What arrived along with the answers is in libpq's memory already: the socket would not tell.
    if (connection_ != nullptr && connection_->take_notifications() > 0) return;
    pollfd waits[] = {{wake_, POLLIN, 0}, {connection_ != nullptr ? connection_->socket() : -1, POLLIN, 0}};
    if (poll(waits, 2, static_cast<int>(time.count())) > 0 && waits[1].revents != 0)
        connection_->take_notifications();
}

void Listener::run() {
    auto backoff = std::chrono::milliseconds(backoff_min);
    while (!is_stopping()) {
        try {
            if (connection_ == nullptr) connect();
            read();
            prune();
            backoff = backoff_min;
            wait(options_.poll_interval);
        } catch (const DbError& e) {
            LOG_WARN("lost the connection for change notices", {"error", e.what()});
            if (connection_ != nullptr) reconnects_.add();
            connection_.reset();
            wait(backoff);
            backoff = std::min<std::chrono::milliseconds>(backoff * 2, backoff_max);
        }
    }
}

}  // namespace nebula::store::detail

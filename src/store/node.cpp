#include "store/node.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/crypto.hpp"
#include "base/log.hpp"

namespace nebula::store {

void NodeSettings::describe(settings::Visitor& v) {
    v.field({.name = "lease_ms",
             .help = "Milliseconds without a sign of life after which other nodes of the same PostgreSQL "
                     "database take over what a node held.",
             .min = 1'000,
             .max = 3'600'000},
            lease);
    v.field({.name = "renew_interval_ms",
             .help = "Milliseconds between a node's signs of life; at most a third of the lease.",
             .min = 100,
             .max = 1'200'000},
            renew_interval);
}

namespace {

constexpr unsigned numbers_max = 1024;

// Times are the database's alone. Microseconds.
#define NOW "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"

constexpr Sql sql_lock{"node.lock", "SELECT 1",
                       "SELECT 1 FROM (SELECT pg_advisory_xact_lock(121348097010786)) AS l"};
constexpr Sql sql_numbers{"node.numbers", "SELECT number FROM nodes ORDER BY number"};
constexpr Sql sql_register{"node.register",
                           "INSERT INTO nodes (id, number, started_at, expires_at)"
                           " VALUES ($1, $2, " NOW ", " NOW " + $3)"};
constexpr Sql sql_renew{"node.renew",
                        "UPDATE nodes SET expires_at = " NOW " + $2 WHERE id = $1 AND expires_at > " NOW};
constexpr Sql sql_count{"node.count", "SELECT COUNT(*) FROM nodes WHERE expires_at > " NOW};
constexpr Sql sql_confirm{"node.confirm",
                          "SELECT 1 FROM nodes WHERE id = $1 AND expires_at > " NOW " FOR KEY SHARE"};
// Skips those whose transactions still spend (they hold the row), and those that another node takes over.
constexpr Sql sql_expired{"node.expired", "SELECT id FROM nodes WHERE expires_at <= " NOW
                                          " AND id <> $1 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"};
constexpr Sql sql_own{"node.own", "SELECT id FROM nodes WHERE id = $1 FOR UPDATE"};
constexpr Sql sql_delete{"node.delete", "DELETE FROM nodes WHERE id = $1"};

#undef NOW

std::int64_t random_id() {
    std::uint64_t id = 0;
    random_bytes({reinterpret_cast<unsigned char*>(&id), sizeof id});
    return static_cast<std::int64_t>(id >> 2) | 1;  // positive, never 0
}

/// One process owns the database; nothing to take over.
class AloneNode final : public Node {
   public:
    std::int64_t id() const override { return 0; }
    unsigned number() const override { return 0; }
    bool is_live() const override { return true; }
    bool is_lost() const override { return false; }
    int live_count() const override { return 1; }
    bool is_shared() const override { return false; }
    void on_reclaim(Reclaim) override {}
    bool confirm(Tx&) override { return true; }
};

class LeasedNode final : public Node {
   public:
    LeasedNode(const NodeSettings& settings, Db& db, const Clock& clock, metrics::Registry& metrics);
    ~LeasedNode() override { release(); }

    Result<void> enroll();
    void start_threads() {
        thread_ = std::thread([this] { run(); });
        reclaimer_ = std::thread([this] { run_reclaims(); });
    }

    std::int64_t id() const override { return id_; }
    unsigned number() const override { return number_; }
    bool is_live() const override {
        return clock_.ticks().time_since_epoch().count() < live_until_.load(std::memory_order_acquire);
    }
    bool is_lost() const override { return lost_; }
    int live_count() const override { return live_count_; }
    bool is_shared() const override { return true; }
    void on_reclaim(Reclaim reclaim) override;
    bool confirm(Tx& tx) override {
        return tx.one(sql_confirm, {id_}, [](const Row&) {});
    }
    bool renew() override;
    int reclaim() override;
    void release() override;

   private:
    void run();
    /// Taking over waits for locks that the dead node's connection may still hold: never on the thread that
    /// renews, or a healthy node could lose its own lease over it.
    void run_reclaims();
    /// What may be used of a lease that was asked for at `asked`.
    void extend(Ticks asked);
    void lose();
    bool may_reclaim();
    /// The node that was taken over, 0 when there was none.
    Result<std::int64_t> reclaim_one(Tx& tx, const Sql& which);
    bool wait(std::chrono::milliseconds time);  // false: stopping

    const NodeSettings settings_;
    Db& db_;
    const Clock& clock_;
    metrics::Gauge& live_gauge_;
    metrics::Gauge& count_gauge_;
    metrics::Counter& renew_failures_;
    metrics::Counter& reclaimed_;

    std::int64_t id_ = random_id();
    unsigned number_ = 0;
    std::atomic<Ticks::rep> live_until_{0};
    std::atomic<bool> lost_{false};
    std::atomic<int> live_count_{1};

    std::mutex renew_mutex_;  // one renewal at a time, so that the deadline never goes back

    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<Reclaim> reclaims_;
    Ticks registered_at_{};
    bool stopping_ = false;
    bool released_ = false;
    std::thread thread_;
    std::thread reclaimer_;
};

LeasedNode::LeasedNode(const NodeSettings& settings, Db& db, const Clock& clock, metrics::Registry& metrics)
    : settings_(settings),
      db_(db),
      clock_(clock),
      live_gauge_(metrics.gauge("nebula_node_live", "1 while this node holds its lease.")),
      count_gauge_(metrics.gauge("nebula_nodes", "Live nodes that share the database, this one included.")),
      renew_failures_(metrics.counter("nebula_node_renew_failures_total",
                                      "Renewals of the node's lease that the database did not answer.")),
      reclaimed_(
          metrics.counter("nebula_node_reclaimed_total", "Dead nodes whose slices this node returned.")) {}

Result<void> LeasedNode::enroll() {
    Ticks asked = clock_.ticks();
    auto work = [this](Tx& tx) -> Result<unsigned> {
        tx.one(sql_lock, {}, [](const Row&) {});
        unsigned free = 0;
        tx.query(sql_numbers, {}, [&](const Row& row) {
            if (row.i64(0) == static_cast<std::int64_t>(free)) ++free;
        });
        if (free >= numbers_max)
            return fail(Code::overloaded, "1024 nodes share this database already", "node");
        std::int64_t lease_us = std::chrono::microseconds(settings_.lease).count();
        tx.exec(sql_register, {id_, std::int64_t{free}, lease_us});
        return free;
    };
    auto number = db_.in_tx_blocking(work);
    if (!number) return fail(std::move(number.error()));
    number_ = *number;
    extend(asked);
    registered_at_ = asked;
    LOG_INFO("node registered", {"node", id_}, {"number", static_cast<std::int64_t>(number_)});
    return {};
}

void LeasedNode::extend(Ticks asked) {
    // Others compare the time at which the database carried it out, which is later than `asked`. The tenth
    // covers clocks that run at different speeds and the time between a look at is_live() and the deed.
    Ticks until = asked + settings_.lease * 9 / 10;
    live_until_.store(until.time_since_epoch().count(), std::memory_order_release);
    live_gauge_.set(is_live() ? 1 : 0);
}

void LeasedNode::lose() {
    live_until_.store(0, std::memory_order_release);
    live_gauge_.set(0);
    if (lost_.exchange(true)) return;
    LOG_ERROR("this node lost its lease; another one has taken over what it held", {"node", id_});
}

void LeasedNode::on_reclaim(Reclaim reclaim) {
    std::lock_guard lock(mutex_);
    reclaims_.push_back(std::move(reclaim));
    registered_at_ = clock_.ticks();
}

bool LeasedNode::renew() {
    std::lock_guard one_at_a_time(renew_mutex_);
    {
        std::lock_guard lock(mutex_);
        if (released_) return false;
    }
    if (lost_) return false;
    Ticks asked = clock_.ticks();
    std::int64_t count = 1;
    auto work = [&](Tx& tx) -> Result<bool> {
        std::int64_t lease_us = std::chrono::microseconds(settings_.lease).count();
        if (tx.exec(sql_renew, {id_, lease_us}) == 0) return false;
        tx.one(sql_count, {}, [&](const Row& row) { count = row.i64(0); });
        return true;
    };
    try {
        auto renewed = db_.in_tx_blocking(work);
        if (!renewed) {
            renew_failures_.add();
        } else if (!*renewed) {
            lose();
        } else {
            live_count_ = static_cast<int>(std::max<std::int64_t>(1, count));
            count_gauge_.set(count);
            extend(asked);
        }
    } catch (const DbError& e) {
        renew_failures_.add();
        LOG_WARN("cannot renew the lease of this node", {"error", e.what()});
    }
    live_gauge_.set(is_live() ? 1 : 0);
    return is_live();
}

Result<std::int64_t> LeasedNode::reclaim_one(Tx& tx, const Sql& which) {
    std::int64_t dead = 0;
    if (!tx.one(which, {id_}, [&](const Row& row) { dead = row.i64(0); })) return 0;
    std::vector<Reclaim> reclaims;
    {
        std::lock_guard lock(mutex_);
        reclaims = reclaims_;
    }
    for (const Reclaim& reclaim : reclaims) reclaim(tx, dead);
    tx.exec(sql_delete, {dead});
    return dead;
}

int LeasedNode::reclaim() {
    int count = 0;
    while (true) {
        try {
            auto dead = db_.in_tx_blocking([this](Tx& tx) { return reclaim_one(tx, sql_expired); });
            if (!dead || *dead == 0) return count;
            ++count;
            reclaimed_.add();
            LOG_WARN("took over what a dead node held", {"node", *dead});
        } catch (const std::exception& e) {
            LOG_ERROR("cannot take over a dead node", {"error", e.what()});
            return count;
        }
    }
}

bool LeasedNode::may_reclaim() {
    std::lock_guard lock(mutex_);
    return !reclaims_.empty() && clock_.ticks() - registered_at_ >= settings_.lease;
}

bool LeasedNode::wait(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return !wake_.wait_for(lock, time, [this] { return stopping_; });
}

void LeasedNode::run() {
    // After a failure sooner: the lease runs.
    auto pause = settings_.renew_interval;
    while (wait(pause)) {
        pause = renew() ? settings_.renew_interval : settings_.renew_interval / 4;
        if (lost_) return;
    }
}

void LeasedNode::run_reclaims() {
    while (wait(settings_.renew_interval)) {
        if (lost_) return;
        if (is_live() && may_reclaim()) reclaim();
    }
}

void LeasedNode::release() {
    {
        std::lock_guard lock(mutex_);
        if (released_) return;
        stopping_ = true;
        wake_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
    if (reclaimer_.joinable()) reclaimer_.join();
    {
        std::lock_guard renewing(renew_mutex_);
        std::lock_guard lock(mutex_);
        released_ = true;
    }
    live_until_.store(0, std::memory_order_release);
    live_gauge_.set(0);
    if (lost_) return;
    try {
        (void)db_.in_tx_blocking([this](Tx& tx) { return reclaim_one(tx, sql_own); });
    } catch (const std::exception& e) {
        LOG_WARN("cannot give the lease of this node back; it expires", {"error", e.what()});
    }
}

}  // namespace

Result<std::unique_ptr<Node>> Node::start(const NodeSettings& settings, Db& db, const Clock& clock,
                                          metrics::Registry& metrics) {
    if (db.engine() == Engine::sqlite) return std::make_unique<AloneNode>();
    if (settings.renew_interval * 3 > settings.lease)
        return fail(Code::invalid_request, "renew_interval_ms must be at most a third of lease_ms",
                    "node.renew_interval_ms");
    auto node = std::make_unique<LeasedNode>(settings, db, clock, metrics);
    try {
        if (auto enrolled = node->enroll(); !enrolled) return fail(std::move(enrolled.error()));
    } catch (const DbError& e) {
        return fail(Code::internal, "this process cannot register with the database", "node", e.what());
    }
    node->start_threads();
    return node;
}

}  // namespace nebula::store

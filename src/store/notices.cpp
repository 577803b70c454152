#include "store/notices.hpp"

#include "base/check.hpp"
#include "store/listener.hpp"

namespace nebula::store {
namespace {

constexpr std::size_t payload_max = 200;

// The notification itself is empty, so that many in one transaction are one; who hears it reads the table.
constexpr Sql sql_publish{"changes.publish", "SELECT 1",
                          "WITH made AS (INSERT INTO changes (topic, payload, created_at) VALUES ($1, $2,"
                          " CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)) RETURNING id)"
                          " SELECT 1 FROM (SELECT pg_notify('nebula', '') FROM made) AS sent"};

}  // namespace

class Notices::Impl {
   public:
    Impl(Db& db, const StoreSettings& settings, metrics::Registry& metrics, detail::ListenerOptions options)
        : engine_(db.engine()),
          settings_(settings),
          options_(options),
          metrics_(metrics),
          subscriptions_(std::make_shared<detail::Subscriptions>(metrics)),
          published_(
              metrics.counter("nebula_store_notices_published_total",
                              "Change notices that this process published, those rolled back included.")) {}

    void start() {
        if (engine_ == Engine::postgres && listener_ == nullptr)
            listener_ = std::make_unique<detail::Listener>(settings_, options_, metrics_, subscriptions_);
    }
    void stop() {
        listener_.reset();
        subscriptions_->close();
    }
    void publish(Tx& tx, std::string_view topic, std::string_view payload) {
        CHECK(payload.size() <= payload_max, "a notice says what changed, not what it is now");
        published_.add();
        if (tx.engine() == Engine::postgres) {
            tx.one(sql_publish, {topic, payload}, [](const Row&) {});
            return;
        }
        tx.after_commit([to = subscriptions_, topic = std::string(topic), payload = std::string(payload)] {
            to->deliver(topic, payload);
        });
    }
    detail::Subscriptions& subscriptions() { return *subscriptions_; }

   private:
    const Engine engine_;
    const StoreSettings settings_;
    const detail::ListenerOptions options_;
    metrics::Registry& metrics_;
    // Shared with transactions that have not ended.
    std::shared_ptr<detail::Subscriptions> subscriptions_;
    metrics::Counter& published_;
    std::unique_ptr<detail::Listener> listener_;
};

Notices::Notices(Db& db, const StoreSettings& settings, metrics::Registry& metrics,
                 std::chrono::milliseconds poll_interval, std::chrono::milliseconds keep)
    : impl_(std::make_unique<Impl>(db, settings, metrics, detail::ListenerOptions{poll_interval, keep})) {}
Notices::~Notices() { stop(); }

void Notices::start() { impl_->start(); }
void Notices::stop() { impl_->stop(); }
void Notices::publish(Tx& tx, std::string_view topic, std::string_view payload) {
    impl_->publish(tx, topic, payload);
}
void Notices::subscribe(std::string topic, std::function<void(std::string_view)> callback) {
    impl_->subscriptions().add(std::move(topic), std::move(callback));
}
void Notices::on_gap(std::function<void()> callback) { impl_->subscriptions().add_gap(std::move(callback)); }

}  // namespace nebula::store

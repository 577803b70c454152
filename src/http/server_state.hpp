#pragma once
// What the connections of one server share. Private to http's server half.
//   ServerState   one per server, all threads: settings, router, bounds, counters.
//   ServerThread  one per server and I/O thread, used on that thread only: sessions, spare exchanges, date,
//   gone watch.

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "async/deadline.hpp"
#include "async/io_thread.hpp"
#include "async/task_group.hpp"
#include "base/metrics.hpp"
#include "http/connection.hpp"
#include "http/http.hpp"
#include "http/server_gone.hpp"

namespace nebula::http {

class HttpExchange;
class Session;

struct ServerMetrics {
    ServerMetrics(const std::string& listener, metrics::Registry& registry);

    metrics::Gauge& connections;
    std::array<metrics::Counter*, 6> requests;  // by the first digit of the status; 0 = never answered
    metrics::Counter& body_bytes;
    metrics::Counter& body_copied_bytes;
    metrics::Counter& refused_connections;
    metrics::Counter& refused_malformed;
    metrics::Counter& refused_head_size;
    metrics::Counter& refused_body_size;
    metrics::Counter& refused_memory;
    metrics::Counter& accept_failures;
    metrics::Counter& timeout_head;
    metrics::Counter& timeout_body;
    metrics::Counter& timeout_idle;
    metrics::Counter& timeout_write;
    metrics::Counter& clients_gone;
};

struct ServerState {
    ServerState(std::string server_name, const HttpSettings& http_settings, const Router& route_table,
                const Clock& time, metrics::Registry& registry);

    std::string name;
    const HttpSettings& settings;
    const Router& router;
    const Clock& clock;
    ServerMetrics counted;
    SslContext tls;
    std::atomic<bool> draining{false};
    std::atomic<std::int64_t> connections{0};
    // Shared with the metric that shows it, which may be scraped after the server has gone.
    std::shared_ptr<std::atomic<std::int64_t>> buffered_bytes;
    TaskGroup sessions{"http"};
    // Counted up on a request's arrival; wait_drained() sums them. Each thread writes its own.
    struct alignas(64) Running {
        std::atomic<std::int64_t> requests{0};
    };
    std::vector<Running> running;
    std::mutex drained_mutex;
    std::condition_variable drained;  // a request ended while draining

    std::int64_t running_requests() const;

    /// False when all bodies together would exceed the bound.
    bool reserve_bytes(std::size_t bytes);
    void release_bytes(std::size_t bytes);
};

class ServerThread {
   public:
    ServerThread(ServerState& shared, IoThread& io);
    ~ServerThread();

    ServerState& state;
    IoThread& thread;
    GoneWatch gone;

    Ticks now() const { return thread.clock().ticks(); }
    /// "date: Sat, 21 Nov 2026 04:05:06 GMT\r\n", made once a second.
    std::string_view date_line(Ticks now);

    /// An exchange with a read buffer; spare ones are reused.
    std::unique_ptr<HttpExchange> take_exchange();
    void give_exchange(std::unique_ptr<HttpExchange> exchange);

    void add(Session& session);
    void remove(Session& session);
    void close_idle();  // connections without a request
    void cancel_all();  // and tells running handlers that their client has gone

    void begin_request() { running_.fetch_add(1, std::memory_order_relaxed); }
    void end_request();

   private:
    std::atomic<std::int64_t>& running_;
    std::string date_;
    Ticks date_until_{};
    std::vector<std::unique_ptr<HttpExchange>> spare_;
    Session* first_ = nullptr;
};

}  // namespace nebula::http

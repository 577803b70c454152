#include "http/server_state.hpp"

#include <cstdio>
#include <ctime>

#include "http/exchange.hpp"
#include "http/server_session.hpp"

namespace nebula::http {
namespace {

constexpr std::size_t spare_exchanges_max = 128;

metrics::Counter& refused(metrics::Registry& registry, const std::string& listener, const char* reason) {
    return registry.counter("nebula_http_refused_total",
                            "Connections and requests refused before a handler took them.",
                            {{"listener", listener}, {"reason", reason}});
}

metrics::Counter& timeout(metrics::Registry& registry, const std::string& listener, const char* phase) {
    return registry.counter("nebula_http_timeouts_total", "Client connections given up for slowness.",
                            {{"listener", listener}, {"phase", phase}});
}

metrics::Counter& answered(metrics::Registry& registry, const std::string& listener, const char* status) {
    return registry.counter("nebula_http_requests_total", "Answers begun, by class of their status.",
                            {{"listener", listener}, {"status", status}});
}

}  // namespace

ServerMetrics::ServerMetrics(const std::string& listener, metrics::Registry& r)
    : connections(r.gauge("nebula_http_connections", "Open client connections.", {{"listener", listener}})),
      requests{&answered(r, listener, "none"), &answered(r, listener, "1xx"), &answered(r, listener, "2xx"),
               &answered(r, listener, "3xx"),  &answered(r, listener, "4xx"), &answered(r, listener, "5xx")},
      body_bytes(r.counter("nebula_http_body_bytes_total", "Request bodies read.", {{"listener", listener}})),
      body_copied_bytes(
          r.counter("nebula_http_body_copied_bytes_total",
                    "Of request bodies, copied within the server; what a growing buffer may have "
                    "moved counts as copied.",
                    {{"listener", listener}})),
      refused_connections(refused(r, listener, "connections")),
      refused_malformed(refused(r, listener, "malformed")),
      refused_head_size(refused(r, listener, "head_size")),
      refused_body_size(refused(r, listener, "body_size")),
      refused_memory(refused(r, listener, "memory")),
      accept_failures(refused(r, listener, "accept_failed")),
      timeout_head(timeout(r, listener, "head")),
      timeout_body(timeout(r, listener, "body")),
      timeout_idle(timeout(r, listener, "idle")),
      timeout_write(timeout(r, listener, "write")),
      clients_gone(r.counter("nebula_http_clients_gone_total",
                             "Clients that left while a handler was waiting.", {{"listener", listener}})) {}

ServerState::ServerState(std::string server_name, const HttpSettings& http_settings,
                         const Router& route_table, const Clock& time, metrics::Registry& registry)
    : name(std::move(server_name)),
      settings(http_settings),
      router(route_table),
      clock(time),
      counted(name, registry),
      buffered_bytes(std::make_shared<std::atomic<std::int64_t>>(0)) {
    registry.gauge_callback("nebula_http_buffered_bytes", "Request bodies in memory.",
                            [bytes = buffered_bytes] { return bytes->load(std::memory_order_relaxed); },
                            {{"listener", name}});
    registry
        .gauge("nebula_http_buffered_bytes_max", "Bound of nebula_http_buffered_bytes.", {{"listener", name}})
        .set(settings.buffered_bytes_max);
}

bool ServerState::reserve_bytes(std::size_t bytes) {
    auto more = static_cast<std::int64_t>(bytes);
    if (buffered_bytes->fetch_add(more, std::memory_order_relaxed) + more <= settings.buffered_bytes_max)
        return true;
    buffered_bytes->fetch_sub(more, std::memory_order_relaxed);
    return false;
}

void ServerState::release_bytes(std::size_t bytes) {
    buffered_bytes->fetch_sub(static_cast<std::int64_t>(bytes), std::memory_order_relaxed);
}

std::int64_t ServerState::running_requests() const {
    std::int64_t sum = 0;
    for (const Running& one : running) sum += one.requests.load();
    return sum;
}

ServerThread::ServerThread(ServerState& shared, IoThread& io)
    : state(shared), thread(io), gone(io), running_(shared.running[io.index()].requests) {}

ServerThread::~ServerThread() = default;

std::string_view ServerThread::date_line(Ticks now) {
    if (now < date_until_ && !date_.empty()) return date_;
    Time wall = thread.clock().now();
    auto second = std::chrono::floor<std::chrono::seconds>(wall);
    date_until_ =
        now + std::chrono::seconds(1) - std::chrono::duration_cast<std::chrono::nanoseconds>(wall - second);
    auto seconds = static_cast<std::time_t>(second.time_since_epoch().count());
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    char text[64];
    std::snprintf(text, sizeof text, "date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", days[parts.tm_wday],
                  parts.tm_mday, months[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min,
                  parts.tm_sec);
    date_ = text;
    return date_;
}

std::unique_ptr<HttpExchange> ServerThread::take_exchange() {
    if (spare_.empty()) return std::make_unique<HttpExchange>(*this);
    auto exchange = std::move(spare_.back());
    spare_.pop_back();
    return exchange;
}

void ServerThread::give_exchange(std::unique_ptr<HttpExchange> exchange) {
    if (spare_.size() < spare_exchanges_max) spare_.push_back(std::move(exchange));
}

void ServerThread::add(Session& session) {
    session.next_ = first_;
    if (first_ != nullptr) first_->previous_ = &session;
    first_ = &session;
}

void ServerThread::remove(Session& session) {
    if (session.previous_ != nullptr)
        session.previous_->next_ = session.next_;
    else
        first_ = session.next_;
    if (session.next_ != nullptr) session.next_->previous_ = session.previous_;
}

// Waiters are resumed later from the loop, so the list stands still here.
void ServerThread::close_idle() {
    for (Session* session = first_; session != nullptr; session = session->next_)
        if (session->is_idle()) session->connection_->cancel();
}

void ServerThread::cancel_all() {
    for (Session* session = first_; session != nullptr; session = session->next_) session->cut();
    gone.look_at_all();
}

void ServerThread::end_request() {
    running_.fetch_sub(1);
    if (state.draining.load()) {
        std::lock_guard lock(state.drained_mutex);
        state.drained.notify_all();
    }
}

}  // namespace nebula::http

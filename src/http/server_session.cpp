#include "http/server_session.hpp"

#include <sys/socket.h>

#include "base/log.hpp"

namespace nebula::http {
namespace {

constexpr std::chrono::seconds linger_time{2};
constexpr std::size_t linger_bytes_max = 256 * 1024;

struct Refusal {
    Error error;
    int status = 0;  // 0 = as the dialect has it
};

// A request that could not be read.
Refusal refusal_of(Parse why, const char* problem) {
    std::string text = problem != nullptr ? problem : "";
    switch (why) {
        case Parse::too_large:
            return {{Code::headers_too_large, "the request's headers are too large"}, 431};
        case Parse::bad_version:
            return {{Code::invalid_request, "only HTTP/1.1 and HTTP/1.0 are served"}, 505};
        case Parse::unknown_method:
            return {{Code::invalid_request, "this method is not implemented"}, 501};
        case Parse::bad:
        case Parse::complete:
        case Parse::incomplete:
            break;
    }
    return {{Code::invalid_request, "malformed request: " + text}, 400};
}

}  // namespace

Session::Session(ServerThread& server, int fd, std::string remote_ip)
    : server_(server), connection_(Connection::adopt(server.thread, fd)), remote_ip_(std::move(remote_ip)) {
    server_.add(*this);
}

Session::~Session() {
    release_exchange();
    server_.remove(*this);
}

void Session::release_exchange() {
    if (!exchange_) return;
    exchange_->detach();
    server_.give_exchange(std::move(exchange_));
}

void Session::cut() {
    connection_->cancel();
    ::shutdown(connection_->fd(), SHUT_RDWR);  // a handler that watches sees its client gone
}

Async<Io> Session::handshake() {
    if (!server_.state.tls) co_return Io::ok;
    connection_->set_deadline(server_.now() + server_.state.settings.head_timeout);
    Io done = co_await connection_->tls_accept(server_.state.tls.get());
    if (done == Io::timed_out) server_.state.counted.timeout_head.add();
    co_return done;
}

Io Session::read_input() {
    if (!exchange_) {
        exchange_ = server_.take_exchange();
        exchange_->attach(*connection_, remote_ip_);
    }
    Io status = exchange_->read_input();
    if (!exchange_->has_input()) release_exchange();
    return status;
}

// Bytes that dribble in do not buy time: the deadline stands from the head's first byte.
void Session::arm_deadline() {
    const HttpSettings& settings = server_.state.settings;
    if (exchange_ == nullptr) {
        connection_->set_deadline(server_.now() + settings.idle_timeout);
        head_deadline_ = false;
    } else if (!head_deadline_) {
        connection_->set_deadline(server_.now() + settings.head_timeout);
        head_deadline_ = true;
    }
}

Async<void> Session::run() {
    Io ready = co_await handshake();
    bool more = ready == Io::ok;
    while (more) {
        // Input of a pipelined request may be here already.
        Parse parsed = exchange_ ? exchange_->parse() : Parse::incomplete;
        Io io = Io::ok;
        head_deadline_ = false;
        if (parsed == Parse::incomplete) {
            if (!exchange_ && server_.state.draining.load(std::memory_order_relaxed)) break;
            arm_deadline();
        }
        while (parsed == Parse::incomplete) {
            io = co_await connection_->readable();
            if (io != Io::ok) break;
            io = read_input();
            if (io == Io::would_block) continue;
            if (io != Io::ok) break;
            parsed = exchange_->parse();
            if (parsed == Parse::incomplete) arm_deadline();
        }
        if (io != Io::ok && io != Io::would_block) {
            co_await end_of_input(io);
            break;
        }
        if (parsed != Parse::complete) {
            co_await refuse(parsed);
            break;
        }
        more = co_await serve_request();
        if (!more) {
            co_await linger();
            break;
        }
        exchange_->next();
        if (!exchange_->has_input()) release_exchange();
    }
}

Async<void> Session::end_of_input(Io why) {
    ServerMetrics& counted = server_.state.counted;
    if (why == Io::timed_out && exchange_ == nullptr) counted.timeout_idle.add();
    if (why != Io::timed_out || exchange_ == nullptr) co_return;
    counted.timeout_head.add();
    Error error{Code::timeout, "the request's head did not arrive in time"};
    Result<void> sent = co_await exchange_->refuse(std::move(error), 408, server_.now());
    if (sent) co_await linger();
}

Async<void> Session::refuse(Parse why) {
    ServerMetrics& counted = server_.state.counted;
    (why == Parse::too_large ? counted.refused_head_size : counted.refused_malformed).add();
    Refusal refusal = refusal_of(why, exchange_->problem());
    Result<void> sent = co_await exchange_->refuse(std::move(refusal.error), refusal.status, server_.now());
    if (sent) co_await linger();
}

Async<void> Session::turn_away() {
    exchange_ = server_.take_exchange();
    exchange_->attach(*connection_, remote_ip_);
    Error error{Code::overloaded, "too many connections, try again"};
    error.retry_after_ms = 1000;
    Result<void> sent = co_await exchange_->refuse(std::move(error), 503, server_.now());
    if (sent) co_await linger();
}

// True: another request may follow on this connection.
Async<bool> Session::serve_request() {
    exchange_->begin(server_.now());
    struct Counted {
        ServerThread& server;
        explicit Counted(ServerThread& thread) : server(thread) { server.begin_request(); }
        ~Counted() { server.end_request(); }
    } counted(server_);
    bool well = true;
    if (exchange_->match().handler != nullptr) {
        well = co_await run_handler();
    } else {
        Result<void> sent = co_await exchange_->answer_unmatched();
        well = sent.has_value();
    }
    bool again = co_await exchange_->finish();
    co_return well&& again;
}

Async<bool> Session::run_handler() {
    std::string failure;
    try {
        co_await (*exchange_->match().handler)(*exchange_);
        co_return true;
    } catch (const std::exception& e) {
        failure = e.what();
    } catch (...) {
        failure = "not a std::exception";
    }
    LOG_ERROR("request handler threw", {"request_id", exchange_->id().text()}, {"what", failure});
    if (exchange_->has_begun()) {
        exchange_->abort("");
        co_return false;
    }
    Error error{Code::internal, "internal error"};
    Result<void> sent = co_await exchange_->respond_error(std::move(error));
    co_return sent.has_value();
}

// Closing with unread input would reset the connection and could take our last words from the client: say
// that we are done, read over what comes, for a bounded time, and close then.
Async<void> Session::linger() {
    if (!exchange_ || exchange_->broken() || exchange_->is_gone()) co_return;
    connection_->shutdown_write();
    connection_->set_deadline(server_.now() + linger_time);
    std::size_t read = 0;
    while (read < linger_bytes_max) {
        ReadResult got = connection_->try_read(exchange_->scratch());
        if (got.status == Io::would_block) {
            Io ready = co_await connection_->readable();
            if (ready != Io::ok) co_return;
        } else if (got.status != Io::ok) {
            co_return;
        }
        read += got.bytes;
    }
}

Async<void> serve_connection(ServerThread* server, int fd, std::string remote_ip, bool accepted) {
    ServerState& state = server->state;
    {
        Session session(*server, fd, std::move(remote_ip));
        if (accepted)
            co_await session.run();
        else if (!state.tls)
            co_await session.turn_away();
    }
    state.connections.fetch_sub(1, std::memory_order_relaxed);
    state.counted.connections.add(-1);
}

}  // namespace nebula::http

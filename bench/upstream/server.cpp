#include "upstream/server.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include <sys/epoll.h>
#include <sys/socket.h>

namespace nebula::bench {
namespace {

constexpr std::uint64_t listener_tag = ~std::uint64_t{0};
// A peer that stops reading must not make us buffer its stream for ever.
constexpr std::size_t unsent_bytes_max = 1 << 20;

std::string with_head(int status, std::string_view body) {
    std::string text = "HTTP/1.1 " + std::to_string(status) + (status == 200 ? " OK" : " Not Found");
    text += "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size());
    text += "\r\nx-request-id: req_bench\r\n\r\n";
    return text.append(body);
}

std::string as_chunk(std::string_view bytes) {
    char size[24];
    int digits = std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
    std::string text(size, static_cast<std::size_t>(digits));
    return text.append(bytes).append("\r\n");
}

}  // namespace

UpstreamServer::UpstreamServer(UpstreamOptions options)
    : options_(options),
      listener_(listen_loopback(options.port)),
      epoll_(make_epoll()),
      random_(options.seed) {
    port_ = local_port(listener_.get());
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = listener_tag;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), &event) != 0) throw_errno("epoll_ctl");
}

void UpstreamServer::run() {
    std::array<epoll_event, 256> events{};
    while (!stop_requested()) {
        // Bounded, because a signal may come between the test above and the wait.
        std::int64_t timeout = 500'000'000;
        if (!timers_.empty()) timeout = std::clamp<std::int64_t>(timers_.top().due_ns - now_ns(), 0, timeout);
        int count = wait_events(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
        for (int i = 0; i < count; ++i) {
            const epoll_event& event = events[static_cast<std::size_t>(i)];
            if (event.data.u64 == listener_tag) {
                accept_all();
            } else if (Connection* connection = connections_[event.data.u64].get()) {
                serve(*connection, (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
            }
        }
        dropped_.clear();
        for (std::int64_t now = now_ns(); !timers_.empty() && timers_.top().due_ns <= now;) {
            Timer timer = timers_.top();
            timers_.pop();
            fire(timer);
        }
        dropped_.clear();
    }
}

void UpstreamServer::accept_all() {
    // Bounded, so that a flood of connections does not starve the streams.
    for (int i = 0; i < 64; ++i) {
        Fd fd = accept_one(listener_.get());
        if (!fd) return;
        auto index = static_cast<std::size_t>(fd.get());
        if (index >= connections_.size()) connections_.resize(index + 1);
        watch(epoll_.get(), fd.get(), index);
        connections_[index] = std::make_unique<Connection>();
        connections_[index]->fd = std::move(fd);
        ++stats_.connections;
    }
}

void UpstreamServer::serve(Connection& connection, bool peer_left) {
    if (!flush(connection)) return;
    std::array<char, 65'536> buffer;
    while (true) {
        ssize_t size = ::recv(connection.fd.get(), buffer.data(), buffer.size(), 0);
        if (size < 0 && errno == EAGAIN) return;
        if (size <= 0) return drop(connection);
        if (!consume(connection, {buffer.data(), static_cast<std::size_t>(size)})) return;
        // A short read has drained the socket, except that the end of the connection may wait behind it.
        if (static_cast<std::size_t>(size) < buffer.size() && !peer_left) return;
    }
}

bool UpstreamServer::consume(Connection& connection, std::string_view bytes) {
    while (!bytes.empty()) {
        if (connection.is_busy) {
            connection.unread.append(bytes);
            return true;
        }
        std::string_view piece;
        bytes.remove_prefix(connection.reader.next(bytes, piece));
        connection.body.append(piece);
        if (connection.reader.state() == MessageReader::State::failed) {
            ++stats_.bad_requests;
            drop(connection);
            return false;
        }
        if (connection.reader.state() == MessageReader::State::done && !answer(connection)) return false;
    }
    return true;
}

bool UpstreamServer::answer(Connection& connection) {
    ++stats_.requests;
    connection.is_busy = true;
    connection.turn = ++turns_;
    connection.close_after = connection.reader.head().closes;
    const MessageHead& head = connection.reader.head();
    if (head.method == "POST" && head.target.ends_with("/chat/completions")) {
        connection.request = read_request(connection.body);
        if (options_.first_byte_delay_ns == 0) return begin_answer(connection);
        arm(connection, now_ns() + options_.first_byte_delay_ns);
        return true;
    }
    std::string text;
    if (head.target == "/stats") {
        text = with_head(200, stats_body());
    } else if (head.target.ends_with("/models")) {
        text =
            with_head(200, R"({"object":"list","data":[{"id":"bench","object":"model","created":1790000000,)"
                           R"("owned_by":"bench"}]})");
    } else {
        ++stats_.bad_requests;
        text = with_head(404, R"({"error":{"message":"no such path","type":"invalid_request_error"}})");
    }
    return send(connection, text) && finish_answer(connection);
}

bool UpstreamServer::begin_answer(Connection& connection) {
    if (connection.request.is_streaming) return begin_stream(connection);
    static const std::string completion = with_head(200, completion_body());
    ++stats_.completions;
    return send(connection, completion) && finish_answer(connection);
}

bool UpstreamServer::begin_stream(Connection& connection) {
    static const std::string opening =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        "Transfer-Encoding: chunked\r\nx-request-id: req_bench\r\n\r\n" +
        as_chunk(role_event());
    ++stats_.streams_started;
    connection.is_streaming = true;
    connection.next_event = 0;
    if (connection.request.tokens == 0) connection.request.tokens = options_.default_events;
    if (!send(connection, opening)) return false;
    std::int64_t phase = 0;
    if (options_.interval_ns > 0) {
        phase = std::uniform_int_distribution<std::int64_t>(0, options_.interval_ns - 1)(random_);
    }
    arm(connection, now_ns() + phase);
    return true;
}

void UpstreamServer::fire(const Timer& timer) {
    Connection* connection = connections_[static_cast<std::size_t>(timer.fd)].get();
    if (connection == nullptr || connection->turn != timer.turn) return;
    bool is_open = connection->is_streaming ? continue_stream(*connection, timer) : begin_answer(*connection);
    // The next request may already have arrived; it waits in `unread` while an answer is under way.
    if (is_open && !connection->is_busy && !connection->unread.empty()) {
        std::string unread = std::exchange(connection->unread, {});
        consume(*connection, unread);
    }
}

bool UpstreamServer::continue_stream(Connection& connection, const Timer& timer) {
    std::int64_t now = now_ns();
    if (connection.out.size() > unsent_bytes_max) {
        arm(connection, now + std::max<std::int64_t>(options_.interval_ns, 1'000'000));
        return true;
    }
    if (options_.interval_ns > 0 && now - timer.due_ns > options_.interval_ns) ++stats_.late_frames;
    if (connection.next_event < connection.request.tokens) {
        if (!send(connection, as_chunk(content_event(connection.next_event, now_ns())))) return false;
        ++connection.next_event;
        ++stats_.frames;
        // On the grid of the first event, so that a late one does not shift all that follow.
        std::int64_t due = timer.due_ns + options_.interval_ns;
        arm(connection, std::max(due, now - 4 * options_.interval_ns));
        return true;
    }
    std::string end = as_chunk(finish_event());
    if (connection.request.wants_usage) end += as_chunk(usage_event(connection.request.tokens));
    end += as_chunk(done_event());
    end += "0\r\n\r\n";
    ++stats_.streams_finished;
    connection.is_streaming = false;
    return send(connection, end) && finish_answer(connection);
}

bool UpstreamServer::finish_answer(Connection& connection) {
    connection.is_busy = false;
    connection.is_streaming = false;
    connection.reader.reset();
    connection.body.clear();
    if (!connection.close_after) return true;
    if (!connection.out.empty()) return true;  // flush() closes it
    drop(connection);
    return false;
}

bool UpstreamServer::send(Connection& connection, std::string_view bytes) {
    if (!connection.out.empty()) {
        connection.out.append(bytes);
        return true;
    }
    ssize_t sent = ::send(connection.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        drop(connection);
        return false;
    }
    auto done = static_cast<std::size_t>(std::max<ssize_t>(sent, 0));
    if (done < bytes.size()) connection.out.assign(bytes.substr(done));
    return true;
}

bool UpstreamServer::flush(Connection& connection) {
    if (connection.out.empty()) return true;
    std::string waiting = std::exchange(connection.out, {});
    if (!send(connection, waiting)) return false;
    if (!connection.out.empty() || !connection.close_after || connection.is_busy) return true;
    drop(connection);
    return false;
}

void UpstreamServer::drop(Connection& connection) {
    if (connection.is_streaming) ++stats_.streams_abandoned;
    auto index = static_cast<std::size_t>(connection.fd.get());
    dropped_.push_back(std::move(connections_[index]));
    connection.fd.reset();
}

void UpstreamServer::arm(Connection& connection, std::int64_t due_ns) {
    timers_.push({due_ns, connection.fd.get(), connection.turn});
}

std::string UpstreamServer::stats_body() const {
    std::string text = "{";
    auto add = [&text](std::string_view name, std::uint64_t value) {
        if (text.size() > 1) text += ',';
        text.append("\"").append(name).append("\":").append(std::to_string(value));
    };
    add("connections", stats_.connections);
    add("requests", stats_.requests);
    add("completions", stats_.completions);
    add("streams_started", stats_.streams_started);
    add("streams_finished", stats_.streams_finished);
    add("streams_abandoned", stats_.streams_abandoned);
    add("frames", stats_.frames);
    add("late_frames", stats_.late_frames);
    add("bad_requests", stats_.bad_requests);
    return text + "}";
}

}  // namespace nebula::bench

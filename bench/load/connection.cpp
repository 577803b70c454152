#include "load/connection.hpp"

#include <array>
#include <cerrno>

#include <sys/socket.h>

namespace nebula::bench {

bool ClientConnection::open(int epoll, std::uint16_t port, std::uint64_t tag) {
    fd_ = connect_loopback(port);
    has_connected_ = false;
    in_flight_ = false;
    if (!fd_) return false;
    watch(epoll, fd_.get(), tag);
    return true;
}

void ClientConnection::close() {
    fd_.reset();
    in_flight_ = false;
}

Progress ClientConnection::start(const Plan& plan, Results& results) {
    plan_ = plan;
    in_flight_ = true;
    is_altered_ = false;
    sent_ = 0;
    body_bytes_ = 0;
    first_event_ns_ = 0;
    reader_.reset();
    if (plan.shape->is_streaming) stream_.start(*plan.shape);
    Progress progress = send_rest();
    if (progress == Progress::aborted && results.is_measuring) ++results.aborted;
    return progress;
}

Progress ClientConnection::send_rest() {
    while (sent_ < plan_.request.size()) {
        std::string_view rest = plan_.request.substr(sent_);
        ssize_t size = ::send(fd_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
        // A socket that is still connecting says EAGAIN too; both are continued when it becomes writable.
        if (size < 0 && errno == EAGAIN) return Progress::waiting;
        if (size < 0) return fail(has_connected_ ? "reset" : "connect");
        has_connected_ = true;
        sent_ += static_cast<std::size_t>(size);
    }
    if (!plan_.aborts || plan_.shape->is_streaming) return Progress::waiting;
    close();
    return Progress::aborted;
}

Progress ClientConnection::serve(bool peer_left, Results& results) {
    if (in_flight_ && sent_ < plan_.request.size()) {
        Progress progress = send_rest();
        if (progress == Progress::aborted && results.is_measuring) ++results.aborted;
        if (progress != Progress::waiting) return progress;
    }
    thread_local std::array<char, 65'536> buffer;
    while (true) {
        ssize_t size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
        if (size < 0 && errno == EAGAIN) return Progress::waiting;
        if (size <= 0) {
            if (!in_flight_) {
                close();
                return Progress::left;
            }
            if (size == 0) reader_.end_of_input();
            if (size == 0 && reader_.state() == MessageReader::State::done) return finish(results);
            return fail(has_connected_ ? "reset" : "connect");
        }
        has_connected_ = true;
        Progress progress = take({buffer.data(), static_cast<std::size_t>(size)}, now_ns(), results);
        if (progress == Progress::finished && peer_left) close();
        if (progress != Progress::waiting) return progress;
        // A short read has drained the socket, except that the end of the connection may wait behind it.
        if (static_cast<std::size_t>(size) < buffer.size() && !peer_left) return Progress::waiting;
    }
}

Progress ClientConnection::take(std::string_view bytes, std::int64_t now, Results& results) {
    if (!in_flight_) return fail("malformed");
    while (!bytes.empty()) {
        if (reader_.state() == MessageReader::State::done) return fail("malformed");
        std::string_view piece;
        bytes.remove_prefix(reader_.next(bytes, piece));
        if (reader_.state() == MessageReader::State::failed) return fail("malformed");
        if (!piece.empty()) take_body(piece, now, results);
        if (plan_.aborts && plan_.shape->is_streaming &&
            stream_.content_events() > plan_.abort_after_events) {
            if (results.is_measuring) ++results.aborted;
            close();
            return Progress::aborted;
        }
    }
    return reader_.state() == MessageReader::State::done ? finish(results) : Progress::waiting;
}

void ClientConnection::take_body(std::string_view piece, std::int64_t now, Results& results) {
    if (reader_.head().status != 200) return;
    if (plan_.shape->is_streaming) {
        stream_.feed(piece, now, results);
        if (first_event_ns_ == 0 && stream_.has_begun()) first_event_ns_ = now;
        return;
    }
    const std::string& expected = completion_body();
    if (body_bytes_ > expected.size() || expected.compare(body_bytes_, piece.size(), piece) != 0)
        is_altered_ = true;
    body_bytes_ += piece.size();
}

Progress ClientConnection::finish(Results& results) {
    const MessageHead& head = reader_.head();
    if (head.status != 200) {
        std::string reason = std::to_string(head.status);
        if (!head.closes) {
            failure_ = std::move(reason);
            in_flight_ = false;
            return Progress::failed;
        }
        return fail(std::move(reason));
    }
    in_flight_ = false;
    if (results.is_measuring) {
        if (plan_.shape->is_streaming) {
            if (!stream_.is_complete()) ++results.broken_streams;
        } else if (is_altered_ || body_bytes_ != completion_body().size()) {
            ++results.altered_bodies;
        }
    }
    if (head.closes) close();
    return Progress::finished;
}

Progress ClientConnection::fail(std::string reason) {
    failure_ = std::move(reason);
    close();
    return Progress::failed;
}

}  // namespace nebula::bench

#include "http/connection.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "http/connection_impl.hpp"

namespace nebula::http {
namespace {

constexpr std::size_t pieces_max = 1024;  // the kernel's limit for one sendmsg

Io failure(int problem) { return problem == EAGAIN || problem == EWOULDBLOCK ? Io::would_block : Io::failed; }

}  // namespace

Connection::Impl::Impl(IoThread& on, int descriptor)
    : thread(on),
      poller(Poller::of(on)),
      fd(descriptor),
      deadline(
          on.deadlines(),
          [](void* self) {
              auto& impl = *static_cast<Impl*>(self);
              impl.expired = impl.ended = true;
              if (impl.reader || impl.writer) impl.poller.kick(impl);
          },
          this) {}

Connection::Impl::~Impl() {
    poller.remove(fd, *this);
    if (ssl != nullptr) tls_close();
    if (reset_on_close) {
        linger at_once{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    ::close(fd);
}

bool Connection::Impl::ready(bool for_write) const {
    if (ended) return true;
    if (for_write) return write_ready;
    if (reader_takes_write) return write_ready;
    return read_ready || tls_pending;
}

Io Connection::Impl::wait_status() const {
    if (cancelled) return Io::cancelled;
    return expired ? Io::timed_out : Io::ok;
}

// A read that got less than it asked for has emptied the socket: later bytes bring a new event. Not after the
// peer hung up, since that event has come already and the end is still to be read.
ssize_t Connection::Impl::receive(char* into, std::size_t size) {
    ssize_t got;
    do {
        got = ::recv(fd, into, size, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        read_ready = failure(errno) != Io::would_block;
    else if (got > 0 && static_cast<std::size_t>(got) < size && !hung_up)
        read_ready = false;
    return got;
}

ssize_t Connection::Impl::send(const iovec* pieces, std::size_t count) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(pieces);  // sendmsg does not write to it
    message.msg_iovlen = count;
    ssize_t sent;
    do {
        sent = ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && failure(errno) == Io::would_block) write_ready = false;
    return sent;
}

Connection::Connection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Connection::~Connection() = default;

std::unique_ptr<Connection> Connection::adopt(IoThread& thread, int fd) {
    std::unique_ptr<Connection> made(new Connection(std::make_unique<Impl>(thread, fd)));
    int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // fails on unix sockets, which need none
    // Without a registration nothing would ever wake a waiter up: such a connection ends its first wait.
    if (!made->impl_->poller.add(fd, *made->impl_)) made->cancel();
    return made;
}

std::unique_ptr<Connection> Connection::adopt_connecting(IoThread& thread, int fd) {
    auto made = adopt(thread, fd);
    made->impl_->write_ready = made->impl_->read_ready = false;
    return made;
}

int Connection::connect_error() {
    int problem = 0;
    socklen_t size = sizeof problem;
    if (::getsockopt(impl_->fd, SOL_SOCKET, SO_ERROR, &problem, &size) != 0) return errno;
    return problem;
}

ReadResult Connection::try_read(std::span<char> into) {
    if (impl_->ssl != nullptr) return impl_->tls_read(into);
    if (!impl_->read_ready) return {Io::would_block, 0};
    ssize_t got = impl_->receive(into.data(), into.size());
    if (got > 0) return {Io::ok, static_cast<std::size_t>(got)};
    if (got == 0) return {Io::closed, 0};
    return {failure(errno), 0};
}

WriteResult Connection::try_write(std::span<const iovec> pieces) {
    if (impl_->ssl != nullptr) return impl_->tls_write(pieces);
    if (!impl_->write_ready) return {Io::would_block, 0};
    ssize_t sent = impl_->send(pieces.data(), std::min(pieces.size(), pieces_max));
    if (sent >= 0) return {Io::ok, static_cast<std::size_t>(sent)};
    return {failure(errno), 0};
}

bool Connection::Wait::await_ready() const { return connection.impl_->ready(for_write); }

void Connection::Wait::await_suspend(std::coroutine_handle<> handle) {
    (for_write ? connection.impl_->writer : connection.impl_->reader) = handle;
}

Io Connection::Wait::await_resume() { return connection.impl_->wait_status(); }

Async<Io> Connection::write_all(std::span<const iovec> pieces) {
    constexpr std::size_t window_max = 64;
    std::size_t at = 0;      // first piece not written completely
    std::size_t inside = 0;  // bytes of it that are
    while (true) {
        while (at < pieces.size() && inside >= pieces[at].iov_len) inside -= pieces[at++].iov_len;
        if (at == pieces.size()) co_return Io::ok;
        iovec window[window_max];
        std::size_t count = std::min(pieces.size() - at, window_max);
        std::copy_n(pieces.begin() + static_cast<std::ptrdiff_t>(at), count, window);
        window[0].iov_base = static_cast<char*>(window[0].iov_base) + inside;
        window[0].iov_len -= inside;
        WriteResult wrote = try_write({window, count});
        if (wrote.status == Io::ok) {
            inside += wrote.bytes;
            continue;
        }
        if (wrote.status != Io::would_block) co_return wrote.status;
        Io waited = co_await writable();
        if (waited != Io::ok) co_return waited;
    }
}

void Connection::set_deadline(Ticks at) {
    impl_->expired = false;
    impl_->ended = impl_->cancelled;
    impl_->deadline.arm(at);
}

void Connection::clear_deadline() {
    impl_->expired = false;
    impl_->ended = impl_->cancelled;
    impl_->deadline.disarm();
}

void Connection::cancel() {
    impl_->cancelled = impl_->ended = true;
    if (impl_->reader || impl_->writer) impl_->poller.kick(*impl_);
}

int Connection::fd() const { return impl_->fd; }
IoThread& Connection::thread() { return impl_->thread; }
bool Connection::is_tls() const { return impl_->ssl != nullptr; }
bool Connection::maybe_input() const { return impl_->read_ready || impl_->hung_up || impl_->tls_pending; }

std::string Connection::remote_ip() const {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getpeername(impl_->fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
    char text[INET6_ADDRSTRLEN] = {};
    if (address.ss_family == AF_INET) {
        auto& four = reinterpret_cast<const sockaddr_in&>(address);
        ::inet_ntop(AF_INET, &four.sin_addr, text, sizeof text);
    } else if (address.ss_family == AF_INET6) {
        auto& six = reinterpret_cast<const sockaddr_in6&>(address);
        // An IPv4 client of a dual-stack listener is the same client as on an IPv4 one.
        if (IN6_IS_ADDR_V4MAPPED(&six.sin6_addr))
            ::inet_ntop(AF_INET, six.sin6_addr.s6_addr + 12, text, sizeof text);
        else
            ::inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof text);
    }
    return text;
}

bool Connection::has_pending_input() {
    if (impl_->ssl != nullptr) return impl_->tls_input_pending();
    char byte;
    ssize_t got = ::recv(impl_->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got >= 0 || failure(errno) != Io::would_block;
}

void Connection::shutdown_write() {
    if (impl_->ssl != nullptr && impl_->tls_done && !impl_->tls_write_failed) SSL_shutdown(impl_->ssl);
    ::shutdown(impl_->fd, SHUT_WR);
}

void Connection::reset_on_close() { impl_->reset_on_close = true; }

}  // namespace nebula::http

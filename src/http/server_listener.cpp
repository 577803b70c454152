#include "http/server_listener.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>

#include "base/log.hpp"
#include "base/text.hpp"
#include "http/server_session.hpp"

namespace nebula::http {
namespace asio = boost::asio;
namespace {

constexpr int backlog = 4096;
constexpr int accepts_per_turn = 64;  // then the connections that are there get their turn
// Sessions that only say 503. Above that a connection is closed without a word.
constexpr std::int64_t turned_away_max = 256;

std::unexpected<Error> cannot_listen(const std::string& listen, const std::string& why) {
    return fail(Code::invalid_request, "cannot listen on " + listen + ": " + why, "listen");
}

// IPv4-mapped addresses of a dual-stack socket are shown as the IPv4 addresses they are.
std::string ip_text(const sockaddr_storage& address) {
    char text[INET6_ADDRSTRLEN] = "";
    if (address.ss_family == AF_INET) {
        ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text, sizeof text);
    } else if (address.ss_family == AF_INET6) {
        const auto& six = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(&six))
            ::inet_ntop(AF_INET, six.s6_addr + 12, text, sizeof text);
        else
            ::inet_ntop(AF_INET6, &six, text, sizeof text);
    }
    return text;
}

int open_listener(const addrinfo& address) {
    int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (::bind(fd, address.ai_addr, address.ai_addrlen) == 0 && ::listen(fd, backlog) == 0) return fd;
    int problem = errno;
    ::close(fd);
    errno = problem;
    return -1;
}

// With SO_REUSEPORT alone, a second server of the same user would share the port unnoticed and take half the
// connections. A socket without it gets the address only when nobody listens there.
bool is_free(const addrinfo& address) {
    int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    bool bound = ::bind(fd, address.ai_addr, address.ai_addrlen) == 0;
    int problem = errno;
    ::close(fd);
    errno = problem;
    return bound;
}

}  // namespace

Result<int> bind_listener(const std::string& listen, std::uint16_t port) {
    std::size_t colon = listen.rfind(':');
    if (colon == std::string::npos) return cannot_listen(listen, "expected ADDRESS:PORT");
    std::string host = listen.substr(0, colon);
    std::string service = listen.substr(colon + 1);
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    if (!parse_int<std::uint16_t>(service))
        return cannot_listen(listen, "the port must be a number up to 65535");
    if (port != 0) service = std::to_string(port);

    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    int problem = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), service.c_str(), &hints, &found);
    if (problem != 0) return cannot_listen(listen, ::gai_strerror(problem));
    std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
    bool is_first = port == 0;
    int fd = is_first && !is_free(*found) ? -1 : open_listener(*found);
    if (fd < 0) return cannot_listen(listen, std::strerror(errno));
    return fd;
}

std::string bound_address(int fd, std::uint16_t& port) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    bool six = address.ss_family == AF_INET6;
    port = ntohs(six ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                     : reinterpret_cast<sockaddr_in&>(address).sin_port);
    std::string ip = ip_text(address);
    return (six ? "[" + ip + "]" : ip) + ":" + std::to_string(port);
}

struct Listener::Impl {
    asio::posix::stream_descriptor socket;
    asio::steady_timer pause;
    bool closed = false;
};

Listener::Listener(ServerThread& server, int fd)
    : server_(server),
      impl_(new Impl{asio::posix::stream_descriptor(server.thread.context(), fd),
                     asio::steady_timer(server.thread.context())}) {}

Listener::~Listener() = default;

void Listener::start() { wait(); }

void Listener::close() {
    if (impl_->closed) return;
    impl_->closed = true;
    boost::system::error_code ignored;
    impl_->socket.close(ignored);
    impl_->pause.cancel();
}

void Listener::wait() {
    impl_->socket.async_wait(asio::posix::stream_descriptor::wait_read,
                             [self = shared_from_this()](const boost::system::error_code& problem) {
                                 if (problem || self->impl_->closed) return;
                                 self->accept_all();
                             });
}

void Listener::accept_all() {
    for (int i = 0; i < accepts_per_turn; ++i) {
        sockaddr_storage address{};
        socklen_t size = sizeof address;
        int fd = ::accept4(impl_->socket.native_handle(), reinterpret_cast<sockaddr*>(&address), &size,
                           SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(fd, ip_text(address));
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) break;
        // Out of descriptors or memory: asking again at once would only spin.
        server_.state.counted.accept_failures.add();
        LOG_WARN("cannot accept connections", {"listener", server_.state.name},
                 {"error", std::strerror(errno)});
        pause();
        return;
    }
    wait();
}

void Listener::pause() {
    impl_->pause.expires_after(std::chrono::milliseconds(100));
    impl_->pause.async_wait([self = shared_from_this()](const boost::system::error_code& problem) {
        if (!problem && !self->impl_->closed) self->wait();
    });
}

void Listener::take(int fd, std::string remote_ip) {
    ServerState& state = server_.state;
    std::int64_t open = state.connections.fetch_add(1, std::memory_order_relaxed);
    bool accepted = open < state.settings.connections_max;
    if (!accepted) {
        state.counted.refused_connections.add();
        if (open >= state.settings.connections_max + turned_away_max) {
            state.connections.fetch_sub(1, std::memory_order_relaxed);
            ::close(fd);
            return;
        }
    }
    state.counted.connections.add(1);
    if (state.sessions.spawn(server_.thread, serve_connection(&server_, fd, std::move(remote_ip), accepted)))
        return;
    state.connections.fetch_sub(1, std::memory_order_relaxed);
    state.counted.connections.add(-1);
    ::close(fd);
}

}  // namespace nebula::http

// How a fresh connection comes about: resolve, connect to one address after the other, TLS handshake.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "http/client_impl.hpp"

namespace nebula::http {
namespace asio = boost::asio;
namespace {

struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;
    int family() const { return storage.ss_family; }
};

std::string problem_text(int number) { return std::generic_category().message(number); }

/// "10.0.0.1" and "::1" need no resolver.
std::optional<Address> numeric_address(const std::string& host, std::uint16_t port) {
    Address address;
    auto& four = reinterpret_cast<sockaddr_in&>(address.storage);
    if (::inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1) {
        four.sin_family = AF_INET;
        four.sin_port = htons(port);
        address.size = sizeof four;
        return address;
    }
    auto& six = reinterpret_cast<sockaddr_in6&>(address.storage);
    if (::inet_pton(AF_INET6, host.c_str(), &six.sin6_addr) == 1) {
        six.sin6_family = AF_INET6;
        six.sin6_port = htons(port);
        address.size = sizeof six;
        return address;
    }
    return std::nullopt;
}

// A look-up in progress. The C library's resolver cannot be interrupted, so a waiter that gives up leaves it
// behind; it is held by the resolver's handler and goes when that has run.
struct Lookup {
    explicit Lookup(asio::io_context& context) : resolver(context) {}
    asio::ip::tcp::resolver resolver;
    std::coroutine_handle<> waiter;
    Io status = Io::would_block;
    std::vector<Address> addresses;
    std::string problem;

    void finish(Io with) {
        if (status == Io::would_block) status = with;
        if (waiter) std::exchange(waiter, {}).resume();
    }
};

void start_lookup(const std::shared_ptr<Lookup>& lookup, const std::string& host, std::uint16_t port) {
    lookup->resolver.async_resolve(host, std::to_string(port), asio::ip::tcp::resolver::numeric_service,
                                   [lookup](const boost::system::error_code& problem,
                                            const asio::ip::tcp::resolver::results_type& found) {
                                       if (problem) lookup->problem = problem.message();
                                       for (const auto& entry : found) {
                                           auto endpoint = entry.endpoint();
                                           Address address;
                                           std::memcpy(&address.storage, endpoint.data(), endpoint.size());
                                           address.size = static_cast<socklen_t>(endpoint.size());
                                           lookup->addresses.push_back(address);
                                       }
                                       lookup->finish(problem ? Io::failed : Io::ok);
                                   });
}

struct LookupWait {
    std::shared_ptr<Lookup> lookup;
    Deadline deadline;

    LookupWait(IoThread& thread, std::shared_ptr<Lookup> of)
        : lookup(std::move(of)),
          deadline(
              thread.deadlines(),
              [](void* self) {
                  auto kept = static_cast<LookupWait*>(self)->lookup;  // finish() may end this object
                  kept->finish(Io::timed_out);
              },
              this) {}
    bool await_ready() const { return lookup->status != Io::would_block; }
    void await_suspend(std::coroutine_handle<> handle) { lookup->waiter = handle; }
    Io await_resume() const { return lookup->status; }
};

struct LookupCancel {
    IoThread& thread;
    std::shared_ptr<Lookup> lookup;
    static void run(void* self) {
        auto& cancel = *static_cast<LookupCancel*>(self);
        cancel.thread.post([lookup = cancel.lookup] { lookup->finish(Io::cancelled); });
    }
};

}  // namespace

Result<ssl_ctx_st*> Client::Impl::tls_context(const std::string& ca_file) {
    std::lock_guard lock(tls_mutex);
    auto& context = tls_contexts[ca_file];
    if (!context) {
        auto made = make_client_tls(ca_file);
        if (!made) return fail(made.error());
        context = std::move(*made);
    }
    return context.get();
}

Async<Result<std::unique_ptr<Connection>>> Client::Impl::connect_tcp(IoThread& thread, Call& call,
                                                                     Ticks connect_at) {
    std::vector<Address> addresses;
    if (auto numeric = numeric_address(call.origin.host, call.origin.port)) {
        addresses.push_back(*numeric);
    } else {
        auto lookup = std::make_shared<Lookup>(thread.context());
        LookupCancel cancel{thread, lookup};
        CancelHook hook(call.cancel, &LookupCancel::run, &cancel);
        LookupWait wait(thread, lookup);
        wait.deadline.arm(connect_at);
        start_lookup(lookup, call.origin.host, call.origin.port);
        Io status = co_await wait;
        if (status == Io::failed) co_return failed(Failure::resolve, "resolve: " + lookup->problem);
        if (status != Io::ok) co_return ended(status, "connect", call.total_at);
        addresses = std::move(lookup->addresses);
    }
    Failure why = Failure::resolve;
    std::string detail = "resolve: no address";
    for (std::size_t i = 0; i < addresses.size(); ++i) {
        const Address& address = addresses[i];
        int fd = ::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) co_return failed(Failure::connect, "connect: " + problem_text(errno));
        int problem =
            ::connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.size) == 0 ? 0 : errno;
        if (problem != 0 && problem != EINPROGRESS) {
            ::close(fd);
        } else {
            auto connection =
                problem == 0 ? Connection::adopt(thread, fd) : Connection::adopt_connecting(thread, fd);
            if (problem == 0) co_return connection;
            // An address that does not answer must leave time for those behind it.
            Ticks now = clock.ticks();
            connection->set_deadline(now +
                                     (connect_at - now) / static_cast<std::int64_t>(addresses.size() - i));
            CancelHook hook(call.cancel, *connection);
            Io waited = co_await connection->writable();
            if (waited == Io::cancelled) co_return ended(waited, "connect", call.total_at);
            if (waited == Io::timed_out && i + 1 == addresses.size())
                co_return ended(waited, "connect", call.total_at);
            problem = waited == Io::timed_out ? ETIMEDOUT : connection->connect_error();
            if (problem == 0) co_return connection;
        }
        why = problem == ECONNREFUSED ? Failure::refused : Failure::connect;
        detail = problem == ECONNREFUSED ? "connect refused" : "connect: " + problem_text(problem);
    }
    co_return failed(why, detail);
}

Async<Result<std::unique_ptr<Connection>>> Client::Impl::connect_unix(IoThread& thread, Call& call,
                                                                      Ticks connect_at) {
    constexpr std::chrono::milliseconds backlog_pause{50};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string& path = call.origin.unix_path;
    if (path.size() >= sizeof address.sun_path)
        co_return failed(Failure::connect, "connect: socket path too long");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    while (true) {
        int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) co_return failed(Failure::connect, "connect: " + problem_text(errno));
        if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
            co_return Connection::adopt(thread, fd);
        int problem = errno;
        ::close(fd);
        if (problem == ECONNREFUSED || problem == ENOENT)
            co_return failed(Failure::refused, "connect refused");
        if (problem != EAGAIN) co_return failed(Failure::connect, "connect: " + problem_text(problem));
        // The listener's queue is full, and unix sockets do not tell when it has room again.
        if (call.cancel != nullptr && call.cancel->cancelled())
            co_return ended(Io::cancelled, "connect", call.total_at);
        Ticks again = clock.ticks() + backlog_pause;
        if (again >= connect_at) co_return ended(Io::timed_out, "connect", call.total_at);
        co_await sleep_until(again);
    }
}

Async<Result<std::unique_ptr<Connection>>> Client::Impl::handshake(std::unique_ptr<Connection> connection,
                                                                   Call& call) {
    auto context = tls_context(call.origin.ca_file);
    if (!context) co_return failed(Failure::tls, "tls: " + context.error().message);
    CancelHook hook(call.cancel, *connection);
    auto done = co_await connection->tls_connect(*context, call.origin.host);
    if (done) co_return connection;
    if (done.error().code == Code::timeout) co_return ended(Io::timed_out, "connect", call.total_at);
    if (done.error().code == Code::cancelled) co_return ended(Io::cancelled, "connect", call.total_at);
    co_return failed(Failure::tls, done.error().detail);
}

Async<Result<std::unique_ptr<Connection>>> Client::Impl::connect(IoThread& thread, Call& call) {
    Ticks connect_at = std::min(call.total_at, clock.ticks() + call.request.timeouts.connect);
    connects.add();
    auto work = call.origin.unix_path.empty() ? connect_tcp(thread, call, connect_at)
                                              : connect_unix(thread, call, connect_at);
    auto connected = co_await std::move(work);
    if (!connected || !call.origin.tls) co_return connected;
    if (call.cancel != nullptr && call.cancel->cancelled())
        co_return ended(Io::cancelled, "connect", call.total_at);
    (*connected)->set_deadline(connect_at);
    co_return co_await handshake(std::move(*connected), call);
}

}  // namespace nebula::http

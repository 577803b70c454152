#pragma once
// A server on a loopback port under a FakeClock, and a client that sends and sees raw bytes. For this
// module's tests.

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <optional>
#include <semaphore>
#include <string>
#include <thread>

#include "http/http.hpp"

namespace nebula::http::test {

class RawClient {
   public:
    explicit RawClient(const std::string& address) {
        std::size_t colon = address.rfind(':');
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(colon + 1))));
        ::inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
        fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    }
    RawClient(const RawClient&) = delete;
    RawClient& operator=(const RawClient&) = delete;
    ~RawClient() { close(); }

    void send(std::string_view text) {
        while (!text.empty()) {
            ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
            if (sent <= 0) return;
            text.remove_prefix(static_cast<std::size_t>(sent));
        }
    }
    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }
    void half_close() { ::shutdown(fd_, SHUT_WR); }
    int fd() const { return fd_; }

    /// Everything up to the server's close; `reset` tells how it closed.
    std::string read_all() {
        while (receive()) {
        }
        return std::exchange(seen_, {});
    }
    /// Up to and including `mark`.
    std::string read_until(std::string_view mark) {
        std::size_t at;
        while ((at = seen_.find(mark)) == std::string::npos)
            if (!receive()) return std::exchange(seen_, {});
        std::string text = seen_.substr(0, at + mark.size());
        seen_.erase(0, at + mark.size());
        return text;
    }
    /// One answer with content-length.
    std::string read_response() {
        std::string head = read_until("\r\n\r\n");
        std::size_t at = head.find("content-length: ");
        if (at == std::string::npos) return head;
        std::size_t length = std::stoul(head.substr(at + 16));
        while (seen_.size() < length && receive()) {
        }
        std::string body = seen_.substr(0, length);
        seen_.erase(0, length);
        return head + body;
    }
    bool closed() {
        while (receive()) {
        }
        return ended_;
    }
    bool nothing_to_read() {
        pollfd one{.fd = fd_, .events = POLLIN, .revents = 0};
        return seen_.empty() && ::poll(&one, 1, 0) == 0;
    }
    bool reset = false;

   private:
    bool receive() {
        pollfd one{.fd = fd_, .events = POLLIN, .revents = 0};
        if (ended_ || ::poll(&one, 1, 5'000) <= 0) return false;
        char buffer[65536];
        ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
        if (got <= 0) {
            ended_ = true;
            reset = got < 0;
            return false;
        }
        seen_.append(buffer, static_cast<std::size_t>(got));
        return true;
    }
    int fd_ = -1;
    bool ended_ = false;
    std::string seen_;
};

inline Response test_dialect(const Error& error, RequestId) {
    Response response;
    response.status = error.code == Code::not_found            ? 404
                      : error.code == Code::method_not_allowed ? 405
                      : error.code == Code::payload_too_large  ? 413
                      : error.code == Code::headers_too_large  ? 431
                      : error.code == Code::overloaded         ? 503
                      : error.code == Code::timeout            ? 504
                      : error.code == Code::internal           ? 500
                                                               : 400;
    response.body = std::string("{\"code\":\"") + code_name(error.code) + "\"}";
    return response;
}

struct Rig {
    FakeClock clock;
    metrics::Registry registry;
    HttpSettings settings;
    Router router;
    IoThreads threads{clock, 1};
    std::optional<Server> server;

    Rig() {
        settings.listen = "127.0.0.1:0";
        router.set_dialect("/", test_dialect);
    }
    ~Rig() { server.reset(); }

    void on(Method method, std::string_view pattern, Handler handler) {
        router.add(method, pattern, test_dialect, std::move(handler));
    }
    /// Answers with the body it got.
    void add_echo() {
        on(Method::post, "/echo", [](Exchange& exchange) -> Async<void> {
            Result<std::string_view> body = co_await exchange.body(1 << 24);
            if (!body) {
                Result<void> refused = co_await exchange.respond_error(body.error());
                (void)refused;
                co_return;
            }
            Result<void> sent = co_await exchange.respond(200, "text/plain", *body);
            (void)sent;
        });
        on(Method::get, "/hello", [](Exchange& exchange) -> Async<void> {
            Result<void> sent = co_await exchange.respond(200, "text/plain", "hello");
            (void)sent;
        });
    }
    void start() {
        server.emplace("test", settings, router, threads, clock, registry);
        Result<void> started = server->start();
        ASSERT_TRUE(started) << started.error().message;
    }
    RawClient client() { return RawClient(server->address()); }

    /// Lets the I/O thread work off what has arrived: the loop looks at its sockets between two posts.
    void settle() {
        for (int i = 0; i < 8; ++i) run([] {});
    }
    void advance(std::chrono::milliseconds by) {
        settle();
        clock.advance(by);
        run([this] { threads[0].fire_deadlines(); });
        settle();
    }
    void run(std::move_only_function<void()> work) {
        std::binary_semaphore done(0);
        threads[0].post([&work, &done] {
            work();
            done.release();
        });
        done.acquire();
    }
    std::int64_t metric(const std::string& line) {
        std::string text = registry.prometheus_text();
        std::size_t at = text.find(line + " ");
        if (at == std::string::npos) return -1;
        return std::stoll(text.substr(at + line.size() + 1));
    }
};

}  // namespace nebula::http::test

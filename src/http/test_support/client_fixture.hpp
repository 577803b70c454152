#pragma once
// A client on one I/O thread, with what tests do with it again and again.

#include <gtest/gtest.h>

#include <semaphore>
#include <thread>

#include "base/crypto.hpp"
#include "http/client.hpp"
#include "http/test_support/peer.hpp"

namespace nebula::http::testing {

/// How a call went, body included.
struct Got {
    bool ok = false;  // ended cleanly
    Error error;
    int status = 0;
    std::string body;  // also what came before an error
    std::size_t pieces = 0;
};

template <class AnyClock>
class ClientFixture : public ::testing::Test {
   public:
    AnyClock clock;
    metrics::Registry registry;
    IoThreads threads{clock, 1};
    ClientSettings settings;
    std::unique_ptr<Client> client;

    Client& use_client() {
        if (!client) client = std::make_unique<Client>(settings, threads, clock, registry);
        return *client;
    }
    static Origin origin_of(const Peer& peer) { return {.host = "127.0.0.1", .port = peer.port()}; }
    static ClientRequest get_request() {
        ClientRequest request;
        request.method = Method::get;
        request.path = "/x";
        return request;
    }

    Async<Got> fetch(Origin origin, ClientRequest request, CancelToken* cancel) {
        Got got;
        auto response = co_await use_client().send(origin, std::move(request), cancel);
        if (!response) {
            got.error = response.error();
            co_return got;
        }
        got.status = (*response)->status();
        while (true) {
            auto piece = co_await (*response)->read();
            if (!piece) {
                got.error = piece.error();
                co_return got;
            }
            if (piece->empty()) break;
            got.body.append(*piece);
            ++got.pieces;
        }
        got.ok = true;
        co_return got;
    }
    Got run(Origin origin, ClientRequest request, CancelToken* cancel = nullptr) {
        return sync_wait(run_on(threads[0], fetch(std::move(origin), std::move(request), cancel)));
    }
    Got run_get(const Peer& peer) { return run(origin_of(peer), get_request()); }

    /// Runs the call while time passes in steps of `step`, once `ready` was released.
    Got run_while_time_passes(Origin origin, ClientRequest request, std::binary_semaphore& ready,
                              std::chrono::milliseconds step = std::chrono::milliseconds(1000)) {
        Got got;
        std::atomic<bool> done = false;
        std::jthread caller([&] {
            got = run(std::move(origin), std::move(request));
            done = true;
        });
        ready.acquire();
        while (!done) {
            clock.advance(step);
            on_loop([this] { threads[0].fire_deadlines(); });
        }
        return got;
    }
    /// Runs `work` on the I/O thread and waits for it.
    void on_loop(std::function<void()> work) {
        std::binary_semaphore done(0);
        threads[0].post([&] {
            work();
            done.release();
        });
        done.acquire();
    }

    std::uint64_t counted(const std::string& name, metrics::Labels labels = {}) {
        use_client();
        return registry.counter(name, "", std::move(labels)).value();
    }
    std::uint64_t connects() { return counted("nebula_client_connects_total"); }
    std::uint64_t failures(const std::string& reason) {
        return counted("nebula_client_failures_total", {{"reason", reason}});
    }
    std::int64_t idle() { return registry.gauge("nebula_client_idle_connections", "").value(); }
};

inline std::string plain_answer(std::string_view body) {
    return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           std::string(body);
}

}  // namespace nebula::http::testing

#include <unistd.h>
#include <semaphore>

#include "http/exchange.hpp"
#include "http/server_listener.hpp"
#include "http/server_state.hpp"

namespace nebula::http {

struct Server::Impl {
    ServerState state;
    IoThreads& threads;
    std::vector<std::unique_ptr<ServerThread>> servers;  // one per I/O thread
    std::vector<std::shared_ptr<Listener>> listeners;
    std::string address;
    bool started = false;
    bool stopped = false;

    Impl(std::string name, const HttpSettings& settings, const Router& router, IoThreads& io,
         const Clock& clock, metrics::Registry& registry)
        : state(std::move(name), settings, router, clock, registry), threads(io) {
        state.running = std::vector<ServerState::Running>(io.size());
        for (std::size_t i = 0; i < io.size(); ++i)
            servers.push_back(std::make_unique<ServerThread>(state, io[i]));
    }

    /// Runs `work(i)` on every I/O thread and waits for all of them.
    template <class F>
    void on_each(F work) {
        std::counting_semaphore<> done(0);
        for (std::size_t i = 0; i < threads.size(); ++i) {
            threads[i].post([&work, &done, i] {
                work(i);
                done.release();
            });
        }
        for (std::size_t i = 0; i < threads.size(); ++i) done.acquire();
    }
    void close_listeners() {
        on_each([this](std::size_t i) {
            if (i < listeners.size()) listeners[i]->close();
        });
    }
};

Server::Server(std::string name, const HttpSettings& settings, const Router& router, IoThreads& threads,
               const Clock& clock, metrics::Registry& metrics)
    : impl_(std::make_unique<Impl>(std::move(name), settings, router, threads, clock, metrics)) {}

Server::~Server() { stop(); }

Result<void> Server::start() {
    Impl& impl = *impl_;
    const HttpSettings& settings = impl.state.settings;
    if (settings.tls_cert.empty() != settings.tls_key.empty())
        return fail(Code::invalid_request, "tls_cert and tls_key go together", "tls_cert");
    if (!settings.tls_cert.empty()) {
        auto context = make_server_tls(settings.tls_cert, settings.tls_key);
        if (!context) return fail(std::move(context.error()));
        impl.state.tls = std::move(*context);
    }
    // All sockets are bound before the first connection is taken; port 0 is chosen once.
    std::vector<int> bound;
    std::uint16_t port = 0;
    for (std::size_t i = 0; i < impl.threads.size(); ++i) {
        Result<int> fd = bind_listener(settings.listen, port);
        if (!fd) {
            for (int one : bound) ::close(one);
            return fail(std::move(fd.error()));
        }
        bound.push_back(*fd);
        impl.address = bound_address(*fd, port);
    }
    for (std::size_t i = 0; i < bound.size(); ++i)
        impl.listeners.push_back(std::make_shared<Listener>(*impl.servers[i], bound[i]));
    impl.started = true;
    impl.on_each([&impl](std::size_t i) { impl.listeners[i]->start(); });
    return {};
}

std::string Server::address() const { return impl_->address; }

void Server::drain() {
    Impl& impl = *impl_;
    if (!impl.started || impl.stopped) return;
    impl.state.draining = true;
    impl.close_listeners();
    impl.on_each([&impl](std::size_t i) { impl.servers[i]->close_idle(); });
}

bool Server::wait_drained(std::chrono::milliseconds timeout) {
    ServerState& state = impl_->state;
    std::unique_lock lock(state.drained_mutex);
    return state.drained.wait_for(lock, timeout, [&state] { return state.running_requests() == 0; });
}

void Server::stop() {
    Impl& impl = *impl_;
    if (impl.stopped) return;
    impl.stopped = true;
    if (impl.started) {
        impl.state.draining = true;
        impl.close_listeners();
        impl.state.sessions.close();
        impl.on_each([&impl](std::size_t i) { impl.servers[i]->cancel_all(); });
        impl.state.sessions.wait();
        impl.on_each([&impl](std::size_t i) {
            impl.listeners[i].reset();
            impl.servers[i].reset();
        });
    }
}

}  // namespace nebula::http

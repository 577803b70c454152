#pragma once
// One client connection: reads heads, runs handlers, keeps or closes. Private to http's server half.

#include <memory>
#include <string>

#include "async/async.hpp"
#include "http/connection.hpp"
#include "http/exchange.hpp"
#include "http/server_state.hpp"

namespace nebula::http {

class Session {
   public:
    Session(ServerThread& server, int fd, std::string remote_ip);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session();

    Async<void> run();
    /// Too many connections: 503 and close.
    Async<void> turn_away();

    bool is_idle() const { return exchange_ == nullptr; }
    void cut();

   private:
    friend class ServerThread;
    Async<Io> handshake();
    Io read_input();
    void arm_deadline();
    Async<void> end_of_input(Io why);
    Async<void> refuse(Parse why);
    Async<bool> serve_request();
    Async<bool> run_handler();
    Async<void> linger();
    void release_exchange();

    ServerThread& server_;
    std::unique_ptr<Connection> connection_;
    std::unique_ptr<HttpExchange> exchange_;  // only while bytes of a request are here
    std::string remote_ip_;
    bool head_deadline_ = false;  // armed by the first byte of a head, kept until its last
    Session* next_ = nullptr;
    Session* previous_ = nullptr;
};

/// Owns the session for the connection's life; counts it out at the end.
Async<void> serve_connection(ServerThread* server, int fd, std::string remote_ip, bool accepted);

}  // namespace nebula::http

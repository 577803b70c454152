#pragma once
// A listening socket on one I/O thread. Private to http's server half.

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "http/server_state.hpp"

namespace nebula::http {

/// Binds `listen` ("127.0.0.1:8080", "[::1]:0", "localhost:80") with SO_REUSEPORT. `port` other than 0
/// replaces the one in `listen`. Returns the descriptor. Error text names the address.
Result<int> bind_listener(const std::string& listen, std::uint16_t port);
/// "127.0.0.1:8080" and its port, as bound.
std::string bound_address(int fd, std::uint16_t& port);

/// Accepts and starts a session for each connection. All but the constructor on the server's thread.
class Listener : public std::enable_shared_from_this<Listener> {
   public:
    Listener(ServerThread& server, int fd);  // takes the descriptor
    ~Listener();
    void start();
    void close();

   private:
    struct Impl;
    void wait();
    void accept_all();
    void pause();
    void take(int fd, std::string remote_ip);

    ServerThread& server_;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::http

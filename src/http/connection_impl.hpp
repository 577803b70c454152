#pragma once
// The inside of Connection, shared by connection.cpp and tls.cpp.

#include <openssl/ssl.h>

#include "http/connection.hpp"
#include "http/poller.hpp"

namespace nebula::http {

struct Connection::Impl : Poller::Target {
    Impl(IoThread& on, int descriptor);
    ~Impl();

    IoThread& thread;
    Poller& poller;
    int fd;
    SSL* ssl = nullptr;
    Deadline deadline;
    bool cancelled = false;
    bool expired = false;
    bool tls_pending = false;       // OpenSSL holds bytes that the socket will not announce again
    bool tls_done = false;          // handshake finished, no read failed since
    bool tls_write_failed = false;  // nothing more can be sent; an answer sent early may still be read
    bool reset_on_close = false;
    std::string tls_peer;  // client side: host and port, the key of sessions to resume

    bool ready(bool for_write) const;
    Io wait_status() const;
    /// System calls on the descriptor that keep the ready flags. Return value and errno as the calls'.
    ssize_t receive(char* into, std::size_t size);
    ssize_t send(const iovec* pieces, std::size_t count);

    ReadResult tls_read(std::span<char> into);
    WriteResult tls_write(std::span<const iovec> pieces);
    bool tls_begin(ssl_ctx_st* context, bool server);
    /// One step of the handshake: ok, would_block (wait for `wants_write`), or an end.
    Io tls_step(bool& wants_write);
    bool tls_input_pending();
    void tls_close();
};

}  // namespace nebula::http

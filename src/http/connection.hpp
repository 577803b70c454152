#pragma once
// One socket (TCP or unix), plain or TLS, on one I/O thread. Private to http: server and client are built on
// it. Nothing is buffered here: callers read only when the socket is readable and take a buffer only then. No
// timer per operation: a connection has one deadline, a stamp in the thread's wheel; when it passes, the
// pending wait ends with Io::timed_out.

#include <sys/uio.h>

#include <coroutine>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "async/async.hpp"
#include "async/io_thread.hpp"
#include "base/result.hpp"

struct ssl_ctx_st;

namespace nebula::http {

enum class Io { ok, would_block, closed, failed, timed_out, cancelled };

struct ReadResult {
    Io status;
    std::size_t bytes;  // > 0 exactly when ok
};
struct WriteResult {
    Io status;  // ok: `bytes` of the pieces were taken, possibly not all
    std::size_t bytes;
};

class Connection {
   public:
    /// Takes over a connected, non-blocking descriptor, on `thread`. TCP_NODELAY is set here.
    static std::unique_ptr<Connection> adopt(IoThread& thread, int fd);
    /// The same while connect() is in progress: once writable() ended, connect_error() tells how it went (0 =
    /// connected).
    static std::unique_ptr<Connection> adopt_connecting(IoThread& thread, int fd);
    int connect_error();
    ~Connection();  // closes

    /// Server side handshake; await before reading. Client side: with SNI and verification of `host`.
    Async<Io> tls_accept(ssl_ctx_st* context);
    Async<Result<void>> tls_connect(ssl_ctx_st* context, std::string host);

    /// A socket known to be empty (or full) answers would_block without a system call: loop on readable(),
    /// writable().
    ReadResult try_read(std::span<char> into);
    /// Plain: one sendmsg of all pieces (MSG_NOSIGNAL). TLS: pieces joined into records; after would_block
    /// the next call must begin with the same bytes.
    WriteResult try_write(std::span<const iovec> pieces);

    /// `Io status = co_await connection.readable();` No frame is allocated. A pending TLS record counts as
    /// readable. May end without anything to read: try_read then answers would_block. One waiter per
    /// direction. Cancelled and timed out win over ready, also when the wait had not begun.
    struct Wait {
        Connection& connection;
        bool for_write;
        bool await_ready() const;
        void await_suspend(std::coroutine_handle<> handle);
        Io await_resume();
    };
    Wait readable() { return {*this, false}; }
    Wait writable() { return {*this, true}; }

    /// Writes everything, waiting as needed. The pieces' memory must live until it returns; try_write first
    /// and call this only for what is left.
    Async<Io> write_all(std::span<const iovec> pieces);

    void set_deadline(Ticks at);
    void clear_deadline();
    /// Ends a pending wait with Io::cancelled; later waits end at once. Same thread.
    void cancel();

    int fd() const;
    IoThread& thread();
    std::string remote_ip() const;  // empty on unix sockets
    bool is_tls() const;
    bool tls_resumed() const;  // the handshake was an abbreviated one
    /// Something arrived or the peer closed while we were not reading (a pooled connection is then unusable).
    bool has_pending_input();
    /// The cheap half of it, without a system call: false = nothing was seen to arrive since the last read.
    bool maybe_input() const;
    void shutdown_write();
    /// SO_LINGER 0: the peer sees a reset rather than a clean end. Before destruction.
    void reset_on_close();

    struct Impl;

   private:
    explicit Connection(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

/// Server context from PEM files; client context with the system's (and `ca_file`'s) trust anchors, session
/// cache on. Both TLS 1.2+, RELEASE_BUFFERS, partial writes. Freed by the returned pointer.
struct SslCtxFree {
    void operator()(ssl_ctx_st* context) const;
};
using SslContext = std::unique_ptr<ssl_ctx_st, SslCtxFree>;
Result<SslContext> make_server_tls(const std::string& cert_file, const std::string& key_file);
Result<SslContext> make_client_tls(const std::string& ca_file);

/// Per-thread free list of read buffers (16 KiB + padding): taken only when a socket is readable, given back
/// when the connection goes idle. One thread.
class BufferPool {
   public:
    static constexpr std::size_t buffer_bytes = 16 * 1024;
    static constexpr std::size_t padding = 64;  // readable bytes behind, for simdjson
    static std::unique_ptr<char[]> take();
    static void give(std::unique_ptr<char[]> buffer);  // keeps at most 256 per thread
};

}  // namespace nebula::http

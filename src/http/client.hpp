#pragma once
// HTTP/1.1 client with keep-alive pools, one pool per origin and I/O thread. Plain, TLS (OpenSSL on the
// socket) and unix sockets. Built for streaming: the answer's body comes in pieces as the network delivers
// them.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "async/async.hpp"
#include "async/io_thread.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "http/http.hpp"

namespace nebula::http {

/// Where to connect. Equal origins share a pool.
struct Origin {
    bool tls = false;
    std::string host = {};  // name or address; also SNI and Host header
    std::uint16_t port = 0;
    std::string unix_path = {};  // when set, connect there instead (Host stays `host`)
    std::string ca_file = {};    // extra trust anchor (PEM); empty = system's
    std::string key() const;
};
struct ParsedUrl {
    Origin origin;
    std::string path;  // without trailing slash; "" for none
};
/// http://host[:port][/path], https://…, unix:/socket/path[:/path]. Error: invalid_request.
Result<ParsedUrl> parse_url(std::string_view url);

struct Timeouts {
    std::chrono::milliseconds connect{5'000};       // resolve, connect, TLS handshake
    std::chrono::milliseconds first_byte{120'000};  // request sent to first byte of the answer's head
    std::chrono::milliseconds idle{60'000};         // between bytes of the answer
    std::chrono::milliseconds total{900'000};       // whole exchange
};

struct ClientRequest {
    Method method = Method::post;
    std::string path;     // target as sent, "/v1/chat/completions"
    std::string headers;  // complete lines "name: value\r\n", without Host/Content-Length
    std::span<const std::string_view> body_pieces;  // gathered in one write; must live until send() returned
    Timeouts timeouts;
};

/// An answer whose head has arrived. Destroying it before the clean end closes the connection (cancels the
/// request), afterwards gives it back to the pool. One I/O thread; destroyed before the client.
class ClientResponse {
   public:
    virtual ~ClientResponse() = default;
    virtual int status() const = 0;
    virtual std::optional<std::string_view> header(std::string_view name) const = 0;
    virtual std::span<const Header> headers() const = 0;
    virtual std::optional<std::uint64_t> content_length() const = 0;
    /// The body ends only with the connection, so a cut cannot be told from the end.
    virtual bool ends_with_connection() const = 0;

    /// Next piece of the body, as the network delivered it (chunk framing removed); valid until the next
    /// call; empty = clean end. The piece is followed by 64 readable bytes. Errors: upstream_failed (cut, bad
    /// framing), timeout, cancelled (after cancel()).
    virtual Async<Result<std::string_view>> read() = 0;
    /// Lets go of the CancelToken given to send(), which may then end before this answer, and bounds what is
    /// left of it. Not during a read().
    virtual void detach(std::chrono::milliseconds rest) = 0;
    /// Reads the rest into one text, at most `bytes_max` (upstream_failed beyond).
    Async<Result<std::string>> read_all(std::size_t bytes_max);
};

/// Lets somebody else on the same I/O thread (client gone, shutdown) end a call in any phase: a pending
/// send() or read() then returns Code::cancelled. Reusable for consecutive calls; cancel() is sticky.
class CancelToken {
   public:
    void cancel();
    bool cancelled() const { return cancelled_; }

   private:
    friend class ClientAccess;
    bool cancelled_ = false;
    void (*hook_)(void*) = nullptr;
    void* hook_context_ = nullptr;
};

struct ClientSettings {
    std::int64_t idle_per_origin_max = 256;          // per I/O thread
    std::chrono::milliseconds idle_timeout{30'000};  // pooled connection
    std::int64_t head_bytes_max = 64 * 1024;
};

/// Safe from every I/O thread (each has its own pools).
class Client {
   public:
    Client(const ClientSettings& settings, IoThreads& threads, const Clock& clock,
           metrics::Registry& metrics);
    ~Client();  // after all calls have ended, before the threads stop

    /// Sends and awaits the head (1xx skipped). A pooled connection that turns out dead before any byte of
    /// the answer arrived is replaced once by a fresh one. Must run on an I/O thread. Errors: upstream_failed
    /// with `detail`
    /// ("connect refused", "tls: …", "reset", "bad head: …"), timeout with `detail` naming the phase,
    /// cancelled.
    Async<Result<std::unique_ptr<ClientResponse>>> send(const Origin& origin, ClientRequest request,
                                                        CancelToken* cancel);

    struct Impl;

   private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::http

#pragma once
// HTTP/1.1 server: strict, coroutine per connection, one request at a time on each connection.
// See README.md of this module for what is refused and why.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/async.hpp"
#include "async/io_thread.hpp"
#include "base/ids.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/settings.hpp"

namespace nebula::http {

struct HttpSettings {
    std::string listen = "127.0.0.1:8080";
    std::int64_t threads = 0;  // 0 = one per core
    std::int64_t connections_max = 20'000;
    std::int64_t head_bytes_max = 32 * 1024;
    std::int64_t body_bytes_max = 32 * 1024 * 1024;
    std::int64_t buffered_bytes_max = 1024LL * 1024 * 1024;  // all request bodies in memory together
    std::chrono::milliseconds head_timeout{10'000};          // from the first byte of a head to its last
    std::chrono::milliseconds body_timeout{60'000};          // without a byte of the body
    std::chrono::milliseconds idle_timeout{75'000};          // keep-alive connection without a request
    std::chrono::milliseconds write_timeout{60'000};         // a client that does not read
    std::chrono::milliseconds drain_timeout{30'000};         // SIGTERM: how long running requests may take
    std::string tls_cert;                                    // PEM chain; with tls_key switches TLS on
    std::string tls_key;
    std::vector<std::string> cors_origins = {"*"};
    void describe(settings::Visitor& v);
};

enum class Method : std::uint8_t { get, head, post, put, patch, del, options };
std::string_view method_name(Method method);

struct Header {
    std::string_view name;
    std::string_view value;
};

/// Views into the connection's buffer: valid until the exchange ends.
struct RequestHead {
    Method method = Method::get;
    std::string_view target;  // as sent
    std::string_view path;    // percent-encoded as sent, without the query
    std::string_view query;   // without '?'
    int minor_version = 1;
    std::span<const Header> headers;
    std::optional<std::uint64_t> content_length;
    bool chunked = false;
    bool keep_alive = true;
    bool expects_continue = false;

    /// First header of that name (case-insensitive).
    std::optional<std::string_view> header(std::string_view name) const;
};

struct Response {
    int status = 200;
    std::string content_type = "application/json";
    std::string body;
    std::vector<std::pair<std::string, std::string>> headers = {};  // further ones; names in lower case
};

/// The status that every dialect answers a code with; 499 for a caller that has left.
int status_of(Code code);

/// How a Code becomes a status and a body: one function per dialect, an exhaustive switch inside.
using Dialect = Response (*)(const Error& error, RequestId request);

/// One request and its response. Lives on one I/O thread; used by one coroutine.
/// Exactly one of respond() or begin_stream()…end()/abort() is called; a handler that returns without
/// answering gets 500 written for it, and one that left a stream open gets it aborted.
class Exchange {
   public:
    virtual ~Exchange() = default;

    virtual const RequestHead& head() const = 0;
    virtual RequestId id() const = 0;
    virtual std::string_view remote_ip() const = 0;
    virtual IoThread& thread() = 0;
    virtual Ticks started() const = 0;
    /// Percent-decoded value of {name} in the route's pattern.
    virtual std::string_view path_param(std::string_view name) const = 0;

    /// Reads the whole body, at most `bytes_max` (and the server's own limit). The view stays valid until the
    /// exchange ends and is followed by 64 readable bytes (simdjson's padding). Errors: payload_too_large,
    /// timeout, cancelled (client left), invalid_request (bad chunking), overloaded (all bodies together
    /// exceed the bound).
    virtual Async<Result<std::string_view>> body(std::size_t bytes_max) = 0;

    /// Adds a header to the answer; before respond() or begin_stream(). `name` lower case. Value without
    /// CR/LF.
    virtual void add_header(std::string_view name, std::string_view value) = 0;
    /// Head and body in one write. Content-Length is set here; HEAD sends no body. `content_type` may be
    /// empty.
    virtual Async<Result<void>> respond(int status, std::string_view content_type, std::string_view body) = 0;
    Async<Result<void>> respond(Response response);
    virtual Async<Result<void>> respond_error(Error error) = 0;  // in the route's dialect

    /// Sends nothing yet: the head travels with the first write. Body is chunked (HTTP/1.0: until close).
    virtual void begin_stream(int status, std::string_view content_type) = 0;
    /// One chunk, one system call when the socket takes it; awaits the socket otherwise (back-pressure).
    /// Error: cancelled (client left) or timeout (client does not read).
    virtual Async<Result<void>> write(std::string_view piece) = 0;
    /// Last piece (may be empty) and the terminating chunk in one write.
    virtual Async<Result<void>> end(std::string_view last_piece) = 0;
    /// Writes `last_words` as a chunk if it can without waiting, then closes without a terminating chunk, so
    /// that no client can take the stream for complete.
    virtual void abort(std::string_view last_words) = 0;
    virtual bool has_begun() const = 0;  // anything was answered

    /// Called once, on this thread, when the client has gone while the handler waits for something else.
    /// Noticed within a second. A client that closes only its sending side counts as gone. Empty function:
    /// stop watching.
    virtual void on_gone(std::move_only_function<void()> callback) = 0;
    virtual bool is_gone() const = 0;
};

/// The coroutine runs on the exchange's I/O thread; `exchange` outlives it.
using Handler = std::function<Async<void>(Exchange& exchange)>;

/// Method and path pattern to handler. Patterns: literal segments, {name} for one segment, {name*} for the
/// rest including slashes (last). Literals win over parameters. Built before the server starts, then
/// read-only.
class Router {
   public:
    Router();
    ~Router();
    Router(Router&&) noexcept;
    /// `access`: who may call it, in words ("anyone", "person", "account:billing_read", …): kept beside the
    /// route so that the whole table can be listed and tested. The handler enforces it (accounts::Guard sets
    /// both).
    void add(Method method, std::string_view pattern, Dialect dialect, Handler handler,
             std::string access = "unguarded");
    /// Errors of unmatched paths below `prefix` (404, 405, malformed requests use "/"). Longest prefix wins.
    void set_dialect(std::string_view prefix, Dialect dialect);

    struct Match {
        const Handler* handler = nullptr;
        Dialect dialect = nullptr;
        bool path_known = false;  // path exists with other methods
        std::string allow;        // those methods, for Allow and OPTIONS
        std::vector<std::pair<std::string_view, std::string>> params;
    };
    Match match(Method method, std::string_view path) const;
    /// Every route as "METHOD pattern", sorted.
    std::vector<std::string> routes() const;
    struct RouteInfo {
        Method method;
        std::string pattern;
        std::string access;
    };
    /// Every route with who may call it, sorted by pattern and method.
    std::vector<RouteInfo> table() const;

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Listens on every I/O thread with SO_REUSEPORT. start() and stop() from the main thread.
class Server {
   public:
    /// `name` labels metrics ("api", "admin"). All references must outlive the server.
    Server(std::string name, const HttpSettings& settings, const Router& router, IoThreads& threads,
           const Clock& clock, metrics::Registry& metrics);
    ~Server();

    /// Binds and starts accepting. Error text names the address. Ports: see address().
    Result<void> start();
    /// "127.0.0.1:8080" as bound.
    std::string address() const;
    /// Stops accepting and closes idle connections; running requests go on, with `connection: close`.
    void drain();
    /// Blocks until no request runs or `timeout` passed; true when none runs.
    bool wait_drained(std::chrono::milliseconds timeout);
    /// Closes everything and waits for the connections' coroutines.
    void stop();

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::http

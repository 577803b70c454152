#pragma once
// The inside of the client, shared by client.cpp, client_connect.cpp and client_response.cpp.

#include <sys/uio.h>

#include <array>
#include <mutex>
#include <unordered_map>

#include "http/client.hpp"
#include "http/connection.hpp"
#include "http/parser.hpp"

namespace nebula::http {

/// Why calls fail; label of nebula_client_failures_total.
enum class Failure { resolve, refused, connect, tls, reset, bad_head, cut, framing, timeout, cancelled };
constexpr std::size_t failure_count = 10;

class ClientAccess {
   public:
    static void set_hook(CancelToken& token, void (*hook)(void*), void* context) {
        token.hook_ = hook;
        token.hook_context_ = context;
    }
};

/// While it lives, the token's cancel() calls `hook`. A null token is fine.
class CancelHook {
   public:
    CancelHook(CancelToken* token, void (*hook)(void*), void* context) : token_(token) {
        if (token_ != nullptr) ClientAccess::set_hook(*token_, hook, context);
    }
    CancelHook(CancelToken* token, Connection& connection)
        : CancelHook(token, [](void* self) { static_cast<Connection*>(self)->cancel(); }, &connection) {}
    CancelHook(const CancelHook&) = delete;
    CancelHook& operator=(const CancelHook&) = delete;
    ~CancelHook() {
        if (token_ != nullptr) ClientAccess::set_hook(*token_, nullptr, nullptr);
    }

   private:
    CancelToken* token_;
};

struct OriginPool;

/// A connection to an origin with the memory its exchanges reuse.
struct Upstream {
    std::unique_ptr<Connection> connection;
    OriginPool* pool = nullptr;
    std::unique_ptr<char[]> buffer;  // held only while bytes are in it
    std::size_t at = 0, end = 0;     // those bytes
    std::string head;                // the request's head, then the answer's: parsed.headers views it
    std::vector<iovec> pieces;       // of the request
    ParsedResponse parsed;
    Ticks idle_since{};
    bool reused = false;
    bool write_failed = false;  // the request did not go out completely

    void give_buffer() {
        if (at == end && buffer) BufferPool::give(std::move(buffer));
    }
};

struct OriginPool {
    std::vector<std::unique_ptr<Upstream>> idle;  // oldest first; the newest is taken
    std::size_t active = 0;                       // calls that will come back here
};

struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

/// The pools of one I/O thread.
struct ThreadPools {
    ThreadPools(Client::Impl& client, IoThread& on);
    ~ThreadPools();
    OriginPool& of(const Origin& origin);
    /// The newest connection that still looks alive, or null.
    std::unique_ptr<Upstream> take(OriginPool& pool);
    void give(std::unique_ptr<Upstream> upstream);
    void sweep();

    Client::Impl& client;
    IoThread& thread;
    std::unordered_map<std::string, std::unique_ptr<OriginPool>, TextHash, std::equal_to<>> origins;
    Deadline sweeping;
};

/// One call, for the functions below; lives in send()'s frame.
struct Call {
    const Origin& origin;
    ClientRequest& request;
    CancelToken* cancel;
    Ticks total_at;
    bool answered = false;  // a byte of the answer has arrived
};

struct Client::Impl {
    Impl(const ClientSettings& with, IoThreads& on, const Clock& time, metrics::Registry& registry);

    ClientSettings settings;
    IoThreads& threads;
    const Clock& clock;
    metrics::Counter& connects;
    metrics::Counter& reuses;
    metrics::Counter& stale_retries;
    metrics::Gauge& idle;
    std::array<metrics::Counter*, failure_count> failures{};
    std::vector<std::unique_ptr<ThreadPools>> pools;  // by I/O thread
    std::mutex tls_mutex;
    std::unordered_map<std::string, SslContext> tls_contexts;  // by ca_file

    /// Counts and makes the error.
    std::unexpected<Error> failed(Failure why, std::string detail);
    /// The error behind a wait that did not end with ok.
    std::unexpected<Error> ended(Io status, const char* phase, Ticks total_at);

    Result<ssl_ctx_st*> tls_context(const std::string& ca_file);
    /// Resolve, connect, handshake, before call.request.timeouts.connect.
    Async<Result<std::unique_ptr<Connection>>> connect(IoThread& thread, Call& call);
    Async<Result<std::unique_ptr<Connection>>> connect_tcp(IoThread& thread, Call& call, Ticks connect_at);
    Async<Result<std::unique_ptr<Connection>>> connect_unix(IoThread& thread, Call& call, Ticks connect_at);
    Async<Result<std::unique_ptr<Connection>>> handshake(std::unique_ptr<Connection> connection, Call& call);

    /// Writes the request and reads the answer's head (1xx skipped).
    Async<Result<void>> exchange(Upstream& upstream, Call& call);
    Async<Result<void>> write_request(Upstream& upstream, Call& call);
    Async<Result<void>> read_head(Upstream& upstream, Call& call);
};

void append_key(const Origin& origin, std::string& text);
/// True when `text` is complete header lines that cannot change the framing of what follows.
bool valid_header_lines(std::string_view text);
std::unique_ptr<ClientResponse> make_response(Client::Impl& client, ThreadPools& pools,
                                              std::unique_ptr<Upstream> upstream, const Call& call);

}  // namespace nebula::http

#include "http/client.hpp"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <charconv>
#include <semaphore>

#include "base/check.hpp"
#include "base/text.hpp"
#include "http/client_impl.hpp"

namespace nebula::http {
namespace {

constexpr int interim_max = 32;  // 1xx answers before the real one
constexpr std::chrono::milliseconds trusted_idle{
    1'000};  // a pooled connection idle for less is not asked by recv

constexpr std::array<const char*, failure_count> failure_names = {
    "resolve", "refused", "connect", "tls", "reset", "bad_head", "cut", "framing", "timeout", "cancelled"};

/// The request target: what could split the request line is refused.
bool valid_target(std::string_view target) {
    if (!target.starts_with('/')) return false;
    for (char byte : target) {
        auto c = static_cast<unsigned char>(byte);
        if (c <= 0x20 || c >= 0x7f) return false;
    }
    return true;
}

void append_number(std::string& out, std::uint64_t number) {
    char digits[20];
    auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
    out.append(digits, end);
}

void append_host(std::string& out, const Origin& origin) {
    bool ipv6 = origin.host.find(':') != std::string::npos;
    if (ipv6) out.push_back('[');
    out.append(origin.host);
    if (ipv6) out.push_back(']');
    if (!origin.unix_path.empty() || origin.port == (origin.tls ? 443 : 80) || origin.port == 0) return;
    out.push_back(':');
    append_number(out, origin.port);
}

/// Head and body as one gathered write.
void compose(Upstream& upstream, const Call& call) {
    const ClientRequest& request = call.request;
    std::uint64_t body_bytes = 0;
    for (std::string_view piece : request.body_pieces) body_bytes += piece.size();
    bool bodiless =
        request.method != Method::post && request.method != Method::put && request.method != Method::patch;

    std::string& head = upstream.head;
    head.clear();
    head.append(method_name(request.method)).push_back(' ');
    head.append(request.path).append(" HTTP/1.1\r\nHost: ");
    append_host(head, call.origin);
    head.append("\r\n").append(request.headers);
    if (body_bytes > 0 || !bodiless) {
        head.append("Content-Length: ");
        append_number(head, body_bytes);
        head.append("\r\n");
    }
    head.append("\r\n");

    upstream.pieces.clear();
    upstream.pieces.push_back({head.data(), head.size()});
    for (std::string_view piece : request.body_pieces)
        if (!piece.empty()) upstream.pieces.push_back({const_cast<char*>(piece.data()), piece.size()});
}

void advance(std::span<iovec>& pieces, std::size_t bytes) {
    while (!pieces.empty() && bytes >= pieces.front().iov_len) {
        bytes -= pieces.front().iov_len;
        pieces = pieces.subspan(1);
    }
    if (pieces.empty()) return;
    pieces.front().iov_base = static_cast<char*>(pieces.front().iov_base) + bytes;
    pieces.front().iov_len -= bytes;
}

/// Takes a head off the upstream's buffer into upstream.head, where parsed.headers then points.
Parse parse_head(Upstream& upstream, std::size_t bytes_max, std::size_t& scan_from) {
    ParsedResponse& parsed = upstream.parsed;
    std::string_view text(upstream.buffer.get() + upstream.at, upstream.end - upstream.at);
    if (upstream.head.empty()) {
        Parse found = parse_response_head(text, bytes_max, parsed, scan_from);
        if (found == Parse::incomplete) {
            upstream.head.assign(text);
            upstream.at = upstream.end;
        }
        if (found != Parse::complete) return found;
        upstream.head.assign(text.substr(0, parsed.head_bytes));
        auto moved = [from = text.data(), to = upstream.head.data()](std::string_view view) {
            return std::string_view(to + (view.data() - from), view.size());
        };
        for (Header& header : parsed.headers) header = {moved(header.name), moved(header.value)};
        upstream.at += parsed.head_bytes;
        return found;
    }
    std::size_t earlier = upstream.head.size();
    upstream.head.append(text);
    Parse found = parse_response_head(upstream.head, bytes_max, parsed, scan_from);
    if (found == Parse::incomplete) upstream.at = upstream.end;
    if (found != Parse::complete) return found;
    upstream.at += parsed.head_bytes - earlier;
    upstream.head.resize(parsed.head_bytes);  // shrinks in place: the views stay
    return found;
}

}  // namespace

bool valid_header_lines(std::string_view text) {
    if (text.empty()) return true;
    if (text.find('\0') != std::string_view::npos || !text.ends_with("\r\n") || text.starts_with("\r"))
        return false;
    for (std::size_t at = text.find('\n'); at != std::string_view::npos; at = text.find('\n', at + 1))
        if (at == 0 || text[at - 1] != '\r' || (at + 1 < text.size() && text[at + 1] == '\r')) return false;
    return true;
}

void CancelToken::cancel() {
    cancelled_ = true;
    if (hook_ != nullptr) hook_(hook_context_);
}

ThreadPools::ThreadPools(Client::Impl& owner, IoThread& on)
    : client(owner),
      thread(on),
      sweeping(on.deadlines(), [](void* self) { static_cast<ThreadPools*>(self)->sweep(); }, this) {}

ThreadPools::~ThreadPools() {
    for (auto& [key, pool] : origins) client.idle.add(-static_cast<std::int64_t>(pool->idle.size()));
}

OriginPool& ThreadPools::of(const Origin& origin) {
    static thread_local std::string key;  // known origins are found without an allocation
    key.clear();
    append_key(origin, key);
    auto found = origins.find(std::string_view(key));
    if (found == origins.end()) found = origins.emplace(key, std::make_unique<OriginPool>()).first;
    return *found->second;
}

std::unique_ptr<Upstream> ThreadPools::take(OriginPool& pool) {
    Ticks now = client.clock.ticks();
    while (!pool.idle.empty()) {
        auto upstream = std::move(pool.idle.back());
        pool.idle.pop_back();
        client.idle.add(-1);
        Connection& connection = *upstream->connection;
        auto unused = now - upstream->idle_since;
        if (unused >= client.settings.idle_timeout) continue;
        bool ask = unused > trusted_idle || connection.maybe_input();
        if (!ask || !connection.has_pending_input()) return upstream;
    }
    return nullptr;
}

void ThreadPools::give(std::unique_ptr<Upstream> upstream) {
    OriginPool& pool = *upstream->pool;
    if (pool.idle.size() >= static_cast<std::size_t>(client.settings.idle_per_origin_max)) return;
    upstream->reused = true;
    upstream->idle_since = client.clock.ticks();
    upstream->connection->clear_deadline();
    if (!sweeping.armed()) sweeping.arm(upstream->idle_since + client.settings.idle_timeout);
    pool.idle.push_back(std::move(upstream));
    client.idle.add(1);
}

// Closes what was idle for too long or lost its peer, and forgets origins that nobody uses.
void ThreadPools::sweep() {
    Ticks now = client.clock.ticks();
    Ticks next = Ticks::max();
    for (auto at = origins.begin(); at != origins.end();) {
        OriginPool& pool = *at->second;
        auto removed = std::erase_if(pool.idle, [&](const std::unique_ptr<Upstream>& upstream) {
            if (now - upstream->idle_since >= client.settings.idle_timeout) return true;
            return upstream->connection->maybe_input() && upstream->connection->has_pending_input();
        });
        client.idle.add(-static_cast<std::int64_t>(removed));
        if (!pool.idle.empty())
            next = std::min(next, pool.idle.front()->idle_since + client.settings.idle_timeout);
        at = pool.idle.empty() && pool.active == 0 ? origins.erase(at) : std::next(at);
    }
    if (next != Ticks::max()) sweeping.arm(next);
}

Client::Impl::Impl(const ClientSettings& with, IoThreads& on, const Clock& time, metrics::Registry& registry)
    : settings(with),
      threads(on),
      clock(time),
      connects(registry.counter("nebula_client_connects_total", "Connections opened to upstreams.")),
      reuses(registry.counter("nebula_client_reuses_total", "Requests sent on a kept-alive connection.")),
      stale_retries(registry.counter("nebula_client_stale_retries_total",
                                     "Requests sent again because a kept-alive connection was dead.")),
      idle(registry.gauge("nebula_client_idle_connections", "Kept-alive connections without a request.")) {
    for (std::size_t i = 0; i < failure_count; ++i)
        failures[i] =
            &registry.counter("nebula_client_failures_total", "Upstream calls that failed, by reason.",
                              {{"reason", failure_names[i]}});
    for (std::size_t i = 0; i < threads.size(); ++i)
        pools.push_back(std::make_unique<ThreadPools>(*this, threads[i]));
}

std::unexpected<Error> Client::Impl::failed(Failure why, std::string detail) {
    failures[static_cast<std::size_t>(why)]->add();
    const char* message = why <= Failure::tls ? "the upstream could not be reached" : "the upstream failed";
    return fail(Code::upstream_failed, message, {}, std::move(detail));
}

std::unexpected<Error> Client::Impl::ended(Io status, const char* phase, Ticks total_at) {
    if (status == Io::timed_out) {
        failures[static_cast<std::size_t>(Failure::timeout)]->add();
        if (clock.ticks() >= total_at) phase = "total";
        return fail(Code::timeout, "the upstream did not answer in time", {}, phase);
    }
    failures[static_cast<std::size_t>(Failure::cancelled)]->add();
    return fail(Code::cancelled, "the request was cancelled", {}, phase);
}

Async<Result<void>> Client::Impl::write_request(Upstream& upstream, Call& call) {
    Connection& connection = *upstream.connection;
    compose(upstream, call);
    std::span<iovec> left = upstream.pieces;
    while (!left.empty()) {
        WriteResult wrote = connection.try_write(left);
        if (wrote.status == Io::ok) {
            advance(left, wrote.bytes);
            continue;
        }
        if (wrote.status != Io::would_block) {
            // The upstream may have answered before it closed (413, 400): read_head() looks.
            upstream.write_failed = true;
            break;
        }
        connection.set_deadline(std::min(call.total_at, clock.ticks() + call.request.timeouts.idle));
        Io waited = co_await connection.writable();
        if (waited != Io::ok) co_return ended(waited, "send", call.total_at);
    }
    co_return Result<void>{};
}

Async<Result<void>> Client::Impl::read_head(Upstream& upstream, Call& call) {
    Connection& connection = *upstream.connection;
    upstream.head.clear();
    std::size_t scan_from = 0;
    int interim = 0;
    connection.set_deadline(std::min(call.total_at, clock.ticks() + call.request.timeouts.first_byte));
    while (true) {
        Io waited = co_await connection.readable();
        if (waited != Io::ok) co_return ended(waited, call.answered ? "idle" : "first_byte", call.total_at);
        if (!upstream.buffer) upstream.buffer = BufferPool::take();
        ReadResult got = connection.try_read({upstream.buffer.get(), BufferPool::buffer_bytes});
        if (got.status == Io::would_block) {
            upstream.give_buffer();
            continue;
        }
        if (got.status != Io::ok) {
            const char* detail = got.status == Io::closed ? "closed before the answer's head" : "reset";
            // send() tries again on a fresh connection; only what it gives up on is counted.
            if (upstream.reused && !call.answered)
                co_return fail(Code::upstream_failed, "the upstream failed", {}, detail);
            co_return failed(Failure::reset, detail);
        }
        call.answered = true;
        connection.set_deadline(std::min(call.total_at, clock.ticks() + call.request.timeouts.idle));
        upstream.at = 0;
        upstream.end = got.bytes;
        // Interim answers may come in one read with the real one.
        while (upstream.at < upstream.end) {
            Parse found = parse_head(upstream, static_cast<std::size_t>(settings.head_bytes_max), scan_from);
            if (found == Parse::incomplete) break;
            const char* problem = found == Parse::too_large ? "too large" : upstream.parsed.problem;
            if (found == Parse::complete && upstream.parsed.status >= 200) co_return Result<void>{};
            if (found == Parse::complete && upstream.parsed.status == 101) problem = "switching protocols";
            if (++interim > interim_max) problem = "too many interim answers";
            if (problem != nullptr || found != Parse::complete)
                co_return failed(Failure::bad_head,
                                 std::string("bad head: ") + (problem ? problem : "malformed"));
            upstream.head.clear();
            scan_from = 0;
        }
    }
}

Async<Result<void>> Client::Impl::exchange(Upstream& upstream, Call& call) {
    CancelHook hook(call.cancel, *upstream.connection);
    auto written = co_await write_request(upstream, call);
    if (!written) co_return written;
    co_return co_await read_head(upstream, call);
}

Client::Client(const ClientSettings& settings, IoThreads& threads, const Clock& clock,
               metrics::Registry& metrics)
    : impl_(std::make_unique<Impl>(settings, threads, clock, metrics)) {}

// Pooled connections belong to their threads and are closed there.
Client::~Client() {
    std::size_t elsewhere = 0;
    std::counting_semaphore<> closed(0);
    for (auto& pools : impl_->pools) {
        IoThread& thread = pools->thread;
        if (IoThread::current() == &thread || thread.context().stopped()) {
            pools.reset();
            continue;
        }
        ++elsewhere;
        thread.post([&pools, &closed] {
            pools.reset();
            closed.release();
        });
    }
    for (; elsewhere > 0; --elsewhere) closed.acquire();
}

Async<Result<std::unique_ptr<ClientResponse>>> Client::send(const Origin& origin, ClientRequest request,
                                                            CancelToken* cancel) {
    IoThread* thread = IoThread::current();
    CHECK(thread != nullptr && thread->index() < impl_->pools.size(),
          "calls are made on an I/O thread of the client");
    ThreadPools& pools = *impl_->pools[thread->index()];
    Call call{origin, request, cancel, impl_->clock.ticks() + request.timeouts.total};
    if (!valid_target(request.path) || !valid_header_lines(request.headers))
        co_return fail(Code::invalid_request, "the upstream's path or headers are malformed");

    OriginPool& pool = pools.of(origin);
    ++pool.active;  // keeps the pool; the response counts for itself
    struct Leave {
        OriginPool& pool;
        ~Leave() { --pool.active; }
    } leave{pool};
    auto upstream = pools.take(pool);
    while (true) {
        if (cancel != nullptr && cancel->cancelled())
            co_return impl_->ended(Io::cancelled, "connect", call.total_at);
        if (upstream) {
            impl_->reuses.add();
        } else {
            auto connected = co_await impl_->connect(*thread, call);
            if (!connected) co_return fail(std::move(connected.error()));
            upstream = std::make_unique<Upstream>();
            upstream->connection = std::move(*connected);
            upstream->pool = &pool;
        }
        auto exchanged = co_await impl_->exchange(*upstream, call);
        if (exchanged) co_return make_response(*impl_, pools, std::move(upstream), call);
        bool stale = upstream->reused && !call.answered && exchanged.error().code == Code::upstream_failed;
        upstream.reset();
        if (!stale) co_return fail(std::move(exchanged.error()));
        impl_->stale_retries.add();
    }
}

Async<Result<std::string>> ClientResponse::read_all(std::size_t bytes_max) {
    constexpr std::size_t padding = 64;
    std::string all;
    // What the head promises is not believed beyond this; behind the text stays room for a parser's reads.
    constexpr std::uint64_t promise_max = 4 * 1024 * 1024;
    if (auto length = content_length())
        all.reserve(static_cast<std::size_t>(std::min(*length, promise_max)) + padding);
    while (true) {
        auto piece = co_await read();
        if (!piece) co_return fail(std::move(piece.error()));
        if (piece->empty()) co_return all;
        if (all.size() + piece->size() > bytes_max)
            co_return fail(Code::upstream_failed, "the upstream's answer is too large", {}, "body too large");
        all.append(*piece);
    }
}

}  // namespace nebula::http

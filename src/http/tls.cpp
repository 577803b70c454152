// TLS over the connection's own system calls: OpenSSL reads and writes through a BIO that calls recv and
// sendmsg(MSG_NOSIGNAL) and keeps the ready flags, so no signal can come of it and an empty socket is not
// asked twice.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "http/connection_impl.hpp"

namespace nebula::http {
namespace {

constexpr std::size_t record_bytes = 16 * 1024;
constexpr std::size_t join_below = 4 * 1024;  // smaller pieces share a record with their neighbours

Connection::Impl& impl_of(BIO* bio) { return *static_cast<Connection::Impl*>(BIO_get_data(bio)); }

int bio_read(BIO* bio, char* into, int size) {
    auto& impl = impl_of(bio);
    BIO_clear_retry_flags(bio);
    if (impl.read_ready) {
        ssize_t got = impl.receive(into, static_cast<std::size_t>(size));
        if (got >= 0 || impl.read_ready) return static_cast<int>(got);
    }
    BIO_set_retry_read(bio);
    return -1;
}

int bio_write(BIO* bio, const char* from, int size) {
    auto& impl = impl_of(bio);
    BIO_clear_retry_flags(bio);
    if (impl.write_ready) {
        iovec piece{const_cast<char*>(from), static_cast<std::size_t>(size)};
        ssize_t sent = impl.send(&piece, 1);
        if (sent >= 0 || impl.write_ready) return static_cast<int>(sent);
    }
    BIO_set_retry_write(bio);
    return -1;
}

long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* bio_method() {
    static BIO_METHOD* method = [] {
        BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "nebula socket");
        BIO_meth_set_read(made, bio_read);
        BIO_meth_set_write(made, bio_write);
        BIO_meth_set_ctrl(made, bio_control);
        return made;
    }();
    return method;
}

/// Sessions to resume, by host and port. One per client context, shared by all threads.
class SessionCache {
   public:
    void put(const std::string& key, SSL_SESSION* session) {
        std::lock_guard lock(mutex_);
        if (sessions_.size() >= origins_max && !sessions_.contains(key)) clear();
        auto& kept = sessions_[key];
        if (kept.size() >= per_origin_max) {
            SSL_SESSION_free(kept.front());
            kept.erase(kept.begin());
        }
        kept.push_back(session);
    }
    /// The newest; a TLS 1.3 ticket is used only once, so that connections cannot be linked by it.
    SSL_SESSION* take(const std::string& key) {
        std::lock_guard lock(mutex_);
        auto found = sessions_.find(key);
        if (found == sessions_.end() || found->second.empty()) return nullptr;
        SSL_SESSION* session = found->second.back();
        if (SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION)
            found->second.pop_back();
        else
            SSL_SESSION_up_ref(session);
        return session;
    }
    ~SessionCache() { clear(); }

   private:
    static constexpr std::size_t per_origin_max = 8;
    static constexpr std::size_t origins_max = 1024;
    void clear() {
        for (auto& [key, kept] : sessions_)
            for (auto* session : kept) SSL_SESSION_free(session);
        sessions_.clear();
    }
    std::mutex mutex_;
    std::map<std::string, std::vector<SSL_SESSION*>> sessions_;
};

int cache_index() {
    static int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr,
                                                [](void*, void* cache, CRYPTO_EX_DATA*, int, long, void*) {
                                                    delete static_cast<SessionCache*>(cache);
                                                });
    return index;
}

SessionCache* cache_of(SSL_CTX* context) {
    return static_cast<SessionCache*>(SSL_CTX_get_ex_data(context, cache_index()));
}

int keep_session(SSL* ssl, SSL_SESSION* session) {
    auto* impl = static_cast<Connection::Impl*>(SSL_get_app_data(ssl));
    SessionCache* cache = cache_of(SSL_get_SSL_CTX(ssl));
    if (impl == nullptr || cache == nullptr || !SSL_SESSION_is_resumable(session)) return 0;
    cache->put(impl->tls_peer, session);
    return 1;  // the reference is ours now
}

bool is_address(const std::string& host) {
    unsigned char bytes[sizeof(in6_addr)];
    return ::inet_pton(AF_INET, host.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

std::string port_of_peer(int fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "?";
    if (address.ss_family == AF_INET) return std::to_string(reinterpret_cast<sockaddr_in&>(address).sin_port);
    if (address.ss_family == AF_INET6)
        return std::to_string(reinterpret_cast<sockaddr_in6&>(address).sin6_port);
    return "unix";
}

std::string openssl_problem() {
    unsigned long code = ERR_peek_last_error();
    const char* reason = code != 0 ? ERR_reason_error_string(code) : nullptr;
    ERR_clear_error();
    return reason != nullptr ? reason : "unknown problem";
}

void set_common_options(SSL_CTX* context) {
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
}

int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
                    unsigned int offered_size, void*) {
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char* chosen = nullptr;
    if (SSL_select_next_proto(&chosen, out_size, ours, sizeof ours - 1, offered, offered_size) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/// What the next SSL_write takes: a large piece as it is, small ones joined into `scratch`. On a retry the
/// pieces are the same, and so is what this returns, as OpenSSL demands.
std::string_view next_record(std::span<const iovec> pieces, std::size_t at, std::size_t inside,
                             char* scratch) {
    const char* first = static_cast<const char*>(pieces[at].iov_base) + inside;
    std::size_t left = pieces[at].iov_len - inside;
    if (left >= join_below || at + 1 == pieces.size()) return {first, left};
    std::size_t filled = 0;
    while (at < pieces.size() && filled < record_bytes) {
        std::size_t size = std::min(pieces[at].iov_len - inside, record_bytes - filled);
        std::memcpy(scratch + filled, static_cast<const char*>(pieces[at].iov_base) + inside, size);
        filled += size;
        inside = 0;
        ++at;
    }
    return {scratch, filled};
}

}  // namespace

ReadResult Connection::Impl::tls_read(std::span<char> into) {
    if (!ready(false)) return {Io::would_block, 0};
    if (!tls_done) return {Io::failed, 0};
    ERR_clear_error();
    std::size_t got = 0;
    int done = SSL_read_ex(ssl, into.data(), into.size(), &got);
    reader_takes_write = tls_pending = false;
    if (done == 1) {
        tls_pending = SSL_has_pending(ssl) == 1;
        return {Io::ok, got};
    }
    switch (SSL_get_error(ssl, done)) {
        case SSL_ERROR_WANT_READ:
            return {Io::would_block, 0};
        case SSL_ERROR_WANT_WRITE:
            reader_takes_write = true;
            return {Io::would_block, 0};
        case SSL_ERROR_ZERO_RETURN:
            return {Io::closed, 0};
        default:
            tls_done = false;
            return {Io::failed, 0};  // also an end without close_notify: a cut
    }
}

WriteResult Connection::Impl::tls_write(std::span<const iovec> pieces) {
    if (!write_ready) return {Io::would_block, 0};
    if (!tls_done || tls_write_failed) return {Io::failed, 0};
    static thread_local char scratch[record_bytes];
    std::size_t total = 0, at = 0, inside = 0;
    while (true) {
        while (at < pieces.size() && inside >= pieces[at].iov_len) inside -= pieces[at++].iov_len;
        if (at == pieces.size()) return {Io::ok, total};
        std::string_view record = next_record(pieces, at, inside, scratch);
        ERR_clear_error();
        std::size_t taken = 0;
        int done = SSL_write_ex(ssl, record.data(), record.size(), &taken);
        if (done == 1) {
            total += taken;
            inside += taken;
            continue;
        }
        int problem = SSL_get_error(ssl, done);
        if (problem != SSL_ERROR_WANT_WRITE) {
            tls_write_failed = true;
            return {Io::failed, 0};
        }
        if (total > 0) return {Io::ok, total};
        return {Io::would_block, 0};
    }
}

bool Connection::Impl::tls_begin(SSL_CTX* context, bool server) {
    ssl = SSL_new(context);
    BIO* bio = BIO_new(bio_method());
    if (ssl == nullptr || bio == nullptr) {
        BIO_free(bio);
        return false;
    }
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, static_cast<void*>(this));
    server ? SSL_set_accept_state(ssl) : SSL_set_connect_state(ssl);
    return true;
}

Io Connection::Impl::tls_step(bool& wants_write) {
    ERR_clear_error();
    int done = SSL_do_handshake(ssl);
    if (done == 1) {
        tls_done = true;
        tls_pending = SSL_has_pending(ssl) == 1;
        return Io::ok;
    }
    int problem = SSL_get_error(ssl, done);
    wants_write = problem == SSL_ERROR_WANT_WRITE;
    return wants_write || problem == SSL_ERROR_WANT_READ ? Io::would_block : Io::failed;
}

// Tickets may have come since: they are taken in by the peek and are no input.
bool Connection::Impl::tls_input_pending() {
    if (!tls_done) return true;
    ERR_clear_error();
    read_ready = true;
    char byte;
    std::size_t got = 0;
    int done = SSL_peek_ex(ssl, &byte, 1, &got);
    if (done == 1) return true;
    return SSL_get_error(ssl, done) != SSL_ERROR_WANT_READ;
}

void Connection::Impl::tls_close() {
    ERR_clear_error();
    if (tls_done && !tls_write_failed && !reset_on_close) SSL_shutdown(ssl);
    // Otherwise SSL_free would mark the session as not resumable.
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
    ssl = nullptr;
    ERR_clear_error();
}

Async<Io> Connection::tls_accept(ssl_ctx_st* context) {
    if (!impl_->tls_begin(context, true)) co_return Io::failed;
    while (true) {
        bool wants_write = false;
        Io step = impl_->tls_step(wants_write);
        if (step != Io::would_block) co_return step;
        Wait wait = wants_write ? writable() : readable();
        Io waited = co_await wait;
        if (waited != Io::ok) co_return waited;
    }
}

Async<Result<void>> Connection::tls_connect(ssl_ctx_st* context, std::string host) {
    if (!impl_->tls_begin(context, false)) co_return fail(Code::internal, "TLS could not be set up");
    SSL* ssl = impl_->ssl;
    impl_->tls_peer = host + ":" + port_of_peer(impl_->fd);
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (is_address(host)) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str());
    } else {
        SSL_set_tlsext_host_name(ssl, host.c_str());
        SSL_set1_host(ssl, host.c_str());
    }
    SessionCache* cache = cache_of(context);
    if (SSL_SESSION* session = cache != nullptr ? cache->take(impl_->tls_peer) : nullptr;
        session != nullptr) {
        SSL_set_session(ssl, session);
        SSL_SESSION_free(session);
    }
    while (true) {
        bool wants_write = false;
        Io step = impl_->tls_step(wants_write);
        if (step == Io::ok) co_return Result<void>{};
        if (step == Io::failed) {
            long verdict = SSL_get_verify_result(ssl);
            std::string why =
                verdict != X509_V_OK ? X509_verify_cert_error_string(verdict) : openssl_problem();
            co_return fail(Code::upstream_failed, "the upstream could not be reached", {}, "tls: " + why);
        }
        Wait wait = wants_write ? writable() : readable();
        Io waited = co_await wait;
        if (waited == Io::timed_out)
            co_return fail(Code::timeout, "the upstream did not answer in time", {}, "connect: tls");
        if (waited != Io::ok)
            co_return fail(Code::cancelled, "the request was cancelled", {}, "connect: tls");
    }
}

bool Connection::tls_resumed() const { return impl_->ssl != nullptr && SSL_session_reused(impl_->ssl) == 1; }

void SslCtxFree::operator()(ssl_ctx_st* context) const { SSL_CTX_free(context); }

Result<SslContext> make_server_tls(const std::string& cert_file, const std::string& key_file) {
    ERR_clear_error();
    SslContext context(SSL_CTX_new(TLS_server_method()));
    if (!context) return fail(Code::internal, "TLS could not be set up: " + openssl_problem());
    set_common_options(context.get());
    if (SSL_CTX_use_certificate_chain_file(context.get(), cert_file.c_str()) != 1)
        return fail(Code::invalid_request, "certificate " + cert_file + ": " + openssl_problem(), "tls_cert");
    if (SSL_CTX_use_PrivateKey_file(context.get(), key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context.get()) != 1)
        return fail(Code::invalid_request, "key " + key_file + ": " + openssl_problem(), "tls_key");
    static const unsigned char session_context[] = "nebula";
    SSL_CTX_set_session_id_context(context.get(), session_context, sizeof session_context - 1);
    SSL_CTX_set_alpn_select_cb(context.get(), choose_protocol, nullptr);
    return context;
}

Result<SslContext> make_client_tls(const std::string& ca_file) {
    ERR_clear_error();
    SslContext context(SSL_CTX_new(TLS_client_method()));
    if (!context) return fail(Code::internal, "TLS could not be set up: " + openssl_problem());
    set_common_options(context.get());
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_default_verify_paths(context.get());
    ERR_clear_error();  // a machine without trust anchors fails later, in verification
    if (!ca_file.empty() && SSL_CTX_load_verify_locations(context.get(), ca_file.c_str(), nullptr) != 1)
        return fail(Code::invalid_request, "trust anchors " + ca_file + ": " + openssl_problem(), "ca_file");
    static const unsigned char protocols[] = "\x08http/1.1";
    SSL_CTX_set_alpn_protos(context.get(), protocols, sizeof protocols - 1);
    SSL_CTX_set_ex_data(context.get(), cache_index(), new SessionCache);
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context.get(), keep_session);
    return context;
}

}  // namespace nebula::http

#pragma once
// One request on a connection: its input buffer, parsed head, body and answer. Private to http's server half.
// Pooled per thread, so that an idle connection owns none. Everything runs on the connection's I/O thread.

#include <sys/uio.h>

#include <memory>
#include <string>

#include "http/connection.hpp"
#include "http/http.hpp"
#include "http/parser.hpp"
#include "http/server_gone.hpp"
#include "http/server_state.hpp"

namespace nebula::http {

/// malloc'ed text that grows without copying where the allocator can, counted against the server's bound.
class BodyBuffer {
   public:
    BodyBuffer() = default;
    BodyBuffer(const BodyBuffer&) = delete;
    BodyBuffer& operator=(const BodyBuffer&) = delete;
    ~BodyBuffer() { release(); }

    /// At least `bytes` and padding behind. False: over the server's bound, or no memory.
    bool reserve(ServerState& state, std::size_t bytes);
    void release();
    char* data() { return data_; }
    std::size_t capacity() const { return capacity_; }

   private:
    ServerState* state_ = nullptr;
    char* data_ = nullptr;
    std::size_t capacity_ = 0;  // without the padding
};

class HttpExchange final : public Exchange {
   public:
    explicit HttpExchange(ServerThread& server);
    ~HttpExchange() override;

    // Exchange
    const RequestHead& head() const override { return parsed_.head; }
    RequestId id() const override { return id_; }
    std::string_view remote_ip() const override { return remote_ip_; }
    IoThread& thread() override { return server_.thread; }
    Ticks started() const override { return started_; }
    std::string_view path_param(std::string_view name) const override;
    Async<Result<std::string_view>> body(std::size_t bytes_max) override;
    void add_header(std::string_view name, std::string_view value) override;
    Async<Result<void>> respond(int status, std::string_view content_type, std::string_view body) override;
    using Exchange::respond;
    Async<Result<void>> respond_error(Error error) override;
    void begin_stream(int status, std::string_view content_type) override;
    Async<Result<void>> write(std::string_view piece) override { return stream_out(piece, false); }
    Async<Result<void>> end(std::string_view last_piece) override { return stream_out(last_piece, true); }
    void abort(std::string_view last_words) override;
    bool has_begun() const override { return phase_ != Phase::open; }
    void on_gone(std::move_only_function<void()> callback) override;
    bool is_gone() const override { return gone_; }

    // For the session, in this order.
    void attach(Connection& connection, std::string_view remote_ip);
    Io read_input();  // one read behind what is there
    bool has_input() const { return begin_ < end_; }
    Parse parse();
    const char* problem() const { return parsed_.problem; }
    void begin(Ticks now);  // the head is complete: id, route
    const Router::Match& match() const { return match_; }
    Async<Result<void>> answer_unmatched();
    /// A request that could not be read: `status` 0 leaves the dialect's.
    Async<Result<void>> refuse(Error error, int status, Ticks now);
    /// Handler is through: aborts or answers what it left open, reads over an unread body. True: another may
    /// follow.
    Async<bool> finish();
    bool broken() const { return broken_; }  // nothing can be sent any more
    void next();                             // keeps input that belongs to the next request
    void detach();
    void client_gone();
    std::span<char> scratch() { return {data_, capacity_}; }  // after finish()

   private:
    enum class Phase : std::uint8_t { open, answered, streaming, ended, aborted };
    enum class Body : std::uint8_t { unread, done, broken };

    // exchange_body.cpp
    bool make_room();
    Async<Result<std::size_t>> read_more(char* into, std::size_t room);
    Async<Result<void>> send_continue();
    Async<Result<std::string_view>> read_in_place(std::size_t length);
    Async<Result<std::string_view>> read_sized(std::size_t length);
    Async<Result<std::string_view>> read_chunked(std::size_t limit);
    Async<bool> drain_body();
    bool append_body(std::string_view piece, std::size_t limit, std::size_t& size);
    std::unexpected<Error> body_too_large(std::size_t limit);
    std::unexpected<Error> no_memory();
    std::uint64_t missing_body() const;  // declared bytes that have not arrived
    Ticks body_deadline();

    // exchange.cpp
    void build_head(int status, std::string_view content_type, std::optional<std::size_t> length);
    void append_cors();
    bool may_keep_alive() const;
    Async<Result<void>> stream_out(std::string_view piece, bool last);
    Async<Io> write_rest(std::span<iovec> left);
    std::unexpected<Error> send_failed(Io why);
    static void gone_fired(void* self);

    ServerThread& server_;
    Connection* connection_ = nullptr;
    std::string_view remote_ip_;

    // Input: data_[0, begin_) belongs to this request, [begin_, end_) is not consumed yet.
    std::unique_ptr<char[]> pooled_;
    std::unique_ptr<char[]> large_;  // replaces pooled_ for heads above 15 KiB
    char* data_ = nullptr;
    std::size_t capacity_ = 0;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::size_t scan_from_ = 0;
    ParsedRequest parsed_;

    RequestId id_;
    Ticks started_{};
    Router::Match match_;
    std::string_view cors_origin_;

    Body body_ = Body::unread;
    bool continue_sent_ = false;
    std::string_view body_view_;
    BodyBuffer body_buffer_;
    ChunkDecoder decoder_;
    Ticks body_started_{};
    std::size_t body_received_ = 0;

    Phase phase_ = Phase::open;
    bool bodyless_ = false;  // HEAD, 204, 304
    bool chunked_ = false;
    bool head_sent_ = false;
    bool close_after_ = false;
    bool broken_ = false;
    bool gone_ = false;
    bool write_timed_out_ = false;
    std::string answer_head_;    // reused
    std::string extra_headers_;  // reused
    GoneHook gone_hook_;
    std::move_only_function<void()> on_gone_;
};

}  // namespace nebula::http

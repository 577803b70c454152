// The body of an answer: framing removed, pieces as the network delivered them.
#include <cstring>

#include "http/client_impl.hpp"

namespace nebula::http {
namespace {

enum class Body { none, length, chunked, until_close };

class Response11 final : public ClientResponse {
   public:
    Response11(Client::Impl& client, ThreadPools& pools, std::unique_ptr<Upstream> upstream, const Call& call)
        : client_(client),
          pools_(pools),
          upstream_(std::move(upstream)),
          pool_(*upstream_->pool),
          cancel_(call.cancel),
          total_at_(call.total_at),
          idle_(call.request.timeouts.idle) {
        ++pool_.active;
        const ParsedResponse& parsed = upstream_->parsed;
        if (call.request.method == Method::head || parsed.status == 204 || parsed.status == 304)
            body_ = Body::none;
        else if (parsed.chunked)
            body_ = Body::chunked;
        else if (parsed.content_length)
            body_ = Body::length;
        else
            body_ = Body::until_close;
        if (body_ == Body::length) left_ = *parsed.content_length;
        finished_ = body_ == Body::none || (body_ == Body::length && left_ == 0);
    }

    ~Response11() override {
        leave();
        --pool_.active;
    }

    int status() const override { return upstream_->parsed.status; }
    std::optional<std::string_view> header(std::string_view name) const override {
        return upstream_->parsed.header(name);
    }
    std::span<const Header> headers() const override { return upstream_->parsed.headers; }
    std::optional<std::uint64_t> content_length() const override { return upstream_->parsed.content_length; }
    bool ends_with_connection() const override { return body_ == Body::until_close; }

    void detach(std::chrono::milliseconds rest) override {
        cancel_ = nullptr;
        total_at_ = std::min(total_at_, client_.clock.ticks() + rest);
    }
    Async<Result<std::string_view>> read() override;

   private:
    std::string_view decode();
    std::string_view decode_chunks(std::string_view input);
    std::unexpected<Error> end_with(std::unexpected<Error> error);
    void leave();

    Client::Impl& client_;
    ThreadPools& pools_;
    std::unique_ptr<Upstream> upstream_;
    OriginPool& pool_;
    CancelToken* cancel_;
    Ticks total_at_;
    std::chrono::milliseconds idle_;
    Body body_ = Body::none;
    std::uint64_t left_ = 0;  // of a body with a length
    ChunkDecoder decoder_;
    bool finished_ = false;  // the body's last byte was taken from the buffer
    bool malformed_ = false;
    bool extra_ = false;  // bytes behind the body: the connection cannot be trusted
    std::optional<Error> error_;
};

// Takes everything out of the buffer and returns the body's bytes in it, side by side.
std::string_view Response11::decode() {
    std::string_view input(upstream_->buffer.get() + upstream_->at, upstream_->end - upstream_->at);
    upstream_->at = upstream_->end;
    if (body_ == Body::chunked) return decode_chunks(input);
    if (body_ == Body::until_close) return input;
    std::string_view piece =
        input.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size())));
    left_ -= piece.size();
    finished_ = left_ == 0;
    extra_ = piece.size() < input.size();
    return piece;
}

// Several chunks in one read become one piece: their bytes are moved together over the framing between them,
// so that what came as one read leaves as one write.
std::string_view Response11::decode_chunks(std::string_view input) {
    char* begin = nullptr;
    std::size_t size = 0;
    while (!input.empty() && !finished_ && !malformed_) {
        ChunkDecoder::Step step = decoder_.next(input);
        finished_ = step.state == ChunkDecoder::State::done;
        malformed_ = step.state == ChunkDecoder::State::bad;
        if (step.data.empty()) continue;
        if (begin == nullptr)
            begin = upstream_->buffer.get() + (step.data.data() - upstream_->buffer.get());
        else
            std::memmove(begin + size, step.data.data(), step.data.size());
        size += step.data.size();
    }
    extra_ = finished_ && !input.empty();
    return begin == nullptr ? std::string_view() : std::string_view(begin, size);
}

Async<Result<std::string_view>> Response11::read() {
    if (error_) co_return fail(*error_);
    Upstream& upstream = *upstream_;
    while (!finished_ && !malformed_) {
        if (cancel_ != nullptr && cancel_->cancelled())
            co_return end_with(client_.ended(Io::cancelled, "body", total_at_));
        if (upstream.at < upstream.end) {
            std::string_view piece = decode();
            if (!piece.empty()) co_return piece;
            continue;
        }
        Ticks now = client_.clock.ticks();
        upstream.connection->set_deadline(std::min(total_at_, now + idle_));
        Connection::Wait wait = upstream.connection->readable();
        if (!wait.await_ready()) upstream.give_buffer();  // nothing held while waiting
        CancelHook hook(cancel_, *upstream.connection);
        Io waited = co_await wait;
        if (waited == Io::ok && now >= total_at_) waited = Io::timed_out;
        if (waited != Io::ok) co_return end_with(client_.ended(waited, "idle", total_at_));
        if (!upstream.buffer) upstream.buffer = BufferPool::take();
        ReadResult got = upstream.connection->try_read({upstream.buffer.get(), BufferPool::buffer_bytes});
        if (got.status == Io::would_block) continue;
        upstream.at = 0;
        upstream.end = got.bytes;
        if (got.status == Io::ok) continue;
        if (got.status == Io::closed && body_ == Body::until_close) {
            finished_ = true;
            break;
        }
        const char* detail =
            got.status == Io::closed ? "cut: closed inside the body" : "cut: reset inside the body";
        co_return end_with(client_.failed(Failure::cut, detail));
    }
    if (malformed_) co_return end_with(client_.failed(Failure::framing, "bad chunked framing"));
    upstream.give_buffer();
    co_return std::string_view();
}

// An error is final: the upstream learns at once that nobody listens any more.
std::unexpected<Error> Response11::end_with(std::unexpected<Error> error) {
    error_ = error.error();
    upstream_->at = upstream_->end = 0;
    upstream_->give_buffer();
    upstream_->connection.reset();
    return error;
}

void Response11::leave() {
    bool clean =
        finished_ && !error_ && !extra_ && upstream_->at == upstream_->end && !upstream_->write_failed;
    bool keep = clean && upstream_->parsed.keep_alive && body_ != Body::until_close;
    upstream_->at = upstream_->end = 0;
    upstream_->give_buffer();
    if (keep) pools_.give(std::move(upstream_));
}

}  // namespace

std::unique_ptr<ClientResponse> make_response(Client::Impl& client, ThreadPools& pools,
                                              std::unique_ptr<Upstream> upstream, const Call& call) {
    return std::make_unique<Response11>(client, pools, std::move(upstream), call);
}

}  // namespace nebula::http

// Reading the request's body: in place where it came with the head, into a growing buffer otherwise.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "http/exchange.hpp"

namespace nebula::http {
namespace {

constexpr std::size_t first_body_capacity = 64 * 1024;
// Large bodies: a buffer that grows by so much copies at most a third of them, and takes no more memory than
// the client has earned by sending a quarter of it.
constexpr std::size_t body_growth = 4;
constexpr std::size_t drain_bytes_max = 64 * 1024;
constexpr std::chrono::seconds drain_time{5};
constexpr std::size_t body_rate_min = 1024;     // bytes a second, over the whole body
constexpr std::size_t room_behind_head = 1024;  // a chunked body is read through the space behind the head

}  // namespace

bool BodyBuffer::reserve(ServerState& state, std::size_t bytes) {
    if (bytes <= capacity_) return true;
    state_ = &state;
    if (!state.reserve_bytes(bytes - capacity_)) return false;
    auto before = reinterpret_cast<std::uintptr_t>(data_);
    void* larger = std::realloc(data_, bytes + BufferPool::padding);
    if (larger == nullptr) {
        state.release_bytes(bytes - capacity_);
        return false;
    }
    if (reinterpret_cast<std::uintptr_t>(larger) != before) state.counted.body_copied_bytes.add(capacity_);
    data_ = static_cast<char*>(larger);
    capacity_ = bytes;
    return true;
}

void BodyBuffer::release() {
    if (data_ == nullptr) return;
    std::free(data_);
    state_->release_bytes(capacity_);
    data_ = nullptr;
    capacity_ = 0;
}

// The pooled buffer is full: a long head. Both bounds together are what one connection may hold before its
// body.
bool HttpExchange::make_room() {
    auto head_max = static_cast<std::size_t>(server_.state.settings.head_bytes_max);
    std::size_t wanted = head_max + BufferPool::buffer_bytes;
    if (large_) return false;
    large_ = std::make_unique_for_overwrite<char[]>(wanted + BufferPool::padding);
    std::memcpy(large_.get(), data_, end_);
    std::memset(large_.get() + wanted, 0, BufferPool::padding);
    data_ = large_.get();
    capacity_ = wanted;
    BufferPool::give(std::move(pooled_));
    return true;
}

Io HttpExchange::read_input() {
    if (end_ + room_behind_head > capacity_ && !make_room() && end_ == capacity_) return Io::failed;
    ReadResult got = connection_->try_read({data_ + end_, capacity_ - end_});
    if (got.status == Io::ok) end_ += got.bytes;
    return got.status;
}

// Between two bytes body_timeout may pass, and the whole must keep up a low average rate.
Ticks HttpExchange::body_deadline() {
    Ticks now = server_.now();
    auto timeout = server_.state.settings.body_timeout;
    if (body_started_ == Ticks()) body_started_ = now;
    auto earned = std::chrono::seconds(body_received_ / body_rate_min);
    return std::min(now + timeout, body_started_ + timeout + earned);
}

Async<Result<std::size_t>> HttpExchange::read_more(char* into, std::size_t room) {
    Io status = Io::would_block;
    while (status == Io::would_block) {
        ReadResult got = connection_->try_read({into, room});
        if (got.status == Io::ok) {
            body_received_ += got.bytes;
            co_return got.bytes;
        }
        status = got.status;
        if (status != Io::would_block) break;
        connection_->set_deadline(body_deadline());
        Io ready = co_await connection_->readable();
        if (ready != Io::ok) status = ready;
    }
    body_ = Body::broken;
    if (status == Io::timed_out) {
        server_.state.counted.timeout_body.add();
        co_return fail(Code::timeout, "the request body did not arrive in time", "", "request body");
    }
    gone_ = true;
    co_return fail(Code::cancelled, "the client closed the connection");
}

std::unexpected<Error> HttpExchange::body_too_large(std::size_t limit) {
    server_.state.counted.refused_body_size.add();
    return fail(Code::payload_too_large,
                "the request body is larger than the limit of " + std::to_string(limit) + " bytes");
}

std::unexpected<Error> HttpExchange::no_memory() {
    body_ = Body::broken;
    body_buffer_.release();
    server_.state.counted.refused_memory.add();
    Error error{Code::overloaded, "the server holds too many request bodies at the moment, try again"};
    error.retry_after_ms = 1000;
    return fail(std::move(error));
}

std::uint64_t HttpExchange::missing_body() const {
    std::uint64_t length = parsed_.head.content_length.value_or(0);
    std::uint64_t here = end_ - begin_;
    return length > here ? length - here : 0;
}

Async<Result<void>> HttpExchange::send_continue() {
    if (!parsed_.head.expects_continue || continue_sent_) co_return Result<void>();
    continue_sent_ = true;
    constexpr std::string_view line = "HTTP/1.1 100 Continue\r\n\r\n";
    iovec piece{const_cast<char*>(line.data()), line.size()};
    WriteResult sent = connection_->try_write({&piece, 1});
    Io status = sent.status;
    if (status == Io::would_block || (status == Io::ok && sent.bytes < line.size())) {
        std::size_t done = status == Io::ok ? sent.bytes : 0;
        iovec left{const_cast<char*>(line.data()) + done, line.size() - done};
        std::span<iovec> rest(&left, 1);
        status = co_await write_rest(rest);
    }
    if (status != Io::ok) co_return send_failed(status);
    co_return Result<void>();
}

Async<Result<std::string_view>> HttpExchange::body(std::size_t bytes_max) {
    if (body_ == Body::done) co_return body_view_;
    if (body_ == Body::broken) co_return fail(Code::invalid_request, "the request body could not be read");
    std::size_t limit = std::min(bytes_max, static_cast<std::size_t>(server_.state.settings.body_bytes_max));
    if (!parsed_.head.chunked) {
        std::uint64_t declared = parsed_.head.content_length.value_or(0);
        if (declared > limit) co_return body_too_large(limit);
        auto length = static_cast<std::size_t>(declared);
        if (length <= end_ - begin_) {
            body_view_ = {data_ + begin_, length};
            begin_ += length;
            body_ = Body::done;
            co_return body_view_;
        }
        Result<void> asked = co_await send_continue();
        if (!asked) co_return fail(std::move(asked.error()));
        if (begin_ + length <= capacity_) {
            Result<std::string_view> here = co_await read_in_place(length);
            co_return here;
        }
        Result<std::string_view> whole = co_await read_sized(length);
        co_return whole;
    }
    Result<std::string_view> whole = co_await read_chunked(limit);
    co_return whole;
}

Async<Result<std::string_view>> HttpExchange::read_in_place(std::size_t length) {
    while (end_ - begin_ < length) {
        Result<std::size_t> got = co_await read_more(data_ + end_, capacity_ - end_);
        if (!got) co_return fail(std::move(got.error()));
        end_ += *got;
    }
    body_view_ = {data_ + begin_, length};
    begin_ += length;
    body_ = Body::done;
    server_.state.counted.body_bytes.add(length);
    co_return body_view_;
}

Async<Result<std::string_view>> HttpExchange::read_sized(std::size_t length) {
    std::size_t size = end_ - begin_;
    // Grown as bytes come, so that a declaration alone takes no memory.
    if (!body_buffer_.reserve(server_.state, std::min(length, std::max(first_body_capacity, size))))
        co_return no_memory();
    std::memcpy(body_buffer_.data(), data_ + begin_, size);
    server_.state.counted.body_copied_bytes.add(size);
    begin_ = end_;
    while (size < length) {
        if (size == body_buffer_.capacity() &&
            !body_buffer_.reserve(server_.state, std::min(length, body_buffer_.capacity() * body_growth)))
            co_return no_memory();
        Result<std::size_t> got =
            co_await read_more(body_buffer_.data() + size, body_buffer_.capacity() - size);
        if (!got) co_return fail(std::move(got.error()));
        size += *got;
    }
    std::memset(body_buffer_.data() + size, 0, BufferPool::padding);
    server_.state.counted.body_bytes.add(size);
    body_view_ = {body_buffer_.data(), size};
    body_ = Body::done;
    co_return body_view_;
}

bool HttpExchange::append_body(std::string_view piece, std::size_t limit, std::size_t& size) {
    if (size + piece.size() > body_buffer_.capacity()) {
        std::size_t wanted = std::max({size + piece.size(), body_buffer_.capacity() * 2, std::size_t{4096}});
        if (!body_buffer_.reserve(server_.state, std::min(wanted, std::max(limit, size + piece.size()))))
            return false;
    }
    std::memcpy(body_buffer_.data() + size, piece.data(), piece.size());
    size += piece.size();
    return true;
}

Async<Result<std::string_view>> HttpExchange::read_chunked(std::size_t limit) {
    std::size_t size = 0;
    ChunkDecoder::State state = ChunkDecoder::State::more;
    while (state != ChunkDecoder::State::done) {
        if (begin_ == end_) {
            Result<void> asked = co_await send_continue();
            if (!asked) co_return fail(std::move(asked.error()));
            begin_ = end_ = parsed_.head_bytes;
            Result<std::size_t> got = co_await read_more(data_ + end_, capacity_ - end_);
            if (!got) co_return fail(std::move(got.error()));
            end_ += *got;
        }
        std::string_view input(data_ + begin_, end_ - begin_);
        ChunkDecoder::Step step = decoder_.next(input);
        begin_ = end_ - input.size();
        state = step.state;
        if (state == ChunkDecoder::State::bad) {
            body_ = Body::broken;
            server_.state.counted.refused_malformed.add();
            co_return fail(Code::invalid_request, "malformed chunked request body");
        }
        if (state != ChunkDecoder::State::data) continue;
        if (step.data.size() > limit - size) {
            body_ = Body::broken;
            co_return body_too_large(limit);
        }
        if (!append_body(step.data, limit, size)) co_return no_memory();
    }
    if (!body_buffer_.reserve(server_.state, 1)) co_return no_memory();
    std::memset(body_buffer_.data() + size, 0, BufferPool::padding);
    server_.state.counted.body_bytes.add(size);
    server_.state.counted.body_copied_bytes.add(size);
    body_view_ = {body_buffer_.data(), size};
    body_ = Body::done;
    co_return body_view_;
}

// Reads over a body nobody wanted, so that the connection can serve another request; false: not worth it.
Async<bool> HttpExchange::drain_body() {
    if (body_ == Body::done) co_return true;
    if (body_ == Body::broken) co_return false;
    // Without the 100 the client may or may not send it, so what follows cannot be told from a request.
    bool waits_for_continue = parsed_.head.expects_continue && !continue_sent_;
    bool chunked = parsed_.head.chunked;
    std::uint64_t missing = missing_body();
    if (chunked ? waits_for_continue : missing > 0 && (waits_for_continue || missing > drain_bytes_max))
        co_return false;
    if (!chunked && missing == 0) {
        begin_ += static_cast<std::size_t>(parsed_.head.content_length.value_or(0));
        co_return true;
    }
    std::size_t drained = 0;
    Ticks until = server_.now() + drain_time;
    std::size_t space = parsed_.head_bytes;
    std::uint64_t left = parsed_.head.content_length.value_or(0);
    while (drained <= drain_bytes_max) {
        if (chunked) {
            std::string_view input(data_ + begin_, end_ - begin_);
            ChunkDecoder::Step step = decoder_.next(input);
            begin_ = end_ - input.size();
            if (step.state == ChunkDecoder::State::done) co_return true;
            if (step.state == ChunkDecoder::State::bad) co_return false;
            if (begin_ < end_) continue;
        } else {
            auto take = static_cast<std::size_t>(std::min<std::uint64_t>(left, end_ - begin_));
            begin_ += take;
            left -= take;
            if (left == 0) co_return true;
        }
        begin_ = end_ = space;
        ReadResult got = connection_->try_read({data_ + end_, capacity_ - end_});
        if (got.status == Io::would_block) {
            connection_->set_deadline(until);
            Io ready = co_await connection_->readable();
            if (ready != Io::ok) co_return false;
            continue;
        }
        if (got.status != Io::ok) co_return false;
        end_ += got.bytes;
        drained += got.bytes;
    }
    co_return false;
}

}  // namespace nebula::http

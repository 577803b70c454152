// The answer's side of an exchange, and its life within a session.
#include "http/exchange.hpp"

#include <algorithm>
#include <charconv>

#include "base/log.hpp"

namespace nebula::http {
namespace {

constexpr std::size_t undrained_max = 64 * 1024;  // as drain_body(): more unread body costs the connection

constexpr std::string_view exposed_headers =
    "access-control-expose-headers: x-request-id, retry-after, x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens\r\n";

std::string_view status_line(int status) {
    switch (status) {
        case 200:
            return "HTTP/1.1 200 OK\r\n";
        case 201:
            return "HTTP/1.1 201 Created\r\n";
        case 202:
            return "HTTP/1.1 202 Accepted\r\n";
        case 204:
            return "HTTP/1.1 204 No Content\r\n";
        case 206:
            return "HTTP/1.1 206 Partial Content\r\n";
        case 301:
            return "HTTP/1.1 301 Moved Permanently\r\n";
        case 302:
            return "HTTP/1.1 302 Found\r\n";
        case 304:
            return "HTTP/1.1 304 Not Modified\r\n";
        case 307:
            return "HTTP/1.1 307 Temporary Redirect\r\n";
        case 308:
            return "HTTP/1.1 308 Permanent Redirect\r\n";
        case 400:
            return "HTTP/1.1 400 Bad Request\r\n";
        case 401:
            return "HTTP/1.1 401 Unauthorized\r\n";
        case 402:
            return "HTTP/1.1 402 Payment Required\r\n";
        case 403:
            return "HTTP/1.1 403 Forbidden\r\n";
        case 404:
            return "HTTP/1.1 404 Not Found\r\n";
        case 405:
            return "HTTP/1.1 405 Method Not Allowed\r\n";
        case 408:
            return "HTTP/1.1 408 Request Timeout\r\n";
        case 409:
            return "HTTP/1.1 409 Conflict\r\n";
        case 413:
            return "HTTP/1.1 413 Content Too Large\r\n";
        case 422:
            return "HTTP/1.1 422 Unprocessable Content\r\n";
        case 429:
            return "HTTP/1.1 429 Too Many Requests\r\n";
        case 431:
            return "HTTP/1.1 431 Request Header Fields Too Large\r\n";
        case 499:
            return "HTTP/1.1 499 Client Closed Request\r\n";
        case 500:
            return "HTTP/1.1 500 Internal Server Error\r\n";
        case 501:
            return "HTTP/1.1 501 Not Implemented\r\n";
        case 502:
            return "HTTP/1.1 502 Bad Gateway\r\n";
        case 503:
            return "HTTP/1.1 503 Service Unavailable\r\n";
        case 504:
            return "HTTP/1.1 504 Gateway Timeout\r\n";
        case 505:
            return "HTTP/1.1 505 HTTP Version Not Supported\r\n";
        default:
            return {};
    }
}

iovec piece_of(std::string_view text) { return {const_cast<char*>(text.data()), text.size()}; }

// Drops what was written from the front.
std::span<iovec> advance(std::span<iovec> pieces, std::size_t bytes) {
    while (!pieces.empty() && bytes >= pieces.front().iov_len) {
        bytes -= pieces.front().iov_len;
        pieces = pieces.subspan(1);
    }
    if (!pieces.empty()) {
        pieces.front().iov_base = static_cast<char*>(pieces.front().iov_base) + bytes;
        pieces.front().iov_len -= bytes;
    }
    return pieces;
}

// "1f4\r\n" into `out`.
std::string_view chunk_size_line(std::size_t size, std::span<char, 24> out) {
    char* end = std::to_chars(out.data(), out.data() + 18, size, 16).ptr;
    *end++ = '\r';
    *end++ = '\n';
    return {out.data(), static_cast<std::size_t>(end - out.data())};
}

// What a preflight may ask for, echoed: header names and separators only.
bool is_name_list(std::string_view text) {
    return text.size() <= 1024 && std::ranges::all_of(text, [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '_' || c == ',' || c == ' ';
           });
}

}  // namespace

Async<Result<void>> Exchange::respond(Response response) {
    for (const auto& [name, value] : response.headers) add_header(name, value);
    Result<void> sent = co_await respond(response.status, response.content_type, response.body);
    co_return sent;
}

HttpExchange::HttpExchange(ServerThread& server) : server_(server) {
    parsed_.headers.reserve(16);
    answer_head_.reserve(512);
}

HttpExchange::~HttpExchange() { detach(); }

void HttpExchange::attach(Connection& connection, std::string_view remote_ip) {
    connection_ = &connection;
    remote_ip_ = remote_ip;
    pooled_ = BufferPool::take();
    data_ = pooled_.get();
    capacity_ = BufferPool::buffer_bytes;
    begin_ = end_ = scan_from_ = 0;
}

void HttpExchange::detach() {
    gone_hook_.unlink();
    on_gone_ = {};
    body_buffer_.release();
    if (pooled_) BufferPool::give(std::move(pooled_));
    large_.reset();
    data_ = nullptr;
    connection_ = nullptr;
    constexpr std::size_t kept_text = 8 * 1024;
    if (answer_head_.capacity() > kept_text) answer_head_ = {};
    if (extra_headers_.capacity() > kept_text) extra_headers_ = {};
}

Parse HttpExchange::parse() {
    auto head_max = static_cast<std::size_t>(server_.state.settings.head_bytes_max);
    std::string_view text(data_, end_);
    Parse result = parse_request_head(text, head_max, parsed_, scan_from_);
    if (result != Parse::complete) return result;
    // A body is read through the space behind its head; a head that left none moves to a larger buffer.
    if (parsed_.head_bytes + 1024 > capacity_ && make_room()) {
        scan_from_ = 0;
        result = parse_request_head({data_, end_}, head_max, parsed_, scan_from_);
    }
    begin_ = parsed_.head_bytes;
    return result;
}

void HttpExchange::begin(Ticks now) {
    started_ = now;
    id_ = RequestId::next(server_.state.clock);
    match_ = server_.state.router.match(parsed_.head.method, parsed_.head.path);
    phase_ = Phase::open;
    body_ = Body::unread;
    continue_sent_ = head_sent_ = close_after_ = broken_ = gone_ = write_timed_out_ = false;
    bodyless_ = parsed_.head.method == Method::head;
    body_received_ = 0;
    body_started_ = Ticks();
    decoder_ = ChunkDecoder();
    extra_headers_.clear();
    cors_origin_ = parsed_.head.header("origin").value_or(std::string_view());
}

void HttpExchange::next() {
    on_gone_ = {};
    gone_hook_.unlink();
    body_buffer_.release();
    std::size_t left = end_ - begin_;
    if (large_ && left <= BufferPool::buffer_bytes) {
        pooled_ = BufferPool::take();
        std::copy_n(data_ + begin_, left, pooled_.get());
        data_ = pooled_.get();
        capacity_ = BufferPool::buffer_bytes;
        large_.reset();
    } else if (left > 0 && begin_ > 0) {
        std::copy(data_ + begin_, data_ + end_, data_);
    }
    begin_ = scan_from_ = 0;
    end_ = left;
}

std::string_view HttpExchange::path_param(std::string_view name) const {
    for (const auto& [key, value] : match_.params)
        if (key == name) return value;
    return {};
}

void HttpExchange::add_header(std::string_view name, std::string_view value) {
    extra_headers_.append(name).append(": ");
    std::size_t from = extra_headers_.size();
    extra_headers_.append(value);
    // A line end inside a value would start a header of somebody else's choosing.
    for (std::size_t i = from; i < extra_headers_.size(); ++i)
        if (static_cast<unsigned char>(extra_headers_[i]) < 0x20) extra_headers_[i] = ' ';
    extra_headers_.append("\r\n");
}

bool HttpExchange::may_keep_alive() const {
    const RequestHead& head = parsed_.head;
    if (!head.keep_alive || head.minor_version == 0 || server_.state.draining.load(std::memory_order_relaxed))
        return false;
    if (body_ == Body::done) return true;
    if (body_ == Body::broken) return false;
    std::uint64_t missing = missing_body();
    bool waits = head.expects_continue && !continue_sent_;
    return !(waits && (head.chunked || missing > 0)) && missing <= undrained_max;
}

void HttpExchange::append_cors() {
    for (const std::string& allowed : server_.state.settings.cors_origins) {
        if (allowed == "*") {
            answer_head_.append("access-control-allow-origin: *\r\n").append(exposed_headers);
            return;
        }
        if (allowed == cors_origin_) {
            answer_head_.append("access-control-allow-origin: ").append(cors_origin_);
            answer_head_.append("\r\nvary: origin\r\n").append(exposed_headers);
            return;
        }
    }
}

void HttpExchange::build_head(int status, std::string_view content_type, std::optional<std::size_t> length) {
    if (status < 200 || status > 599) status = 500;
    if (status == 204 || status == 304) bodyless_ = true;
    chunked_ = !length && parsed_.head.minor_version == 1;
    if (!may_keep_alive() || (!length && !chunked_)) close_after_ = true;
    answer_head_.clear();
    std::string_view line = status_line(status);
    if (line.empty())
        answer_head_.append("HTTP/1.1 ").append(std::to_string(status)).append(" Status\r\n");
    else
        answer_head_.append(line);
    if (!content_type.empty()) answer_head_.append("content-type: ").append(content_type).append("\r\n");
    if (status != 204 && status != 304) {
        if (length) {
            char digits[24];
            char* end = std::to_chars(digits, digits + sizeof digits, *length).ptr;
            answer_head_.append("content-length: ").append(digits, end).append("\r\n");
        } else if (chunked_) {
            answer_head_.append("transfer-encoding: chunked\r\n");
        }
    }
    answer_head_.append("x-request-id: req_").append(base32_id(id_.value)).append("\r\n");
    answer_head_.append(server_.date_line(started_));
    if (close_after_) answer_head_.append("connection: close\r\n");
    if (!cors_origin_.empty()) append_cors();
    answer_head_.append(extra_headers_).append("\r\n");
    server_.state.counted.requests[static_cast<std::size_t>(status / 100)]->add();
}

std::unexpected<Error> HttpExchange::send_failed(Io why) {
    broken_ = true;
    if (why == Io::timed_out) {
        if (!write_timed_out_) server_.state.counted.timeout_write.add();
        write_timed_out_ = true;
        return fail(Code::timeout, "the client does not read the answer", "", "answer");
    }
    gone_ = true;
    return fail(Code::cancelled, "the client closed the connection");
}

// The deadline is for the next byte the client takes, not for all of it.
Async<Io> HttpExchange::write_rest(std::span<iovec> left) {
    auto timeout = server_.state.settings.write_timeout;
    connection_->set_deadline(server_.now() + timeout);
    while (!left.empty()) {
        Io ready = co_await connection_->writable();
        if (ready != Io::ok) co_return ready;
        WriteResult sent = connection_->try_write(left);
        if (sent.status == Io::would_block) continue;
        if (sent.status != Io::ok) co_return sent.status;
        left = advance(left, sent.bytes);
        connection_->set_deadline(server_.now() + timeout);
    }
    co_return Io::ok;
}

Async<Result<void>> HttpExchange::respond(int status, std::string_view content_type, std::string_view body) {
    if (phase_ != Phase::open) co_return fail(Code::internal, "the request was answered already");
    phase_ = Phase::answered;
    build_head(status, content_type, body.size());
    head_sent_ = true;
    iovec pieces[2] = {piece_of(answer_head_), piece_of(bodyless_ ? std::string_view() : body)};
    std::span<iovec> left(pieces, pieces[1].iov_len > 0 ? 2 : 1);
    WriteResult sent = connection_->try_write(left);
    if (sent.status == Io::ok) left = advance(left, sent.bytes);
    if (left.empty()) co_return Result<void>();
    Io status_of_rest = sent.status;
    if (sent.status == Io::ok || sent.status == Io::would_block) status_of_rest = co_await write_rest(left);
    if (status_of_rest != Io::ok) co_return send_failed(status_of_rest);
    co_return Result<void>();
}

Async<Result<void>> HttpExchange::respond_error(Error error) {
    int retry_after_ms = error.retry_after_ms;
    Response response = match_.dialect(error, id_);
    // To a dialect a timeout is the provider's; here it was the client whose body did not come.
    if (error.code == Code::timeout && body_ == Body::broken) response.status = 408;
    bool has_retry_after =
        std::ranges::any_of(response.headers, [](const auto& h) { return h.first == "retry-after"; });
    if (retry_after_ms > 0 && !has_retry_after)
        add_header("retry-after", std::to_string((retry_after_ms + 999) / 1000));
    Result<void> sent = co_await respond(std::move(response));
    co_return sent;
}

void HttpExchange::begin_stream(int status, std::string_view content_type) {
    if (phase_ != Phase::open) return;
    phase_ = Phase::streaming;
    build_head(status, content_type, std::nullopt);
}

Async<Result<void>> HttpExchange::stream_out(std::string_view piece, bool last) {
    if (phase_ != Phase::streaming) co_return fail(Code::internal, "no open stream");
    if (broken_) co_return send_failed(write_timed_out_ ? Io::timed_out : Io::closed);
    char size_line[24];
    iovec pieces[4];
    std::size_t count = 0;
    auto add = [&pieces, &count](std::string_view text) { pieces[count++] = piece_of(text); };
    if (!head_sent_) add(answer_head_);
    head_sent_ = true;
    if (last) phase_ = Phase::ended;
    if (bodyless_) {
        // only the head
    } else if (!chunked_) {
        if (!piece.empty()) add(piece);
    } else if (!piece.empty()) {
        add(chunk_size_line(piece.size(), size_line));
        add(piece);
        add(last ? "\r\n0\r\n\r\n" : "\r\n");
    } else if (last) {
        add("0\r\n\r\n");
    }
    if (count == 0) co_return Result<void>();
    std::span<iovec> left(pieces, count);
    WriteResult sent = connection_->try_write(left);
    if (sent.status == Io::ok) left = advance(left, sent.bytes);
    if (left.empty()) co_return Result<void>();
    Io status = sent.status;
    if (status == Io::ok || status == Io::would_block) status = co_await write_rest(left);
    if (status != Io::ok) co_return send_failed(status);
    co_return Result<void>();
}

void HttpExchange::abort(std::string_view last_words) {
    if (phase_ == Phase::streaming && !broken_ && !gone_) {
        char size_line[24];
        iovec pieces[4];
        std::size_t count = 0;
        if (!head_sent_) pieces[count++] = piece_of(answer_head_);
        if (!last_words.empty() && !bodyless_) {
            if (chunked_) pieces[count++] = piece_of(chunk_size_line(last_words.size(), size_line));
            pieces[count++] = piece_of(last_words);
            if (chunked_) pieces[count++] = piece_of("\r\n");
        }
        head_sent_ = true;
        if (count > 0) connection_->try_write({pieces, count});
    }
    // Without chunks only a reset can tell the client that something is missing.
    if (phase_ == Phase::streaming && !chunked_) {
        connection_->reset_on_close();
        broken_ = true;
    }
    if (phase_ == Phase::open) server_.state.counted.requests[0]->add();
    if (phase_ == Phase::open || phase_ == Phase::streaming) phase_ = Phase::aborted;
    close_after_ = true;
}

void HttpExchange::gone_fired(void* self) {
    auto* exchange = static_cast<HttpExchange*>(self);
    exchange->server_.state.counted.clients_gone.add();
    exchange->client_gone();
}

void HttpExchange::client_gone() {
    gone_ = true;
    gone_hook_.unlink();
    auto callback = std::exchange(on_gone_, {});
    if (callback) callback();
}

void HttpExchange::on_gone(std::move_only_function<void()> callback) {
    on_gone_ = std::move(callback);
    if (on_gone_)
        server_.gone.watch(gone_hook_, connection_->fd(), started_, &HttpExchange::gone_fired, this);
    else
        gone_hook_.unlink();
}

Async<Result<void>> HttpExchange::answer_unmatched() {
    const RequestHead& head = parsed_.head;
    auto preflight = head.header("access-control-request-method");
    if (head.method == Method::options && (match_.path_known || head.path == "*" || preflight)) {
        if (match_.path_known) add_header("allow", match_.allow);
        if (preflight && !cors_origin_.empty()) {
            add_header("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            auto wanted = head.header("access-control-request-headers");
            if (wanted && is_name_list(*wanted)) add_header("access-control-allow-headers", *wanted);
            add_header("access-control-max-age", "86400");
        }
        Result<void> sent = co_await respond(204, "", "");
        co_return sent;
    }
    Error error{Code::not_found, "no such path: " + std::string(head.path.substr(0, 200))};
    if (match_.path_known) {
        add_header("allow", match_.allow);
        error = {Code::method_not_allowed, "this path allows " + match_.allow};
    }
    Result<void> sent = co_await respond_error(std::move(error));
    co_return sent;
}

Async<Result<void>> HttpExchange::refuse(Error error, int status, Ticks now) {
    parsed_.head = RequestHead();
    parsed_.head.keep_alive = false;
    parsed_.head.path = "/";
    begin(now);
    // The path of a request that could not be read is unknown: the dialect of "/" speaks.
    match_ = server_.state.router.match(Method::options, "/");
    body_ = Body::broken;
    Response response = match_.dialect(error, id_);
    if (status != 0) response.status = status;
    if (error.retry_after_ms > 0)
        add_header("retry-after", std::to_string((error.retry_after_ms + 999) / 1000));
    Result<void> sent = co_await respond(std::move(response));
    co_return sent;
}

Async<bool> HttpExchange::finish() {
    on_gone(nullptr);
    if (phase_ == Phase::streaming) {
        LOG_ERROR("handler left a stream open", {"request_id", id_.text()});
        abort("");
    } else if (phase_ == Phase::open) {
        LOG_ERROR("handler did not answer", {"request_id", id_.text()});
        Error error{Code::internal, "internal error"};
        Result<void> sent = co_await respond_error(std::move(error));
        if (!sent) broken_ = true;
    }
    if (broken_ || gone_ || close_after_) co_return false;
    if (body_ == Body::done) co_return true;
    bool drained = co_await drain_body();
    co_return drained;
}

}  // namespace nebula::http

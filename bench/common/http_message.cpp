#include "common/http_message.hpp"

#include <algorithm>
#include <charconv>

namespace nebula::bench {
namespace {

constexpr std::size_t head_bytes_max = 64 * 1024;

bool equals_ignoring_case(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, [](char x, char y) {
        return (x >= 'A' && x <= 'Z' ? x + 32 : x) == (y >= 'A' && y <= 'Z' ? y + 32 : y);
    });
}

std::string_view trim(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r'))
        text.remove_suffix(1);
    return text;
}

bool parse_number(std::string_view text, std::uint64_t& value, int base) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return error == std::errc{} && end != text.data();
}

}  // namespace

void MessageReader::reset() {
    state_ = State::head;
    chunk_ = Chunk::size;
    head_ = {};
    buffer_.clear();
    remaining_ = 0;
}

std::size_t MessageReader::next(std::string_view input, std::string_view& piece) {
    piece = {};
    if (state_ == State::head) return read_head(input);
    if (state_ != State::body) return 0;
    if (head_.is_chunked) return read_chunked(input, piece);
    std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(input.size(), remaining_));
    piece = input.substr(0, size);
    remaining_ -= size;
    if (remaining_ == 0) state_ = State::done;
    return size;
}

void MessageReader::end_of_input() {
    if (state_ == State::done) return;
    bool delimited_by_close = state_ == State::body && !head_.is_chunked && !head_.has_length;
    state_ = delimited_by_close ? State::done : State::failed;
}

std::size_t MessageReader::read_head(std::string_view input) {
    if (buffer_.empty()) {
        std::size_t end = input.find("\r\n\r\n");
        if (end != std::string_view::npos) {
            if (parse_head(input.substr(0, end)))
                start_body();
            else
                state_ = State::failed;
            return end + 4;
        }
    }
    std::size_t before = buffer_.size();
    buffer_.append(input);
    std::size_t end = buffer_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
    if (end == std::string::npos) {
        if (buffer_.size() > head_bytes_max) state_ = State::failed;
        return input.size();
    }
    bool is_good = parse_head(std::string_view(buffer_).substr(0, end));
    buffer_.clear();
    if (is_good)
        start_body();
    else
        state_ = State::failed;
    return end + 4 - before;
}

bool MessageReader::parse_head(std::string_view text) {
    std::size_t line_end = std::min(text.find("\r\n"), text.size());
    std::string_view first = text.substr(0, line_end);
    std::size_t space = first.find(' ');
    if (space == std::string_view::npos) return false;
    if (kind_ == Kind::response) {
        std::uint64_t status = 0;
        if (!first.starts_with("HTTP/1.") || !parse_number(first.substr(space + 1, 3), status, 10))
            return false;
        head_.status = static_cast<int>(status);
    } else {
        std::string_view rest = first.substr(space + 1);
        head_.method = first.substr(0, space);
        head_.target = rest.substr(0, rest.find(' '));
    }
    while (line_end < text.size()) {
        std::size_t start = line_end + 2;
        line_end = std::min(text.find("\r\n", start), text.size());
        std::string_view line = text.substr(start, line_end - start);
        std::size_t colon = line.find(':');
        if (colon == std::string_view::npos) return false;
        std::string_view name = line.substr(0, colon);
        std::string_view value = trim(line.substr(colon + 1));
        if (equals_ignoring_case(name, "content-length")) {
            head_.has_length = parse_number(value, head_.length, 10);
            if (!head_.has_length) return false;
        } else if (equals_ignoring_case(name, "transfer-encoding")) {
            head_.is_chunked = equals_ignoring_case(value, "chunked");
        } else if (equals_ignoring_case(name, "connection")) {
            head_.closes = equals_ignoring_case(value, "close");
        }
    }
    return true;
}

void MessageReader::start_body() {
    // An interim answer (100 Continue) precedes the real one.
    if (kind_ == Kind::response && head_.status >= 100 && head_.status < 200) return reset();
    state_ = State::body;
    if (head_.is_chunked) return;
    bool has_no_body =
        head_.status == 204 || head_.status == 304 || (kind_ == Kind::request && !head_.has_length);
    if (has_no_body || (head_.has_length && head_.length == 0)) state_ = State::done;
    remaining_ = head_.has_length ? head_.length : ~std::uint64_t{0};
}

std::size_t MessageReader::read_line(std::string_view input, bool& complete) {
    std::size_t end = input.find('\n');
    complete = end != std::string_view::npos;
    std::size_t size = complete ? end + 1 : input.size();
    buffer_.append(input.substr(0, size));
    if (buffer_.size() > head_bytes_max) state_ = State::failed;
    return size;
}

std::size_t MessageReader::read_chunked(std::string_view input, std::string_view& piece) {
    if (chunk_ == Chunk::data) {
        std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(input.size(), remaining_));
        piece = input.substr(0, size);
        remaining_ -= size;
        if (remaining_ == 0) chunk_ = Chunk::data_end;
        return size;
    }
    bool complete = false;
    std::size_t size = read_line(input, complete);
    if (!complete) return size;
    std::string_view line = trim(std::string_view(buffer_).substr(0, buffer_.size() - 1));
    if (chunk_ == Chunk::size) {
        if (!parse_number(line, remaining_, 16)) state_ = State::failed;
        chunk_ = remaining_ == 0 ? Chunk::last_line : Chunk::data;
    } else if (chunk_ == Chunk::data_end) {
        if (!line.empty()) state_ = State::failed;
        chunk_ = Chunk::size;
    } else if (line.empty()) {
        state_ = State::done;
    }
    buffer_.clear();
    return size;
}

}  // namespace nebula::bench

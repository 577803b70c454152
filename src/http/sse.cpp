#include "http/sse.hpp"

#include <optional>

namespace nebula::http {
namespace {

constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

/// Position of the first CR or LF at or after `from`. Two searches by memchr beat one for either.
std::size_t line_end(std::string_view text, std::size_t from) {
    std::size_t end = text.find('\n', from);
    std::size_t before = text.substr(0, end).find('\r', from);
    return before != std::string_view::npos ? before : end;
}

/// Takes the first line (LF, CRLF or CR ends it) off `text`.
std::string_view take_line(std::string_view& text) {
    std::size_t end = line_end(text, 0);
    if (end == std::string_view::npos) {
        std::string_view line = text;
        text = {};
        return line;
    }
    std::string_view line = text.substr(0, end);
    bool both = text[end] == '\r' && end + 1 < text.size() && text[end + 1] == '\n';
    text.remove_prefix(end + (both ? 2 : 1));
    return line;
}

/// The value when `line` is of the field `name`: "name: value", "name:value" or "name".
std::optional<std::string_view> field_value(std::string_view line, std::string_view name) {
    if (!line.starts_with(name)) return std::nullopt;
    line.remove_prefix(name.size());
    if (line.empty()) return line;
    if (line.front() != ':') return std::nullopt;
    line.remove_prefix(1);
    if (line.starts_with(' ')) line.remove_prefix(1);
    return line;
}

std::string_view without_mark(std::string_view event) {
    if (event.starts_with(byte_order_mark)) event.remove_prefix(byte_order_mark.size());
    return event;
}

}  // namespace

// Remembers where it stands, so that bytes are looked at once however they arrive.
std::size_t SseSplitter::find_end(std::string_view text, std::size_t from) {
    for (std::size_t i = from; i < text.size(); ++i) {
        char c = text[i];
        switch (state_) {
            case State::text: {
                // Nearly all bytes are inside lines: skip to the next line end.
                std::size_t end = line_end(text, i);
                if (end == std::string_view::npos) return end;
                i = end;
                state_ = text[i] == '\n' ? State::after_lf : State::after_cr;
                break;
            }
            case State::start:
            case State::after_lf:
                if (c == '\n') return finish(i + 1);
                state_ = c == '\r' ? State::blank_cr : State::text;
                break;
            case State::after_cr:
                // CR CR ends the event at once; CR LF was one line end.
                if (c == '\r') return finish(i + 1);
                state_ = c == '\n' ? State::after_lf : State::text;
                break;
            case State::blank_cr:  // the blank line's CR may have its LF
                return finish(c == '\n' ? i + 1 : i);
        }
    }
    return std::string_view::npos;
}

std::size_t SseSplitter::finish(std::size_t end) {
    state_ = State::start;
    return end;
}

void SseSplitter::look_ahead() {
    end_ = at_ < piece_.size() ? find_end(piece_, at_) : std::string_view::npos;
    if (end_ != std::string_view::npos) {
        if (rest_.size() + (end_ - at_) > event_bytes_max_) too_long_ = true;
        return;
    }
    // Kept now: the piece's memory is gone when the rest arrives.
    rest_.append(piece_.substr(at_));
    at_ = piece_.size();
    if (rest_.size() > event_bytes_max_) too_long_ = true;
}

bool SseSplitter::push(std::string_view piece) {
    if (too_long_) return false;
    piece_ = piece;
    at_ = 0;
    look_ahead();
    return !too_long_;
}

std::string_view SseSplitter::next() {
    if (end_ == std::string_view::npos || too_long_) return {};
    std::string_view event = piece_.substr(at_, end_ - at_);
    if (!rest_.empty()) {
        rest_.append(event);
        joined_.swap(rest_);
        rest_.clear();
        event = joined_;
    }
    at_ = end_;
    look_ahead();
    return event;
}

bool LineSplitter::push(std::string_view piece) {
    piece_ = piece;
    at_ = 0;
    if (piece.find('\n') != std::string_view::npos) return rest_.size() <= line_bytes_max_;
    rest_ += piece;
    piece_ = {};
    return rest_.size() <= line_bytes_max_;
}

std::string_view LineSplitter::next() {
    while (true) {
        std::size_t end = piece_.find('\n', at_);
        if (end == std::string_view::npos) {
            rest_ += piece_.substr(at_);
            piece_ = {};
            at_ = 0;
            return {};
        }
        std::string_view line = piece_.substr(at_, end + 1 - at_);
        at_ = end + 1;
        if (!rest_.empty()) {
            joined_ = rest_;
            joined_ += line;
            rest_.clear();
            line = joined_;
        }
        if (line != "\n" && line != "\r\n") return line;
    }
}

std::string_view sse_data(std::string_view event, std::string& scratch) {
    std::optional<std::string_view> first;
    bool several = false;
    for (event = without_mark(event); !event.empty();) {
        auto value = field_value(take_line(event), "data");
        if (!value) continue;
        if (!first) {
            first = value;
            continue;
        }
        if (!several) scratch.assign(*first);
        several = true;
        scratch.push_back('\n');
        scratch.append(*value);
    }
    if (several) return scratch;
    return first.value_or(std::string_view{});
}

std::string_view sse_event_name(std::string_view event) {
    std::string_view name;
    for (event = without_mark(event); !event.empty();)
        if (auto value = field_value(take_line(event), "event")) name = *value;
    return name;
}

}  // namespace nebula::http

#pragma once
// Server-sent events, read beside a byte stream that is passed through unchanged.

#include <cstddef>
#include <string>
#include <string_view>

namespace nebula::http {

/// Splits a byte stream into complete events without copying what arrives whole. An event ends with a blank
/// line (LF LF, CRLF CRLF, CR CR or mixtures); a blank line before an event is one by itself, so that all
/// events put together are the stream. Bounded: an event above `event_bytes_max` is an error: push() is false
/// from then on.
///   splitter.push(piece);
///   for (auto event = splitter.next(); !event.empty(); event = splitter.next()) use(event);
///                                                        // raw bytes including the blank line
///   …at the end: splitter.pending() tells whether a partial event is left (a cut stream).
/// Views are valid until the next push(). Take all events of a piece before pushing the next one.
class SseSplitter {
   public:
    explicit SseSplitter(std::size_t event_bytes_max = 1024 * 1024) : event_bytes_max_(event_bytes_max) {}

    /// False when the pending event exceeds the limit.
    bool push(std::string_view piece);
    /// Raw bytes of the next complete event, or an empty view.
    std::string_view next();
    bool pending() const { return !rest_.empty() || at_ < piece_.size(); }

   private:
    // Where the scan stands: at the start of an event, inside a line, after a line's end, after the CR of a
    // blank line.
    enum class State : unsigned char { start, text, after_lf, after_cr, blank_cr };
    std::size_t find_end(std::string_view text, std::size_t from);
    std::size_t finish(std::size_t end);
    void look_ahead();

    std::size_t event_bytes_max_;
    State state_ = State::start;
    bool too_long_ = false;
    std::size_t end_ = std::string_view::npos;  // of the next event in piece_
    std::string rest_;                          // start of an event that is not complete yet
    std::string joined_;                        // rest_ + the end of it from the current piece
    std::string_view piece_;
    std::size_t at_ = 0;
};

/// The same for lines: next() is a line with its line feed. Empty lines are skipped.
class LineSplitter {
   public:
    explicit LineSplitter(std::size_t line_bytes_max = 1024 * 1024) : line_bytes_max_(line_bytes_max) {}

    /// False when the pending line exceeds the limit.
    bool push(std::string_view piece);
    /// The next complete line, or an empty view. Valid until the next push().
    std::string_view next();
    bool pending() const { return !rest_.empty() || at_ < piece_.size(); }

   private:
    std::size_t line_bytes_max_;
    std::string rest_, joined_;
    std::string_view piece_;
    std::size_t at_ = 0;
};

/// The data of one raw event: the joined values of its data: lines (LF between several), or an empty view
/// when it has none (comments). A single line is a view into `event`; several are joined in `scratch`.
std::string_view sse_data(std::string_view event, std::string& scratch);
/// Value of the event: field, empty if absent.
std::string_view sse_event_name(std::string_view event);

}  // namespace nebula::http

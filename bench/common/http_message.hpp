#pragma once
// Just enough HTTP/1.1 for a benchmark: trusted peers, no trailers, no upgrades. Not part of the product.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nebula::bench {

struct MessageHead {
    int status = 0;      // responses
    std::string method;  // requests
    std::string target;  // requests
    std::uint64_t length = 0;
    bool is_chunked = false;
    bool has_length = false;
    bool closes = false;  // "Connection: close"
};

/// Reads one message at a time from bytes that arrive in pieces of any size.
class MessageReader {
   public:
    enum class Kind { request, response };
    enum class State { head, body, done, failed };

    explicit MessageReader(Kind kind) : kind_(kind) {}

    /// Takes bytes up to the end of the message and hands out body pieces one at a time:
    /// while the input is not empty and the state is neither done nor failed, call next() with what is left.
    /// `piece` receives body bytes (a view into `input`) or stays empty. Returns how many bytes were
    /// consumed.
    std::size_t next(std::string_view input, std::string_view& piece);

    /// The end of the connection: completes a response that is delimited by it, fails any other unfinished
    /// message.
    void end_of_input();
    /// Ready for the next message of the connection.
    void reset();

    State state() const { return state_; }
    const MessageHead& head() const { return head_; }
    /// True until the first byte of a message has been seen.
    bool is_fresh() const { return state_ == State::head && buffer_.empty(); }

   private:
    enum class Chunk { size, data, data_end, last_line };
    std::size_t read_head(std::string_view input);
    std::size_t read_line(std::string_view input, bool& complete);
    std::size_t read_chunked(std::string_view input, std::string_view& piece);
    bool parse_head(std::string_view text);
    void start_body();

    Kind kind_;
    State state_ = State::head;
    Chunk chunk_ = Chunk::size;
    MessageHead head_;
    std::string buffer_;           // an incomplete head or chunk-size line
    std::uint64_t remaining_ = 0;  // of the body or of the current chunk
};

}  // namespace nebula::bench

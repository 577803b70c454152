#pragma once
// Strict HTTP/1.1 heads and chunked bodies. Private to http (and its fuzzers). Pure functions over memory.
// Refused: TE together with CL, repeated or malformed CL, TE other than exactly "chunked", whitespace before
// the colon, obs-fold, bare LF or CR, control characters, bytes ≥ 0x80 in names and targets, missing or
// repeated Host (1.1), more than 100 headers. Chunk extensions are read over (bounded); trailers are read
// over (bounded).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "http/http.hpp"

namespace nebula::http {

enum class Parse { complete, incomplete, bad, too_large, bad_version, unknown_method };

struct ParsedRequest {
    RequestHead head;               // views into the parsed text; head.headers views `headers`
    std::vector<Header> headers;    // capacity is reused across requests
    std::size_t head_bytes = 0;     // including the empty line
    const char* problem = nullptr;  // why bad, for the error message
};
/// `text` starts at the request line. `scan_from`: bytes known not to contain the end (earlier incomplete
/// call), so that byte-by-byte arrival stays linear.
Parse parse_request_head(std::string_view text, std::size_t head_bytes_max, ParsedRequest& out,
                         std::size_t& scan_from);

struct ParsedResponse {
    int status = 0;
    int minor_version = 1;
    std::vector<Header> headers;
    std::size_t head_bytes = 0;
    std::optional<std::uint64_t> content_length;
    bool chunked = false;
    bool keep_alive = true;
    const char* problem = nullptr;
    std::optional<std::string_view> header(std::string_view name) const;
};
Parse parse_response_head(std::string_view text, std::size_t head_bytes_max, ParsedResponse& out,
                          std::size_t& scan_from);

/// Decodes a chunked body piece by piece without copying.
///   while (!input.empty()) { auto step = decoder.next(input); … }   // step.data is a view into `input`
class ChunkDecoder {
   public:
    enum class State { more, data, done, bad };
    struct Step {
        State state;  // data: `data` is a piece of the body; more: everything was consumed; done: body ended
        std::string_view data;
    };
    /// Consumes from the front of `input`.
    Step next(std::string_view& input);
    bool done() const { return phase_ == Phase::done; }

   private:
    enum class Phase : std::uint8_t {
        size,
        extension,
        size_lf,
        data,
        data_cr,
        data_lf,
        trailer_start,
        trailer,
        trailer_lf,
        end_lf,
        done,
        bad
    };
    Phase after(char c);
    Phase after_size_char(char c);
    Phase after_trailer_char(char c);

    Phase phase_ = Phase::size;
    std::uint64_t left_ = 0;      // of the current chunk
    std::uint32_t digits_ = 0;    // of the current size line
    std::uint32_t overhead_ = 0;  // bytes of extensions and trailers, bounded at 16 KiB
};

}  // namespace nebula::http

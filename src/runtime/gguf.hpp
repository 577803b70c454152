#pragma once
// Reads the header of a GGUF model file. Private to runtime. The file is untrusted: every count and length is
// checked against the bytes that are really there, and nothing is allocated by a count.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace nebula::runtime {

struct GgufFacts {
    std::string architecture;
    std::string name;                     // general.name, may be empty
    std::int64_t context_length = 0;      // 0 = not said
    std::int64_t kv_bytes_per_token = 0;  // estimate of the cache of one token, 16-bit values; 0 = not known
};

/// `head` is the beginning of a file of `file_bytes`. Pure. Error: invalid_request; its `detail` is need_more
/// when the header goes on behind `head` although the file has more bytes.
Result<GgufFacts> read_gguf(std::string_view head, std::uint64_t file_bytes);
inline constexpr std::string_view need_more = "need more";

}  // namespace nebula::runtime

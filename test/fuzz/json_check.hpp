#pragma once
// What fuzzers of translators demand of a text.

#include <boost/json/parse.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace fuzz {

[[noreturn]] inline void stop(const char* what, std::string_view text) {
    std::fprintf(stderr, "%s\n%.*s\n", what, static_cast<int>(text.size()), text.data());
    std::abort();
}

// Halves of surrogate pairs are let through, as JSON's grammar does; this parser does not take them.
inline bool is_json(std::string text) {
    for (std::size_t at = text.find("\\u"); at != std::string::npos; at = text.find("\\u", at + 2))
        if (at + 6 <= text.size() && (text[at + 2] | 0x20) == 'd') text.replace(at + 2, 4, "0020");
    boost::system::error_code failed;
    boost::json::parse_options options;
    options.max_depth = 4096;
    (void)boost::json::parse(text, failed, {}, options);
    return !failed;
}
inline void require_json(std::string text) {
    if (!is_json(text)) stop("not JSON", text);
}

}  // namespace fuzz

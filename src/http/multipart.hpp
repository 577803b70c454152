#pragma once
// multipart/form-data (RFC 7578, RFC 2046) read where it lies: parts are views into the body, nothing is
// copied. Strict: what another reader could understand otherwise is refused, since the body travels on as it
// is.

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace nebula::http {

struct FormPart {
    std::string_view name;
    std::string_view filename;      // as sent, between the quotes; without a path's meaning
    std::string_view content_type;  // empty: none was given
    std::string_view body;
    bool is_file = false;  // has a filename, possibly an empty one
};

struct FormLimits {
    std::size_t parts_max = 64;
    std::size_t head_bytes_max = 4 * 1024;  // headers of one part
    std::size_t name_bytes_max = 256;       // of a part; file names are bounded by the head
};

/// Whether the header value says multipart/form-data.
bool is_form(std::string_view content_type);

/// The parts in order. `content_type` is the request's header. Errors, invalid_request: no boundary or a bad
/// one, text before, between or behind parts, a missing end (a cut body), a part without a name, a header
/// twice or folded, an encoding, a form within the form, more than the limits.
Result<std::vector<FormPart>> read_form(std::string_view body, std::string_view content_type,
                                        const FormLimits& limits = {});

}  // namespace nebula::http

#include "http/multipart.hpp"

#include <algorithm>
#include <optional>
#include <string>

#include "base/text.hpp"

namespace nebula::http {
namespace {

constexpr std::size_t boundary_bytes_max = 70;
constexpr std::string_view line_end = "\r\n";

std::unexpected<Error> bad(std::string message) { return fail(Code::invalid_request, std::move(message)); }

bool is_boundary_char(char c) {
    bool is_alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return is_alnum || std::string_view("'()+_,-./:=?").contains(c);
}

bool is_token(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) {
        return c > ' ' && c < 0x7F && !std::string_view("()<>@,;:\\\"/[]?={}").contains(c);
    });
}

// The parameters behind a header's first word: "; name=value; name=\"value\"".
class Parameters {
   public:
    explicit Parameters(std::string_view text) : rest_(text) {}

    struct One {
        std::string_view name, value;
        bool is_quoted = false;
    };
    /// Nothing at the end; `failed()` tells a clean end from a bad one.
    std::optional<One> next() {
        rest_ = trim(rest_);
        if (rest_.empty()) return std::nullopt;
        if (rest_.front() != ';') return stop();
        rest_ = trim(rest_.substr(1));
        std::size_t equals = rest_.find('=');
        if (equals == std::string_view::npos) return stop();
        One one;
        one.name = rest_.substr(0, equals);
        if (!is_token(one.name)) return stop();
        rest_.remove_prefix(equals + 1);
        if (rest_.starts_with('"')) {
            std::size_t close = rest_.find('"', 1);
            // An escaped quote is read in two ways out there.
            if (close == std::string_view::npos || rest_[close - 1] == '\\') return stop();
            one.value = rest_.substr(1, close - 1);
            one.is_quoted = true;
            rest_.remove_prefix(close + 1);
            if (std::ranges::any_of(one.value, [](char c) { return static_cast<unsigned char>(c) < ' '; }))
                return stop();
            return one;
        }
        one.value = rest_.substr(0, rest_.find_first_of("; \t"));
        if (one.value.empty()) return stop();
        rest_.remove_prefix(one.value.size());
        return one;
    }
    bool failed() const { return failed_; }

   private:
    std::nullopt_t stop() {
        failed_ = true;
        return std::nullopt;
    }
    std::string_view rest_;
    bool failed_ = false;
};

Result<std::string_view> boundary_of(std::string_view content_type) {
    std::string_view boundary;
    Parameters parameters(content_type.substr(std::min(content_type.find(';'), content_type.size())));
    while (auto one = parameters.next()) {
        if (!equals_ignore_case(one->name, "boundary")) continue;
        if (!boundary.empty()) return bad("the content type names two boundaries");
        boundary = one->value;
    }
    if (parameters.failed()) return bad("the content type is malformed");
    if (boundary.empty()) return bad("the content type names no boundary");
    if (boundary.size() > boundary_bytes_max || !std::ranges::all_of(boundary, is_boundary_char))
        return bad("the content type's boundary is not allowed");
    return boundary;
}

class Form {
   public:
    Form(std::string_view body, std::string_view boundary, const FormLimits& limits)
        : rest_(body), delimiter_("\r\n--" + std::string(boundary)), limits_(limits) {}

    Result<std::vector<FormPart>> read() {
        // The line break of the first delimiter belongs to nothing and is usually not there.
        if (rest_.starts_with(line_end)) rest_.remove_prefix(2);
        std::string_view first = std::string_view(delimiter_).substr(2);
        if (!rest_.starts_with(first)) return bad("the form does not begin with its boundary");
        rest_.remove_prefix(first.size());
        while (true) {
            if (rest_.starts_with("--")) break;
            if (!rest_.starts_with(line_end)) return bad("the form has text behind a boundary");
            rest_.remove_prefix(2);
            if (parts_.size() == limits_.parts_max)
                return bad("the form has more than " + std::to_string(limits_.parts_max) + " parts");
            FormPart part;
            auto head = read_head(part);
            if (!head) return fail(std::move(head.error()));
            std::size_t end = rest_.find(delimiter_);
            if (end == std::string_view::npos) return bad("the form is cut: its last boundary is missing");
            part.body = rest_.substr(0, end);
            rest_.remove_prefix(end + delimiter_.size());
            parts_.push_back(part);
        }
        rest_.remove_prefix(2);
        if (!rest_.empty() && rest_ != line_end) return bad("the form has text behind its end");
        if (parts_.empty()) return bad("the form has no parts");
        return std::move(parts_);
    }

   private:
    Result<void> read_head(FormPart& part) {
        bool has_disposition = false, has_type = false;
        std::size_t used = 0;
        while (!rest_.starts_with(line_end)) {
            std::string_view window = rest_.substr(0, limits_.head_bytes_max - used);
            std::size_t end = window.find(line_end);
            if (end == std::string_view::npos)
                return bad(window.size() < rest_.size() ? "the head of a form's part is too long"
                                                        : "the form is cut within the head of a part");
            auto done = read_header(rest_.substr(0, end), part, has_disposition, has_type);
            if (!done) return done;
            rest_.remove_prefix(end + 2);
            used += end + 2;
        }
        // What follows may be the delimiter at once, whose line break ends the head: an empty body.
        if (rest_.substr(2).starts_with(std::string_view(delimiter_).substr(2)))
            return bad("a form's part has no body");
        rest_.remove_prefix(2);
        if (!has_disposition) return bad("a form's part has no content-disposition");
        return {};
    }

    Result<void> read_header(std::string_view line, FormPart& part, bool& has_disposition, bool& has_type) {
        std::size_t colon = line.find(':');
        if (colon == std::string_view::npos || !is_token(line.substr(0, colon)))
            return bad("a header of a form's part is malformed");
        if (std::ranges::any_of(line, [](char c) { return c == '\r' || c == '\n' || c == '\0'; }))
            return bad("a header of a form's part is malformed");
        std::string_view name = line.substr(0, colon), value = trim(line.substr(colon + 1));
        if (equals_ignore_case(name, "content-disposition")) {
            if (has_disposition) return bad("a form's part has two content-dispositions");
            has_disposition = true;
            return read_disposition(value, part);
        }
        if (equals_ignore_case(name, "content-type")) {
            if (has_type) return bad("a form's part has two content types");
            has_type = true;
            if (value.size() >= 10 && equals_ignore_case(value.substr(0, 10), "multipart/"))
                return bad("a form's part is a form itself");
            part.content_type = value;
        } else if (equals_ignore_case(name, "content-transfer-encoding")) {
            bool is_plain = equals_ignore_case(value, "binary") || equals_ignore_case(value, "8bit") ||
                            equals_ignore_case(value, "7bit");
            if (!is_plain) return bad("a form's part is encoded");
        }
        return {};
    }

    Result<void> read_disposition(std::string_view value, FormPart& part) const {
        std::size_t word = std::min(value.find(';'), value.size());
        if (!equals_ignore_case(trim(value.substr(0, word)), "form-data"))
            return bad("a form's part is no form-data");
        bool has_name = false, has_filename = false;
        Parameters parameters(value.substr(word));
        while (auto one = parameters.next()) {
            if (!one->is_quoted && !is_token(one->value)) return bad("a content-disposition is malformed");
            if (equals_ignore_case(one->name, "name")) {
                if (has_name) return bad("a form's part has two names");
                has_name = true;
                part.name = one->value;
            } else if (equals_ignore_case(one->name, "filename")) {
                if (has_filename) return bad("a form's part has two file names");
                has_filename = part.is_file = true;
                part.filename = one->value;
            } else if (equals_ignore_case(one->name, "filename*")) {
                part.is_file = true;
            } else if (equals_ignore_case(one->name, "name*")) {
                return bad("a form's part has an encoded name");
            }
        }
        if (parameters.failed()) return bad("a content-disposition is malformed");
        if (!has_name || part.name.empty()) return bad("a form's part has no name");
        if (part.name.size() > limits_.name_bytes_max || part.name.contains('\\'))
            return bad("the name of a form's part is not allowed");
        return {};
    }

    std::string_view rest_;
    const std::string delimiter_;
    const FormLimits& limits_;
    std::vector<FormPart> parts_;
};

}  // namespace

bool is_form(std::string_view content_type) {
    return equals_ignore_case(trim(content_type.substr(0, content_type.find(';'))), "multipart/form-data");
}

Result<std::vector<FormPart>> read_form(std::string_view body, std::string_view content_type,
                                        const FormLimits& limits) {
    if (!is_form(content_type)) return bad("the body must be multipart/form-data");
    auto boundary = boundary_of(content_type);
    if (!boundary) return fail(std::move(boundary.error()));
    return Form(body, *boundary, limits).read();
}

}  // namespace nebula::http

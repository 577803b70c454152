#include "http/parser.hpp"

#include <array>
#include <cstring>
#include <limits>

#include "base/text.hpp"

namespace nebula::http {
namespace {

constexpr std::size_t headers_max = 100;
constexpr std::uint32_t chunk_overhead_max = 16 * 1024;

enum : std::uint8_t { is_token = 1, is_value = 2, is_target = 4, is_host = 8 };

constexpr std::array<std::uint8_t, 256> make_classes() {
    std::array<std::uint8_t, 256> table{};
    auto mark = [&table](std::string_view chars, std::uint8_t bit) {
        for (char c : chars) {
            auto& entry = table[static_cast<unsigned char>(c)];
            entry = static_cast<std::uint8_t>(entry | bit);
        }
    };
    constexpr std::string_view letters_digits =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    mark(letters_digits, is_token | is_target | is_host);
    mark("!#$%&'*+-.^_`|~", is_token);
    mark("!$%&'()*+,-./:;=?@[]_~\"<>\\^`{|}", is_target);  // no '#': a fragment is never sent
    mark("!$%&'()*+,-.:;=[]_~", is_host);
    for (unsigned c = 0; c < 256; ++c)
        if (c == '\t' || (c >= 0x20 && c != 0x7f)) table[c] = static_cast<std::uint8_t>(table[c] | is_value);
    return table;
}
constexpr auto classes = make_classes();

bool is(char c, std::uint8_t bit) { return (classes[static_cast<unsigned char>(c)] & bit) != 0; }

bool all(std::string_view text, std::uint8_t bit) {
    for (char c : text)
        if (!is(c, bit)) return false;
    return true;
}

// What the framing headers of a request and a response have in common.
struct Framing {
    std::optional<std::uint64_t> content_length;
    bool chunked = false;
    bool close = false;
    bool keep_alive = false;
};

// Finds the empty line. Every line end must be CR LF; a bare LF is refused as soon as it arrives.
Parse find_head_end(std::string_view text, std::size_t head_bytes_max, std::size_t& scan_from,
                    std::size_t& head_bytes, const char*& problem) {
    const char* begin = text.data();
    const char* end = begin + text.size();
    const char* at = begin + std::min(scan_from, text.size());
    while (const void* found =
               at < end ? std::memchr(at, '\n', static_cast<std::size_t>(end - at)) : nullptr) {
        const char* newline = static_cast<const char*>(found);
        if (newline == begin || newline[-1] != '\r') {
            problem = "a line ends without CR";
            return Parse::bad;
        }
        at = newline + 1;
        scan_from = static_cast<std::size_t>(at - begin);
        if (newline - begin == 1) {
            problem = "empty start line";
            return Parse::bad;
        }
        if (newline[-2] == '\n') {
            head_bytes = scan_from;
            return head_bytes > head_bytes_max ? Parse::too_large : Parse::complete;
        }
        if (scan_from > head_bytes_max) return Parse::too_large;
    }
    scan_from = text.size();
    return text.size() > head_bytes_max ? Parse::too_large : Parse::incomplete;
}

bool parse_content_length(std::string_view value, Framing& out, const char*& problem) {
    if (out.content_length) {
        problem = "repeated content-length";
        return false;
    }
    std::uint64_t number = 0;
    if (value.empty() || value.size() > 18) {
        problem = "malformed content-length";
        return false;
    }
    for (char c : value) {
        if (c < '0' || c > '9') {
            problem = "malformed content-length";
            return false;
        }
        number = number * 10 + static_cast<std::uint64_t>(c - '0');
    }
    out.content_length = number;
    return true;
}

bool parse_connection(std::string_view value, Framing& out, const char*& problem) {
    while (!value.empty()) {
        std::size_t comma = value.find(',');
        std::string_view option = trim(value.substr(0, comma));
        value = comma == std::string_view::npos ? std::string_view() : value.substr(comma + 1);
        if (!all(option, is_token)) {
            problem = "malformed connection header";
            return false;
        }
        if (equals_ignore_case(option, "close"))
            out.close = true;
        else if (equals_ignore_case(option, "keep-alive"))
            out.keep_alive = true;
    }
    return true;
}

bool note_framing(const Header& header, Framing& out, const char*& problem) {
    switch (header.name.size()) {
        case 14:
            if (equals_ignore_case(header.name, "content-length"))
                return parse_content_length(header.value, out, problem);
            break;
        case 17:
            if (equals_ignore_case(header.name, "transfer-encoding")) {
                if (out.chunked || !equals_ignore_case(header.value, "chunked")) {
                    problem = "transfer-encoding other than chunked";
                    return false;
                }
                out.chunked = true;
            }
            break;
        case 10:
            if (equals_ignore_case(header.name, "connection"))
                return parse_connection(header.value, out, problem);
            break;
        default:
            break;
    }
    return true;
}

// Header lines from `at` to the empty line, which is known to be there with every LF preceded by CR.
Parse parse_header_lines(const char* at, std::vector<Header>& headers, Framing& framing,
                         const char*& problem) {
    headers.clear();
    while (*at != '\r') {
        const char* name = at;
        while (is(*at, is_token)) ++at;
        if (*at != ':' || at == name) {
            problem =
                name == at && (*at == ' ' || *at == '\t') ? "folded header line" : "malformed header name";
            return Parse::bad;
        }
        auto name_size = static_cast<std::size_t>(at - name);
        ++at;
        while (*at == ' ' || *at == '\t') ++at;
        const char* value = at;
        while (is(*at, is_value)) ++at;
        if (at[0] != '\r' || at[1] != '\n') {
            problem = "control character in a header value";
            return Parse::bad;
        }
        const char* value_end = at;
        while (value_end > value && (value_end[-1] == ' ' || value_end[-1] == '\t')) --value_end;
        at += 2;
        if (headers.size() == headers_max) {
            problem = "too many headers";
            return Parse::too_large;
        }
        headers.push_back({{name, name_size}, {value, static_cast<std::size_t>(value_end - value)}});
        if (!note_framing(headers.back(), framing, problem)) return Parse::bad;
    }
    if (at[1] != '\n') {
        problem = "malformed header name";
        return Parse::bad;
    }
    if (framing.chunked && framing.content_length) {
        problem = "transfer-encoding together with content-length";
        return Parse::bad;
    }
    return Parse::complete;
}

std::optional<std::string_view> find_header(std::span<const Header> headers, std::string_view name) {
    for (const Header& header : headers)
        if (header.name.size() == name.size() && equals_ignore_case(header.name, name)) return header.value;
    return std::nullopt;
}

bool known_method(std::string_view text, Method& out) {
    constexpr Method methods[] = {Method::post, Method::get, Method::head, Method::options,
                                  Method::put,  Method::del, Method::patch};
    for (Method method : methods) {
        if (text == method_name(method)) {
            out = method;
            return true;
        }
    }
    return false;
}

// "/path?query", an absolute URL (its authority is dropped: we serve one site), or "*" for OPTIONS.
bool parse_target(RequestHead& head) {
    std::string_view rest = head.target;
    if (rest.empty() || !all(rest, is_target)) return false;
    if (rest == "*") {
        head.path = rest;
        head.query = {};
        return head.method == Method::options;
    }
    if (rest[0] != '/') {
        std::size_t scheme = 0;
        if (rest.size() > 7 && equals_ignore_case(rest.substr(0, 7), "http://"))
            scheme = 7;
        else if (rest.size() > 8 && equals_ignore_case(rest.substr(0, 8), "https://"))
            scheme = 8;
        else
            return false;
        rest = rest.substr(scheme);
        std::size_t authority = std::min(rest.find_first_of("/?"), rest.size());
        if (authority == 0 || !all(rest.substr(0, authority), is_host)) return false;
        rest = rest.substr(authority);
    }
    std::size_t question = rest.find('?');
    head.path = rest.substr(0, question);
    head.query = question == std::string_view::npos ? std::string_view() : rest.substr(question + 1);
    if (head.path.empty()) head.path = "/";
    return true;
}

// "HTTP/1.1" or "HTTP/1.0"; other well-formed versions are bad_version.
Parse parse_version(std::string_view text, int& minor) {
    auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (text.size() != 8 || !text.starts_with("HTTP/") || !digit(text[5]) || text[6] != '.' ||
        !digit(text[7]))
        return Parse::bad;
    minor = text[7] - '0';
    return text[5] == '1' && minor <= 1 ? Parse::complete : Parse::bad_version;
}

Parse parse_request_line(std::string_view line, RequestHead& head, const char*& problem) {
    std::size_t first = line.find(' ');
    std::size_t last = line.rfind(' ');
    if (first == std::string_view::npos || first == last || first == 0) {
        problem = "malformed request line";
        return Parse::bad;
    }
    std::string_view method = line.substr(0, first);
    head.target = line.substr(first + 1, last - first - 1);
    if (!all(method, is_token)) {
        problem = "malformed method";
        return Parse::bad;
    }
    Parse version = parse_version(line.substr(last + 1), head.minor_version);
    if (version != Parse::complete) {
        problem = "malformed HTTP version";
        return version;
    }
    if (!known_method(method, head.method)) {
        bool sound = !head.target.empty() && all(head.target, is_target);
        problem = sound ? "unknown method" : "malformed request target";
        return sound ? Parse::unknown_method : Parse::bad;
    }
    if (!parse_target(head)) {
        problem = "malformed request target";
        return Parse::bad;
    }
    return Parse::complete;
}

bool check_request_headers(ParsedRequest& out, const Framing& framing) {
    std::size_t hosts = 0;
    out.head.expects_continue = false;
    for (const Header& header : out.headers) {
        if (header.name.size() == 4 && equals_ignore_case(header.name, "host")) {
            ++hosts;
            if (!all(header.value, is_host)) {
                out.problem = "malformed host";
                return false;
            }
        } else if (header.name.size() == 6 && equals_ignore_case(header.name, "expect")) {
            out.head.expects_continue =
                out.head.minor_version == 1 && equals_ignore_case(header.value, "100-continue");
        }
    }
    if (hosts > 1 || (hosts == 0 && out.head.minor_version == 1)) {
        out.problem = hosts > 1 ? "repeated host" : "missing host";
        return false;
    }
    if (framing.chunked && out.head.minor_version == 0) {
        out.problem = "transfer-encoding in HTTP/1.0";
        return false;
    }
    return true;
}

}  // namespace

std::string_view method_name(Method method) {
    switch (method) {
        case Method::get:
            return "GET";
        case Method::head:
            return "HEAD";
        case Method::post:
            return "POST";
        case Method::put:
            return "PUT";
        case Method::patch:
            return "PATCH";
        case Method::del:
            return "DELETE";
        case Method::options:
            return "OPTIONS";
    }
    return "";
}

std::optional<std::string_view> RequestHead::header(std::string_view name) const {
    return find_header(headers, name);
}

std::optional<std::string_view> ParsedResponse::header(std::string_view name) const {
    return find_header(headers, name);
}

Parse parse_request_head(std::string_view text, std::size_t head_bytes_max, ParsedRequest& out,
                         std::size_t& scan_from) {
    out.problem = nullptr;
    // Something that is not HTTP at all (a TLS hello, say) is refused by its first byte instead of being
    // awaited.
    if (!text.empty() && !is(text[0], is_token)) {
        out.problem = "malformed method";
        return Parse::bad;
    }
    Parse found = find_head_end(text, head_bytes_max, scan_from, out.head_bytes, out.problem);
    if (found != Parse::complete) return found;

    std::size_t line_end = text.find('\r');
    if (text[line_end + 1] != '\n') {
        out.problem = "a CR without LF";
        return Parse::bad;
    }
    Parse line = parse_request_line(text.substr(0, line_end), out.head, out.problem);
    if (line != Parse::complete) return line;

    Framing framing;
    Parse lines = parse_header_lines(text.data() + line_end + 2, out.headers, framing, out.problem);
    if (lines != Parse::complete) return lines;
    if (!check_request_headers(out, framing)) return Parse::bad;
    out.head.headers = out.headers;
    out.head.content_length = framing.content_length;
    out.head.chunked = framing.chunked;
    out.head.keep_alive = !framing.close && (out.head.minor_version == 1 || framing.keep_alive);
    return Parse::complete;
}

Parse parse_response_head(std::string_view text, std::size_t head_bytes_max, ParsedResponse& out,
                          std::size_t& scan_from) {
    out.problem = nullptr;
    constexpr std::string_view start = "HTTP/";
    if (!text.starts_with(start.substr(0, std::min(start.size(), text.size())))) {
        out.problem = "not an HTTP answer";
        return Parse::bad;
    }
    Parse found = find_head_end(text, head_bytes_max, scan_from, out.head_bytes, out.problem);
    if (found != Parse::complete) return found;

    std::size_t line_end = text.find('\r');
    std::string_view line = text.substr(0, line_end);
    auto digit = [&line](std::size_t i) { return line[i] >= '0' && line[i] <= '9'; };
    bool shaped = text[line_end + 1] == '\n' && line.size() >= 12 && line[8] == ' ' && line[9] >= '1' &&
                  line[9] <= '5' && digit(10) && digit(11) &&
                  (line.size() == 12 || (line[12] == ' ' && all(line.substr(13), is_value)));
    if (!shaped) {
        out.problem = "malformed status line";
        return Parse::bad;
    }
    Parse version = parse_version(line.substr(0, 8), out.minor_version);
    if (version != Parse::complete) {
        out.problem = "malformed HTTP version";
        return version;
    }
    out.status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');

    Framing framing;
    Parse lines = parse_header_lines(text.data() + line_end + 2, out.headers, framing, out.problem);
    if (lines != Parse::complete) return lines;
    if (framing.chunked && out.minor_version == 0) {
        out.problem = "transfer-encoding in HTTP/1.0";
        return Parse::bad;
    }
    out.content_length = framing.content_length;
    out.chunked = framing.chunked;
    out.keep_alive = !framing.close && (out.minor_version == 1 || framing.keep_alive);
    return Parse::complete;
}

ChunkDecoder::Step ChunkDecoder::next(std::string_view& input) {
    if (phase_ == Phase::done) return {State::done, {}};
    while (!input.empty() && phase_ != Phase::bad) {
        if (phase_ == Phase::data) {
            std::size_t take = left_ < input.size() ? static_cast<std::size_t>(left_) : input.size();
            std::string_view piece = input.substr(0, take);
            input.remove_prefix(take);
            left_ -= take;
            if (left_ == 0) phase_ = Phase::data_cr;
            return {State::data, piece};
        }
        char c = input[0];
        input.remove_prefix(1);
        phase_ = after(c);
        if (phase_ == Phase::done) return {State::done, {}};
    }
    return {phase_ == Phase::bad ? State::bad : State::more, {}};
}

ChunkDecoder::Phase ChunkDecoder::after(char c) {
    auto expect = [c](char wanted, Phase next) { return c == wanted ? next : Phase::bad; };
    switch (phase_) {
        case Phase::size:
            return after_size_char(c);
        case Phase::extension:
            if (c == '\r') return Phase::size_lf;
            return is(c, is_value) && ++overhead_ <= chunk_overhead_max ? Phase::extension : Phase::bad;
        case Phase::size_lf:
            digits_ = 0;
            return expect('\n', left_ == 0 ? Phase::trailer_start : Phase::data);
        case Phase::data_cr:
            return expect('\r', Phase::data_lf);
        case Phase::data_lf:
            return expect('\n', Phase::size);
        case Phase::trailer_start:
            if (c == '\r') return Phase::end_lf;
            left_ = 0;
            return is(c, is_token) && ++overhead_ <= chunk_overhead_max ? Phase::trailer : Phase::bad;
        case Phase::trailer:
            return after_trailer_char(c);
        case Phase::trailer_lf:
            return expect('\n', Phase::trailer_start);
        case Phase::end_lf:
            return expect('\n', Phase::done);
        case Phase::data:
        case Phase::done:
        case Phase::bad:
            break;
    }
    return Phase::bad;
}

ChunkDecoder::Phase ChunkDecoder::after_size_char(char c) {
    int value = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (value >= 0) {
        if (++digits_ > 16) return Phase::bad;
        left_ = left_ << 4 | static_cast<std::uint64_t>(value);
        return Phase::size;
    }
    if (digits_ == 0) return Phase::bad;
    return c == '\r' ? Phase::size_lf : c == ';' ? Phase::extension : Phase::bad;
}

// left_ is 0 while the name of a trailer line is read and 1 behind its colon.
ChunkDecoder::Phase ChunkDecoder::after_trailer_char(char c) {
    if (++overhead_ > chunk_overhead_max) return Phase::bad;
    if (left_ == 0) {
        if (c == ':') left_ = 1;
        return c == ':' || is(c, is_token) ? Phase::trailer : Phase::bad;
    }
    if (c == '\r') return Phase::trailer_lf;
    return is(c, is_value) ? Phase::trailer : Phase::bad;
}

}  // namespace nebula::http

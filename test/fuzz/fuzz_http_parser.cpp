// Our head parsers beside Beast's. What we accept, Beast must accept and understand alike: otherwise somebody
// in front of us could read the same bytes as another request. What we refuse and Beast accepts must be a
// strictness we chose (listed here); what neither finishes must be unfinished for both. Nothing may depend on
// where reads ended.
#include <boost/beast/http.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "base/text.hpp"
#include "http/parser.hpp"

namespace {

namespace beast_http = boost::beast::http;
using namespace nebula::http;

constexpr std::size_t limit = 4096;

// Chosen strictness: see parser.hpp and the README of http.
constexpr std::string_view stricter[] = {
    "empty start line",
    "missing host",
    "repeated host",
    "malformed host",
    "malformed request target",
    "malformed connection header",
    "repeated content-length",
    "malformed content-length",
    "transfer-encoding other than chunked",
    "transfer-encoding together with content-length",
    "transfer-encoding in HTTP/1.0",
    "folded header line",
    "malformed request line",  // Beast takes bytes above 0x7f in targets
    "malformed status line",   // statuses outside 100 to 599, reasons
};

[[noreturn]] void disagree(const char* what, std::string_view text, const char* problem) {
    std::fprintf(stderr, "disagreement: %s (%s)\n%.*s\n", what, problem != nullptr ? problem : "",
                 static_cast<int>(text.size()), text.data());
    std::abort();
}

bool is_chosen(const char* problem) {
    if (problem == nullptr) return false;
    for (std::string_view one : stricter)
        if (one == problem) return true;
    return false;
}

template <class Fields>
void compare_headers(const Fields& theirs, std::span<const Header> ours, std::string_view text) {
    auto at = ours.begin();
    for (const auto& field : theirs) {
        if (at == ours.end()) disagree("fewer headers than Beast", text, nullptr);
        std::string_view name(field.name_string().data(), field.name_string().size());
        std::string_view value(field.value().data(), field.value().size());
        // Beast keeps headers in order, but puts those of one name beside each other.
        bool found = false;
        for (const Header& header : ours)
            found = found || (nebula::equals_ignore_case(header.name, name) && header.value == value);
        if (!found) disagree("a header reads differently", text, nullptr);
        ++at;
    }
    if (at != ours.end()) disagree("more headers than Beast", text, nullptr);
}

struct Theirs {
    bool complete = false;
    std::size_t bytes = 0;
};

template <class Parser>
Theirs put_head(Parser& parser, std::string_view text) {
    parser.header_limit(limit);
    parser.body_limit(boost::none);
    Theirs result;
    boost::beast::error_code problem;
    while (!parser.is_header_done()) {
        std::size_t used =
            parser.put(boost::asio::buffer(text.data() + result.bytes, text.size() - result.bytes), problem);
        result.bytes += used;
        if (problem || used == 0) return result;
    }
    result.complete = true;
    return result;
}

template <class Ours, class Parser>
void compare_framing(const Ours& ours, Parser& parser, std::string_view text) {
    if (ours.chunked != parser.chunked()) disagree("chunked", text, nullptr);
    auto length = parser.content_length();
    if (ours.content_length.has_value() != length.has_value()) disagree("content-length", text, nullptr);
    if (length && *ours.content_length != *length) disagree("content-length value", text, nullptr);
}

template <class Out, class F>
Parse in_pieces(std::string_view text, std::size_t split, F parse, Out& out) {
    std::size_t scan_from = 0;
    Parse first = parse(text.substr(0, split), out, scan_from);
    if (first != Parse::incomplete) return first;
    return parse(text, out, scan_from);
}

void fuzz_request(std::string_view text, std::size_t split) {
    auto parse = [](std::string_view input, ParsedRequest& out, std::size_t& scan_from) {
        return parse_request_head(input, limit, out, scan_from);
    };
    ParsedRequest ours;
    std::size_t scan_from = 0;
    Parse result = parse(text, ours, scan_from);
    ParsedRequest pieces;
    Parse by_pieces = in_pieces(text, split, parse, pieces);
    bool both_wrong =
        by_pieces != Parse::complete && by_pieces != Parse::incomplete && result != Parse::complete;
    if (by_pieces != result && !both_wrong) disagree("split changes the result", text, ours.problem);

    beast_http::request_parser<beast_http::empty_body> parser;
    Theirs theirs = put_head(parser, text);
    if (result == Parse::complete) {
        if (!theirs.complete) disagree("Beast refuses", text, nullptr);
        const auto& message = parser.get();
        if (std::string_view(message.method_string().data(), message.method_string().size()) !=
            method_name(ours.head.method))
            disagree("method", text, nullptr);
        if (std::string_view(message.target().data(), message.target().size()) != ours.head.target)
            disagree("target", text, nullptr);
        if (message.version() != 10u + static_cast<unsigned>(ours.head.minor_version))
            disagree("version", text, nullptr);
        if (theirs.bytes != ours.head_bytes) disagree("length of the head", text, nullptr);
        compare_headers(message.base(), ours.headers, text);
        compare_framing(ours.head, parser, text);
        if (parser.keep_alive() != ours.head.keep_alive) disagree("keep-alive", text, nullptr);
        if (ours.head.path.empty()) disagree("empty path", text, nullptr);
    } else if (result == Parse::incomplete) {
        if (theirs.complete) disagree("Beast is through", text, nullptr);
    } else if (result == Parse::bad && theirs.complete && !is_chosen(ours.problem)) {
        disagree("we refuse", text, ours.problem);
    }
}

void fuzz_response(std::string_view text, std::size_t split) {
    auto parse = [](std::string_view input, ParsedResponse& out, std::size_t& scan_from) {
        return parse_response_head(input, limit, out, scan_from);
    };
    ParsedResponse ours;
    std::size_t scan_from = 0;
    Parse result = parse(text, ours, scan_from);
    ParsedResponse pieces;
    Parse by_pieces = in_pieces(text, split, parse, pieces);
    bool both_wrong =
        by_pieces != Parse::complete && by_pieces != Parse::incomplete && result != Parse::complete;
    if (by_pieces != result && !both_wrong) disagree("split changes the result", text, ours.problem);

    beast_http::response_parser<beast_http::empty_body> parser;
    Theirs theirs = put_head(parser, text);
    if (result == Parse::complete) {
        // "HTTP/1.1 200" without a space behind it: some servers write so, Beast insists.
        std::string_view line = text.substr(0, text.find('\r'));
        if (line.size() == 12) return;
        if (!theirs.complete) disagree("Beast refuses", text, nullptr);
        if (parser.get().result_int() != static_cast<unsigned>(ours.status))
            disagree("status", text, nullptr);
        if (theirs.bytes != ours.head_bytes) disagree("length of the head", text, nullptr);
        compare_headers(parser.get().base(), ours.headers, text);
        // Beast knows that these have no body and forgets their framing.
        bool bodyless = ours.status / 100 == 1 || ours.status == 204 || ours.status == 304;
        if (!bodyless) compare_framing(ours, parser, text);
    } else if (result == Parse::incomplete) {
        if (theirs.complete) disagree("Beast is through", text, nullptr);
    } else if (result == Parse::bad && theirs.complete && !is_chosen(ours.problem)) {
        disagree("we refuse", text, ours.problem);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    if (size < 2) return 0;
    // On the heap without a terminator, so that reading past the end is seen.
    std::string text(reinterpret_cast<const char*>(data) + 2, size - 2);
    auto exact = std::make_unique<char[]>(text.size());
    text.copy(exact.get(), text.size());
    std::string_view view(exact.get(), text.size());
    std::size_t split = text.empty() ? 0 : data[1] % text.size();
    if (data[0] % 2 == 0)
        fuzz_request(view, split);
    else
        fuzz_response(view, split);
    return 0;
}

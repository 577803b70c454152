#include "http/parser.hpp"

#include <gtest/gtest.h>

#include <string>

namespace nebula::http {
namespace {

constexpr std::size_t limit = 8 * 1024;

// The result views `kept`.
std::string kept;
Parse parse(const std::string& text, ParsedRequest& out) {
    kept = text;
    std::size_t scan_from = 0;
    return parse_request_head(kept, limit, out, scan_from);
}

std::string request(const std::string& lines, const std::string& start = "POST /v1/x HTTP/1.1") {
    return start + "\r\nhost: a\r\n" + lines + "\r\n";
}

struct Case {
    const char* what;
    std::string text;
    Parse expected;
};

// Every refusal of parser.hpp, one line each: what smuggles a request past another reader must not pass here.
TEST(RequestParser, RefusesWhatItSaysItRefuses) {
    const Case cases[] = {
        {"bare LF", "GET / HTTP/1.1\nhost: a\r\n\r\n", Parse::bad},
        {"LF LF", "GET / HTTP/1.1\n\n", Parse::bad},
        {"bare CR in a value", request("a: b\rc\r\n"), Parse::bad},
        {"bare CR in the request line", "GET /\r HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"CR CR LF", "GET / HTTP/1.1\r\nhost: a\r\r\n\r\n", Parse::bad},
        {"empty line first", "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"NUL in a value", request(std::string("a: b\0c\r\n", 8)), Parse::bad},
        {"DEL in a value", request("a: b\x7f\r\n"), Parse::bad},
        {"control in a name", request("a\x01: b\r\n"), Parse::bad},
        {"high byte in a name", request("\xc3\xa4: b\r\n"), Parse::bad},
        {"space before the colon", request("a : b\r\n"), Parse::bad},
        {"no colon", request("abc\r\n"), Parse::bad},
        {"empty name", request(": b\r\n"), Parse::bad},
        {"folded line", request("a: b\r\n c\r\n"), Parse::bad},
        {"folded by tab", request("a: b\r\n\tc\r\n"), Parse::bad},
        {"TE and CL", request("transfer-encoding: chunked\r\ncontent-length: 3\r\n"), Parse::bad},
        {"CL and TE", request("content-length: 3\r\ntransfer-encoding: chunked\r\n"), Parse::bad},
        {"two CL", request("content-length: 3\r\ncontent-length: 3\r\n"), Parse::bad},
        {"CL list", request("content-length: 3, 3\r\n"), Parse::bad},
        {"CL sign", request("content-length: +3\r\n"), Parse::bad},
        {"CL negative", request("content-length: -3\r\n"), Parse::bad},
        {"CL hex", request("content-length: 0x3\r\n"), Parse::bad},
        {"CL empty", request("content-length: \r\n"), Parse::bad},
        {"CL overflow", request("content-length: 99999999999999999999\r\n"), Parse::bad},
        {"TE gzip", request("transfer-encoding: gzip\r\n"), Parse::bad},
        {"TE gzip, chunked", request("transfer-encoding: gzip, chunked\r\n"), Parse::bad},
        {"TE chunked twice", request("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
         Parse::bad},
        {"TE identity", request("transfer-encoding: identity\r\n"), Parse::bad},
        {"TE quoted", request("transfer-encoding: \"chunked\"\r\n"), Parse::bad},
        {"TE vertical tab", request("transfer-encoding: \vchunked\r\n"), Parse::bad},
        {"TE in 1.0", request("transfer-encoding: chunked\r\n", "POST / HTTP/1.0"), Parse::bad},
        {"no host", "GET / HTTP/1.1\r\n\r\n", Parse::bad},
        {"two hosts", request("host: b\r\n"), Parse::bad},
        {"host with a slash", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", Parse::bad},
        {"host with a space", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n", Parse::bad},
        {"host with credentials", "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", Parse::bad},
        {"two spaces", "GET  / HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"tab as separator", "GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"no target", "GET HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"HTTP/0.9", "GET /\r\n\r\n", Parse::bad},
        {"relative target", "GET a HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"star with GET", "GET * HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"authority form", "GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"fragment", "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"high byte in the target", "GET /\xc3\xa4 HTTP/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"NUL in the target", std::string("GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n", 28), Parse::bad},
        {"other protocol", "GET / HTTQ/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"lower case protocol", "GET / http/1.1\r\nhost: a\r\n\r\n", Parse::bad},
        {"long version", "GET / HTTP/1.10\r\nhost: a\r\n\r\n", Parse::bad},
        {"TLS hello", std::string("\x16\x03\x01\x02\x00", 5), Parse::bad},
        {"connection with rubbish", request("connection: clo se\r\n"), Parse::bad},
        {"HTTP/2.0", "PRI * HTTP/2.0\r\n\r\n", Parse::bad_version},
        {"HTTP/1.2", "GET / HTTP/1.2\r\nhost: a\r\n\r\n", Parse::bad_version},
        {"CONNECT", "CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", Parse::unknown_method},
        {"TRACE", "TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", Parse::unknown_method},
        {"lower case method", "get / HTTP/1.1\r\nhost: a\r\n\r\n", Parse::unknown_method},
        {"long head", request("a: " + std::string(limit, 'x') + "\r\n"), Parse::too_large},
        {"long head, unfinished", "GET /" + std::string(limit, 'x'), Parse::too_large},
    };
    for (const Case& one : cases) {
        ParsedRequest out;
        EXPECT_EQ(parse(one.text, out), one.expected) << one.what;
        if (one.expected == Parse::bad) EXPECT_NE(out.problem, nullptr) << one.what;
    }
}

// A strict parser is of use only if ordinary clients get through.
TEST(RequestParser, AcceptsOrdinaryRequests) {
    ParsedRequest out;
    ASSERT_EQ(
        parse("POST /v1/chat/completions?a=1&b HTTP/1.1\r\nHost: api.local:8080\r\nContent-Length: 12\r\n"
              "X-Empty:\r\nx-spaces: \t a b \t\r\nx-text: \xc3\xa4\r\nExpect: 100-Continue\r\n\r\nrest",
              out),
        Parse::complete);
    EXPECT_EQ(out.head.method, Method::post);
    EXPECT_EQ(out.head.target, "/v1/chat/completions?a=1&b");
    EXPECT_EQ(out.head.path, "/v1/chat/completions");
    EXPECT_EQ(out.head.query, "a=1&b");
    EXPECT_EQ(out.head.content_length, 12u);
    EXPECT_TRUE(out.head.keep_alive);
    EXPECT_TRUE(out.head.expects_continue);
    EXPECT_EQ(out.head.header("x-empty"), "");
    EXPECT_EQ(out.head.header("X-SPACES"), "a b");
    EXPECT_EQ(out.head.header("x-text"), "\xc3\xa4");
    EXPECT_FALSE(out.head.header("absent"));

    ASSERT_EQ(parse(request("transfer-encoding: Chunked\r\nconnection: x, Close\r\n"), out), Parse::complete);
    EXPECT_TRUE(out.head.chunked);
    EXPECT_FALSE(out.head.keep_alive);
    EXPECT_FALSE(out.head.content_length);

    ASSERT_EQ(parse("GET / HTTP/1.0\r\n\r\n", out), Parse::complete);
    EXPECT_FALSE(out.head.keep_alive);
    ASSERT_EQ(parse("OPTIONS * HTTP/1.1\r\nhost:\r\n\r\n", out), Parse::complete);
    ASSERT_EQ(parse("GET http://a:80?x HTTP/1.1\r\nhost: a\r\n\r\n", out), Parse::complete);
    EXPECT_EQ(out.head.path, "/");
    EXPECT_EQ(out.head.query, "x");
    ASSERT_EQ(parse("GET HTTPS://a/b?c?d HTTP/1.1\r\nhost: a\r\n\r\n", out), Parse::complete);
    EXPECT_EQ(out.head.path, "/b");
    EXPECT_EQ(out.head.query, "c?d");
    ASSERT_EQ(parse("GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", out), Parse::complete);
}

// One header too many is a size problem, not a syntax problem.
TEST(RequestParser, CountsHeaders) {
    std::string lines;
    for (int i = 0; i < 99; ++i) lines += "x: y\r\n";
    ParsedRequest out;
    EXPECT_EQ(parse(request(lines), out), Parse::complete);
    EXPECT_EQ(out.headers.size(), 100u);
    EXPECT_EQ(parse(request(lines + "x: y\r\n"), out), Parse::too_large);
}

// Bytes come in any pieces: nothing may depend on where one read ended.
TEST(RequestParser, GivesTheSameResultForEverySplit) {
    std::string text = request("content-length: 5\r\nx-a: b\r\nconnection: close\r\n");
    for (std::size_t split = 0; split < text.size(); ++split) {
        ParsedRequest out;
        std::size_t scan_from = 0;
        ASSERT_EQ(parse_request_head(text.substr(0, split), limit, out, scan_from), Parse::incomplete)
            << split;
        std::string longer = text + "12345";
        ASSERT_EQ(parse_request_head(longer, limit, out, scan_from), Parse::complete) << split;
        EXPECT_EQ(out.head_bytes, text.size());
        EXPECT_EQ(out.head.content_length, 5u);
        EXPECT_EQ(out.headers.size(), 4u);
    }
    ParsedRequest out;
    std::size_t scan_from = 0;
    for (std::size_t size = 0; size < text.size(); ++size)
        ASSERT_EQ(parse_request_head(text.substr(0, size), limit, out, scan_from), Parse::incomplete) << size;
    EXPECT_EQ(parse_request_head(text, limit, out, scan_from), Parse::complete);
}

// Upstream answers: strict where framing is concerned, plain text as servers write it otherwise.
TEST(ResponseParser, AcceptsAndRefuses) {
    auto status_of = [](const std::string& text, ParsedResponse& out) {
        std::size_t scan_from = 0;
        return parse_response_head(text, limit, out, scan_from);
    };
    ParsedResponse out;
    ASSERT_EQ(status_of("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", out), Parse::complete);
    EXPECT_EQ(out.status, 200);
    EXPECT_EQ(out.content_length, 2u);
    EXPECT_TRUE(out.keep_alive);
    EXPECT_EQ(out.head_bytes, 38u);
    ASSERT_EQ(status_of("HTTP/1.1 404\r\n\r\n", out), Parse::complete);
    EXPECT_EQ(out.status, 404);
    ASSERT_EQ(status_of("HTTP/1.0 503 \r\nconnection: keep-alive\r\n\r\n", out), Parse::complete);
    EXPECT_TRUE(out.keep_alive);
    ASSERT_EQ(status_of("HTTP/1.1 200 Na\xc3\xafve reason\r\ntransfer-encoding: chunked\r\n\r\n", out),
              Parse::complete);
    EXPECT_TRUE(out.chunked);

    for (const char* bad :
         {"HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 600 X\r\n\r\n",
          "HTTP/1.1 099 X\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n", "<html>",
          "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
          "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
          "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/1.1 200 O\x01K\r\n\r\n",
          "HTTP/1.1 200 OK\r\n a: b\r\n\r\n"})
        EXPECT_EQ(status_of(bad, out), Parse::bad) << bad;
    EXPECT_EQ(status_of("HTTP/2.0 200 OK\r\n\r\n", out), Parse::bad_version);
    EXPECT_EQ(status_of("HTTP/1.1 200 OK\r\nx", out), Parse::incomplete);
    EXPECT_EQ(status_of("HT", out), Parse::incomplete);
}

struct Decoded {
    ChunkDecoder::State state = ChunkDecoder::State::more;
    std::string body;
    std::size_t left = 0;
};

Decoded decode(const std::string& text, std::size_t piece) {
    Decoded out;
    ChunkDecoder decoder;
    for (std::size_t at = 0; at < text.size() && out.state != ChunkDecoder::State::done; at += piece) {
        std::string part = text.substr(at, piece);
        std::string_view input = part;
        while (!input.empty()) {
            auto step = decoder.next(input);
            out.state = step.state;
            out.body += step.data;
            if (step.state == ChunkDecoder::State::bad) return out;
            if (step.state == ChunkDecoder::State::done) {
                out.left = input.size();
                break;
            }
        }
    }
    return out;
}

// The decoder keeps its place across reads; every split must give the same body and stop at the same byte.
TEST(ChunkDecoder, DecodesInPiecesOfAnySize) {
    std::string text =
        "5\r\nhello\r\n00A;name=value;q=\"x\"\r\n 0123456\r\n\r\n1\r\n!\r\n0;last\r\nx-t: 1\r\nb:\r\n\r\n";
    for (std::size_t piece = 1; piece <= text.size(); ++piece) {
        Decoded out = decode(text, piece);
        EXPECT_EQ(out.state, ChunkDecoder::State::done) << piece;
        EXPECT_EQ(out.body, "hello 0123456\r\n!") << piece;
    }
    Decoded rest = decode("0\r\n\r\nGET /", 100);
    EXPECT_EQ(rest.state, ChunkDecoder::State::done);
    EXPECT_EQ(rest.left, 5u);
}

// Bad chunking is how requests are smuggled; the decoder never resynchronizes.
TEST(ChunkDecoder, RefusesMalformedChunks) {
    for (const std::string& bad : {std::string("\r\n"),
                                   std::string("g\r\n"),
                                   std::string("5 \r\nhello\r\n"),
                                   std::string(" 5\r\nhello\r\n"),
                                   std::string("-5\r\n"),
                                   std::string("0x5\r\n"),
                                   std::string("5\nhello\n"),
                                   std::string("5\r\nhelloX"),
                                   std::string("5\r\nhello\rX"),
                                   std::string("5\r\nhello\n"),
                                   std::string("00000000000000001\r\n"),
                                   std::string("FFFFFFFFFFFFFFFFF\r\n"),
                                   std::string("5;a\nb\r\n"),
                                   std::string("5;a\0b\r\n", 7),
                                   std::string("0\r\n folded: x\r\n"),
                                   std::string("0\r\nno colon\r\n"),
                                   std::string("0\r\nno-colon\r\n"),
                                   std::string("0\r\n: x\r\n"),
                                   std::string("0\r\na: b\n\r\n"),
                                   std::string("0\r\n\rX"),
                                   "5;" + std::string(20'000, 'x'),
                                   "0\r\na: " + std::string(20'000, 'x')}) {
        EXPECT_EQ(decode(bad, bad.size()).state, ChunkDecoder::State::bad) << bad.substr(0, 40);
        EXPECT_EQ(decode(bad, 1).state, ChunkDecoder::State::bad) << bad.substr(0, 40);
    }
}

}  // namespace
}  // namespace nebula::http

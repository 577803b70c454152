#include "http/connection.hpp"
#include "http/test_support/server_rig.hpp"

namespace nebula::http {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::RawClient;
using test::Rig;
using ::testing::HasSubstr;
using ::testing::Not;

std::string post(std::string_view path, std::string_view body, std::string_view more = "") {
    return "POST " + std::string(path) +
           " HTTP/1.1\r\nhost: a\r\ncontent-length: " + std::to_string(body.size()) + "\r\n" +
           std::string(more) + "\r\n" + std::string(body);
}
const std::string get_hello = "GET /hello HTTP/1.1\r\nhost: a\r\n\r\n";

std::string body_of(const std::string& response) { return response.substr(response.find("\r\n\r\n") + 4); }

struct Echo : ::testing::Test, Rig {
    void SetUp() override { add_echo(); }
};

// The whole head, byte by byte as written: what every client and proxy in front of us depends on.
TEST_F(Echo, AnswersWithHeadAndBody) {
    start();
    RawClient c = client();
    c.send(get_hello);
    std::string response = c.read_response();
    EXPECT_THAT(response,
                ::testing::StartsWith("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n"
                                      "x-request-id: req_"));
    EXPECT_THAT(response, HasSubstr("\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"));
    EXPECT_THAT(response, Not(HasSubstr("connection:")));
    EXPECT_THAT(response, Not(HasSubstr("access-control")));
    EXPECT_THAT(response, ::testing::EndsWith("\r\n\r\nhello"));
    EXPECT_EQ(metric("nebula_http_requests_total{listener=\"test\",status=\"2xx\"}"), 1);
    EXPECT_EQ(metric("nebula_http_connections{listener=\"test\"}"), 1);
}

// Keep-alive and pipelining: answers come in order, one for each request.
TEST_F(Echo, ServesPipelinedRequestsInOrder) {
    start();
    RawClient c = client();
    std::string all;
    for (int i = 0; i < 50; ++i) all += post("/echo", "body " + std::to_string(i));
    c.send(all);
    for (int i = 0; i < 50; ++i) EXPECT_EQ(body_of(c.read_response()), "body " + std::to_string(i));
    c.send(get_hello);
    EXPECT_EQ(body_of(c.read_response()), "hello");
}

// Requests may arrive in any pieces, also in pieces of one byte.
TEST_F(Echo, AcceptsRequestsByteByByte) {
    start();
    RawClient c = client();
    std::string chunked =
        "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: "
        "chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
    for (const std::string& text : {post("/echo", "hello"), chunked, get_hello}) {
        for (char byte : text) {
            c.send({&byte, 1});
            run([] {});
        }
        std::string body = body_of(c.read_response());
        EXPECT_EQ(body, text == chunked ? "abcde" : "hello");
    }
}

// Bodies in the read buffer, just beyond it, and far beyond it take three different ways.
TEST_F(Echo, ReadsBodiesOfEverySize) {
    start();
    RawClient c = client();
    for (std::size_t size :
         {std::size_t{0}, std::size_t{1}, std::size_t{16'000}, BufferPool::buffer_bytes - 40,
          BufferPool::buffer_bytes, std::size_t{70'000}, std::size_t{3'000'000}}) {
        std::string body(size, 'x');
        for (std::size_t i = 0; i < size; i += 97) body[i] = static_cast<char>('a' + i % 26);
        std::jthread sender([&] { c.send(post("/echo", body)); });
        EXPECT_TRUE(body_of(c.read_response()) == body) << size;
    }
    std::string chunked = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    std::string whole;
    for (int i = 0; i < 2000; ++i) {
        chunked += "40\r\n" + std::string(64, static_cast<char>('a' + i % 26)) + "\r\n";
        whole += std::string(64, static_cast<char>('a' + i % 26));
    }
    std::jthread sender([&] { c.send(chunked + "0\r\n\r\n" + get_hello); });
    EXPECT_TRUE(body_of(c.read_response()) == whole);
    EXPECT_EQ(body_of(c.read_response()), "hello");
    settle();  // the answer is sent before its request is put away
    EXPECT_EQ(metric("nebula_http_buffered_bytes{listener=\"test\"}"), 0);
}

// A large body is read where it stays: only what came with its head and a growing buffer copy it, a third at
// most.
TEST_F(Echo, CopiesLittleOfLargeBodies) {
    start();
    RawClient c = client();
    constexpr std::size_t size = 1'000'000;
    constexpr int rounds = 5;
    for (int i = 0; i < rounds; ++i) {
        std::string body(size, 'x');
        std::jthread sender([&] { c.send(post("/echo", body)); });
        EXPECT_EQ(body_of(c.read_response()).size(), size);
    }
    EXPECT_EQ(metric("nebula_http_body_bytes_total{listener=\"test\"}"),
              rounds * static_cast<std::int64_t>(size));
    EXPECT_LT(metric("nebula_http_body_copied_bytes_total{listener=\"test\"}"),
              rounds * static_cast<std::int64_t>(size) * 2 / 5);
}

// Heads between the pooled buffer's size and the limit move to a larger buffer, with body and follower
// intact.
TEST_F(Echo, AcceptsLongHeads) {
    start();
    RawClient c = client();
    for (std::size_t size : {15'000u, 16'200u, 16'300u, 16'384u, 20'000u, 31'000u}) {
        std::string header = "x-long: " + std::string(size, 'y') + "\r\n";
        c.send(post("/echo", "body", header) + get_hello);
        EXPECT_EQ(body_of(c.read_response()), "body") << size;
        EXPECT_EQ(body_of(c.read_response()), "hello") << size;
        c.send("POST /echo HTTP/1.1\r\nhost: a\r\n" + header + "transfer-encoding: chunked\r\n\r\n4\r\nbo");
        settle();
        c.send("dy\r\n0\r\n\r\n");
        EXPECT_EQ(body_of(c.read_response()), "body") << size;
    }
}

// Each malformed request gets its status, in our dialect, and then the connection ends, cleanly enough to be
// read.
TEST_F(Echo, RefusesMalformedRequestsAndCloses) {
    settings.head_bytes_max = 20'000;
    start();
    struct Case {
        std::string text;
        const char* status;
    };
    const Case cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", "400"},
        {"GET / HTTP/1.1\nhost: a\n\n", "400"},
        {"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
         "400"},
        {"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "400"},
        {"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "400"},
        {"POST /echo HTTP/1.1\r\nhost: a\r\n a: b\r\n\r\n", "400"},
        {"\x16\x03\x01\x02", "400"},
        {"BREW / HTTP/1.1\r\nhost: a\r\n\r\n", "501"},
        {"GET / HTTP/3.0\r\nhost: a\r\n\r\n", "505"},
        {"GET /" + std::string(30'000, 'x') + " HTTP/1.1\r\nhost: a\r\n\r\n", "431"},
        {"GET / HTTP/1.1\r\nx: " + std::string(500'000, 'x'), "431"},
    };
    for (const Case& one : cases) {
        RawClient c = client();
        // Another request behind the bad one must never be served.
        std::jthread sender([&] {
            c.send(one.text + get_hello);
            c.half_close();
        });
        std::string response = c.read_all();
        EXPECT_EQ(response.substr(9, 3), one.status) << one.text.substr(0, 60);
        EXPECT_THAT(response, HasSubstr("connection: close\r\n"));
        EXPECT_THAT(response, HasSubstr("x-request-id: req_"));
        EXPECT_THAT(response, HasSubstr("{\"code\":"));
        EXPECT_THAT(response, Not(HasSubstr("hello")));
    }
}

// 404 and 405 keep the connection; 405 says what is allowed.
TEST_F(Echo, AnswersUnknownPathsAndMethods) {
    start();
    RawClient c = client();
    c.send("GET /nope HTTP/1.1\r\nhost: a\r\n\r\n");
    EXPECT_THAT(c.read_response(), ::testing::StartsWith("HTTP/1.1 404 "));
    c.send(post("/hello", "unread body"));
    std::string response = c.read_response();
    EXPECT_THAT(response, ::testing::StartsWith("HTTP/1.1 405 "));
    EXPECT_THAT(response, HasSubstr("allow: GET, HEAD, OPTIONS\r\n"));
    c.send("OPTIONS /hello HTTP/1.1\r\nhost: a\r\n\r\n");
    response = c.read_until("\r\n\r\n");
    EXPECT_THAT(response, ::testing::StartsWith("HTTP/1.1 204 "));
    EXPECT_THAT(response, HasSubstr("allow: GET, HEAD, OPTIONS\r\n"));
    EXPECT_THAT(response, Not(HasSubstr("content-length")));
    c.send("HEAD /hello HTTP/1.1\r\nhost: a\r\n\r\n" + get_hello);
    EXPECT_THAT(c.read_until("\r\n\r\n"), HasSubstr("content-length: 5\r\n"));
    EXPECT_EQ(body_of(c.read_response()), "hello");
}

// Web pages may call us directly: preflight, allowed origin, and the headers the SDKs read.
TEST_F(Echo, SpeaksCors) {
    settings.cors_origins = {"https://a.example", "https://b.example"};
    start();
    RawClient c = client();
    c.send(
        "OPTIONS /hello HTTP/1.1\r\nhost: a\r\norigin: https://b.example\r\naccess-control-request-method: "
        "GET\r\n"
        "access-control-request-headers: authorization, x-stainless-os\r\n\r\n");
    std::string response = c.read_until("\r\n\r\n");
    EXPECT_THAT(response, HasSubstr("HTTP/1.1 204 "));
    EXPECT_THAT(response, HasSubstr("access-control-allow-origin: https://b.example\r\nvary: origin\r\n"));
    EXPECT_THAT(response, HasSubstr("access-control-allow-headers: authorization, x-stainless-os\r\n"));
    c.send("GET /hello HTTP/1.1\r\nhost: a\r\norigin: https://a.example\r\n\r\n");
    response = c.read_response();
    EXPECT_THAT(response, HasSubstr("access-control-allow-origin: https://a.example\r\n"));
    EXPECT_THAT(response, HasSubstr("access-control-expose-headers: x-request-id, retry-after, "));
    c.send("GET /hello HTTP/1.1\r\nhost: a\r\norigin: https://evil.example\r\n\r\n");
    EXPECT_THAT(c.read_response(), Not(HasSubstr("access-control-")));
}

// HTTP/1.0 clients get plain bodies and a closed connection, whatever they ask for.
TEST_F(Echo, ClosesAfterHttp10) {
    start();
    RawClient c = client();
    c.send("GET /hello HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    std::string response = c.read_all();
    EXPECT_THAT(response, HasSubstr("connection: close\r\n"));
    EXPECT_EQ(body_of(response), "hello");
    EXPECT_FALSE(c.reset);
}

// The client waits for our word before it sends; it gets it only when the handler wants the body.
TEST_F(Echo, SendsContinueWhenTheBodyIsWanted) {
    start();
    RawClient c = client();
    std::string expect =
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n";
    c.send(expect);
    EXPECT_EQ(c.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    c.send("abc");
    EXPECT_EQ(body_of(c.read_response()), "abc");
    c.send(expect + "abc");  // did not wait: no 100
    EXPECT_EQ(body_of(c.read_response()), "abc");
    c.send("POST /nope HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n");
    std::string response = c.read_response();
    EXPECT_THAT(response, ::testing::StartsWith("HTTP/1.1 404 "));
    EXPECT_THAT(response, HasSubstr("connection: close\r\n"));
}

// A declared body above the limit is refused before a byte of it is read; a chunked one as soon as it is too
// long.
TEST_F(Echo, RefusesBodiesAboveTheLimit) {
    settings.body_bytes_max = 100'000;
    start();
    RawClient c = client();
    c.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100001\r\n\r\n");
    std::string response = c.read_response();
    EXPECT_THAT(response, ::testing::StartsWith("HTTP/1.1 413 "));
    EXPECT_THAT(response, HasSubstr("connection: close\r\n"));
    RawClient d = client();
    std::jthread sender([&] {
        d.send("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        for (int i = 0; i < 101; ++i) d.send("3e8\r\n" + std::string(1000, 'x') + "\r\n");
    });
    EXPECT_THAT(d.read_response(), ::testing::StartsWith("HTTP/1.1 413 "));
    EXPECT_EQ(metric("nebula_http_refused_total{listener=\"test\",reason=\"body_size\"}"), 2);
}

// All bodies together are bounded; what does not fit is told to come back, and nothing stays counted.
TEST_F(Echo, BoundsAllBodiesTogether) {
    settings.buffered_bytes_max = 1024 * 1024;
    start();
    RawClient first = client();
    std::string half(700'000, 'x');
    first.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 700001\r\n\r\n" + half);
    while (metric("nebula_http_buffered_bytes{listener=\"test\"}") < 700'000) settle();
    RawClient second = client();
    std::jthread sender([&] { second.send(post("/echo", half)); });
    std::string response = second.read_response();
    EXPECT_THAT(response, ::testing::StartsWith("HTTP/1.1 503 "));
    EXPECT_THAT(response, HasSubstr("retry-after: 1\r\n"));
    first.send("x");
    EXPECT_EQ(body_of(first.read_response()).size(), 700'001u);
    settle();  // the answer is sent before its request is put away
    EXPECT_EQ(metric("nebula_http_buffered_bytes{listener=\"test\"}"), 0);
}

// A small unread body is read over and the connection lives; a large one costs the connection.
TEST_F(Echo, ReadsOverAnUnreadBody) {
    start();
    RawClient c = client();
    std::string body(60'000, 'x');
    c.send(post("/nope", body) + get_hello);
    EXPECT_THAT(c.read_response(), ::testing::StartsWith("HTTP/1.1 404 "));
    EXPECT_EQ(body_of(c.read_response()), "hello");
    c.send("POST /nope HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" +
           get_hello);
    EXPECT_THAT(c.read_response(), ::testing::StartsWith("HTTP/1.1 404 "));
    EXPECT_EQ(body_of(c.read_response()), "hello");
    c.send("POST /nope HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
    EXPECT_THAT(c.read_response(), HasSubstr("connection: close\r\n"));
    EXPECT_TRUE(c.closed());
}

// Slow loris: dribbling bytes buy no time, the head has one deadline from its first byte.
TEST_F(Echo, TimesOutSlowHeads) {
    start();
    RawClient c = client();
    c.send("GET /hello HTTP/1.1\r\n");
    for (int i = 0; i < 9; ++i) {
        advance(seconds(1));
        c.send("x");
    }
    settle();
    EXPECT_TRUE(c.nothing_to_read());
    advance(milliseconds(1200));
    EXPECT_THAT(c.read_response(), ::testing::StartsWith("HTTP/1.1 408 "));
    EXPECT_EQ(metric("nebula_http_timeouts_total{listener=\"test\",phase=\"head\"}"), 1);
}

// An idle connection goes without a word, whether or not it ever sent something.
TEST_F(Echo, ClosesIdleConnections) {
    start();
    RawClient fresh = client();
    RawClient used = client();
    used.send(get_hello);
    EXPECT_EQ(body_of(used.read_response()), "hello");
    advance(seconds(74));
    EXPECT_TRUE(fresh.nothing_to_read());
    advance(seconds(2));
    EXPECT_EQ(fresh.read_all(), "");
    EXPECT_EQ(used.read_all(), "");
    EXPECT_EQ(metric("nebula_http_timeouts_total{listener=\"test\",phase=\"idle\"}"), 2);
    settle();
    EXPECT_EQ(metric("nebula_http_connections{listener=\"test\"}"), 0);
}

// A body may pause, but neither for long nor drip forever.
TEST_F(Echo, TimesOutSlowBodies) {
    start();
    RawClient silent = client();
    silent.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc");
    advance(seconds(59));
    EXPECT_TRUE(silent.nothing_to_read());
    advance(seconds(2));
    EXPECT_THAT(silent.read_response(), ::testing::StartsWith("HTTP/1.1 408 "));
    RawClient dripping = client();
    dripping.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n");
    for (int i = 0; i < 7; ++i) {
        advance(seconds(10));
        dripping.send("x");
    }
    EXPECT_THAT(dripping.read_response(), ::testing::StartsWith("HTTP/1.1 408 "));
    EXPECT_EQ(metric("nebula_http_timeouts_total{listener=\"test\",phase=\"body\"}"), 2);
}

// A connection too many is told so instead of being left waiting.
TEST_F(Echo, TurnsAwayConnectionsAboveTheLimit) {
    settings.connections_max = 2;
    start();
    RawClient a = client();
    RawClient b = client();
    settle();
    RawClient c = client();
    std::string response = c.read_response();
    EXPECT_THAT(response, ::testing::StartsWith("HTTP/1.1 503 "));
    EXPECT_THAT(response, HasSubstr("retry-after: 1\r\n"));
    EXPECT_EQ(metric("nebula_http_refused_total{listener=\"test\",reason=\"connections\"}"), 1);
    a.close();
    c.close();
    settle();
    RawClient d = client();
    d.send(get_hello);
    EXPECT_EQ(body_of(d.read_response()), "hello");
}

// The address in use is named, so that the operator knows what to change.
TEST(Server, ReportsAddressesItCannotBind) {
    Rig rig;
    rig.settings.listen = "127.0.0.1";
    Server bad("x", rig.settings, rig.router, rig.threads, rig.clock, rig.registry);
    EXPECT_THAT(bad.start().error().message, HasSubstr("127.0.0.1"));
    HttpSettings settings = rig.settings;
    settings.listen = "192.0.2.1:80";
    Server foreign("y", settings, rig.router, rig.threads, rig.clock, rig.registry);
    EXPECT_THAT(foreign.start().error().message, HasSubstr("192.0.2.1:80"));
}

}  // namespace
}  // namespace nebula::http

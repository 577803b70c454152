// Streams, abandoned requests, failures of handlers, and the end of a server.
#include "async/completion.hpp"
#include "http/test_support/server_rig.hpp"

namespace nebula::http {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::RawClient;
using test::Rig;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string get(std::string_view path) { return "GET " + std::string(path) + " HTTP/1.1\r\nhost: a\r\n\r\n"; }
std::string body_of(const std::string& response) { return response.substr(response.find("\r\n\r\n") + 4); }

struct Streams : ::testing::Test, Rig {
    // Released by a test to let its waiting handler go on; the result is what the handler saw.
    Completion<int> gate;
    Completion<int> left;
    std::atomic<bool> waiting{false};

    void SetUp() override {
        on(Method::get, "/stream", [](Exchange& exchange) -> Async<void> {
            exchange.begin_stream(200, "text/event-stream");
            for (const char* piece : {"one", "", "two"}) {
                Result<void> sent = co_await exchange.write(piece);
                if (!sent) co_return;
            }
            Result<void> ended = co_await exchange.end("last");
            (void)ended;
        });
        on(Method::get, "/empty", [](Exchange& exchange) -> Async<void> {
            exchange.begin_stream(200, "text/plain");
            Result<void> ended = co_await exchange.end("");
            (void)ended;
        });
        on(Method::get, "/abort", [](Exchange& exchange) -> Async<void> {
            exchange.begin_stream(200, "text/event-stream");
            Result<void> sent = co_await exchange.write("one");
            (void)sent;
            exchange.abort("sorry");
        });
        on(Method::get, "/abort-unsent", [](Exchange& exchange) -> Async<void> {
            exchange.begin_stream(200, "text/event-stream");
            exchange.abort("sorry");
            co_return;
        });
        on(Method::get, "/left-open", [](Exchange& exchange) -> Async<void> {
            exchange.begin_stream(200, "text/event-stream");
            Result<void> sent = co_await exchange.write("one");
            (void)sent;
        });
        on(Method::get, "/silent", [](Exchange&) -> Async<void> { co_return; });
        on(Method::get, "/throws", [](Exchange&) -> Async<void> {
            [[maybe_unused]] int begun = 1;
            throw std::runtime_error("no luck");
            co_return;
        });
        on(Method::get, "/throws-late", [](Exchange& exchange) -> Async<void> {
            exchange.begin_stream(200, "text/plain");
            Result<void> sent = co_await exchange.write("one");
            (void)sent;
            throw std::runtime_error("no luck");
        });
        on(Method::get, "/wait",
           [this](Exchange& exchange) -> Async<void> { return wait_for_gate(exchange); });
        on(Method::get, "/flood", [this](Exchange& exchange) -> Async<void> { return flood(exchange); });
    }
    Async<void> wait_for_gate(Exchange& exchange) {
        exchange.on_gone([this, &exchange] { gate.set(exchange.is_gone() ? -1 : -2); });
        waiting = true;
        int value = co_await gate;
        exchange.on_gone(nullptr);
        Result<void> sent = co_await exchange.respond(200, "text/plain", "waited " + std::to_string(value));
        left.set(sent ? value : value * 10);
    }
    Async<void> flood(Exchange& exchange) {
        exchange.begin_stream(200, "text/plain");
        std::string piece(100'000, 'x');
        for (int i = 0; i < 1000; ++i) {
            Result<void> sent = co_await exchange.write(piece);
            if (sent) continue;
            left.set(sent.error().code == Code::timeout ? 1 : 2);
            co_return;
        }
        left.set(0);
    }
    static Async<int> value_of(Completion<int>* done) {
        int value = co_await *done;
        co_return value;
    }
    int outcome() { return sync_wait(value_of(&left)); }
    void await_handler() {
        while (!waiting) run([] {});
    }
};

// What an SSE client reads: the framing of every piece, the head with the first one, and a proper end.
TEST_F(Streams, WritesChunks) {
    start();
    RawClient c = client();
    c.send(get("/stream"));
    std::string response = c.read_until("\r\n0\r\n\r\n");
    EXPECT_THAT(response, HasSubstr("content-type: text/event-stream\r\n"));
    EXPECT_THAT(response, HasSubstr("transfer-encoding: chunked\r\n"));
    EXPECT_THAT(response, Not(HasSubstr("content-length")));
    EXPECT_EQ(body_of(response), "3\r\none\r\n3\r\ntwo\r\n4\r\nlast\r\n0\r\n\r\n");
    c.send(get("/empty"));
    EXPECT_THAT(c.read_until("\r\n\r\n0\r\n\r\n"), EndsWith("\r\n\r\n0\r\n\r\n"));
    c.send("HEAD /stream HTTP/1.1\r\nhost: a\r\n\r\n" + get("/empty"));
    EXPECT_THAT(c.read_until("\r\n\r\n"), HasSubstr("transfer-encoding: chunked\r\n"));
    EXPECT_THAT(c.read_until("\r\n\r\n0\r\n\r\n"),
                StartsWith("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"));
}

// HTTP/1.0 knows no chunks: the body ends with the connection.
TEST_F(Streams, StreamsToHttp10UntilClose) {
    start();
    RawClient c = client();
    c.send("GET /stream HTTP/1.0\r\n\r\n");
    std::string response = c.read_all();
    EXPECT_EQ(body_of(response), "onetwolast");
    EXPECT_THAT(response, Not(HasSubstr("chunked")));
    EXPECT_FALSE(c.reset);
}

// An aborted stream must never look complete, yet its last words must arrive.
TEST_F(Streams, NeverEndsAnAbortedStreamCleanly) {
    start();
    RawClient c = client();
    c.send(get("/abort"));
    EXPECT_EQ(body_of(c.read_all()), "3\r\none\r\n5\r\nsorry\r\n");
    EXPECT_FALSE(c.reset);
    RawClient unsent = client();
    unsent.send(get("/abort-unsent"));
    EXPECT_EQ(body_of(unsent.read_all()), "5\r\nsorry\r\n");
    RawClient open = client();
    open.send(get("/left-open"));
    EXPECT_EQ(body_of(open.read_all()), "3\r\none\r\n");
    RawClient late = client();
    late.send(get("/throws-late"));
    EXPECT_EQ(body_of(late.read_all()), "3\r\none\r\n");
    // Here only a reset can say it.
    RawClient old = client();
    old.send("GET /abort HTTP/1.0\r\n\r\n");
    old.read_all();
    EXPECT_TRUE(old.reset);
}

// A handler's defect costs one request, not the server, and tells the client nothing about our inside.
TEST_F(Streams, AnswersForHandlersThatFail) {
    start();
    RawClient c = client();
    for (const char* path : {"/throws", "/silent"}) {
        c.send(get(path));
        std::string response = c.read_response();
        EXPECT_THAT(response, StartsWith("HTTP/1.1 500 "));
        EXPECT_THAT(response, Not(HasSubstr("no luck")));
    }
    c.send(get("/empty"));
    EXPECT_THAT(c.read_until("0\r\n\r\n"), StartsWith("HTTP/1.1 200 "));
}

// A client that leaves while we wait for a provider: the handler hears of it within a second and can stop the
// work.
TEST_F(Streams, TellsHandlersThatTheirClientIsGone) {
    start();
    RawClient c = client();
    c.send(get("/wait"));
    await_handler();
    advance(milliseconds(600));
    EXPECT_FALSE(gate.await_ready());
    c.close();
    advance(milliseconds(600));
    EXPECT_EQ(outcome(), -1);
    EXPECT_EQ(metric("nebula_http_clients_gone_total{listener=\"test\"}"), 1);
}

// Closing the sending side counts as leaving, but the answer that is ready anyway still arrives.
TEST_F(Streams, TreatsAHalfClosedClientAsGoneOnlyWhileWaiting) {
    start();
    RawClient quick = client();
    quick.send(get("/stream"));
    quick.half_close();
    EXPECT_THAT(quick.read_all(), EndsWith("last\r\n0\r\n\r\n"));
    RawClient c = client();
    c.send(get("/wait"));
    await_handler();
    c.half_close();
    advance(milliseconds(600));
    EXPECT_THAT(c.read_all(), HasSubstr("waited -1"));
}

// A client that does not read holds our memory; after the write timeout it is cut off.
TEST_F(Streams, CutsOffClientsThatDoNotRead) {
    start();
    RawClient c = client();
    c.send(get("/flood"));
    settle();
    advance(seconds(59));
    EXPECT_FALSE(left.await_ready());
    advance(seconds(2));
    EXPECT_EQ(outcome(), 1);
    EXPECT_EQ(metric("nebula_http_timeouts_total{listener=\"test\",phase=\"write\"}"), 1);
}

// Back-pressure: a slow reader gets every byte.
TEST_F(Streams, WaitsForSlowReaders) {
    start();
    RawClient c = client();
    c.send(get("/flood"));
    std::size_t bytes = c.read_all().size();
    EXPECT_GT(bytes, 100'000'000u);
    EXPECT_EQ(outcome(), 0);
}

// SIGTERM: idle connections close, running requests finish and say that the connection ends.
TEST_F(Streams, Drains) {
    start();
    RawClient idle = client();
    idle.send(get("/empty"));
    idle.read_until("0\r\n\r\n");
    RawClient busy = client();
    busy.send(get("/wait"));
    await_handler();
    server->drain();
    EXPECT_EQ(idle.read_all(), "");
    EXPECT_FALSE(server->wait_drained(milliseconds(1)));
    EXPECT_TRUE(busy.nothing_to_read());
    run([this] { gate.set(7); });
    std::string response = busy.read_all();
    EXPECT_THAT(response, HasSubstr("connection: close\r\n"));
    EXPECT_EQ(body_of(response), "waited 7");
    EXPECT_TRUE(server->wait_drained(milliseconds(5000)));
}

// stop() ends what still runs and leaves nothing behind, whatever the clients do.
TEST_F(Streams, StopsWithRequestsRunning) {
    start();
    RawClient busy = client();
    busy.send(get("/wait"));
    RawClient half = client();
    half.send("GET /emp");
    RawClient idle = client();
    await_handler();
    server->stop();
    busy.read_all();
    EXPECT_EQ(half.read_all(), "");
    EXPECT_EQ(idle.read_all(), "");
    EXPECT_EQ(metric("nebula_http_connections{listener=\"test\"}"), 0);
    EXPECT_EQ(outcome(), -10);
}

// Every I/O thread accepts on the one port that was chosen.
TEST(Server, ListensOnEveryThread) {
    SystemClock clock;
    metrics::Registry registry;
    HttpSettings settings;
    settings.listen = "127.0.0.1:0";
    Router router;
    std::atomic<unsigned> seen{0};
    router.add(Method::get, "/", nullptr, [&seen](Exchange& exchange) -> Async<void> {
        seen |= 1u << exchange.thread().index();
        EXPECT_EQ(exchange.remote_ip(), "127.0.0.1");
        Result<void> sent = co_await exchange.respond(200, "", "x");
        (void)sent;
    });
    IoThreads threads(clock, 3);
    Server server("many", settings, router, threads, clock, registry);
    ASSERT_TRUE(server.start());
    for (int i = 0; i < 200 && seen != 7; ++i) {
        RawClient c(server.address());
        c.send(get("/"));
        c.read_response();
    }
    EXPECT_EQ(seen, 7u);
}

}  // namespace
}  // namespace nebula::http

#include "http/client.hpp"

#include <latch>

#include "http/test_support/client_fixture.hpp"

namespace nebula::http {
namespace {

using namespace testing;
using namespace std::chrono_literals;

class ClientTest : public ClientFixture<SystemClock> {};
class ClientTimeTest : public ClientFixture<FakeClock> {};

// What the upstream sees is what the caller said, and nothing else.
TEST_F(ClientTest, SendsHeadAndBodyPiecesAsOneRequest) {
    std::string seen;
    Peer peer([&](PeerSocket& socket) {
        seen = socket.read_request();
        socket.write(plain_answer("{}"));
        socket.wait_until_closed();
    });
    const std::string_view pieces[] = {"{\"a\":", "", "1}"};
    ClientRequest request;
    request.path = "/v1/chat/completions";
    request.headers = "Content-Type: application/json\r\nX-A: b\r\n";
    request.body_pieces = pieces;
    Got got = run(origin_of(peer), request);
    EXPECT_TRUE(got.ok);
    EXPECT_EQ(got.body, "{}");
    EXPECT_EQ(seen, "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(peer.port()) +
                        "\r\nContent-Type: application/json\r\nX-A: b\r\nContent-Length: 7\r\n\r\n{\"a\":1}");
}

// Handshakes cost more than requests; nothing may leak however long the program runs.
TEST_F(ClientTest, SendsAThousandRequestsOnOneConnectionAndLeaksNothing) {
    Peer peer([](PeerSocket& socket) {
        while (!socket.read_request().empty())
            socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    });
    ASSERT_TRUE(run_get(peer).ok);
    std::size_t before = open_descriptors();
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(run_get(peer).body, "hi");
    EXPECT_EQ(connects(), 1u);
    EXPECT_EQ(peer.accepted(), 1);
    EXPECT_EQ(counted("nebula_client_reuses_total"), 1000u);
    EXPECT_EQ(idle(), 1);
    EXPECT_EQ(open_descriptors(), before);
    client.reset();
    EXPECT_EQ(idle(), 0);
}

// Servers close idle connections at any moment; the caller must not see that as a failed request.
TEST_F(ClientTest, ReplacesAStaleConnectionOnce) {
    std::atomic<int> connections = 0;
    Peer peer([&](PeerSocket& socket) {
        bool first = ++connections == 1;
        socket.read_request();
        socket.write(plain_answer("ok"));
        // The first one takes its second request and closes without an answer.
        if (!socket.read_request().empty() && !first) socket.write(plain_answer("again"));
    });
    ASSERT_TRUE(run_get(peer).ok);
    EXPECT_EQ(run_get(peer).body, "ok");
    EXPECT_EQ(run_get(peer).body, "again");
    EXPECT_EQ(peer.accepted(), 2);
    EXPECT_EQ(counted("nebula_client_stale_retries_total"), 1u);
    EXPECT_EQ(failures("reset"), 0u);
}

// A request may only be repeated when nothing of its answer came.
TEST_F(ClientTest, DoesNotRepeatARequestWhoseAnswerHadBegun) {
    Peer peer([](PeerSocket& socket) {
        if (socket.read_request().empty()) return;
        socket.write(plain_answer("ok"));
        if (!socket.read_request().empty()) socket.write("HTTP/1.1 200 O");
    });
    ASSERT_TRUE(run_get(peer).ok);
    Got got = run_get(peer);
    EXPECT_EQ(got.error.code, Code::upstream_failed);
    EXPECT_EQ(peer.accepted(), 1);
    EXPECT_EQ(failures("reset"), 1u);
}

// A fresh connection that dies is an answer by itself: repeating could go on for ever.
TEST_F(ClientTest, DoesNotRepeatOnAFreshConnection) {
    Peer peer([](PeerSocket& socket) { socket.read_request(); });
    Got got = run_get(peer);
    EXPECT_EQ(got.error.code, Code::upstream_failed);
    EXPECT_EQ(got.error.detail, "closed before the answer's head");
    EXPECT_EQ(peer.accepted(), 1);
}

// Bytes nobody asked for make the framing of the next answer doubtful.
TEST_F(ClientTest, DoesNotReuseAConnectionWithBytesBehindTheAnswer) {
    for (std::string answer :
         {plain_answer("ok") + "HTTP/1.1 200 OK\r\n",
          std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx"),
          std::string("HTTP/1.1 204 No Content\r\n\r\nx"),
          std::string("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
          std::string("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")}) {
        Peer peer([&](PeerSocket& socket) {
            while (!socket.read_request().empty()) socket.write(answer);
        });
        EXPECT_TRUE(run_get(peer).ok) << answer;
        EXPECT_TRUE(run_get(peer).ok) << answer;
        EXPECT_EQ(peer.accepted(), 2) << answer;
    }
}

// The caller that drops an answer half way does not want the rest, and the upstream should stop working on
// it.
TEST_F(ClientTest, ClosesTheConnectionWhenAnAnswerIsDropped) {
    std::latch closed(1);
    Peer peer([&](PeerSocket& socket) {
        socket.read_request();
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
        socket.wait_until_closed();
        closed.count_down();
    });
    auto drop = [](ClientTest* self, Origin origin) -> Async<int> {
        auto response = co_await self->use_client().send(origin, get_request(), nullptr);
        co_return response ? (*response)->status() : 0;
    };
    EXPECT_EQ(sync_wait(run_on(threads[0], drop(this, origin_of(peer)))), 200);
    closed.wait();
    EXPECT_EQ(idle(), 0);
}

// Upstreams refuse large requests before they have read them; their reason must not be lost in a reset.
TEST_F(ClientTest, ReadsAnAnswerSentBeforeTheRequestWasComplete) {
    Peer peer([](PeerSocket& socket) {
        socket.read_some();
        socket.write("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
    });  // closes with unread input: a reset
    std::string large(32 * 1024 * 1024, 'x');
    const std::string_view pieces[] = {large};
    ClientRequest request;
    request.path = "/";
    request.body_pieces = pieces;
    Got got = run(origin_of(peer), request);
    EXPECT_EQ(got.status, 413) << got.error.detail;
    EXPECT_EQ(got.body, "big");
    EXPECT_EQ(idle(), 0);
}

// Both directions must survive sockets that take only a part, byte for byte.
TEST_F(ClientTest, CarriesLargeBodiesBothWays) {
    std::string sent(8 * 1024 * 1024, '\0');
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 2654435761u >> 13);
    Peer peer([&](PeerSocket& socket) {
        std::string request = socket.read_request();
        socket.write(plain_answer(std::string_view(request).substr(request.find("\r\n\r\n") + 4)));
        socket.wait_until_closed();
    });
    std::string_view all(sent);
    const std::string_view pieces[] = {all.substr(0, 1), all.substr(1, 5'000'000), all.substr(5'000'001)};
    ClientRequest request;
    request.path = "/";
    request.body_pieces = pieces;
    Got got = run(origin_of(peer), request);
    ASSERT_TRUE(got.ok) << got.error.detail;
    EXPECT_EQ(sha256(got.body), sha256(sent));
}

// Runners listen on unix sockets: same client, same pools.
TEST_F(ClientTest, SpeaksOverUnixSockets) {
    std::string path = "/tmp/nebula-client-test-" + std::to_string(::getpid()) + ".sock";
    Peer peer(
        [](PeerSocket& socket) {
            while (!socket.read_request().empty()) socket.write(plain_answer("unix"));
        },
        path);
    auto parsed = parse_url("unix:" + path + ":/v1");
    ASSERT_TRUE(parsed);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(run(parsed->origin, get_request()).body, "unix");
    EXPECT_EQ(connects(), 1u);
    peer.stop();
    ::unlink(path.c_str());
    Got got = run(parsed->origin, get_request());
    EXPECT_EQ(got.error.detail, "connect refused");
}

// Names go through the resolver, and an address that refuses is not the end when there is another.
TEST_F(ClientTest, TriesTheAddressesOfANameInTurn) {
    Peer peer([](PeerSocket& socket) {
        socket.read_request();
        socket.write(plain_answer("named"));
    });
    Origin origin = origin_of(peer);
    origin.host = "localhost";  // may be ::1 first, where nobody listens
    EXPECT_EQ(run(origin, get_request()).body, "named");
}

// "Refused" tells the router to try another upstream at once.
TEST_F(ClientTest, SaysWhenAConnectionIsRefused) {
    Peer peer([](PeerSocket&) {});
    Origin origin = origin_of(peer);
    peer.stop();
    Got got = run(origin, get_request());
    EXPECT_EQ(got.error.code, Code::upstream_failed);
    EXPECT_EQ(got.error.detail, "connect refused");
    EXPECT_EQ(failures("refused"), 1u);
}

// A caller's text must not be able to start a second request or header.
TEST_F(ClientTest, RefusesTargetsAndHeadersThatBreakTheRequest) {
    for (std::string path : {"", "x", "/a b", "/a\r\nX: y", "/\x80", "*"}) {
        ClientRequest request = get_request();
        request.path = path;
        EXPECT_EQ(run({.host = "127.0.0.1", .port = 1}, request).error.code, Code::invalid_request) << path;
    }
    for (std::string headers :
         {std::string("X: y"), std::string("X: y\n"), std::string("X: y\r\n\r\nGET / HTTP/1.1\r\n"),
          std::string("\r\n"), std::string("X: y\nZ: a\r\n"), std::string("X: \0y\r\n", 8)}) {
        ClientRequest request = get_request();
        request.headers = headers;
        EXPECT_EQ(run({.host = "127.0.0.1", .port = 1}, request).error.code, Code::invalid_request)
            << headers;
    }
}

/// A port whose listener never accepts and whose queue is full: connecting hangs.
class FullListener {
   public:
    FullListener() {
        listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
        ::listen(listener_, 0);
        socklen_t size = sizeof address;
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
        port = ntohs(address.sin_port);
        for (int& fd : waiting_) {
            fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
        }
    }
    ~FullListener() {
        for (int fd : waiting_) ::close(fd);
        ::close(listener_);
    }
    std::uint16_t port = 0;

   private:
    int listener_;
    int waiting_[4];
};

// Whatever hangs ends by its own deadline, and the error says which.
TEST_F(ClientTimeTest, EndsEachPhaseByItsDeadline) {
    std::binary_semaphore ready(0);
    FullListener full;
    ready.release();
    Got got = run_while_time_passes({.host = "127.0.0.1", .port = full.port}, get_request(), ready);
    EXPECT_EQ(got.error.code, Code::timeout);
    EXPECT_EQ(got.error.detail, "connect");

    Peer silent([&](PeerSocket& socket) {
        socket.read_request();
        ready.release();
        socket.wait_until_closed();
    });
    got = run_while_time_passes(origin_of(silent), get_request(), ready);
    EXPECT_EQ(got.error.code, Code::timeout);
    EXPECT_EQ(got.error.detail, "first_byte");

    ClientRequest patient = get_request();
    patient.timeouts.first_byte = 100'000s;
    got = run_while_time_passes(origin_of(silent), patient, ready);
    EXPECT_EQ(got.error.detail, "total");

    patient.timeouts.total = 1'000'000s;
    Peer stalls([&](PeerSocket& socket) {
        socket.read_request();
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
        ready.release();
        socket.wait_until_closed();
    });
    got = run_while_time_passes(origin_of(stalls), patient, ready);
    EXPECT_EQ(got.error.code, Code::timeout);
    EXPECT_EQ(got.error.detail, "idle");
    EXPECT_EQ(got.body, "12345");

    Peer deaf([&](PeerSocket& socket) {
        pollfd end{socket.fd(), POLLRDHUP, 0};
        ready.release();
        ::poll(&end, 1, -1);
    });
    std::string large(32 * 1024 * 1024, 'x');
    const std::string_view pieces[] = {large};
    patient.method = Method::post;
    patient.body_pieces = pieces;
    got = run_while_time_passes(origin_of(deaf), patient, ready);
    EXPECT_EQ(got.error.code, Code::timeout);
    EXPECT_EQ(got.error.detail, "send");
    EXPECT_EQ(failures("timeout"), 5u);
}

// Idle connections are kept for a while, not for ever, and not more than allowed.
TEST_F(ClientTimeTest, ClosesPooledConnectionsAfterTheirIdleTime) {
    Peer peer([](PeerSocket& socket) {
        while (!socket.read_request().empty()) socket.write(plain_answer("ok"));
    });
    ASSERT_TRUE(run_get(peer).ok);
    EXPECT_EQ(idle(), 1);
    clock.advance(29s);
    on_loop([this] { threads[0].fire_deadlines(); });
    EXPECT_EQ(idle(), 1);
    ASSERT_TRUE(run_get(peer).ok);
    EXPECT_EQ(peer.accepted(), 1);
    for (int i = 0; i < 40; ++i) {
        clock.advance(1s);
        on_loop([this] { threads[0].fire_deadlines(); });
    }
    EXPECT_EQ(idle(), 0);
    ASSERT_TRUE(run_get(peer).ok);
    EXPECT_EQ(peer.accepted(), 2);
}

// A connection that was closed while it lay in the pool is not given out after a second of idleness.
TEST_F(ClientTimeTest, LooksAtAConnectionBeforeReusingIt) {
    std::binary_semaphore closing(0), closed(0);
    Peer peer([&](PeerSocket& socket) {
        socket.read_request();
        socket.write(plain_answer("ok"));
        closing.acquire();
        ::shutdown(socket.fd(), SHUT_RDWR);
        closed.release();
    });
    ASSERT_TRUE(run_get(peer).ok);
    closing.release();
    closed.acquire();
    clock.advance(2s);
    closing.release();
    ASSERT_TRUE(run_get(peer).ok);
    EXPECT_EQ(counted("nebula_client_stale_retries_total"), 0u);
    EXPECT_EQ(peer.accepted(), 2);
}

class ClientCancelTest : public ClientFixture<SystemClock> {
   protected:
    /// Cancels, from the I/O thread, once `ready` is released.
    Got run_cancelled(Origin origin, ClientRequest request, std::binary_semaphore& ready) {
        CancelToken token;
        std::jthread canceller([&] {
            ready.acquire();
            on_loop([&] { token.cancel(); });
        });
        return run(std::move(origin), std::move(request), &token);
    }
};

// A client that leaves must free the upstream at once, whatever the call waits for.
TEST_F(ClientCancelTest, EndsEveryPhase) {
    std::binary_semaphore ready(0);
    FullListener full;
    ready.release();
    Got got = run_cancelled({.host = "127.0.0.1", .port = full.port}, get_request(), ready);
    EXPECT_EQ(got.error.code, Code::cancelled);

    Peer silent([&](PeerSocket& socket) {
        socket.read_request();
        ready.release();
        socket.wait_until_closed();
    });
    got = run_cancelled(origin_of(silent), get_request(), ready);
    EXPECT_EQ(got.error.code, Code::cancelled);

    Peer stalls([&](PeerSocket& socket) {
        socket.read_request();
        socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n");
        ready.release();
        socket.wait_until_closed();
    });
    got = run_cancelled(origin_of(stalls), get_request(), ready);
    EXPECT_EQ(got.error.code, Code::cancelled);

    Peer deaf([&](PeerSocket& socket) {
        pollfd end{socket.fd(), POLLRDHUP, 0};
        ready.release();
        ::poll(&end, 1, -1);
    });
    std::string large(32 * 1024 * 1024, 'x');
    const std::string_view pieces[] = {large};
    ClientRequest request;
    request.path = "/";
    request.body_pieces = pieces;
    got = run_cancelled(origin_of(deaf), request, ready);
    EXPECT_EQ(got.error.code, Code::cancelled);
    EXPECT_EQ(failures("cancelled"), 4u);

    CancelToken before;
    before.cancel();
    got = run(origin_of(silent), get_request(), &before);
    EXPECT_EQ(got.error.code, Code::cancelled);
    EXPECT_EQ(silent.accepted(), 1);
    EXPECT_EQ(idle(), 0);
}

// The rest of a stream is read in the background after its request, and the token with it, is gone: the
// answer used to reach for the dead token (found by the sanitizer in the journeys).
TEST_F(ClientCancelTest, ADetachedAnswerOutlivesItsToken) {
    std::binary_semaphore detached(0);
    Peer peer([&](PeerSocket& socket) {
        socket.read_request();
        socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        detached.acquire();
        socket.write("0\r\n\r\n");
        socket.wait_until_closed();
    });
    auto body = [](ClientCancelTest* self, Origin origin, std::binary_semaphore* gone) -> Async<bool> {
        auto token = std::make_unique<CancelToken>();
        auto response = co_await self->use_client().send(origin, get_request(), token.get());
        if (!response) co_return false;
        auto piece = co_await (*response)->read();
        if (!piece || *piece != "ok") co_return false;
        (*response)->detach(std::chrono::milliseconds(60'000));
        token.reset();
        gone->release();
        auto end = co_await (*response)->read();
        co_return end && end->empty();
    };
    EXPECT_TRUE(sync_wait(run_on(threads[0], body(this, origin_of(peer), &detached))));
}

}  // namespace
}  // namespace nebula::http

// How bodies end, and that no damage is taken for an end.
#include "http/test_support/client_fixture.hpp"

namespace nebula::http {
namespace {

using namespace testing;

class ClientBodyTest : public ClientFixture<SystemClock> {
   protected:
    /// The answer to one GET from a peer that writes `answer` and closes.
    Got answer_with(std::string_view answer, Method method = Method::get) {
        Peer peer([answer](PeerSocket& socket) {
            socket.read_request();
            socket.write(answer);
        });
        ClientRequest request = get_request();
        request.method = method;
        return run(origin_of(peer), request);
    }
};

// A cut anywhere before the last byte is an error: it must never look like the end of the answer.
TEST_F(ClientBodyTest, TakesNoCutForACleanEnd) {
    std::mutex mutex;  // the peer answers from a thread of its own
    std::string_view sent;
    Peer peer([&](PeerSocket& socket) {
        socket.read_request();
        std::lock_guard lock(mutex);
        socket.write(sent);
    });
    auto answer_with = [&](std::string_view text) {
        std::lock_guard lock(mutex);
        sent = text;
    };
    for (std::string_view answer :
         {std::string_view("HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Y: z\r\n\r\nhello world"),
          std::string_view(
              "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              "5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n")}) {
        for (std::size_t cut = 0; cut < answer.size(); ++cut) {
            answer_with(answer.substr(0, cut));
            Got got = run_get(peer);
            EXPECT_FALSE(got.ok) << cut;
            EXPECT_EQ(got.error.code, Code::upstream_failed) << cut;
        }
        answer_with(answer);
        Got got = run_get(peer);
        EXPECT_TRUE(got.ok) << got.error.detail;
        EXPECT_EQ(got.body, "hello world");
    }
    EXPECT_EQ(idle(), 1);  // only the last one: no damaged connection was kept
}

// Networks split anywhere: byte by byte the answer is the same.
TEST_F(ClientBodyTest, ReadsAnAnswerThatComesByteByByte) {
    std::string_view answer =
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: "
        "b\r\n\r\n"
        "5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n";
    Peer peer([&](PeerSocket& socket) {
        int on = 1;
        ::setsockopt(socket.fd(), IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
        while (!socket.read_request().empty())
            for (std::size_t i = 0; i < answer.size(); ++i) socket.write(answer.substr(i, 1));
    });
    for (int i = 0; i < 3; ++i) EXPECT_EQ(run_get(peer).body, "hello0123456789");
    EXPECT_EQ(peer.accepted(), 1);
}

// One read in should be one write out: framing between chunks of one read is removed in place.
TEST_F(ClientBodyTest, MakesOnePieceOfChunksThatCameTogether) {
    std::string answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    std::string expected;
    for (int i = 0; i < 50; ++i) {
        std::string event = "data: event " + std::to_string(i) + "\n\n";
        char size[8];
        std::snprintf(size, sizeof size, "%zx", event.size());
        answer += std::string(size) + "\r\n" + event + "\r\n";
        expected += event;
    }
    answer += "0\r\n\r\n";
    Got got = answer_with(answer);
    EXPECT_TRUE(got.ok);
    EXPECT_EQ(got.body, expected);
    EXPECT_EQ(got.pieces, 1u);
}

// Damaged framing means that what follows is anybody's guess.
TEST_F(ClientBodyTest, RefusesBadFraming) {
    const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (std::string_view body : {"x\r\n", "5\r\nhelloX", "5\nhello\r\n0\r\n\r\n", "-1\r\n", "\r\n",
                                  "11111111111111111\r\n", "2\r\nok\r\n0\r\nbad trailer\r\n\r\n"}) {
        Got got = answer_with(head + std::string(body));
        EXPECT_FALSE(got.ok) << body;
        EXPECT_EQ(got.error.detail, "bad chunked framing") << body;
    }
    // What was good before the damage is delivered.
    EXPECT_EQ(answer_with(head + "2\r\nok\r\nzz\r\n").body, "ok");
    for (std::string_view answer :
         {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
          "HTTP/1.1 200 OK\nX: y\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "SSH-2.0-x\r\n\r\n",
          "HTTP/1.1 101 Switching\r\n\r\n",
          "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"}) {
        Got got = answer_with(answer);
        EXPECT_FALSE(got.ok) << answer;
        EXPECT_TRUE(got.error.detail.starts_with("bad head: ")) << answer << got.error.detail;
    }
    EXPECT_EQ(failures("bad_head"), 6u);
}

// Memory per answer's head is bounded, and heads larger than a read buffer still work below the bound.
TEST_F(ClientBodyTest, BoundsTheHead) {
    auto head_of = [](std::size_t size) {
        std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n";
        for (int i = 0; head.size() + 4003 < size; ++i) {
            std::string name = "X-" + std::to_string(i) + ": ";
            head += name + std::string(4000 - name.size(), 'a') + "\r\n";
        }
        return head + "\r\nok";
    };
    EXPECT_EQ(answer_with(head_of(60'000)).body, "ok");
    Got got = answer_with(head_of(80'000));
    EXPECT_EQ(got.error.detail, "bad head: too large");
}

// Old servers end a body by closing: readable, but the caller is told that a cut would look the same.
TEST_F(ClientBodyTest, ReadsABodyUntilTheConnectionEnds) {
    Peer peer([](PeerSocket& socket) {
        socket.read_request();
        socket.write("HTTP/1.1 200 OK\r\n\r\nall of");
        socket.write(" it");
    });
    auto read = [](ClientBodyTest* self, Origin origin) -> Async<std::string> {
        auto response = co_await self->use_client().send(origin, get_request(), nullptr);
        if (!response || !(*response)->ends_with_connection()) co_return "?";
        auto all = co_await (*response)->read_all(100);
        co_return all ? *all : "?";
    };
    EXPECT_EQ(sync_wait(run_on(threads[0], read(this, origin_of(peer)))), "all of it");
    EXPECT_EQ(idle(), 0);
    Peer resets([](PeerSocket& socket) {
        socket.read_request();
        socket.write("HTTP/1.1 200 OK\r\n\r\npart");
        socket.reset_on_close();
    });
    EXPECT_FALSE(run_get(resets).ok);
}

// These have no body whatever their headers say; waiting for one would hang.
TEST_F(ClientBodyTest, ExpectsNoBodyWhereThereIsNone) {
    EXPECT_TRUE(answer_with("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Method::head).ok);
    EXPECT_TRUE(answer_with("HTTP/1.1 204 No Content\r\n\r\n").ok);
    EXPECT_TRUE(answer_with("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n").ok);
    EXPECT_TRUE(answer_with("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok);
}

// An upstream must not be able to fill our memory through read_all.
TEST_F(ClientBodyTest, BoundsReadAll) {
    Peer peer([](PeerSocket& socket) {
        while (!socket.read_request().empty()) socket.write(plain_answer("0123456789"));
    });
    auto read = [](ClientBodyTest* self, Origin origin, std::size_t limit) -> Async<Code> {
        auto response = co_await self->use_client().send(origin, get_request(), nullptr);
        if (!response) co_return Code::internal;
        auto all = co_await (*response)->read_all(limit);
        co_return all ? Code::not_found : all.error().code;
    };
    EXPECT_EQ(sync_wait(run_on(threads[0], read(this, origin_of(peer), 9))), Code::upstream_failed);
    EXPECT_EQ(sync_wait(run_on(threads[0], read(this, origin_of(peer), 10))), Code::not_found);
}

// simdjson reads beyond the end of what it parses; headers stay while the body is read over them.
TEST_F(ClientBodyTest, KeepsHeadersAndPaddingReadable) {
    std::string body(40'000, 'b');
    Peer peer([&](PeerSocket& socket) {
        socket.read_request();
        socket.write("HTTP/1.1 200 OK\r\nX-Name: value\r\nContent-Length: 40000\r\n\r\n" + body);
        socket.wait_until_closed();
    });
    auto read = [](ClientBodyTest* self, Origin origin) -> Async<bool> {
        auto response = co_await self->use_client().send(origin, get_request(), nullptr);
        if (!response) co_return false;
        std::size_t size = 0;
        unsigned sum = 0;
        while (true) {
            auto piece = co_await (*response)->read();
            if (!piece) co_return false;
            if (piece->empty()) break;
            size += piece->size();
            for (std::size_t i = 0; i < 64; ++i)
                sum += static_cast<unsigned char>(piece->data()[piece->size() + i]);
        }
        bool same = (*response)->header("x-name") == "value" && (*response)->content_length() == 40'000u;
        co_return same&& size == 40'000 && sum < 64 * 256;
    };
    EXPECT_TRUE(sync_wait(run_on(threads[0], read(this, origin_of(peer)))));
}

}  // namespace
}  // namespace nebula::http

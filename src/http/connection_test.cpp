#include "http/connection.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <semaphore>

#include "async/task_group.hpp"
#include "http/test_support/peer.hpp"

namespace nebula::http {
namespace {

using namespace testing;
using namespace std::chrono_literals;

class ConnectionTest : public ::testing::Test {
   public:
    FakeClock clock;
    IoThreads threads{clock, 1};
    IoThread& thread = threads[0];
    int peer = -1;  // the other end
    std::unique_ptr<Connection> connection;

    void SetUp() override {
        int ends[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
        peer = ends[0];
        on_loop([&] { connection = Connection::adopt(thread, ends[1]); });
    }
    void TearDown() override {
        on_loop([&] { connection.reset(); });
        close_peer();
    }
    void close_peer() {
        if (peer >= 0) ::close(peer);
        peer = -1;
    }
    void on_loop(std::function<void()> work) {
        std::binary_semaphore done(0);
        thread.post([&] {
            work();
            done.release();
        });
        done.acquire();
    }
    void say(std::string_view text) { ASSERT_EQ(::write(peer, text.data(), text.size()), std::ssize(text)); }

    static Async<Io> wait_readable(Connection* on) {
        Io status = co_await on->readable();
        co_return status;
    }
    /// Reads once, waiting until there is something or an end.
    static Async<std::string> read_once(Connection* on, std::size_t size) {
        std::string text(size, '\0');
        while (true) {
            Io waited = co_await on->readable();
            if (waited != Io::ok) co_return "ended";
            ReadResult got = on->try_read(text);
            if (got.status == Io::would_block) continue;
            if (got.status == Io::closed) co_return "closed";
            if (got.status == Io::failed) co_return "failed";
            co_return text.substr(0, got.bytes);
        }
    }
    std::string read(std::size_t size = 100) {
        return sync_wait(run_on(thread, read_once(connection.get(), size)));
    }
};

// Ready flags replace system calls: they must never hide bytes or an end.
TEST_F(ConnectionTest, ReadsWhatArrivesInAnyPattern) {
    say("one");
    EXPECT_EQ(read(), "one");
    say("twothree");
    EXPECT_EQ(read(3), "two");  // a full read: more may be there
    EXPECT_EQ(read(3), "thr");
    EXPECT_EQ(read(3), "ee");
    say("abc");
    EXPECT_EQ(read(3), "abc");  // a full read that emptied the socket
    std::jthread later([this] { say("later"); });
    EXPECT_EQ(read(), "later");
    later.join();
    say("last");
    close_peer();
    EXPECT_EQ(read(), "last");  // short, but the end is still to be read
    EXPECT_EQ(read(), "closed");
    EXPECT_EQ(read(), "closed");
}

// A pooled connection is only usable while nothing came on it.
TEST_F(ConnectionTest, TellsWhetherSomethingCameUnread) {
    say("x");
    EXPECT_EQ(read(), "x");
    on_loop([this] { EXPECT_FALSE(connection->has_pending_input()); });
    on_loop([this] { EXPECT_FALSE(connection->maybe_input()); });
    close_peer();
    on_loop([this] { EXPECT_TRUE(connection->has_pending_input()); });
}

// A deadline ends the wait that is pending, counts for later ones, and is forgotten when moved.
TEST_F(ConnectionTest, EndsAWaitAtItsDeadline) {
    say("x");
    EXPECT_EQ(read(), "x");
    Io status = Io::ok;
    std::binary_semaphore done(0);
    TaskGroup group("test");
    auto waiting = [](ConnectionTest* self, Io* out, std::binary_semaphore* signal) -> Async<void> {
        self->connection->set_deadline(self->clock.ticks() + 10s);
        *out = co_await self->connection->readable();
        signal->release();
    };
    group.spawn(thread, waiting(this, &status, &done));
    on_loop([this] {
        clock.advance(9s);
        thread.fire_deadlines();
    });
    on_loop([] {});
    EXPECT_FALSE(done.try_acquire());
    on_loop([this] {
        clock.advance(2s);
        thread.fire_deadlines();
    });
    done.acquire();
    EXPECT_EQ(status, Io::timed_out);
    EXPECT_EQ(sync_wait(run_on(thread, wait_readable(connection.get()))), Io::timed_out);
    on_loop([this] { connection->set_deadline(clock.ticks() + 10s); });
    say("y");
    EXPECT_EQ(read(), "y");
    on_loop([this] { connection->clear_deadline(); });
}

// Cancelling is how a call ends when its client leaves: at once, for good, and not from inside the canceller.
TEST_F(ConnectionTest, EndsWaitsWhenCancelled) {
    say("x");
    EXPECT_EQ(read(), "x");
    Io reader = Io::ok, writer = Io::ok;
    TaskGroup group("test");
    auto read_wait = [](Connection* on, Io* out) -> Async<void> { *out = co_await on->readable(); };
    auto write_wait = [](Connection* on, Io* out) -> Async<void> {
        std::string much(1 << 20, 'x');
        iovec piece{much.data(), much.size()};
        std::span<const iovec> pieces(&piece, 1);
        *out = co_await on->write_all(pieces);
    };
    group.spawn(thread, read_wait(connection.get(), &reader));
    group.spawn(thread, write_wait(connection.get(), &writer));
    on_loop([&] {
        connection->cancel();
        EXPECT_EQ(reader, Io::ok);  // resumed later, from the loop
    });
    group.wait();
    EXPECT_EQ(reader, Io::cancelled);
    EXPECT_EQ(writer, Io::cancelled);
    EXPECT_EQ(sync_wait(run_on(thread, wait_readable(connection.get()))), Io::cancelled);
}

// One readiness report may end several connections at once; the others of the same report must not be touched
// then.
TEST_F(ConnectionTest, SurvivesConnectionsEndingInTheSameTurn) {
    constexpr int count = 64;
    struct Pair {
        std::unique_ptr<Connection> connection;
        int peer;
    };
    std::vector<Pair> pairs(count);
    std::atomic<int> resumed = 0;
    on_loop([&] {
        for (Pair& pair : pairs) {
            int ends[2];
            ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
            pair = {Connection::adopt(thread, ends[1]), ends[0]};
            char byte;
            EXPECT_EQ(pair.connection->try_read({&byte, 1}).status, Io::would_block);
        }
    });
    // Each waits; whoever is first closes all the others.
    auto waiting = [](std::vector<Pair>* all, std::size_t self, std::atomic<int>* counter) -> Async<void> {
        co_await (*all)[self].connection->readable();
        ++*counter;
        for (std::size_t i = 0; i < all->size(); ++i)
            if (i % 2 == 1) (*all)[i].connection.reset();  // nobody waits on the odd ones
        (*all)[self].connection.reset();
    };
    TaskGroup group("test");
    for (std::size_t i = 0; i < count; i += 2) group.spawn(thread, waiting(&pairs, i, &resumed));
    on_loop([&] {
        for (Pair& pair : pairs) EXPECT_EQ(::write(pair.peer, "x", 1), 1);
    });
    group.wait();
    EXPECT_EQ(resumed.load(), count / 2);
    for (Pair& pair : pairs) ::close(pair.peer);
}

// A process started at that moment holds copies of our descriptors: a closed connection must not be reported
// then.
TEST_F(ConnectionTest, IsForgottenEvenWhileACopyOfItsDescriptorLives) {
    int copy = -1;
    on_loop([&] {
        copy = ::dup(connection->fd());
        connection.reset();
    });
    say("x");
    close_peer();
    for (int i = 0; i < 3; ++i) on_loop([] {});
    ::close(copy);
}

// Back-pressure: everything arrives in order although the peer takes it in small portions.
TEST_F(ConnectionTest, WritesEverythingToASlowReader) {
    std::string sent(3'000'000, '\0');
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 31 >> 4);
    auto work = [](Connection* on, std::string* text) -> Async<Io> {
        std::vector<iovec> pieces;
        for (std::size_t at = 0; at < text->size(); at += 30'000)
            pieces.push_back({text->data() + at, 30'000});
        pieces.insert(pieces.begin() + 5, iovec{nullptr, 0});
        co_return co_await on->write_all(pieces);
    };
    std::string received;
    std::jthread reader([&] {
        std::string buffer(7'000, '\0');
        while (received.size() < sent.size()) {
            pollfd ready{peer, POLLIN, 0};
            ::poll(&ready, 1, -1);
            ssize_t got = ::read(peer, buffer.data(), buffer.size());
            if (got > 0) received.append(buffer, 0, static_cast<std::size_t>(got));
        }
    });
    EXPECT_EQ(sync_wait(run_on(thread, work(connection.get(), &sent))), Io::ok);
    reader.join();
    EXPECT_EQ(received, sent);
}

// Writing to a peer that left is an error, never a signal.
TEST_F(ConnectionTest, SurvivesWritingToAPeerThatLeft) {
    close_peer();
    auto work = [](Connection* on) -> Async<Io> {
        std::string text(100, 'x');
        iovec piece{text.data(), text.size()};
        std::span<const iovec> pieces(&piece, 1);
        co_return co_await on->write_all(pieces);
    };
    EXPECT_EQ(sync_wait(run_on(thread, work(connection.get()))), Io::failed);
}

// Buffers are the bulk of a connection's memory: they are recycled, padded, and bounded in number.
TEST(BufferPoolTest, RecyclesBuffers) {
    auto first = BufferPool::take();
    char* memory = first.get();
    for (std::size_t i = 0; i < BufferPool::padding; ++i) EXPECT_EQ(memory[BufferPool::buffer_bytes + i], 0);
    BufferPool::give(std::move(first));
    auto again = BufferPool::take();
    EXPECT_EQ(again.get(), memory);
    BufferPool::give(std::move(again));
    std::vector<std::unique_ptr<char[]>> many;
    for (int i = 0; i < 300; ++i) many.push_back(BufferPool::take());
    for (auto& buffer : many) BufferPool::give(std::move(buffer));
}

}  // namespace
}  // namespace nebula::http

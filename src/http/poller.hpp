#pragma once
// Readiness of the sockets of one I/O thread. Private to http.
// Asio's async_wait costs an epoll_ctl per wait, and its receive operations a recv that finds nothing. Here a
// descriptor is registered once, edge-triggered, in a set of its own; Asio waits for the set as a whole, so
// that one re-arm per turn of the loop serves every connection that became ready in it. Ready flags are
// remembered: a socket known to be empty is not asked again.

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <sys/epoll.h>

#include "async/io_thread.hpp"

namespace nebula::http {

class Poller {
   public:
    /// What is registered. At most one coroutine waits per direction.
    struct Target {
        std::coroutine_handle<> reader;
        std::coroutine_handle<> writer;
        bool read_ready = true;   // false = a read would block; true = unknown or ready
        bool write_ready = true;  // likewise for writes
        bool hung_up =
            false;  // the peer closed or an error came: read until the end, short reads prove nothing
        bool reader_takes_write = false;  // TLS: the reader needs the socket to accept bytes first
        bool ended = false;               // cancelled or past its deadline: waits end at once
        bool kicked = false;
    };

    /// The thread's poller, made on first use; lives as long as the thread's io_context. On that thread only.
    static Poller& of(IoThread& thread);
    ~Poller();

    bool add(int fd, Target& target);
    /// Before `fd` is closed. Safe from inside a coroutine that this poller resumed.
    void remove(int fd, Target& target);
    /// Resumes the waiters of a target that has `ended`, soon and from the loop, never from inside the
    /// caller.
    void kick(Target& target);

   private:
    struct Impl;
    friend struct PollerService;
    explicit Poller(IoThread& thread);
    void arm();
    void dispatch();
    void run_kicks();
    void shut_down();

    static constexpr std::size_t batch_max = 128;
    std::unique_ptr<Impl> impl_;
    int fd_ = -1;
    bool kick_posted_ = false;
    std::size_t batch_ = 0;
    std::array<epoll_event, batch_max> events_;
    std::vector<Target*> kicked_;
    std::vector<Target*> kicking_;
};

}  // namespace nebula::http

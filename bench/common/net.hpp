#pragma once
// The few system calls both programs need, with errors as exceptions: a benchmark that cannot have its socket
// stops.

#include <cstdint>
#include <string>
#include <utility>

#include <sys/epoll.h>
#include <unistd.h>

namespace nebula::bench {

/// Owns a file descriptor.
class Fd {
   public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~Fd() { reset(); }
    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void reset() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

   private:
    int fd_ = -1;
};

/// CLOCK_MONOTONIC in nanoseconds: comparable between processes of one machine, which is how frame delays are
/// measured.
std::int64_t now_ns();
/// A non-blocking listener on 127.0.0.1; port 0 lets the system choose.
Fd listen_loopback(std::uint16_t port);
std::uint16_t local_port(int fd);
/// Starts a non-blocking connect to 127.0.0.1; the outcome shows when the socket becomes writable. Empty when
/// nobody listens there.
Fd connect_loopback(std::uint16_t port);
/// Accepts one connection, TCP_NODELAY set; an empty Fd when none waits.
Fd accept_one(int listener);
Fd make_epoll();
/// Watches for reading, writing and hang-up, edge-triggered.
void watch(int epoll, int fd, std::uint64_t tag);
/// epoll_wait with a nanosecond timeout; negative waits for ever. Returns the number of events, 0 when
/// interrupted.
int wait_events(int epoll, epoll_event* events, int max, std::int64_t timeout_ns);
/// Allows as many descriptors as the system lets this process have.
void raise_fd_limit();
/// Wakes as exactly as the kernel can; by default it may wake 50 microseconds late, which would count as
/// latency.
void use_precise_timers();
/// SIGTERM and SIGINT set a flag instead of killing, and a closed peer is an error code instead of a signal.
void catch_stop_signals();
bool stop_requested();
[[noreturn]] void throw_errno(const std::string& what);

}  // namespace nebula::bench

#pragma once
// The other end of a connection in tests: blocking sockets and one thread per connection, so that nothing of
// the code under test is used to test it.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "async/async.hpp"
#include "async/io_thread.hpp"

namespace nebula::http::testing {

/// A connection as the peer sees it. Closed when the script returns.
class PeerSocket {
   public:
    explicit PeerSocket(int fd) : fd_(fd) {}
    PeerSocket(const PeerSocket&) = delete;
    ~PeerSocket() { ::close(fd_); }

    int fd() const { return fd_; }
    /// False when the connection ended.
    bool write(std::string_view text) {
        while (!text.empty()) {
            ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
            if (sent <= 0) return false;
            text.remove_prefix(static_cast<std::size_t>(sent));
        }
        return true;
    }
    /// What arrives next; empty at the end.
    std::string read_some() {
        std::string text(64 * 1024, '\0');
        ssize_t got = ::recv(fd_, text.data(), text.size(), 0);
        text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
        return text;
    }
    /// Head and body (by Content-Length) of the next request; empty at the end.
    std::string read_request() {
        while (true) {
            std::size_t head = buffered_.find("\r\n\r\n");
            if (head != std::string::npos) {
                std::size_t size = head + 4 + length_in(buffered_.substr(0, head + 2));
                if (buffered_.size() >= size) {
                    std::string request = buffered_.substr(0, size);
                    buffered_.erase(0, size);
                    return request;
                }
            }
            std::string more = read_some();
            if (more.empty()) return {};
            buffered_ += more;
        }
    }
    void wait_until_closed() {
        while (!read_some().empty()) {
        }
    }
    /// The close that follows is a reset.
    void reset_on_close() {
        linger at_once{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }

   private:
    static std::size_t length_in(const std::string& head) {
        std::size_t at = head.find("Content-Length: ");
        return at == std::string::npos ? 0 : std::stoul(head.substr(at + 16));
    }
    int fd_;
    std::string buffered_;
};

/// Listens on 127.0.0.1 (any port) or on a unix socket and runs `script` for each connection on a thread of
/// its own.
class Peer {
   public:
    using Script = std::function<void(PeerSocket&)>;

    explicit Peer(Script script, const std::string& unix_path = {}) : script_(std::move(script)) {
        if (unix_path.empty()) {
            listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            sockaddr_in address{};
            address.sin_family = AF_INET;
            address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            ::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
            socklen_t size = sizeof address;
            ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
            port_ = ntohs(address.sin_port);
        } else {
            listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
            sockaddr_un address{};
            address.sun_family = AF_UNIX;
            unix_path.copy(address.sun_path, sizeof address.sun_path - 1);
            ::unlink(unix_path.c_str());
            ::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
        }
        ::listen(listener_, 128);
        accepting_ = std::jthread([this] { accept_loop(); });
    }
    ~Peer() { stop(); }

    std::uint16_t port() const { return port_; }
    int accepted() const { return accepted_.load(); }
    /// Refuses connections from now on and ends those that are open.
    void stop() {
        if (listener_ < 0) return;
        ::shutdown(listener_, SHUT_RDWR);
        accepting_.join();
        ::close(listener_);
        listener_ = -1;
        {
            std::lock_guard lock(mutex_);
            for (int fd : open_) ::shutdown(fd, SHUT_RDWR);
        }
        running_.clear();
    }

   private:
    void accept_loop() {
        while (true) {
            int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd < 0) return;
            ++accepted_;
            std::lock_guard lock(mutex_);
            open_.push_back(fd);
            running_.emplace_back([this, fd] {
                PeerSocket socket(fd);
                script_(socket);
                std::lock_guard ending(mutex_);
                std::erase(open_, fd);
            });
        }
    }

    Script script_;
    int listener_ = -1;
    std::uint16_t port_ = 0;
    std::atomic<int> accepted_{0};
    std::mutex mutex_;
    std::vector<int> open_;
    std::jthread accepting_;
    std::vector<std::jthread> running_;
};

/// Runs `work` on `thread`; for sync_wait.
template <class T>
Async<T> run_on(IoThread& thread, Async<T> work) {
    co_await resume_on(thread);
    co_return co_await std::move(work);
}

/// Open descriptors of this process.
inline std::size_t open_descriptors() {
    std::filesystem::directory_iterator all("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

}  // namespace nebula::http::testing

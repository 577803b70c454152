#include "http/poller.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/check.hpp"

namespace nebula::http {
namespace asio = boost::asio;

struct Poller::Impl {
    asio::io_context& context;
    asio::posix::stream_descriptor set;
};

// Ties a poller to its io_context: made on first use, gone with it.
struct PollerService : asio::execution_context::service {
    using key_type = PollerService;
    static asio::execution_context::id id;
    std::unique_ptr<Poller> poller;

    explicit PollerService(asio::execution_context& owner) : service(owner) {}
    void shutdown() override {
        if (poller) poller->shut_down();
    }
};
asio::execution_context::id PollerService::id;

Poller& Poller::of(IoThread& thread) {
    auto& service = asio::use_service<PollerService>(static_cast<asio::execution_context&>(thread.context()));
    if (!service.poller) service.poller.reset(new Poller(thread));
    return *service.poller;
}

Poller::Poller(IoThread& thread)
    : impl_(new Impl{thread.context(), asio::posix::stream_descriptor(thread.context())}),
      fd_(::epoll_create1(EPOLL_CLOEXEC)) {
    CHECK(fd_ >= 0, "an I/O thread needs an epoll set");
    impl_->set.assign(fd_);
    arm();
}

Poller::~Poller() = default;

// The io_context goes: nothing will be dispatched any more, but connections may still be removed.
void Poller::shut_down() {
    fd_ = -1;
    impl_.reset();
}

bool Poller::add(int fd, Target& target) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = &target;
    return ::epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &event) == 0;
}

// Closing the descriptor would not be enough: a copy of it, as a process being started holds for a moment,
// keeps the registration alive. Then there are the events of the current batch, and kicks.
void Poller::remove(int fd, Target& target) {
    if (fd_ >= 0) ::epoll_ctl(fd_, EPOLL_CTL_DEL, fd, nullptr);
    for (std::size_t i = 0; i < batch_; ++i)
        if (events_[i].data.ptr == &target) events_[i].data.ptr = nullptr;
    if (!target.kicked) return;
    std::replace(kicked_.begin(), kicked_.end(), &target, static_cast<Target*>(nullptr));
    std::replace(kicking_.begin(), kicking_.end(), &target, static_cast<Target*>(nullptr));
}

void Poller::arm() {
    impl_->set.async_wait(asio::posix::stream_descriptor::wait_read,
                          [this](const boost::system::error_code& problem) {
                              if (!problem) dispatch();
                          });
}

void Poller::dispatch() {
    int count = ::epoll_wait(fd_, events_.data(), static_cast<int>(batch_max), 0);
    batch_ = count > 0 ? static_cast<std::size_t>(count) : 0;
    // Armed after taking the events and before resuming anybody: nothing is reported twice, and an exception
    // below cannot stop the loop.
    arm();
    for (std::size_t i = 0; i < batch_; ++i) {
        auto& target = *static_cast<Target*>(events_[i].data.ptr);
        std::uint32_t seen = events_[i].events;
        if (seen & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) target.read_ready = true;
        if (seen & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) target.hung_up = true;
        if (seen & (EPOLLOUT | EPOLLHUP | EPOLLERR)) target.write_ready = true;
    }
    for (std::size_t i = 0; i < batch_; ++i) {
        // Looked up again each time: a resumed coroutine may destroy its own connection and others of the
        // batch.
        auto* target = static_cast<Target*>(events_[i].data.ptr);
        if (target == nullptr) continue;
        if (target->reader && (target->read_ready || (target->reader_takes_write && target->write_ready)))
            std::exchange(target->reader, {}).resume();
        target = static_cast<Target*>(events_[i].data.ptr);
        if (target != nullptr && target->writer && target->write_ready)
            std::exchange(target->writer, {}).resume();
    }
    batch_ = 0;
}

void Poller::kick(Target& target) {
    if (target.kicked || !impl_) return;
    target.kicked = true;
    kicked_.push_back(&target);
    if (std::exchange(kick_posted_, true)) return;
    asio::post(impl_->context, [this] { run_kicks(); });
}

void Poller::run_kicks() {
    kick_posted_ = false;
    kicking_.swap(kicked_);
    for (std::size_t i = 0; i < kicking_.size(); ++i) {
        Target* target = kicking_[i];
        if (target == nullptr) continue;
        if (target->ended && target->reader) std::exchange(target->reader, {}).resume();
        target = kicking_[i];
        if (target != nullptr && target->ended && target->writer) std::exchange(target->writer, {}).resume();
        if (kicking_[i] != nullptr) kicking_[i]->kicked = false;
    }
    kicking_.clear();
}

}  // namespace nebula::http

#include "async/io_thread.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <thread>

#include "base/check.hpp"
#include "base/log.hpp"

namespace nebula {
namespace asio = boost::asio;
namespace {

thread_local IoThread* current_thread = nullptr;

}  // namespace

struct IoThread::Tick {
    asio::steady_timer timer;
    bool running = false;
};

IoThread::IoThread(const Clock& clock, std::size_t index)
    : clock_(clock),
      index_(index),
      context_(std::make_unique<asio::io_context>(1)),
      wheel_(clock.ticks()),
      tick_(new Tick{asio::steady_timer(*context_)}) {
    wheel_.on_first([](void* self) { static_cast<IoThread*>(self)->start_tick(); }, this);
}

IoThread::~IoThread() = default;

IoThread* IoThread::current() { return current_thread; }

void IoThread::post(std::move_only_function<void()> work) { asio::post(*context_, std::move(work)); }

void IoThread::post_resume(std::vector<std::coroutine_handle<>> handles) {
    asio::post(*context_, [handles = std::move(handles)] {
        for (auto handle : handles) handle.resume();
    });
}

// The tick runs only while something has a deadline, so an idle process does not wake up.
void IoThread::start_tick() {
    if (tick_->running) return;
    tick_->running = true;
    tick_->timer.expires_after(DeadlineWheel::tick);
    tick_->timer.async_wait([this](const boost::system::error_code& failed) {
        tick_->running = false;
        if (failed) return;
        wheel_.advance(clock_.ticks());
        if (!wheel_.empty()) start_tick();
    });
}

void IoThread::fire_deadlines() { wheel_.advance(clock_.ticks()); }

void IoThread::run() {
    current_thread = this;
    auto guard = asio::make_work_guard(*context_);
    while (!context_->stopped()) {
        try {
            context_->run();
        } catch (const std::exception& e) {
            // A handler let an exception out: a defect of ours, but not a reason to drop every other
            // connection.
            LOG_ERROR("exception on I/O thread", {"what", e.what()}, {"thread", index_});
        }
    }
    current_thread = nullptr;
}

void IoThread::stop() { context_->stop(); }

struct IoThreads::Workers {
    std::vector<std::jthread> all;
};

IoThreads::IoThreads(const Clock& clock, std::size_t count) : workers_(new Workers) {
    for (std::size_t i = 0; i < count; ++i) threads_.push_back(std::make_unique<IoThread>(clock, i));
    for (auto& thread : threads_) workers_->all.emplace_back([one = thread.get()] { one->run(); });
}

void IoThreads::stop() {
    for (auto& thread : threads_) thread->stop();
    workers_->all.clear();
}

IoThreads::~IoThreads() { stop(); }

SleepUntil::SleepUntil(Ticks at)
    : at_(at), deadline_(IoThread::current()->deadlines(), &SleepUntil::fire, this) {}

bool SleepUntil::await_ready() const { return IoThread::current()->clock().ticks() >= at_; }

void SleepUntil::await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    deadline_.arm(at_);
}

void SleepUntil::fire(void* self) { static_cast<SleepUntil*>(self)->handle_.resume(); }

}  // namespace nebula

#pragma once
// One event loop, one thread. Everything that belongs to a connection lives on one IoThread and needs no
// lock.

#include <coroutine>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "async/async.hpp"
#include "async/deadline.hpp"
#include "base/clock.hpp"

namespace boost::asio {
class io_context;
}

namespace nebula {

class IoThread {
   public:
    /// `clock` must outlive the thread. Does not start: call run() on a thread of yours, or use IoThreads.
    IoThread(const Clock& clock, std::size_t index);
    ~IoThread();

    /// The I/O thread this code runs on, or null (command line, database threads, tests).
    static IoThread* current();

    std::size_t index() const { return index_; }
    const Clock& clock() const { return clock_; }
    boost::asio::io_context& context() { return *context_; }
    DeadlineWheel& deadlines() { return wheel_; }

    /// Runs `work` on this thread, later. Any thread may call.
    void post(std::move_only_function<void()> work);
    /// Resumes each on this thread with a single wake-up. Any thread may call.
    void post_resume(std::vector<std::coroutine_handle<>> handles);

    void run();   // until stop()
    void stop();  // any thread
    /// Tests with a FakeClock: fire what is due now.
    void fire_deadlines();

   private:
    struct Tick;
    void start_tick();

    const Clock& clock_;
    std::size_t index_;
    std::unique_ptr<boost::asio::io_context> context_;
    DeadlineWheel wheel_;
    std::unique_ptr<Tick> tick_;
};

/// N running I/O threads.
class IoThreads {
   public:
    IoThreads(const Clock& clock, std::size_t count);
    ~IoThreads();  // stop() and join
    void stop();

    std::size_t size() const { return threads_.size(); }
    IoThread& operator[](std::size_t i) { return *threads_[i]; }

   private:
    std::vector<std::unique_ptr<IoThread>> threads_;
    struct Workers;
    std::unique_ptr<Workers> workers_;
};

/// `co_await resume_on(thread)`: continue there (at once when already there).
struct ResumeOn {
    IoThread& thread;
    bool await_ready() const { return IoThread::current() == &thread; }
    void await_suspend(std::coroutine_handle<> handle) const {
        thread.post([handle] { handle.resume(); });
    }
    void await_resume() const {}
};
inline ResumeOn resume_on(IoThread& thread) { return {thread}; }

/// Suspends on the current I/O thread until `at` (wheel resolution).
class SleepUntil {
   public:
    explicit SleepUntil(Ticks at);
    bool await_ready() const;
    void await_suspend(std::coroutine_handle<> handle);
    void await_resume() const {}

   private:
    static void fire(void* self);
    Ticks at_;
    Deadline deadline_;
    std::coroutine_handle<> handle_;
};
inline SleepUntil sleep_until(Ticks at) { return SleepUntil(at); }

}  // namespace nebula

#pragma once
// Threads for what blocks: SQL, files, password hashing. Never block an I/O thread; send it here.

#include <condition_variable>
#include <coroutine>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "async/async.hpp"
#include "async/io_thread.hpp"
#include "base/result.hpp"

namespace nebula {

class BlockingPool {
   public:
    BlockingPool(std::size_t threads, std::size_t queue_max);
    ~BlockingPool();  // stop()
    /// Refuses new work, finishes what is queued and joins the threads. Not from one of them.
    void stop();

    /// Runs `work` (returning a Result) on a pool thread and resumes where it was awaited. A full queue
    /// answers Code::overloaded without running it. `work` is moved into the coroutine: capture values.
    template <class F>
    auto run(F work) -> Async<std::invoke_result_t<F&>>;

    /// False when the queue is full.
    bool submit(std::move_only_function<void()> job);
    std::size_t queued() const;

   private:
    void work_loop();

    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::move_only_function<void()>> queue_;
    std::size_t queue_max_;
    bool stopping_ = false;
    std::vector<std::jthread> threads_;
};

template <class F>
auto BlockingPool::run(F work) -> Async<std::invoke_result_t<F&>> {
    using R = std::invoke_result_t<F&>;
    struct Awaiter {
        BlockingPool& pool;
        F& work;
        std::optional<R> result;
        std::exception_ptr exception;

        bool await_ready() const { return false; }
        bool await_suspend(std::coroutine_handle<> handle) {
            IoThread* thread = IoThread::current();
            bool queued = pool.submit([this, handle, thread] {
                try {
                    result.emplace(work());
                } catch (...) {
                    exception = std::current_exception();
                }
                if (thread == nullptr)
                    handle.resume();
                else
                    thread->post([handle] { handle.resume(); });
            });
            if (!queued) result.emplace(fail(Code::overloaded, "the server is busy, try again"));
            return queued;
        }
        R await_resume() {
            if (exception) std::rethrow_exception(exception);
            return std::move(*result);
        }
    };
    Awaiter awaiter{*this, work, std::nullopt, nullptr};
    co_return co_await awaiter;
}

}  // namespace nebula

#pragma once
// A value that one side sets (any thread, once) and one coroutine awaits. Resumes on the I/O thread where it
// waits; without one (command line, tests), on the thread that sets. Must outlive both: usually a local of
// the waiter whose address the setter got, or held by shared_ptr when either side may go first.

#include <atomic>
#include <coroutine>
#include <optional>

#include "async/io_thread.hpp"

namespace nebula {

template <class T>
class Completion {
   public:
    Completion() = default;
    Completion(const Completion&) = delete;
    Completion& operator=(const Completion&) = delete;

    void set(T value) {
        value_.emplace(std::move(value));
        void* waiting = state_.exchange(done(), std::memory_order_acq_rel);
        if (waiting == nullptr) return;
        resume(std::coroutine_handle<>::from_address(waiting), thread_);
    }

    /// Like set(), but hands the handle back instead of resuming, so that many can be resumed with one
    /// wake-up. `thread` receives where to resume (null = here). Returns null when nobody waits yet.
    std::coroutine_handle<> set_deferred(T value, IoThread*& thread) {
        value_.emplace(std::move(value));
        void* waiting = state_.exchange(done(), std::memory_order_acq_rel);
        if (waiting == nullptr) return {};
        thread = thread_;
        return std::coroutine_handle<>::from_address(waiting);
    }

    bool await_ready() const { return state_.load(std::memory_order_acquire) == done(); }
    bool await_suspend(std::coroutine_handle<> handle) {
        thread_ = IoThread::current();
        void* expected = nullptr;
        return state_.compare_exchange_strong(expected, handle.address(), std::memory_order_acq_rel);
    }
    T await_resume() { return std::move(*value_); }

   private:
    static void* done() {
        static char marker;
        return &marker;
    }
    static void resume(std::coroutine_handle<> handle, IoThread* thread) {
        if (thread == nullptr)
            handle.resume();
        else
            thread->post([handle] { handle.resume(); });
    }

    std::atomic<void*> state_{nullptr};
    std::optional<T> value_;
    IoThread* thread_ = nullptr;
};

}  // namespace nebula

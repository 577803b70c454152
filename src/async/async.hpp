#pragma once
// Async<T>: the coroutine type of the whole program. Lazy (runs when awaited or spawned), moves control by
// symmetric transfer, carries a value or an exception. Resumed where the thing it waits for completes; every
// primitive of this module resumes a coroutine on the I/O thread where it was suspended.

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <semaphore>
#include <utility>
#include <variant>

namespace nebula {

template <class T = void>
class Async;

namespace detail {

/// Memory of coroutine frames, kept in free lists per thread: a request makes a dozen frames, many beyond
/// what malloc serves from its own thread cache. Bounded per size; frames freed on another thread go to that
/// thread's lists.
void* allocate_frame(std::size_t bytes);
void free_frame(void* frame, std::size_t bytes) noexcept;

struct AsyncPromiseBase {
    static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
    static void operator delete(void* frame, std::size_t bytes) noexcept { free_frame(frame, bytes); }

    std::coroutine_handle<> continuation = std::noop_coroutine();
    std::exception_ptr exception;

    struct FinalAwaiter {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) const noexcept {
            return done.promise().continuation;
        }
        void await_resume() const noexcept {}
    };
    std::suspend_always initial_suspend() const noexcept { return {}; }
    FinalAwaiter final_suspend() const noexcept { return {}; }
    void unhandled_exception() noexcept { exception = std::current_exception(); }
};

template <class T>
struct AsyncPromise : AsyncPromiseBase {
    std::optional<T> value;
    Async<T> get_return_object() noexcept;
    template <class U>
    void return_value(U&& result) {
        value.emplace(std::forward<U>(result));
    }
    T take() {
        if (exception) std::rethrow_exception(exception);
        return std::move(*value);
    }
};

template <>
struct AsyncPromise<void> : AsyncPromiseBase {
    Async<void> get_return_object() noexcept;
    void return_void() const noexcept {}
    void take() const {
        if (exception) std::rethrow_exception(exception);
    }
};

}  // namespace detail

template <class T>
class [[nodiscard]] Async {
   public:
    using promise_type = detail::AsyncPromise<T>;
    using Handle = std::coroutine_handle<promise_type>;

    explicit Async(Handle handle) noexcept : handle_(handle) {}
    Async(Async&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Async& operator=(Async&& other) noexcept {
        if (this != &other) {
            if (handle_) handle_.destroy();
            handle_ = std::exchange(other.handle_, {});
        }
        return *this;
    }
    ~Async() {
        if (handle_) handle_.destroy();
    }

    auto operator co_await() && noexcept {
        struct Awaiter {
            Handle handle;
            bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiting) const noexcept {
                handle.promise().continuation = waiting;
                return handle;
            }
            T await_resume() const { return handle.promise().take(); }
        };
        return Awaiter{handle_};
    }

   private:
    Handle handle_;
};

namespace detail {

template <class T>
Async<T> AsyncPromise<T>::get_return_object() noexcept {
    return Async<T>(std::coroutine_handle<AsyncPromise>::from_promise(*this));
}
inline Async<void> AsyncPromise<void>::get_return_object() noexcept {
    return Async<void>(std::coroutine_handle<AsyncPromise>::from_promise(*this));
}

// Runs by itself and frees its own frame; the body must not let an exception out.
struct Detached {
    struct promise_type {
        Detached get_return_object() const noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
    };
};

template <class T>
struct SyncResult {
    std::optional<T> value;
};
template <>
struct SyncResult<void> {};

template <class T>
Detached run_and_signal(Async<T>& work, SyncResult<T>& result, std::exception_ptr& exception,
                        std::binary_semaphore& done) {
    try {
        if constexpr (std::is_void_v<T>)
            co_await std::move(work);
        else
            result.value.emplace(co_await std::move(work));
    } catch (...) {
        exception = std::current_exception();
    }
    done.release();
}

}  // namespace detail

/// Blocks the calling thread until `work` is done: for main(), the command line and tests. Never on an I/O
/// thread.
template <class T>
T sync_wait(Async<T> work) {
    detail::SyncResult<T> result;
    std::exception_ptr exception;
    std::binary_semaphore done(0);
    detail::run_and_signal(work, result, exception, done);
    done.acquire();
    if (exception) std::rethrow_exception(exception);
    if constexpr (!std::is_void_v<T>) return std::move(*result.value);
}

}  // namespace nebula

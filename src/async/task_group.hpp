#pragma once
// Owns background coroutines: nothing in the program runs detached outside a group.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string>

#include "async/async.hpp"
#include "async/io_thread.hpp"

namespace nebula {

class TaskGroup {
   public:
    explicit TaskGroup(std::string name) : name_(std::move(name)) {}
    ~TaskGroup() { wait(); }

    /// Starts `work` on `thread` (at once when called there). An exception in it is logged.
    /// Returns false, dropping the work, after close().
    bool spawn(IoThread& thread, Async<void> work);

    void close();  // refuse new work
    void wait();   // block until all is done; not on an I/O thread that the work needs
    std::size_t size() const { return running_.load(); }

   private:
    detail::Detached drive(IoThread& thread, Async<void> work);
    void finished();

    std::string name_;
    std::atomic<std::size_t> running_{0};
    std::atomic<bool> closed_{false};
    std::mutex mutex_;
    std::condition_variable idle_;
};

}  // namespace nebula

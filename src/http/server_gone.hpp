#pragma once
// Notices clients that leave while their handler waits for something else. Watching costs nothing per
// request: every 250 ms one poll(2) looks at those that have been watched longer than that. One thread.
// Private to http's server half.

#include <poll.h>

#include <functional>
#include <vector>

#include "async/deadline.hpp"
#include "async/io_thread.hpp"

namespace nebula::http {

class GoneWatch;

/// Member of whatever is watched; unlinks itself.
class GoneHook {
   public:
    GoneHook() = default;
    GoneHook(const GoneHook&) = delete;
    GoneHook& operator=(const GoneHook&) = delete;
    ~GoneHook() { unlink(); }
    void unlink();
    bool linked() const { return list_ != nullptr; }

   private:
    friend class GoneWatch;
    struct List {
        GoneHook* head = nullptr;
    };
    void link(List& list);

    int fd_ = -1;
    Ticks since_{};
    void (*callback_)(void*) = nullptr;
    void* context_ = nullptr;
    List* list_ = nullptr;
    GoneHook* next_ = nullptr;
    GoneHook* previous_ = nullptr;
};

class GoneWatch {
   public:
    static constexpr std::chrono::milliseconds period{250};

    explicit GoneWatch(IoThread& thread);
    /// Calls back once, unlinked, when the peer of `fd` has closed its side. `since`: when the wait began.
    void watch(GoneHook& hook, int fd, Ticks since, void (*callback)(void*), void* context);
    /// Without regard to how long they have been watched.
    void look_at_all() { sweep(std::chrono::milliseconds(0)); }

   private:
    static void fire(void* self);
    void sweep(std::chrono::milliseconds age_min);

    IoThread& thread_;
    Deadline deadline_;
    GoneHook::List watched_;
    GoneHook::List gone_;
    std::vector<pollfd> polled_;    // reused
    std::vector<GoneHook*> hooks_;  // beside polled_
};

}  // namespace nebula::http

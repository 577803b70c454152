#pragma once
// Deadlines without a timer object per operation: a node is stamped with its time (a store), and one coarse
// wheel per I/O thread looks at it when its slot comes round. Moving a deadline later costs nothing.
// Resolution 50 ms: a deadline fires up to 100 ms late, never early. One thread only: the wheel's.

#include <array>
#include <cstdint>

#include "base/clock.hpp"

namespace nebula {

class DeadlineWheel;

/// Member of whatever has a deadline; disarms itself on destruction. Not movable: the wheel links to it.
class Deadline {
   public:
    using Callback = void (*)(void* context);

    Deadline(DeadlineWheel& wheel, Callback callback, void* context)
        : wheel_(wheel), callback_(callback), context_(context) {}
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;
    ~Deadline() { disarm(); }

    /// Calls back once at or after `at`. Replaces an earlier arm().
    void arm(Ticks at);
    void disarm();
    bool armed() const { return next_ != nullptr; }

   private:
    friend class DeadlineWheel;
    void unlink();

    DeadlineWheel& wheel_;
    Callback callback_;
    void* context_;
    Ticks at_{};
    std::int64_t slot_tick_ = 0;
    Deadline* next_ = nullptr;
    Deadline* previous_ = nullptr;
};

class DeadlineWheel {
   public:
    static constexpr std::chrono::milliseconds tick{50};

    explicit DeadlineWheel(Ticks now);
    /// Fires everything due at `now`. Callbacks may arm, disarm and destroy any node.
    void advance(Ticks now);
    bool empty() const { return count_ == 0; }
    std::size_t size() const { return count_; }
    /// Called when the first node is armed, so that the owner starts its tick.
    void on_first(void (*callback)(void*), void* context) {
        first_callback_ = callback, first_context_ = context;
    }

   private:
    friend class Deadline;
    static constexpr std::int64_t slots = 256;
    struct List {
        Deadline* head = nullptr;
    };
    void link(Deadline& node);

    std::array<List, slots> slots_;
    List firing_;
    std::int64_t now_tick_;
    std::size_t count_ = 0;
    void (*first_callback_)(void*) = nullptr;
    void* first_context_ = nullptr;
};

}  // namespace nebula

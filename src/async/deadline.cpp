#include "async/deadline.hpp"

#include <algorithm>

namespace nebula {
namespace {

std::int64_t tick_of(Ticks at) { return at.time_since_epoch() / DeadlineWheel::tick; }

}  // namespace

// Lists are doubly linked with previous_ == nullptr at the head; next_ of the last node points to itself, so
// that a linked node always has next_ != nullptr and armed() needs no extra flag.
void Deadline::unlink() {
    Deadline* after = next_ == this ? nullptr : next_;
    if (previous_ != nullptr) {
        previous_->next_ = after != nullptr ? after : previous_;
    } else {
        auto& slot = wheel_.slots_[static_cast<std::size_t>(slot_tick_ % DeadlineWheel::slots)];
        if (slot.head == this)
            slot.head = after;
        else
            wheel_.firing_.head = after;
    }
    if (after != nullptr) after->previous_ = previous_;
    next_ = previous_ = nullptr;
    --wheel_.count_;
}

void Deadline::arm(Ticks at) {
    at_ = at;
    if (armed()) {
        // Later than the slot it waits in: the wheel will look again then.
        if (tick_of(at) + 1 >= slot_tick_) return;
        unlink();
    }
    wheel_.link(*this);
}

void Deadline::disarm() {
    if (armed()) unlink();
}

DeadlineWheel::DeadlineWheel(Ticks now) : now_tick_(tick_of(now)) {}

void DeadlineWheel::link(Deadline& node) {
    // One tick later than the exact slot, so that nothing fires early.
    node.slot_tick_ = std::clamp(tick_of(node.at_) + 1, now_tick_ + 1, now_tick_ + slots - 1);
    List& list = slots_[static_cast<std::size_t>(node.slot_tick_ % slots)];
    node.previous_ = nullptr;
    node.next_ = list.head != nullptr ? list.head : &node;
    if (list.head != nullptr) list.head->previous_ = &node;
    list.head = &node;
    if (count_++ == 0 && first_callback_ != nullptr) first_callback_(first_context_);
}

void DeadlineWheel::advance(Ticks now) {
    std::int64_t target = tick_of(now);
    // After a long sleep one turn visits every slot; more would visit them again.
    if (target - now_tick_ > slots) now_tick_ = target - slots;
    while (now_tick_ < target) {
        ++now_tick_;
        List& slot = slots_[static_cast<std::size_t>(now_tick_ % slots)];
        firing_.head = slot.head;
        slot.head = nullptr;
        while (firing_.head != nullptr) {
            Deadline& node = *firing_.head;
            node.unlink();
            if (node.at_ <= now)
                node.callback_(node.context_);
            else
                link(node);
        }
    }
}

}  // namespace nebula

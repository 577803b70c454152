#include "http/server_gone.hpp"

namespace nebula::http {

void GoneHook::link(List& list) {
    list_ = &list;
    previous_ = nullptr;
    next_ = list.head;
    if (next_ != nullptr) next_->previous_ = this;
    list.head = this;
}

void GoneHook::unlink() {
    if (list_ == nullptr) return;
    if (previous_ != nullptr)
        previous_->next_ = next_;
    else
        list_->head = next_;
    if (next_ != nullptr) next_->previous_ = previous_;
    list_ = nullptr;
    next_ = previous_ = nullptr;
}

GoneWatch::GoneWatch(IoThread& thread)
    : thread_(thread), deadline_(thread.deadlines(), &GoneWatch::fire, this) {}

void GoneWatch::watch(GoneHook& hook, int fd, Ticks since, void (*callback)(void*), void* context) {
    hook.unlink();
    hook.fd_ = fd;
    hook.since_ = since;
    hook.callback_ = callback;
    hook.context_ = context;
    hook.link(watched_);
    // Asked only when nothing is armed: the usual request comes and goes between two sweeps.
    if (!deadline_.armed()) deadline_.arm(thread_.clock().ticks() + period);
}

void GoneWatch::fire(void* self) { static_cast<GoneWatch*>(self)->sweep(period); }

void GoneWatch::sweep(std::chrono::milliseconds age_min) {
    Ticks now = thread_.clock().ticks();
    polled_.clear();
    hooks_.clear();
    for (GoneHook* hook = watched_.head; hook != nullptr; hook = hook->next_) {
        if (now - hook->since_ < age_min) continue;
        polled_.push_back({.fd = hook->fd_, .events = POLLRDHUP, .revents = 0});
        hooks_.push_back(hook);
    }
    if (!polled_.empty() && ::poll(polled_.data(), polled_.size(), 0) > 0) {
        for (std::size_t i = 0; i < polled_.size(); ++i) {
            if (polled_[i].revents == 0) continue;
            hooks_[i]->unlink();
            hooks_[i]->link(gone_);
        }
    }
    // A callback may end its own exchange and start others; whoever ends unlinks itself from this list.
    while (gone_.head != nullptr) {
        GoneHook& hook = *gone_.head;
        hook.unlink();
        hook.callback_(hook.context_);
    }
    if (watched_.head != nullptr && !deadline_.armed()) deadline_.arm(now + period);
}

}  // namespace nebula::http

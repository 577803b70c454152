#include "async/task_group.hpp"

#include "base/log.hpp"

namespace nebula {

bool TaskGroup::spawn(IoThread& thread, Async<void> work) {
    running_.fetch_add(1);
    if (closed_.load()) {
        finished();
        return false;
    }
    drive(thread, std::move(work));
    return true;
}

detail::Detached TaskGroup::drive(IoThread& thread, Async<void> work) {
    co_await resume_on(thread);
    try {
        co_await std::move(work);
    } catch (const std::exception& e) {
        LOG_ERROR("background task failed", {"group", name_}, {"what", e.what()});
    }
    finished();
}

void TaskGroup::finished() {
    // Under the lock, so that wait() cannot return and the group die between the decrement and the
    // notification.
    std::lock_guard lock(mutex_);
    running_.fetch_sub(1);
    idle_.notify_all();
}

void TaskGroup::close() { closed_ = true; }

void TaskGroup::wait() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return running_.load() == 0; });
}

}  // namespace nebula

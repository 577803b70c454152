#include "accounts/key_use.hpp"

namespace nebula::accounts {

void KeyUses::push(const std::shared_ptr<KeyUse>& use, Time at) {
    use->at = at;
    use->self = use;
    use->next = head_.load(std::memory_order_relaxed);
    // Entries leave only all at once, so a head that looks the same is the same.
    while (!head_.compare_exchange_weak(use->next, use.get(), std::memory_order_release)) {
    }
}

void KeyUses::note(const std::shared_ptr<KeyUse>& use, const Clock& clock) {
    if (use->waits.load(std::memory_order_relaxed)) return;
    if (use->waits.exchange(true, std::memory_order_acquire)) return;
    push(use, clock.now());
}

std::vector<KeyUses::Used> KeyUses::take() {
    std::vector<Used> taken;
    KeyUse* use = head_.exchange(nullptr, std::memory_order_acquire);
    while (use != nullptr) {
        KeyUse* next = use->next;
        taken.push_back({std::move(use->self), use->at});
        // From here on the next use may push it again.
        taken.back().use->waits.store(false, std::memory_order_release);
        use = next;
    }
    return taken;
}

void KeyUses::put_back(const std::vector<Used>& uses) {
    for (const Used& used : uses)
        if (!used.use->waits.exchange(true, std::memory_order_acquire)) push(used.use, used.at);
}

}  // namespace nebula::accounts

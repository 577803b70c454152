#include "accounts/people/session_cache.hpp"

namespace nebula::accounts {
namespace {

constexpr std::size_t entries_max = 10'000;
constexpr std::chrono::seconds keep{10};

}  // namespace

std::optional<Caller> SessionCache::find(const std::string& key) {
    std::lock_guard lock(mutex_);
    auto found = entries_.find(key);
    if (found == entries_.end()) return std::nullopt;
    const Entry& entry = found->second;
    if (clock_.ticks() >= entry.until || clock_.now() >= entry.expires_at) {
        entries_.erase(found);
        return std::nullopt;
    }
    return entry.caller;
}

void SessionCache::put(const std::string& key, Caller caller, Time expires_at, std::uint64_t epoch) {
    std::lock_guard lock(mutex_);
    if (epoch != epoch_) return;
    if (entries_.size() >= entries_max) {
        Ticks now = clock_.ticks();
        std::erase_if(entries_, [now](const auto& item) { return now >= item.second.until; });
        if (entries_.size() >= entries_max) entries_.clear();
    }
    entries_.insert_or_assign(key, Entry{std::move(caller), expires_at, clock_.ticks() + keep});
}

std::uint64_t SessionCache::epoch() const {
    std::lock_guard lock(mutex_);
    return epoch_;
}

void SessionCache::drop(const std::function<bool(const Caller&)>& is_gone) {
    std::lock_guard lock(mutex_);
    ++epoch_;
    std::erase_if(entries_, [&is_gone](const auto& item) { return is_gone(item.second.caller); });
}

void SessionCache::drop_session(const std::string& session) {
    drop([&session](const Caller& caller) { return caller.session == session; });
}
void SessionCache::drop_user(UserId user) {
    drop([user](const Caller& caller) { return caller.user == user; });
}
void SessionCache::clear() {
    drop([](const Caller&) { return true; });
}

}  // namespace nebula::accounts

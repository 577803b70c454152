#pragma once
// Who presents which session, known for 10 seconds without asking the database. Private to this module.

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "accounts/caller.hpp"
#include "base/clock.hpp"

namespace nebula::accounts {

/// Thread-safe and bounded. What was read from the database before something was dropped is not taken in
/// after it: remember epoch() before reading.
class SessionCache {
   public:
    explicit SessionCache(const Clock& clock) : clock_(clock) {}

    /// `key`: "c" and a cookie's hash, "j" and a session's id, or "m", a user and a team.
    std::optional<Caller> find(const std::string& key);
    void put(const std::string& key, Caller caller, Time expires_at, std::uint64_t epoch);
    std::uint64_t epoch() const;

    void drop_session(const std::string& session);
    void drop_user(UserId user);
    void clear();

   private:
    struct Entry {
        Caller caller;
        Time expires_at;
        Ticks until;
    };
    void drop(const std::function<bool(const Caller&)>& is_gone);

    const Clock& clock_;
    mutable std::mutex mutex_;
    std::uint64_t epoch_ = 0;
    std::unordered_map<std::string, Entry> entries_;
};

}  // namespace nebula::accounts
